"""A prepared video as the store keeps it: read in well under a second, without any video file at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from clamr_cli import encoders
from clamr_cli.frames import keys, packing
from clamr_cli.frames.texts import Known
from clamr_cli.frames.values import PART, Candidate, Prepared
from clamr_cli.index.sampling import Sampled
from clamr_cli.media.images import THUMB
from clamr_cli.types import EncoderInfo, VideoFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.frames.values import DenseOptions, Target
    from clamr_cli.store import Store


def describe(options: DenseOptions) -> EncoderInfo:
    """The encoder that the options name."""
    index = options.index
    return encoders.describe(index.encoder, cache=index.cache, **dict(index.encoder_settings))


def sampled(store: Store, target: Target, options: DenseOptions) -> Sampled | None:
    """The candidates that were taken of a video; None where that has yet to be done."""
    kept = store.extraction(keys.samples(target.content_hash, options))
    if kept is None:
        return None
    found = msgspec.convert(kept.payload, Sampled)
    return replace(found, thumbs=bytes(kept.blobs[0]))


def candidates_of(found: Sampled) -> tuple[Candidate, ...]:
    """The candidates of a sampling."""
    return tuple(Candidate(number, still.time, still.span) for number, still in enumerate(found.stills))


def load(store: Store, target: Target, options: DenseOptions) -> Prepared | None:
    """A video that is wholly prepared; None where something has yet to be done."""
    found = sampled(store, target, options)
    if found is None:
        return None
    known = Known(store, target, found, options)
    if not known.complete:
        return None
    samples, encoder, texts = keys.samples(target.content_hash, options), describe(options), known.texts()
    names = [keys.vectors(samples, options, texts, encoder, part) for part in keys.parts(len(found.stills))]
    parts = store.extractions(names)
    if len(parts) < len(names):
        return None
    vectors, indptr = packing.unpack([(parts[name].payload, parts[name].blobs) for name in names])
    thumbs = np.frombuffer(found.thumbs, np.uint8).reshape(-1, THUMB, THUMB, 3)
    videos = store.videos([target.video_id])
    return Prepared(
        target=target,
        media=found.media,
        fields=videos[0].fields if videos else VideoFields(found.media.tags.get("title", "")),
        encoder=encoder,
        candidates=candidates_of(found),
        texts=texts,
        context=options.context,
        thumbs=thumbs,
        vectors=vectors,
        indptr=indptr,
        pictures_key=samples,
    )


def stills(store: Store, prepared: Prepared, numbers: Sequence[int]) -> list[bytes]:
    """The kept pictures of candidates as JPEG, at most 448 pixels on the longer side, in the order of the numbers."""
    return pictures(store, prepared.pictures_key, numbers)


def pictures(store: Store, samples_key: str, numbers: Sequence[int]) -> list[bytes]:
    """The same by the name of the sampling."""
    names = {number // PART: keys.pictures(samples_key, number // PART) for number in numbers}
    found = store.extractions(list(names.values()))
    return [bytes(found[names[number // PART]].blobs[number % PART]) for number in numbers]
