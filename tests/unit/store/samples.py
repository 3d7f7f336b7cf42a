"""Values that the store's tests write, and the tests of what reads it."""

from __future__ import annotations

import re

import numpy as np

from clamr_cli.store import Store
from clamr_cli.store.tables import SCHEMAS
from clamr_cli.types import (
    DIMENSION,
    MODALITY_IDS,
    EncoderInfo,
    FileRecord,
    FileState,
    MediaInfo,
    Modality,
    MomentRecord,
    Segment,
    Span,
    TokenVectors,
    VideoFields,
    VideoRecord,
    Word,
)

ENCODER = EncoderInfo("sample", "f" * 16)

HOSTILE = (
    "it's '; DROP TABLE moments; --",
    "\\' OR '1'='1",
    "a%b_c\n\tline two\r",
    "[red]bold[/red] \x1b[31m",
    "\u202eright to left\u202c \N{PILE OF POO} 日本語",
    "bytes \udc80\udcff that are no UTF-8",
    "null \x00 byte",
    '"quoted" {json} ${var} `tick`',
)


def video(video_id="v1", *, title="A title", duration=120.0, **fields):
    media = MediaInfo("mov", duration, duration, None, 640, 360, 0, 25.0, "h264", 0, tags={"comment": title})
    return VideoRecord(
        video_id, video_id + "-content", media, VideoFields(title=title, **fields), "2025-01-02T03:04:05"
    )


def all_rows(store):
    """All rows of an index by table, in an order of their own, without the times of runs."""
    tables = {}
    for name, schema in SCHEMAS.items():
        rows = store.tables.read(name, schema.names).to_pylist()
        for row in rows:
            if name == "videos":
                row["record"] = re.sub('"indexed_at":"[^"]*"', "", row["record"])
        tables[name] = sorted(rows, key=lambda row: str(list(row.values())[:2]))
    return tables


def moment(video_id="v1", number=0, *, speech="hello there", start=None):
    start = 60.0 * number if start is None else start
    span = Span(start, start + 60.0)
    said = Segment(span, speech, "whisper", "en", 0.5, (Word(0, min(5, len(speech)), Span(start, start + 1)),))
    return MomentRecord(f"{video_id}#{number}", video_id, span, (start,), (span,), (said,), (), ())


def file(path="/videos/a.mp4", video_id="v1", state=FileState.INDEXED, **more):
    return FileRecord(path, "/videos", video_id, 10, 20, state, **more)


def token_vectors(rows, modalities, *, spans=None, segments=None, offsets=None):
    """Vectors made of rows of few numbers: padded to full width and scaled to unit length."""
    vectors = np.zeros((len(rows), DIMENSION), np.float32)
    for number, row in enumerate(rows):
        vectors[number, : len(row)] = row
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    count = len(rows)
    return TokenVectors(
        vectors,
        np.array([MODALITY_IDS.get(m, 0) for m in modalities], np.uint8),
        np.array(spans if spans is not None else np.zeros((count, 2)), np.float32).reshape(count, 2),
        np.array(segments if segments is not None else np.full(count, -1), np.int32),
        np.array(offsets if offsets is not None else np.zeros((count, 2)), np.int32).reshape(count, 2),
        np.full(count, -1, np.int32),
    )


def random_vectors(seed, count):
    rng = np.random.default_rng(seed)
    return token_vectors(rng.standard_normal((count, DIMENSION)), rng.choice(list(Modality), count))


def fill(store, ids=("v1", "v2"), moments=2, count=5):
    """Write some videos with vectors, as an index run does."""
    with store.writer("clamr index"):
        for seed, video_id in enumerate(ids):
            parts = [moment(video_id, number) for number in range(moments)]
            store.put_video(video(video_id, title=f"Title of {video_id}"), parts)
            store.put_vectors(ENCODER, {p.moment_id: random_vectors(seed, count) for p in parts})
            store.put_extraction(f"{video_id}-content/media/x", {"frames": 1}, [b"jpeg"])
            store.put_files([file(f"/videos/{video_id}.mp4", video_id)])


def new(folder):
    return Store.open(folder / "index", create=True)
