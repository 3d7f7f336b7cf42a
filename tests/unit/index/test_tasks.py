"""Text recognition in parts: cut off between any two of them, it goes on as if it had not been."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from clamr_cli.extract.options import OcrOptions
from clamr_cli.index import tasks
from clamr_cli.index.workdir import StoredFrame, Workdir
from clamr_cli.types import Span
from tests.unit.extract.test_ocr import Labels, picture


def test_reading_goes_on_from_any_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_text_engine", lambda model, options: Labels())
    workdir = Workdir(tmp_path / "workdir")
    workdir.begin()
    frames = []
    for number, brightness in enumerate((200, 200, 120, 120, 120, 250)):
        out = io.BytesIO()
        Image.fromarray(picture((40, 40, brightness))).save(out, "JPEG", quality=95)
        workdir.add_frame("text", number, out.getvalue())
        frames.append(StoredFrame(number, 4.0 * number, Span(4.0 * number, 4.0 * number + 4.0)))

    def read(done):
        parts = []

        def report(done, total, part=None):
            parts.extend([] if part is None else [part])

        segments = tasks.read_text(report, str(workdir.folder), frames, None, OcrOptions(), 10, done)
        return parts, segments

    parts, whole = read(())
    assert [part.end for part in parts] == [3, 5, 6]
    assert len(whole) == 3
    assert whole[1].span == Span(8.0, 20.0)  # over the border of two parts
    stored = [msgspec.convert(msgspec.json.decode(msgspec.json.encode(part)), tasks.Part) for part in parts]
    assert stored == parts
    for count in range(len(parts)):
        assert read(tuple(stored[:count])) == (parts[count:], whole)
