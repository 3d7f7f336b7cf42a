"""Exact frame rates are added to the records of earlier versions, from the files that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clamr_cli.events import Event, Notice, Progress
from clamr_cli.index.run import IndexOptions, index
from clamr_cli.store import Store
from tests.unit.media import numbered


def run(store: Store, folder: Path) -> list[Event]:
    """An index run without models."""
    options = IndexOptions(cache=folder.parent / "cache", encoder="hashed", speech=False, text=False)
    return list(index(store, [str(folder)], options))


@pytest.mark.slow
def test_records_gain_what_they_lack_without_decoding(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    numbered.write(folder / "film.mp4", "30000/1001", 1, timecode="01:00:00;00")
    numbered.write(folder / "away.mp4", "25", 1)
    store = Store.open(tmp_path / "index", create=True)
    run(store, folder)
    before = store.videos()
    assert {video.media.time_base.rate for video in before if video.media.time_base} == {"30000/1001", "25"}
    with store.writer("test"):
        for video in before:
            earlier = replace(video, media=replace(video.media, time_base=None))
            store.put_video(earlier, store.moments([video.video_id]))
    (folder / "away.mp4").rename(tmp_path / "away.mp4")
    events = run(store, folder)
    assert not [event for event in events if isinstance(event, Progress)]
    assert [event.text for event in events if isinstance(event, Notice)][:1] == [
        "reading the exact frame rates and timecodes of 1 video"
    ]
    bases = [video.media.time_base for video in store.videos()]
    assert [base.timecode for base in bases if base] == ["01:00:00;00"]
    (tmp_path / "away.mp4").rename(folder / "away.mp4")
    run(store, folder)
    assert [video.media for video in store.videos()] == [video.media for video in before]
    assert not [event for event in run(store, folder) if isinstance(event, Notice)]
