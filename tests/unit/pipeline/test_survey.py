"""What an index run finds to do, from what is there and what the index knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from clamr_cli.pipeline.survey import Known, survey
from clamr_cli.types import FileRecord, FileState

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(64)


def _record(path: Path) -> FileRecord:
    return FileRecord(str(path), str(path.parent), "aa", 1, 1, FileState.INDEXED, "", "", "", "")


@pytest.mark.parametrize("target", ["~/films", "~/fil*", "{home}/films", "{home}/fil*"])
def test_a_file_that_is_gone_is_noticed_however_its_folder_is_named(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    films = tmp_path / "films"
    films.mkdir()
    (films / "here.mp4").write_bytes(MP4)
    known = {str(path): _record(path) for path in (films / "gone.mp4", tmp_path / "elsewhere" / "gone.mp4")}
    found = survey([target.format(home=tmp_path)], Known(known, "", ()), exclude=(), retry_failed=False)
    assert [record.path for record in found.gone] == [str(films / "gone.mp4")]
    assert [item.path for item in found.work] == [str(films / "here.mp4")]
