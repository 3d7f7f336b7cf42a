"""A small index of two videos that are there, and the command line in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clamr_cli import encoders
from clamr_cli.media.probe import probe
from clamr_cli.store import Store
from clamr_cli.types import (
    Document,
    FileRecord,
    FileState,
    MomentRecord,
    Segment,
    Span,
    VideoFields,
    VideoRecord,
    Word,
)
from tests.unit.cli.conftest import clamr, home
from tests.unit.media import numbered

__all__ = ["clamr", "home"]

TALK, WALK = "aa11bb22cc33", "bb11bb22cc33"
TITLE = "Talk: a/b? \x1b[31m"


def _words(text: str, start: float, seconds: float) -> tuple[Word, ...]:
    words, place = [], 0
    for number, word in enumerate(text.split()):
        begin = text.index(word, place)
        place = begin + len(word)
        words.append(Word(begin, place, Span(start + number * seconds, start + (number + 0.9) * seconds)))
    return tuple(words)


def said(text: str, start: float, seconds: float, *, words: bool = True) -> Segment:
    """A line with words of so many seconds each."""
    end = start + len(text.split()) * seconds
    return Segment(Span(start, end), text, "whisper", "en", 0.9, _words(text, start, seconds) if words else ())


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index and its videos; never changed."""
    folder = tmp_path_factory.mktemp("shelf")
    talk = numbered.write(folder / "talk.mp4", "30000/1001", 8, timecode="01:00:00;00", gop=60)
    walk = numbered.write(folder / "walk & run #1.mkv", "25", 6, size=(320, 180))
    encoder = encoders.create("hashed", cache=folder)
    store = Store.open(folder / "index", create=True)
    lines = {
        TALK: [
            [said("welcome to the garden", 0.4, 0.5), said("today we plant tomatoes", 3.0, 0.5)],
            [said("water them at dusk", 5.5, 0.5, words=False)],
        ],
        WALK: [[said("a walk in the garden", 1.0, 0.4)]],
    }
    spans = {TALK: [Span(0.0, 5.2), Span(5.2, 8.0)], WALK: [Span(0.0, 6.0)]}
    with store.writer("tests"):
        for video_id, path, title in ((TALK, talk, TITLE), (WALK, walk, "")):
            title_line = Segment(Span(0.0, 8.0), title or "walk", "title")
            moments = [
                MomentRecord(
                    f"{video_id}#{number}", video_id, span, (span.start,), (span,), tuple(own), (), (title_line,)
                )
                for number, (span, own) in enumerate(zip(spans[video_id], lines[video_id], strict=True))
            ]
            store.put_video(VideoRecord(video_id, video_id * 5, probe(path), VideoFields(title=title)), moments)
            documents = [Document(one.moment_id, one.span, (), one.speech, (), one.metadata) for one in moments]
            vectors = encoder.encode_documents(documents)
            store.put_vectors(encoder.info, {one.id: each for one, each in zip(documents, vectors, strict=True)})
            status = Path(path).stat()
            record = FileRecord(path, str(folder), video_id, status.st_size, status.st_mtime_ns, FileState.INDEXED)
            store.put_files([record, replace(record, path=f"{path}.gone")])
        store.finish()
    return folder
