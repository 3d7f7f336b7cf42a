"""Pictures, clips and moments as queries: "find more like this".

Of a moment the stored vectors are the query, so nothing is decoded or encoded. The score is MaxSim as ever: for each
vector of the example the most similar one of a moment, pictures among pictures and text among text, summed. A moment
may have thousands of vectors; those that stand best for the rest are taken, at most :data:`MOST_VECTORS`, and every
modality gets an equal share of them. Metadata counts where it is asked for: mostly it is the same for the whole video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import UsageError
from clamr_cli.search.cascade import Float32, Int64, similarities
from clamr_cli.search.search import Example, QueryWord, cut_around, joined, require_vectors, search
from clamr_cli.store import Store
from clamr_cli.text import content_words, format_time, shorten
from clamr_cli.types import (
    MODALITY_IDS,
    MODALITY_OF_ID,
    TEXT_MODALITIES,
    Document,
    Encoder,
    EncoderInfo,
    Frame,
    Hit,
    Modality,
    MomentRecord,
    SearchOptions,
    Span,
    TokenVectors,
)

if TYPE_CHECKING:
    from clamr_cli.search.workers import Workers

MOST_VECTORS: Final = 32
"""Vectors of an example at most."""

_MOST_COMPARED: Final = 2048
"""Vectors of one modality that are looked at, evenly spread over an example that has more."""

_LONGEST_LABEL: Final = 60


def similar(
    store: Store,
    encoder: Encoder,
    video_id: str,
    span: Span | None,
    options: SearchOptions,
    *,
    device: str = "cpu",
    itself: bool = False,
    workers: Workers | None = None,
) -> list[Hit]:
    """The moments that are most like a moment, or like a whole video.

    Args:
        store: the index.
        encoder: its stored vectors are compared.
        video_id: the id of a video of the index, in full.
        span: a stretch of it, or a second (an empty span); None for all of it.
        options: filters, modalities, weights and how many. Scoring by modality means nothing here.
        device: as :func:`clamr_cli.search.search` takes it.
        itself: let the moments that the example is of, and their neighbours, be answers.
        workers: as :func:`clamr_cli.search.search` takes them.

    Returns:
        Hits as :func:`clamr_cli.search.search` gives them: each query word of their evidence is a frame or line of the
        example.

    Raises:
        UsageError: there is no such video, or nothing of it can be compared.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    example = stored_example(store, encoder.info, video_id, span, options.modalities, itself=itself)
    return search(store, encoder, "", options, device=device, example=example, workers=workers)


def stored_example(
    store: Store,
    encoder: EncoderInfo,
    video_id: str,
    span: Span | None,
    modalities: Sequence[Modality] = (),
    *,
    itself: bool = False,
) -> Example:
    """The example that a video, a stretch or a second of it makes, from the stored vectors.

    A second stands for the moment it lies in. Arguments and errors are those of :func:`similar`; no ``modalities`` are
    all but metadata.
    """
    video = store.video(video_id)
    require_vectors(store, encoder)
    moments = store.moments([video_id])
    numbers = list(range(len(moments)))
    if span is not None:
        length = max((moment.span.end for moment in moments), default=0.0)
        if span.start > length:
            raise UsageError(
                f"{format_time(span.start)} is after the end of video {video_id}", f"it ends at {format_time(length)}"
            )
        numbers = [number for number, moment in enumerate(moments) if moment.span.overlaps(span)]
        if span.start == span.end:
            # The moment in whose middle it lies best.
            numbers = sorted(numbers, key=lambda number: abs(_middle(moments[number].span) - span.start))[:1]
    chosen = [moments[number] for number in numbers]
    vectors = dict(store.scan_vectors(encoder.fingerprint, [moment.moment_id for moment in chosen]))
    counting = frozenset(modalities) or frozenset(Modality) - {Modality.METADATA}
    within = None if span is None or span.start == span.end else span
    parts, labels = [], []
    for moment in chosen:
        if (document := vectors.get(moment.moment_id)) is not None:
            rows = _rows(document, moment, counting, within)
            parts.append(_take(document, rows))
            labels += [_label(moment, document, row) for row in rows.tolist()]
    if not labels:
        others = "" if modalities else " but metadata"
        raise UsageError(
            f"nothing{others} of {video.fields.title or video_id} can be compared",
            "name another second, or what to compare: -m metadata" if others else "compare other modalities",
        )
    own: frozenset[str] = frozenset()
    if not itself:
        neighbours = range(max(0, min(numbers) - 1), max(numbers) + 2)
        own = frozenset(moment.moment_id for moment in moments[neighbours.start : neighbours.stop])
    return bounded(joined(parts), labels, own)


