"""A prepared video as the store has it: read in well under a second, without any video file at hand.

Everything is stored by content and by everything that shapes it, in parts of :data:`PART` candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from clamr_cli import encoders
from clamr_cli.frames.texts import stored_texts
from clamr_cli.frames.values import PART, DenseOptions, Prepared, Target, Texts
from clamr_cli.index.sampling import VERSION, SampledMedia
from clamr_cli.media.key_frames import THUMB
from clamr_cli.store import Store
from clamr_cli.types import DIMENSION, EncoderInfo, Frame, TokenVectors, VideoFields

Item = TypeVar("Item")

_VERSION: Final = "1"
"""Changes when the same candidates and texts would give other documents."""

_ARRAYS: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("vectors", "<f2", (DIMENSION,)),
    ("modality_ids", "u1", ()),
    ("spans", "<f4", (2,)),
    ("segments", "<i4", ()),
    ("offsets", "<i4", (2,)),
    ("input_ids", "<i4", ()),
)
"""The fields of :class:`TokenVectors` in order, how they are stored, and the shape of a row."""


def in_parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    """The items of a video's candidates in parts that are encoded and stored together."""
    return [items[start : start + PART] for start in range(0, len(items), PART)]


def samples_key(content_hash: str, options: DenseOptions) -> str:
    """The name of the list of candidates; the names of their frames and vectors begin with it."""
    return f"{content_hash}/dense/{VERSION}:{options.interval:g}:{options.index.language}"


def frames_key(samples: str, part: int) -> str:
    """The name of the frames of a part."""
    return f"{samples}/pictures/{part}"


def vectors_keys(samples: str, options: DenseOptions, texts: Texts, encoder: EncoderInfo, count: int) -> list[str]:
    """The names of the vectors of all parts of so many candidates."""
    digest = hashlib.blake2b(msgspec.json.encode(texts), digest_size=12).hexdigest()
    name = f"{samples}/vectors/{_VERSION}:{options.context:g}:{digest}:{encoder.fingerprint}"
    return [f"{name}/{part}" for part in range(-(-count // PART))]


def describe_encoder(options: DenseOptions) -> EncoderInfo:
    """The encoder that the options name."""
    index = options.index
    return encoders.describe(index.encoder, cache=index.cache, **dict(index.encoder_settings))


def load_samples(store: Store, target: Target, options: DenseOptions) -> SampledMedia | None:
    """The candidates of a video; None where they have yet to be sampled."""
    stored = store.extraction(samples_key(target.content_hash, options))
    if stored is None:
        return None
    return replace(msgspec.convert(stored.payload, SampledMedia), thumbs=bytes(stored.blobs[0]))


def candidates_of(sampled: SampledMedia) -> tuple[Frame, ...]:
    """The candidates of a sampling, without their JPEGs."""
    return tuple(Frame(frame.time, frame.span, b"") for frame in sampled.stills)


def load(store: Store, target: Target, options: DenseOptions) -> Prepared | None:
    """A video that is wholly prepared; None where something has yet to be done."""
    sampled = load_samples(store, target, options)
    if sampled is None:
        return None
    texts, missing = stored_texts(store, target, sampled, options)
    if missing:
        return None
    samples, encoder = samples_key(target.content_hash, options), describe_encoder(options)
    names = vectors_keys(samples, options, texts, encoder, len(sampled.stills))
    parts = store.extractions(names)
    if len(parts) < len(names):
        return None
    vectors, indptr = unpack([(parts[name].payload, parts[name].blobs) for name in names])
    videos = store.videos([target.video_id])
    return Prepared(
        target=target,
        media=sampled.media,
        fields=videos[0].fields if videos else VideoFields(sampled.media.tags.get("title", "")),
        encoder=encoder,
        candidates=candidates_of(sampled),
        texts=texts,
        context=options.context,
        thumbs=np.frombuffer(sampled.thumbs, np.uint8).reshape(-1, THUMB, THUMB, 3),
        vectors=vectors,
        indptr=indptr,
        pictures_key=samples,
    )


def stills(store: Store, prepared: Prepared, numbers: Sequence[int]) -> list[bytes]:
    """The stored frames of candidates as JPEG, at most 448 pixels on the longer side, in the order of the numbers."""
    return load_frames(store, prepared.pictures_key, numbers)


def load_frames(store: Store, samples: str, numbers: Sequence[int]) -> list[bytes]:
    """The same by the name of the sampling."""
    names = {number // PART: frames_key(samples, number // PART) for number in numbers}
    parts = store.extractions(list(names.values()))
    return [bytes(parts[names[number // PART]].blobs[number % PART]) for number in numbers]


def pack(items: Sequence[TokenVectors]) -> tuple[dict[str, Any], list[bytes]]:
    """Documents' vectors as a payload (how many each has) and bytes. Stored as float16."""
    blobs = [
        b"".join(np.ascontiguousarray(getattr(item, name), dtype=kind).tobytes() for item in items)
        for name, kind, _ in _ARRAYS
    ]
    return {"counts": [len(item) for item in items]}, blobs


def unpack(parts: Sequence[tuple[Mapping[str, Any], Sequence[bytes]]]) -> tuple[TokenVectors, NDArray[np.int64]]:
    """The vectors of packed parts, one after another, and where those of each document begin, [n + 1]."""
    counts = [count for payload, _ in parts for count in payload["counts"]]
    indptr = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)
    arrays = [
        np.frombuffer(b"".join(blobs[number] for _, blobs in parts), dtype=kind).reshape(int(indptr[-1]), *row)
        for number, (_, kind, row) in enumerate(_ARRAYS)
    ]
    return TokenVectors(*arrays), indptr


def slice_of(vectors: TokenVectors, start: int, end: int) -> TokenVectors:
    """The vectors of one document."""
    return TokenVectors(*(getattr(vectors, name)[start:end] for name, _, _ in _ARRAYS))
