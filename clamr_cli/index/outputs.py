"""What jobs hand to the writing thread, and how stored values become those that jobs work with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from clamr_cli.events import Notice, Progress
from clamr_cli.index.spool import SAMPLE_RATE
from clamr_cli.types import Document, Frame, MomentRecord, Segment, Sound, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.events import Event
    from clamr_cli.index.spool import Decoded, Spool
    from clamr_cli.store import Store
    from clamr_cli.types import FileRecord, TokenVectors, VideoRecord


LONGEST_SOUND = 30.0
"""Seconds of sound of one document at most (CLaMR section 3: raw audio up to 30 s)."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep a stage's result under its key, in place of what is kept under the keys of its parts."""

    key: str
    payload: Mapping[str, Any]
    blobs: Sequence[bytes] = ()
    parts: Sequence[str] = ()

    def write(self, store: Store) -> None:
        """Write it."""
        store.put_extraction(self.key, self.payload, self.blobs)
        if self.parts:
            store.delete_extractions(self.parts)


@dataclass(frozen=True, slots=True)
class Commit:
    """A video is ready: write it and its file; ``moments`` is None where they are as the index has them."""

    file: FileRecord
    video: VideoRecord | None
    moments: Sequence[MomentRecord] | None
    vectors: Mapping[str, TokenVectors] | None
    event: Event


Output = Keep | Commit | Progress | Notice


@dataclass(slots=True)
class Take:
    """What decoding a file gave, from this run or an earlier one; ``spool`` only where pictures and sound are there."""

    decoded: Decoded
    frames: tuple[Frame, ...]
    spool: Spool | None


def frames_of(decoded: Decoded, blobs: Sequence[bytes]) -> tuple[Frame, ...]:
    """The frames that a kept extraction holds."""
    return tuple(Frame(still.time, still.span, bytes(jpeg)) for still, jpeg in zip(decoded.frames, blobs, strict=True))


def segments_of(payload: Mapping[str, Any]) -> list[Segment]:
    """The segments that a kept extraction holds."""
    return msgspec.convert(payload["segments"], list[Segment])


def with_sound(documents: Sequence[Document], take: Take) -> list[Document]:
    """Documents with the beginning of their sound, for encoders that listen themselves."""
    if take.spool is None or not take.decoded.samples:
        return list(documents)
    sound = take.spool.audio()
    heard = []
    for made in documents:
        span = Span(made.span.start, min(made.span.end, made.span.start + LONGEST_SOUND))
        samples = np.array(sound[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)])
        heard.append(replace(made, audio=Sound(span, samples)) if len(samples) else made)
    return heard


def document_of(moment: MomentRecord, pictures: Mapping[float, Frame]) -> Document:
    """A stored moment with its pictures, as it was when it was made."""
    frames = tuple(
        Frame(time, span, pictures[time].jpeg)
        for time, span in zip(moment.frame_times, moment.frame_spans, strict=True)
        if time in pictures
    )
    return Document(moment.moment_id, moment.span, frames, moment.speech, moment.ocr, moment.metadata)


def moment_of(made: Document, identity: str) -> MomentRecord:
    """A document as the index keeps it."""
    return MomentRecord(
        made.id, identity, made.span,
        tuple(frame.time for frame in made.frames), tuple(frame.span for frame in made.frames),
        made.speech, made.ocr, made.metadata,
    )  # fmt: skip