def picture_example(encoder: Encoder, frames: Sequence[Frame], names: Sequence[str]) -> Example:
    """The example that pictures make: encoded as a moment that has nothing but them.

    Args:
        encoder: must see pictures.
        frames: the pictures in order; those of one clip together.
        names: of each, for the evidence.

    Raises:
        UsageError: the encoder sees no pictures.
        MediaError: one of them is none.
    """
    span = Span(frames[0].time, frames[-1].time)
    (document,) = encoder.encode_documents([Document("picture", span, frames=tuple(frames))])
    rows = np.flatnonzero(document.modality_ids == MODALITY_IDS[Modality.VIDEO])
    if not len(rows):
        raise UsageError(
            f"the encoder {encoder.info.name} sees no pictures", "index with one that does: clamr index --encoder mini"
        )
    return bounded(_take(document, rows), [names[number] for number in document.segments[rows].tolist()])


def bounded(tokens: TokenVectors, labels: Sequence[str], own: frozenset[str] = frozenset()) -> Example:
    """An example of at most :data:`MOST_VECTORS` of the given vectors, whose modalities have equal shares.

    Args:
        tokens: [n] vectors, all of a modality.
        labels: [n], of the frame or line that each is of.
        own: see :class:`Example`.
    """
    ids = tokens.modality_ids
    present = [number for number in MODALITY_OF_ID if (ids == number).any()]
    left, rows = MOST_VECTORS, []
    # Those with few vectors first: what they do not need is for the others.
    for place, number in enumerate(sorted(present, key=lambda number: int((ids == number).sum()))):
        columns = np.flatnonzero(ids == number)
        picked = columns[representatives(tokens.vectors[columns].astype(np.float32), left // (len(present) - place))]
        left -= len(picked)
        rows.append(picked)
    chosen = np.sort(np.concatenate(rows))
    groups: dict[str, list[int]] = {}
    for row, place in enumerate(chosen.tolist()):
        groups.setdefault(labels[place], []).append(row)
    words = tuple(QueryWord(text, tuple(members)) for text, members in groups.items())
    return Example(_take(tokens, chosen), words, own)


def representatives(vectors: Float32, count: int) -> Int64:
    """Numbers of the vectors that stand best for all, at most ``count``, in order.

    Greedily, each adds most to the sum over all vectors of the similarity to the nearest one that was taken. Vectors
    that add nothing are left out.

    Args:
        vectors: [n, 128] of unit length.
        count: at least 1.
    """
    spread = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST_COMPARED)).astype(np.int64))
    near = similarities(vectors[spread], vectors[spread])
    covered = np.full(len(spread), -1.0, np.float32)
    taken: list[int] = []
    while len(taken) < min(count, len(spread)):
        gains = np.maximum(near - covered, 0).sum(axis=1)
        best = int(gains.argmax())
        if taken and gains[best] < 1e-3:
            break
        taken.append(best)
        covered = np.maximum(covered, near[best])
    return spread[np.sort(np.array(taken, np.int64))]


def _rows(document: TokenVectors, moment: MomentRecord, counting: frozenset[Modality], within: Span | None) -> Int64:
    """Numbers of the vectors of a moment that say something of it: of frames, and of texts that are no stop words."""
    rows = []
    for row, number in enumerate(document.modality_ids.tolist()):
        modality = MODALITY_OF_ID.get(number)
        if modality not in counting:
            continue
        start, end = document.spans[row].tolist()
        if within is not None and not Span(start, max(start, end)).overlaps(within):
            continue
        if modality in TEXT_MODALITIES:
            segments, segment = moment.segments(modality), int(document.segments[row])
            first, last = document.offsets[row].tolist()
            if 0 <= segment < len(segments) and not content_words(segments[segment].text[first:last]):
                continue
        rows.append(row)
    return np.array(rows, np.int64)


def _label(moment: MomentRecord, document: TokenVectors, row: int) -> str:
    """Name of the frame or line that a vector is of."""
    modality = MODALITY_OF_ID[int(document.modality_ids[row])]
    number = int(document.segments[row])
    if modality in TEXT_MODALITIES:
        segments = moment.segments(modality)
        if 0 <= number < len(segments):
            _, line = cut_around(segments[number].text, *document.offsets[row].tolist())
            return shorten(line, _LONGEST_LABEL)
    times = moment.frame_times
    frame = modality is Modality.VIDEO and 0 <= number < len(times)
    time = times[number] if frame else float(document.spans[row, 0])
    return f"{'frame' if modality is Modality.VIDEO else modality.value} at {format_time(time)}"


def _take(tokens: TokenVectors, rows: Int64) -> TokenVectors:
    """Some vectors as a query has them: without places in a document."""
    count = len(rows)
    return TokenVectors(
        tokens.vectors[rows].astype(np.float32),
        tokens.modality_ids[rows],
        np.zeros((count, 2), np.float32),
        np.full(count, -1, np.int32),
        np.zeros((count, 2), np.int32),
        np.full(count, -1, np.int32),
    )


def _middle(span: Span) -> float:
    return (span.start + span.end) / 2
