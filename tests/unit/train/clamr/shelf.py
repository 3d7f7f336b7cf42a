"""A small index made without media, and queries about it: every video has a word of its own in one modality."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
from PIL import Image

from clamr_cli.encoders.hashed import HashedEncoder
from clamr_cli.index.documents import Recipe, documents_of, indexed_videos
from clamr_cli.index.workdir import DecodedMedia, StoredFrame
from clamr_cli.store import Store
from clamr_cli.types import FileRecord, FileState, MediaInfo, MomentRecord, Segment, Span, VideoFields, VideoRecord

RECIPE = Recipe("m", "s", "t", 60.0)
COLOURS = ("navy", "gold", "gray", "red", "green", "white")
SAID = ("the ferry leaves", "a market in the rain", "bees dance", "snow on the pier", "an old drone", "fox and dog")
SIGNS = ("DECK 7", "FISH", "EXIT", "PIER 39", "NO ENTRY", "OPEN")
TITLES = ("night boat", "saturday", "orchard", "winter walk", "flying", "animals")


def video_id(number: int) -> str:
    return f"{number:012x}"


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def moment(number: int, part: int, speech: str, sign: str) -> MomentRecord:
    span = Span(part * 60.0, part * 60.0 + 60.0)
    return MomentRecord(
        f"{video_id(number)}#{part}",
        video_id(number),
        span,
        (span.start,),
        (span,),
        (Segment(span, speech, "whisper"),),
        (Segment(span, sign, "easyocr"),) if sign else (),
        (Segment(Span(0.0, 120.0), TITLES[number], "title"),),
    )


def moments(number: int) -> list[MomentRecord]:
    """The third video has a second moment, in which the chef speaks; the last shows no sign."""
    sign = SIGNS[number] if number < 5 else ""
    second = [moment(number, 1, "the chef cooks a soup", "KITCHEN")] if number == 2 else []
    return [moment(number, 0, SAID[number], sign), *second]


def build(db: Path) -> Store:
    store = Store.open(db, create=True)
    with store.writer("tests"):
        for number, colour in enumerate(COLOURS):
            write(store, number, colour)
        encoder = HashedEncoder.create(cache=db, device="cpu", threads=1)
        found = [one for record in indexed_videos(store) for one in documents_of(store, record)[1]]
        vectors = encoder.encode_documents(found)
        store.put_vectors(encoder.info, {one.id: made for one, made in zip(found, vectors, strict=True)})
        store.finish()
    return store


def write(store: Store, number: int, colour: str) -> None:
    found = moments(number)
    length = 60.0 * len(found)
    media = MediaInfo("mov,mp4", length, length, length, 56, 56, 0, 25.0, "h264", 0)
    record = VideoRecord(video_id(number), video_id(number) * 5, media, VideoFields(TITLES[number]))
    store.put_video(record, found)
    stills = tuple(StoredFrame(0, one.frame_times[0], one.span) for one in found)
    payload = msgspec.to_builtins(DecodedMedia(media, stills))
    store.put_extraction(RECIPE.key(record.content_hash, "media"), payload, [jpeg(colour)] * len(stills))
    file = FileRecord(
        f"/videos/{number}.mp4", "/videos", record.video_id, 1, 1, FileState.INDEXED, recipe=RECIPE.dump()
    )
    store.put_files([file])


def lines() -> list[dict[str, object]]:
    """A base query and three that aim at one modality, for each video."""
    found: list[dict[str, object]] = []
    for number in range(len(COLOURS)):
        asked = {None: TITLES[number], "speech": SAID[number], "ocr": SIGNS[number], "metadata": TITLES[number]}
        found += [
            {"id": f"{number}_{modality}", "query": f"find {text}", "modality": modality, "video": f"{number}.mp4"}
            for modality, text in asked.items()
        ]
    return found


def write_queries(path: Path, records: list[dict[str, object]] | None = None) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines() if records is None else records)))
    return path
