"""Tags and notes of a person: metadata that is stored by content, found like the rest, changed without a video file.

An index run adds them to the metadata of every moment. They are encoded by themselves, never together with what the
file says, so a change leaves all other vectors as they are: pictures, speech and text need not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from clamr_cli.index.documents import cut_to, speaker_names
from clamr_cli.store import Store
from clamr_cli.types import (
    LABEL_SOURCES,
    MODALITY_IDS,
    Document,
    Encoder,
    FileState,
    Labels,
    Modality,
    MomentRecord,
    Segment,
    TokenVectors,
)

_METADATA = MODALITY_IDS[Modality.METADATA]


def without_labels(document: Document) -> Document:
    """A document without tags and notes."""
    return replace(document, metadata=tuple(part for part in document.metadata if part.source not in LABEL_SOURCES))


def labels_in(metadata: Sequence[Segment]) -> tuple[str, ...]:
    """The texts of the tags and notes among metadata."""
    return tuple(part.text for part in metadata if part.source in LABEL_SOURCES)


def label_documents(documents: Sequence[Document] | Sequence[MomentRecord]) -> dict[tuple[str, ...], Document]:
    """Documents of nothing but the tags and notes of other documents, by their texts, each once."""
    result: dict[tuple[str, ...], Document] = {}
    for document in documents:
        if texts := labels_in(document.metadata):
            own = tuple(part for part in document.metadata if part.source in LABEL_SOURCES)
            result.setdefault(texts, Document("labels", document.span, metadata=own))
    return result


def with_labels(
    moment: Document | MomentRecord, plain: TokenVectors, labels: Mapping[tuple[str, ...], TokenVectors]
) -> TokenVectors:
    """The vectors of a moment: those without its tags and notes, and the ones of these by their texts."""
    own = [number for number, part in enumerate(moment.metadata) if part.source in LABEL_SOURCES]
    if not own:
        return plain
    others = np.array([n for n in range(len(moment.metadata)) if n not in own] or [-1], np.int32)
    more, places = labels[labels_in(moment.metadata)], np.array(own, np.int32)
    rows = np.flatnonzero(more.modality_ids == _METADATA)
    segments, counts = plain.segments.copy(), (plain.modality_ids == _METADATA) & (plain.segments >= 0)
    segments[counts] = others[segments[counts]]
    spans = np.array([(moment.metadata[number].span.start, moment.metadata[number].span.end) for number in own])
    numbers = more.segments[rows]
    return TokenVectors(
        np.concatenate([plain.vectors.astype(np.float32), more.vectors[rows].astype(np.float32)]),
        np.concatenate([plain.modality_ids, more.modality_ids[rows]]),
        np.concatenate([plain.spans, spans[numbers].astype(np.float32)]),
        np.concatenate([segments, places[numbers]]),
        np.concatenate([plain.offsets, more.offsets[rows]]),
        np.concatenate([plain.input_ids, more.input_ids[rows]]),
    )


def without_label_vectors(moment: MomentRecord, vectors: TokenVectors) -> TokenVectors:
    """The vectors of a moment as they are without its tags and notes."""
    own = {number for number, part in enumerate(moment.metadata) if part.source in LABEL_SOURCES}
    if not own:
        return vectors
    is_label = (vectors.modality_ids == _METADATA) & np.isin(vectors.segments, list(own))
    left = [number for number in range(len(moment.metadata)) if number not in own]
    place = {number: place for place, number in enumerate(left)}
    rows = np.flatnonzero(~is_label)
    segments = vectors.segments[rows].copy()
    for row in np.flatnonzero((vectors.modality_ids[rows] == _METADATA) & (segments >= 0)).tolist():
        segments[row] = place[int(segments[row])]
    return TokenVectors(
        vectors.vectors[rows], vectors.modality_ids[rows], vectors.spans[rows], segments, vectors.offsets[rows],
        vectors.input_ids[rows],
    )  # fmt: skip


def label(
    store: Store,
    encoders: Mapping[str, Encoder],
    video_ids: Collection[str],
    change: Callable[[Labels], Labels],
    command: str,
) -> Iterator[tuple[str, Labels]]:
    """Change the tags and notes of videos; those that it changes are yielded, when they are stored, as they are now.

    Args:
        store: the index, opened for writing by nobody else.
        encoders: by fingerprint. The vectors of others lack tags and notes until the next index run with them.
        video_ids: the videos.
        change: makes the new tags and notes from the old ones.
        command: named to others who want to write.

    Raises:
        IndexLocked: somebody else writes to the index.
        StoreError: it cannot be read or written.
    """
    with store.writer(command):
        changed = False
        for video_id in video_ids:
            video = store.video(video_id)
            before = store.labels_of(video.content_hash)
            after = change(before)
            if after == before:
                continue
            files = [file for file in store.files([video_id]) if file.state is FileState.INDEXED]
            # Until all is written, the files count as changed: the next run of their folder does the rest.
            store.put_files([replace(file, sidecars="") for file in files])
            store.put_labels(video.content_hash, after)
            store.sync()
            segments = after.segments(video.media.duration)
            replace_moments(store, encoders, video_id, partial(_labelled, segments=segments))
            store.put_files(files)
            changed = True
            yield video_id, after
        if changed:
            store.finish()
            store.pack_all()


def replace_moments(
    store: Store, encoders: Mapping[str, Encoder], video_id: str, change: Callable[[MomentRecord], MomentRecord]
) -> None:
    """Change labels and speakers in the moments of a video, and its labels in their vectors; ``encoders`` as above."""
    video, moments = store.video(video_id), store.moments([video_id])
    ids = [moment.moment_id for moment in moments]
    infos = {use.info.fingerprint: use.info for use in store.encoders()}
    plain = {
        fingerprint: {
            moment.moment_id: without_label_vectors(moment, stored[moment.moment_id])
            for moment in moments
            if moment.moment_id in stored
        }
        for fingerprint in infos
        for stored in [dict(store.scan_vectors(fingerprint, ids))]
    }
    new = [change(moment) for moment in moments]
    labels = label_documents(new)
    store.put_video(video, new)
    for fingerprint, vectors in plain.items():
        if fingerprint in encoders:
            encoded = encoders[fingerprint].encode_documents(list(labels.values())) if labels else []
            texts = dict(zip(labels, encoded, strict=True))
            vectors = {
                one.moment_id: with_labels(one, vectors[one.moment_id], texts)
                for one in new
                if one.moment_id in vectors
            }
        store.put_vectors(infos[fingerprint], vectors)


def _labelled(moment: MomentRecord, segments: Sequence[Segment]) -> MomentRecord:
    """A moment with these tags and notes in place of its own, where an index run puts them."""
    plain = [part for part in moment.metadata if part.source not in LABEL_SOURCES]
    return replace(moment, metadata=(*plain, *cut_to(segments, moment.span), *speaker_names(moment.speech)))
