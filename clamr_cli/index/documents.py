"""From what was extracted of a video to its documents: one per moment, each with at most ten frames and its own texts.

A document is what CLaMR encodes in one pass (section 3: frames, speech, on-screen text and metadata together). A video
longer than a window gives several, so that search answers with a time.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.index.options import Recipe
from clamr_cli.index.workdir import SAMPLE_RATE, DecodedMedia
from clamr_cli.types import (
    MAX_FRAMES,
    Document,
    FileRecord,
    FileState,
    Frame,
    MomentRecord,
    Segment,
    Sound,
    Span,
    VideoRecord,
    Word,
)

if TYPE_CHECKING:
    from clamr_cli.store import Extraction, Store

LONGEST_SOUND = 30.0
"""Seconds of sound of one document at most (CLaMR section 3: raw audio up to 30 s)."""

SHORTEST_PAUSE = 0.3
"""Seconds of silence between two stretches of speech below which it is breath, not a pause."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame of a video, and the number of the shot it belongs to."""

    frame: Frame
    number: int


def split_video(
    video_id: str,
    duration: float,
    shots: Sequence[Shot] = (),
    speech: Sequence[Segment] = (),
    ocr: Sequence[Segment] = (),
    metadata: Sequence[Segment] = (),
    *,
    window: float,
) -> list[Document]:
    """Cut a video into moments of at most ``window`` seconds and give each what belongs to it; all in time order.

    Cuts fall into speech pauses or on shot changes where there are any. Speech belongs to the window in which
    it is said; text on screen to every window in which it can be seen; metadata to all, chapters to theirs. A video
    without any content still gives its documents, with empty modalities.
    """
    cuts = [later.frame.span.start for earlier, later in itertools.pairwise(shots) if later.number != earlier.number]
    silences = pauses([segment.span for segment in speech], duration)
    spans = windows(duration, longest=window, pauses=silences, cuts=cuts)
    shares = share_out(speech, spans)
    return [
        Document(
            id=f"{video_id}#{number}",
            span=span,
            frames=tuple(frames_of(shots, span)),
            speech=tuple(shares[number]),
            ocr=tuple(cut_to(ocr, span)),
            metadata=tuple(cut_to(metadata, span)),
        )
        for number, span in enumerate(spans)
    ]


def frames_of(shots: Sequence[Shot], span: Span, *, limit: int = MAX_FRAMES) -> list[Frame]:
    """At most ``limit`` frames that can be seen in ``span``, spread over its shots, with spans that tile it.

    Every shot gives a frame before any shot gives two; where there are more shots than frames the longest win, and
    where there is room the largest stretches without a frame are filled.
    """
    visible = [shot for shot in shots if shot.frame.span.overlaps(span)]
    frames = [shot.frame for shot in _choose(visible, span, limit)]
    borders = [span.start, *(max(frame.span.start, span.start) for frame in frames[1:]), span.end]
    return [
        replace(frame, span=Span(start, max(start, end)))
        for frame, (start, end) in zip(frames, itertools.pairwise(borders), strict=False)
    ]


def _choose(shots: Sequence[Shot], span: Span, limit: int) -> list[Shot]:
    """The frames in ``span`` to keep, in time order."""

    def shared(shot: Shot) -> float:
        return max(0.0, min(shot.frame.span.end, span.end) - max(shot.frame.span.start, span.start))

    if len(shots) <= limit:
        return list(shots)
    first_of: dict[int, Shot] = {}
    length: dict[int, float] = {}
    for shot in shots:
        length[shot.number] = length.get(shot.number, 0.0) + shared(shot)
        best = first_of.get(shot.number)
        if best is None or shared(shot) > shared(best):
            first_of[shot.number] = shot
    by_length = sorted(first_of.values(), key=lambda shot: (-length[shot.number], shot.frame.time))
    chosen = by_length[:limit]
    rest = [shot for shot in shots if shot not in chosen]
    while len(chosen) < limit and rest:
        farthest = max(rest, key=lambda shot: min(abs(shot.frame.time - other.frame.time) for other in chosen))
        chosen.append(farthest)
        rest.remove(farthest)
    return sorted(chosen, key=lambda shot: shot.frame.time)


def cut_to(segments: Sequence[Segment], span: Span) -> list[Segment]:
    """The segments that overlap a span, their times cut to it."""
    return [
        replace(segment, span=Span(max(segment.span.start, span.start), min(segment.span.end, span.end)))
        for segment in segments
        if segment.span.overlaps(span)
    ]


def share_out(segments: Sequence[Segment], spans: Sequence[Span]) -> list[list[Segment]]:
    """Give every segment to the span that holds its middle, or its words to theirs where it knows their times.

    Nothing is lost: what lies outside all spans goes to the nearest.
    """
    shares: list[list[Segment]] = [[] for _ in spans]
    for segment in segments:
        groups: dict[int, list[Word]] = {}
        for word in segment.words:
            groups.setdefault(_nearest(word.span, spans), []).append(word)
        if len(groups) > 1:
            for number, words in sorted(groups.items()):
                shares[number].append(piece_of(segment, words))
        else:
            shares[next(iter(groups), _nearest(segment.span, spans))].append(segment)
    return shares


def piece_of(segment: Segment, words: Sequence[Word]) -> Segment:
    """The part of a segment that these neighbouring words make."""
    start, end = words[0].start, words[-1].end
    return replace(
        segment,
        text=segment.text[start:end],
        span=Span(words[0].span.start, words[-1].span.end),
        words=tuple(Word(word.start - start, word.end - start, word.span) for word in words),
    )


