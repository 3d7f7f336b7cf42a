"""A small index with pictures, made without media: what queries are written from."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
from PIL import Image

from clamr_cli.index.documents import Recipe
from clamr_cli.index.workdir import DecodedMedia, StoredFrame
from clamr_cli.store import Store
from clamr_cli.types import FileRecord, FileState, MediaInfo, MomentRecord, Segment, Span, VideoFields, VideoRecord

FERRY, BEES, SILENT = "1a2b3c4d5e6f", "2b9988776655", "3c00aa11bb22"
RECIPE = Recipe("m", "s", "t", 60.0)


def jpeg(colour: str) -> bytes:
    """A small JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def media(duration: float) -> MediaInfo:
    return MediaInfo("mov,mp4", duration, duration, duration, 64, 48, 0, 25.0, "h264", 0)


def moment(video: str, number: int, *, speech: str = "", ocr: str = "", notes: dict[str, str]) -> MomentRecord:
    span = Span(number * 60.0, number * 60.0 + 60.0)
    frames = (Span(span.start, span.start + 30.0), Span(span.start + 30.0, span.end))
    return MomentRecord(
        f"{video}#{number}",
        video,
        span,
        tuple(frame.start for frame in frames),
        frames,
        (Segment(frames[0], speech, "whisper"),) if speech else (),
        (Segment(frames[1], ocr, "easyocr"),) if ocr else (),
        tuple(Segment(Span(0.0, 120.0), text, source) for source, text in notes.items()),
    )


def moments() -> dict[str, list[MomentRecord]]:
    """The ferry speaks for two minutes and shows a sign; the bees have a description; the third only pictures."""
    ferry = {"title": "Night ferry to Bornholm", "folder": "holidays"}
    said = "the captain greets all passengers and explains where the life jackets are kept"
    rest = "later the sea grows rough and the cook drops forty plates in the galley"
    return {
        FERRY: [
            moment(FERRY, 0, speech=said, ocr="Deck 7 restaurant open", notes=ferry),
            moment(FERRY, 1, speech=rest, notes=ferry),
        ],
        BEES: [
            moment(BEES, 0, notes={"title": "How bees dance", "description": "Filmed in the orchard of Anna Huber"})
        ],
        SILENT: [moment(SILENT, 0, notes={"filename": "IMG 0042"})],
    }


PATHS = {FERRY: "trip/VID_20230714.mp4", BEES: "bees.mp4", SILENT: "IMG_0042.mp4"}
TITLES = {FERRY: "Night ferry to Bornholm", BEES: "How bees dance", SILENT: "IMG_0042"}
COLOURS = {FERRY: "navy", BEES: "gold", SILENT: "gray"}


def build(db: Path, root: Path = Path("/videos")) -> Store:
    """Writes the index."""
    store = Store.open(db, create=True)
    with store.writer("tests"):
        for video, found in moments().items():
            record = VideoRecord(video, video * 5, media(60.0 * len(found)), VideoFields(TITLES[video]))
            store.put_video(record, found)
            stills = tuple(
                StoredFrame(0, at, span)
                for one in found
                for at, span in zip(one.frame_times, one.frame_spans, strict=True)
            )
            payload = msgspec.to_builtins(DecodedMedia(record.media, stills))
            pictures = [jpeg(COLOURS[video])] * len(stills)
            store.put_extraction(RECIPE.key(record.content_hash, "media"), payload, pictures)
            path = str(root / PATHS[video])
            store.put_files([FileRecord(path, str(root), video, 1, 1, FileState.INDEXED, recipe=RECIPE.dump())])
        store.finish()
    return store


ALL_IDS = [
    f"{FERRY}_base_1", f"{FERRY}_video_1", f"{FERRY}_speech_1", f"{FERRY}_ocr_1",
    f"{BEES}_base_1", f"{BEES}_video_1", f"{BEES}_metadata_1", f"{SILENT}_video_1",
]  # fmt: skip
"""The queries of a plain run, in order: no metadata where only a title is noted, no title where it is a file name."""
