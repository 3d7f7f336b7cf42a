"""Values of :mod:`clamr_cli.types` to rows and back.

``record`` holds a value whole, as JSON in ASCII: it carries lone surrogates, which Arrow's UTF-8 columns cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.store.schema import EXTRACTIONS, FILES, MOMENTS, SCHEMAS, VIDEOS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.types import FileRecord, MomentRecord, VideoRecord

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a stage took from a content: a JSON object, and bytes such as pictures."""

    payload: dict[str, Any]
    blobs: list[bytes]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What can be filtered by of a video. ``date`` is ISO 8601, ``duration`` in seconds; empty where unknown."""

    video_id: str
    title: str
    uploader: str
    date: str
    language: str
    duration: float


def dump(value: object) -> str:
    """A value as ASCII JSON."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=True, separators=(",", ":"))


def load(kind: type[Record], text: str) -> Record:
    """A value from its JSON. Fields that are missing take their defaults, unknown ones are passed over.

    Raises:
        StoreError: the text is no such value.
    """
    try:
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, msgspec.ValidationError) as error:
        raise StoreError(f"the index holds a damaged {kind.__name__} ({error})", "index its folder again") from error


def moment_order(moment_id: str) -> tuple[str, int, str]:
    """What moments are sorted by: their video, then their number."""
    video_id, _, number = moment_id.partition("#")
    return video_id, int(number) if number.isdecimal() else 0, number


def digest(text: str, size: int = 16) -> str:
    """A key made of hexadecimal digits for any text, equal for equal texts only, of ``size`` bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def path_key(path: str) -> str:
    """The key of a path: a digest of its bytes.

    Raises:
        StoreError: the path cannot be one of this system.
    """
    try:
        return hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    except UnicodeEncodeError:
        raise StoreError(f"{path!r} cannot be a path on this system") from None


def readable(text: str) -> str:
    """Text without lone surrogates, for columns that are only searched and shown."""
    return text.encode("utf-8", "replace").decode()


def file_rows(files: Sequence[FileRecord]) -> pa.Table:
    """Rows of the files table."""
    return pa.Table.from_pylist(
        [
            {
                "key": path_key(file.path),
                "path": os.fsencode(file.path),
                "display": readable(file.path),
                "video_id": readable(file.video_id),
                "state": file.state.value,
                "record": dump(file),
            }
            for file in files
        ],
        schema=SCHEMAS[FILES],
    )


def _facts(video: VideoRecord) -> dict[str, str | float]:
    fields = video.fields
    return {
        "title": readable(fields.title),
        "uploader": readable(fields.uploader),
        "date": readable(fields.date),
        "language": readable(fields.language),
        "duration": video.media.duration,
    }


def video_rows(video: VideoRecord) -> pa.Table:
    """The row of the videos table."""
    row = {"video_id": video.video_id, "content_hash": video.content_hash, "record": dump(video), **_facts(video)}
    return pa.Table.from_pylist([row], schema=SCHEMAS[VIDEOS])


def moment_rows(video: VideoRecord, moments: Sequence[MomentRecord]) -> pa.Table:
    """Rows of the moments table."""
    return pa.Table.from_pylist(
        [
            {
                "moment_id": moment.moment_id,
                "video_id": moment.video_id,
                "start": moment.span.start,
                "end": moment.span.end,
                "text": readable(text_of(moment)),
                "record": dump(moment),
                **_facts(video),
            }
            for moment in moments
        ],
        schema=SCHEMAS[MOMENTS],
    )


def text_of(moment: MomentRecord) -> str:
    """All texts of a moment, one line each: what the full-text index sees."""
    return "\n".join(segment.text for segment in (*moment.metadata, *moment.speech, *moment.ocr))


def extraction_row(key: str, payload: Mapping[str, Any], blobs: Sequence[bytes]) -> pa.Table:
    """The row of the extractions table."""
    row = {"digest": digest(key), "key": readable(key), "payload": dump(payload), "blobs": list(blobs)}
    return pa.Table.from_pylist([row], schema=SCHEMAS[EXTRACTIONS])