def _nearest(span: Span, spans: Sequence[Span]) -> int:
    """The index of the span (of spans in order, side by side) that holds the middle, or lies closest to it."""
    middle = (span.start + span.end) / 2
    return max(0, bisect.bisect_right(spans, middle, key=lambda other: other.start) - 1)


def with_sound(documents: Sequence[Document], sound: NDArray[np.int16]) -> list[Document]:
    """Documents with the beginning of their sound, for encoders that take audio.

    Args:
        documents: of the video.
        sound: of the whole video, [samples] at 16 kHz.
    """
    results = []
    for document in documents:
        span = Span(document.span.start, min(document.span.end, document.span.start + LONGEST_SOUND))
        samples = np.array(sound[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)])
        results.append(replace(document, audio=Sound(span, samples)) if len(samples) else document)
    return results


# --- stored documents -------------------------------------------------------------------------------------------------


def moment_of(document: Document, video_id: str) -> MomentRecord:
    """A document as the index stores it."""
    return MomentRecord(
        document.id, video_id, document.span,
        tuple(frame.time for frame in document.frames), tuple(frame.span for frame in document.frames),
        document.speech, document.ocr, document.metadata,
    )  # fmt: skip


def document_of(moment: MomentRecord, frames: Mapping[float, Frame]) -> Document:
    """A stored moment with its frames, by their times, as it was when it was stored."""
    own = tuple(
        Frame(time, span, frames[time].jpeg)
        for time, span in zip(moment.frame_times, moment.frame_spans, strict=True)
        if time in frames
    )
    return Document(moment.moment_id, moment.span, own, moment.speech, moment.ocr, moment.metadata)


def frames_from(decoded: DecodedMedia, jpegs: Sequence[bytes]) -> tuple[Frame, ...]:
    """The frames of a stored decoding."""
    return tuple(Frame(one.time, one.span, bytes(jpeg)) for one, jpeg in zip(decoded.frames, jpegs, strict=True))


def segments_from(extraction: Extraction) -> list[Segment]:
    """The segments of a stored recognition."""
    return msgspec.convert(extraction.payload["segments"], list[Segment])


def indexed_videos(store: Store) -> list[FileRecord]:
    """One indexed file of each video, by video-id: the first path of those that hold it."""
    first: dict[str, FileRecord] = {}
    for record in sorted(store.files(), key=lambda record: record.path):
        if record.state is FileState.INDEXED:
            first.setdefault(record.video_id, record)
    return [first[identity] for identity in sorted(first)]


def documents_of(store: Store, record: FileRecord, recipe: Recipe | None = None) -> tuple[VideoRecord, list[Document]]:
    """A video and its documents, as they were encoded, without touching any video file.

    Args:
        store: the index.
        record: an indexed file that holds it.
        recipe: of its moments, where the record does not say.

    Raises:
        MediaError: its frames are no longer stored.
    """
    video = store.video(record.video_id)
    recipe = Recipe.parse(record.recipe) or recipe
    stored = None if recipe is None else store.extraction(recipe.key(video.content_hash, "media"))
    if stored is None:
        raise MediaError("its pictures are no longer stored", "index its folder again")
    decoded = msgspec.convert(stored.payload, DecodedMedia)
    frames = {frame.time: frame for frame in frames_from(decoded, stored.blobs)}
    return video, [document_of(moment, frames) for moment in store.moments([record.video_id])]


def windows(
    duration: float, *, longest: float = 60.0, pauses: Sequence[Span] = (), cuts: Sequence[float] = ()
) -> list[Span]:
    """Cut a video into consecutive windows that tile ``[0, duration]``.

    A cut falls in the middle of a speech pause where there is one, else at a shot cut, else at the limit. Of several
    pauses (or cuts) the latest is taken, so that windows stay long. No window is longer than ``longest``, and none is
    shorter than a third of it, unless the whole video is.

    Args:
        duration: seconds; a video of zero length gives one empty window.
        longest: seconds a window may last, at least one.
        pauses: stretches without speech, in any order.
        cuts: times of shot changes, in any order.

    Raises:
        UsageError: when ``longest`` is below one second or no number.
    """
    if not longest >= 1.0:
        raise UsageError(f"a window of {longest:g} seconds is too short", "give at least 1 second")
    duration = max(0.0, duration) if math.isfinite(duration) else 0.0
    middles = sorted((pause.start + pause.end) / 2 for pause in pauses)
    preferences = (middles, sorted(cuts))
    spans: list[Span] = []
    start = 0.0
    while duration - start > longest:
        end = _next_cut(start, duration, longest, preferences)
        spans.append(Span(start, end))
        start = end
    return [*spans, Span(start, duration)]


def _next_cut(start: float, duration: float, longest: float, preferences: Sequence[Sequence[float]]) -> float:
    shortest = longest / 3
    latest = start + longest
    if duration - latest < shortest:
        # The remainder must not become a sliver: leave it a third of a window.
        latest = duration - shortest
    for times in preferences:
        fitting = [time for time in times if start + shortest <= time <= latest]
        if fitting:
            return fitting[-1]
    return latest


def pauses(speech: Sequence[Span], duration: float) -> list[Span]:
    """The stretches of ``[0, duration]`` without speech that last at least :data:`SHORTEST_PAUSE`, in order."""
    silences: list[Span] = []
    end = 0.0
    for span in [*sorted(speech), Span(duration, duration)]:
        start = min(span.start, duration)
        if start - end >= SHORTEST_PAUSE:
            silences.append(Span(end, start))
        end = max(end, span.end)
    return silences
