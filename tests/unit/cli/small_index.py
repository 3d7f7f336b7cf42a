"""A small index without media: three videos, one of them hostile, and a file that failed."""

import io
import os
from dataclasses import replace
from pathlib import Path

from PIL import Image

from clamr_cli import encoders
from clamr_cli.store import Store
from clamr_cli.types import (
    AudioTrack,
    Document,
    FileRecord,
    FileState,
    Frame,
    MediaInfo,
    MomentRecord,
    Segment,
    Span,
    TimeBase,
    VideoFields,
    VideoRecord,
)

HOSTILE_PATH = os.fsdecode(b"/videos/[red]caf\xe9\x1b[2J\n.mp4")
HOSTILE_TITLE = "[bold]Sale\x1b]8;;x\x07 \u202egpj.exe\ttab"


def media(duration: float) -> MediaInfo:
    """Facts of a file of so many seconds."""
    return MediaInfo(
        container="mov,mp4",
        duration=duration,
        duration_from_header=duration,
        duration_from_content=duration,
        width=1280,
        height=720,
        rotation=0,
        fps=25.0,
        video_codec="h264",
        video_stream=0,
        audio=(AudioTrack(1, "aac", "en", "Main", True),),
    )


def _moment(video_id: str, number: int, span: Span, *, speech: str = "", ocr: str = "", title: str) -> MomentRecord:
    third = span.duration / 3
    spans = tuple(Span(span.start + third * n, span.start + third * (n + 1)) for n in range(3))
    return MomentRecord(
        moment_id=f"{video_id}#{number}",
        video_id=video_id,
        span=span,
        frame_times=tuple(part.start for part in spans),
        frame_spans=spans,
        speech=(Segment(spans[1], speech, "whisper", "en", 0.9),) if speech else (),
        ocr=(Segment(spans[2], ocr, "easyocr", "en", 0.75),) if ocr else (),
        metadata=(Segment(Span(0.0, 80.0), title, "title"),),
    )


LAGOS, BEES, SALE = "1a2b3c4d5e6f", "1a9988776655", "77ff00aa11bb"

VIDEOS = (
    VideoRecord(
        LAGOS,
        LAGOS * 5,
        replace(media(80.0), time_base=TimeBase("30000/1001", "30000/1001", False, "01:00:00;00", "tmcd")),
        VideoFields("Protest in Lagos", "City News", "2020-10-20", "en"),
        "2024-05-17T12:00:00+00:00",
    ),
    VideoRecord(BEES, BEES * 5, media(30.0), VideoFields("Bees", "", "", "de"), "2024-05-17T12:01:00+00:00"),
    VideoRecord(SALE, SALE * 5, media(3725.0), VideoFields(HOSTILE_TITLE), "2024-05-17T12:02:00+00:00"),
)
MOMENTS = {
    LAGOS: (
        _moment(LAGOS, 0, Span(0.0, 40.0), speech="the crowd is marching", title="Protest in Lagos"),
        _moment(
            LAGOS, 1, Span(40.0, 80.0), speech="a speech at the toll gate", ocr="NO MORE", title="Protest in Lagos"
        ),
    ),
    BEES: (_moment(BEES, 0, Span(0.0, 30.0), speech="bees dance for the crowd", title="Bees"),),
    SALE: (_moment(SALE, 0, Span(0.0, 60.0), ocr="SALE\x1b[31m [blink]50%\n\u202etoday", title=HOSTILE_TITLE),),
}
FILES = (
    FileRecord("/videos/lagos.mp4", "/videos", LAGOS, 8_000_000, 1, FileState.INDEXED),
    FileRecord("/videos/copy of lagos.mp4", "/videos", LAGOS, 8_000_000, 1, FileState.INDEXED),
    FileRecord("/videos/nature/bees.mkv", "/videos", BEES, 1000, 1, FileState.INDEXED),
    FileRecord(HOSTILE_PATH, "/videos", SALE, 1000, 1, FileState.INDEXED),
    FileRecord(
        "/videos/broken\x1b[2J.mp4",
        "/videos",
        "",
        10,
        1,
        FileState.FAILED,
        "the file ends\nbefore its index",
        "copy it again",
    ),
)


COLOURS = {LAGOS: "green", BEES: "yellow", SALE: "red"}


def _picture(colour: str) -> bytes:
    """A JPEG of one colour, which the hashed encoder names."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def build(db: Path) -> None:
    """Write the index, with vectors of the hashed encoder."""
    encoder = encoders.create("hashed", cache=db)
    store = Store.open(db, create=True)
    with store.writer("tests"):
        for video in VIDEOS:
            moments = MOMENTS[video.video_id]
            store.put_video(video, moments)
            vectors = encoder.encode_documents([_document(moment) for moment in moments])
            store.put_vectors(encoder.info, {m.moment_id: v for m, v in zip(moments, vectors, strict=True)})
        store.put_files(FILES)
        store.finish()


def _document(moment: MomentRecord) -> Document:
    jpeg = _picture(COLOURS[moment.video_id])
    frames = tuple(Frame(at, span, jpeg) for at, span in zip(moment.frame_times, moment.frame_spans, strict=True))
    return Document(moment.moment_id, moment.span, frames, moment.speech, moment.ocr, moment.metadata)
