"""The columns of the tables, and values of :mod:`clamr_cli.types` to rows and back.

Every row keeps its value whole in ``record``, as JSON in ASCII: that carries lone surrogates, which Arrow's UTF-8
columns cannot. The other columns repeat what is searched, filtered or joined by; a file name that is no UTF-8 lives in
``path`` as bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.types import DIMENSION, FileRecord, MomentRecord, VideoRecord

Record = TypeVar("Record")

SCHEMA_VERSION: Final = 1

META, FILES, VIDEOS, MOMENTS, VECTORS, EXTRACTIONS = "meta", "files", "videos", "moments", "vectors", "extractions"

SUMS: Final = pa.field("sums", pa.list_(pa.uint64(), 3))
"""Checksums of a row of vectors: Lance's files have none. Null in rows of an older clamr."""


def _key(name: str) -> pa.Field:
    """A column of the primary key. The mark makes LanceDB refuse commits that would double a row."""
    return pa.field(name, pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


_FACTS: Final = (("title", pa.string()), ("uploader", pa.string()), ("date", pa.string()), ("language", pa.string()),
                 ("duration", pa.float64()))  # fmt: skip

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    META: pa.schema([_key("name"), ("value", pa.string())]),
    FILES: pa.schema(
        [_key("key"), ("path", pa.binary()), ("display", pa.string()), ("video_id", pa.string()),
         ("state", pa.string()), ("record", pa.string())]
    ),
    VIDEOS: pa.schema([_key("video_id"), ("content_hash", pa.string()), *_FACTS, ("record", pa.string())]),
    MOMENTS: pa.schema(
        [_key("moment_id"), ("video_id", pa.string()), ("start", pa.float64()), ("end", pa.float64()), *_FACTS,
         ("text", pa.string()), ("record", pa.string())]
    ),
    VECTORS: pa.schema(
        [_key("moment_id"), _key("fingerprint"), ("encoder", pa.string()), ("dimension", pa.int32()),
         ("count", pa.int32()), ("vectors", pa.list_(pa.list_(pa.float16(), DIMENSION))),
         ("modality", pa.list_(pa.uint8())), ("spans", pa.list_(pa.list_(pa.float32(), 2))),
         ("segments", pa.list_(pa.int32())), ("offsets", pa.list_(pa.list_(pa.int32(), 2))),
         ("input_ids", pa.list_(pa.int32())), SUMS]
    ),
    EXTRACTIONS: pa.schema(
        [_key("digest"), ("key", pa.string()), ("payload", pa.string()), ("blobs", pa.list_(pa.large_binary()))]
    ),
}  # fmt: skip

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(field.name for field in schema if not field.nullable) for name, schema in SCHEMAS.items()
}
"""The primary key of each table."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Data that was extracted from a content: a JSON object, and bytes such as JPEG frames."""

    payload: dict[str, Any]
    blobs: list[bytes]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The fields of a video for filters. ``date`` is ISO 8601, ``duration`` in seconds; empty where unknown."""

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
        StoreError: the text is not such a value.
    """
    try:
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, msgspec.ValidationError) as error:
        raise StoreError(f"the index holds a damaged {kind.__name__} ({error})", "index its folder again") from error


def moment_order(moment_id: str) -> tuple[str, int, str]:
    """Sort key of moments: their video, then their number."""
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
    rows = [
        {
            "key": path_key(file.path),
            "path": os.fsencode(file.path),
            "display": readable(file.path),
            "video_id": readable(file.video_id),
            "state": file.state.value,
            "record": dump(file),
        }
        for file in files
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[FILES])


def video_rows(video: VideoRecord) -> pa.Table:
    """The row of the videos table."""
    row = {"video_id": video.video_id, "content_hash": video.content_hash, "record": dump(video), **_facts(video)}
    return pa.Table.from_pylist([row], schema=SCHEMAS[VIDEOS])


def moment_rows(video: VideoRecord, moments: Sequence[MomentRecord]) -> pa.Table:
    """Rows of the moments table. The full-text index sees all texts of a moment, one line each."""
    rows = [
        {
            "moment_id": moment.moment_id,
            "video_id": moment.video_id,
            "start": moment.span.start,
            "end": moment.span.end,
            "text": readable("\n".join(part.text for part in (*moment.metadata, *moment.speech, *moment.ocr))),
            "record": dump(moment),
            **_facts(video),
        }
        for moment in moments
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[MOMENTS])


def extraction_row(key: str, payload: Mapping[str, Any], blobs: Sequence[bytes]) -> pa.Table:
    """The row of the extractions table."""
    row = {"digest": digest(key), "key": readable(key), "payload": dump(payload), "blobs": list(blobs)}
    return pa.Table.from_pylist([row], schema=SCHEMAS[EXTRACTIONS])


def _facts(video: VideoRecord) -> dict[str, str | float]:
    fields = video.fields
    texts = {name: readable(getattr(fields, name)) for name in ("title", "uploader", "date", "language")}
    return {**texts, "duration": video.media.duration}
