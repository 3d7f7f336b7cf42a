"""Indexes put together in one: as if their videos had been indexed there.

Rows are copied as they are, a table of a source in one commit, in the order in which an index run writes them: a video
is seen when its row is there, and a merge that was killed is done again. What the target has stays; where a source says
something else of the same thing, a line names it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from clamr_cli.errors import IndexLocked, UsageError
from clamr_cli.store.store import Store
from clamr_cli.store.tables import EXTRACTIONS, KEYS, MOMENTS, SCHEMAS, SUMS, VECTORS, VIDEOS, dump
from clamr_cli.types import FileRecord, FileState, Labels, voice_label

_TRANSCRIPT: Final = "/transcript"
_VOICE: Final = re.compile(f'("speaker":"{voice_label(0).removesuffix("0")})(\\d+)"')


@dataclass(slots=True)
class Merged:
    """Numbers of rows that a merge copied, and lines about what sources say otherwise than the target."""

    videos: int = 0
    moments: int = 0
    vectors: int = 0
    extractions: int = 0
    files: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(target: Store, sources: list[Store], report: Callable[[str, int, int], None] | None = None) -> Merged:
    """Copy all that indexes hold into another one.

    Args:
        target: is changed; its writer lock must not be held.
        sources: are read, one after another: of what several hold the first counts.
        report: called with the address of the source, how many are done, and how many there are.

    Raises:
        UsageError: a source is the target.
        IndexLocked: somebody writes to one of them.
        StoreError: one cannot be read or written.
    """
    for source in sources:
        if source.uri == target.uri:
            raise UsageError(f"{source.uri} cannot be merged into itself", "name other indexes before --into")
        if source.is_being_written():
            raise IndexLocked(f"somebody writes to the index at {source.uri}", "wait until that is done")
    merged = Merged()
    with target.writer("clamr merge"):
        # What a killed writer left has no video, and would be taken for rows of one.
        target.finish()
        target.tables.add_column(VECTORS, SUMS)
        for number, source in enumerate(sources):
            if report is not None:
                report(source.uri, number, len(sources))
            _copy(target, source, merged)
        if report is not None:
            report("putting the index in order", len(sources), len(sources))
        target.finish()
        target.pack_all()
    return merged


def _copy(target: Store, source: Store, merged: Merged) -> None:
    """Copy what one source holds."""
    known, encoders = target.video_ids(), {use.info.name for use in target.encoders()}
    # A video in both: its moments must be the same for what else is stored of it to fit.
    both = known & source.video_ids()
    before, others = _moments_by_video(target, both), _moments_by_video(source, both)
    differing = {video_id for video_id in both if before[video_id] != others[video_id]}
    for video_id in sorted(differing):
        merged.conflicts.append(
            f"video {video_id} has other moments in {source.uri} (another window, recogniser, correction or tag): "
            f"those of {target.uri} stay"
        )
    _merge_labels(target, source, merged)
    taken = set(target.tables.column(EXTRACTIONS, "digest"))
    for row in source.tables.read(EXTRACTIONS, ["digest", "key"]).to_pylist() if taken else ():
        if row["digest"] in taken and row["key"].endswith(_TRANSCRIPT):
            texts = [store.extractions([row["key"]])[row["key"]].payload for store in (target, source)]
            if texts[0] != texts[1]:
                video_id = row["key"][:12]
                merged.conflicts.append(
                    f"the correction of video {video_id} is another one in {source.uri}: that of {target.uri} stays"
                )
    offset = target.last_speaker()
    merged.extractions += _append(target, source, EXTRACTIONS, lambda row: row["digest"] not in taken)
    merged.moments += _append(
        target, source, MOMENTS, lambda row: row["video_id"] not in known,
        change=lambda record: _VOICE.sub(lambda match: f'{match[1]}{int(match[2]) + offset}"', record),
    )  # fmt: skip
    _merge_speakers(target, source, offset, taken)
    encoded = {tuple(row.values()) for row in target.tables.read(VECTORS, ["moment_id", "fingerprint"]).to_pylist()}
    merged.vectors += _append(
        target,
        source,
        VECTORS,
        lambda row: (
            (row["moment_id"], row["fingerprint"]) not in encoded
            and row["moment_id"].partition("#")[0] not in differing
        ),
    )
    # What rows rest on is on the disk before them.
    target.sync()
    merged.videos += _append(target, source, VIDEOS, lambda row: row["video_id"] not in known)
    _merge_files(target, source, merged)
    _merge_settings(target, source, merged, encoders)
    target.sync()


def _moments_by_video(store: Store, video_ids: Collection[str]) -> defaultdict[str, list[str]]:
    moments: defaultdict[str, list[str]] = defaultdict(list)
    for moment in store.moments(sorted(video_ids)) if video_ids else ():
        moments[moment.video_id].append(dump(moment))
    return moments


def _append(
    target: Store,
    source: Store,
    name: str,
    wanted: Callable[[dict[str, Any]], bool],
    *,
    change: Callable[[str], str] | None = None,
) -> int:
    """Append the rows of a source's table that are wanted, in one commit; returns their number.

    ``wanted`` sees the columns of a row that name things: keys and ids. ``change`` makes the text of each record.
    """
    schema = SCHEMAS[name]
    data = source.tables.dataset(name)
    there = [column for column in schema.names if column in data.schema.names]
    naming = [column for column in there if column in (*KEYS[name], "video_id")]
    count = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in source.tables.batches(name, there, data=data):
            rows = batch.select(naming).to_pylist()
            chosen = batch.take(pa.array([n for n, row in enumerate(rows) if wanted(row)], pa.int64()))
            if chosen.num_rows:
                count += chosen.num_rows
                # An index of an older clamr has fewer columns; those values are null.
                columns = [
                    chosen.column(column.name).cast(column.type)
                    if column.name in there
                    else pa.nulls(chosen.num_rows, column.type)
                    for column in schema
                ]
                if change is not None:
                    place = schema.get_field_index("record")
                    columns[place] = pa.array(map(change, columns[place].to_pylist()), columns[place].type)
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    target.tables.append(name, schema, batches())
    return count


def _merge_labels(target: Store, source: Store, merged: Merged) -> None:
    """Put tags and notes together; those of both count."""
    hashes = {video.video_id: video.content_hash for video in source.videos()}
    for video_id, labels in source.labels().items():
        before = target.labels_of(hashes[video_id])
        tags, notes = (
            tuple(dict.fromkeys((*getattr(before, name), *getattr(labels, name)))) for name in ("tags", "notes")
        )
        if before not in (Labels(), labels) and Labels(tags, notes) != before:
            target.put_labels(hashes[video_id], Labels(tags, notes))
            merged.conflicts.append(
                f"video {video_id} has other tags or notes in {source.uri}: both are kept; clamr index encodes them"
            )


def _merge_speakers(target: Store, source: Store, offset: int, taken: Collection[str]) -> None:
    """Give the speakers that came the numbers that their lines have; ``taken`` are the extractions that were there."""
    came: set[int] = set()
    for row in source.tables.read(EXTRACTIONS, ["digest", "key"]).to_pylist():
        content, _, kind = row["key"].partition("/")
        voices = source.voices_of(content) if kind.startswith("voices/") and row["digest"] not in taken else None
        if voices is not None:
            target.put_voices(content, replace(voices, numbers=tuple(number + offset for number in voices.numbers)))
            came.update(voices.numbers)
    if came:
        target.put_last_speaker(offset + source.last_speaker())
    if named := [one for number, one in source.speakers().items() if number in came]:
        others = (replace(one, number=one.number + offset) for one in named)
        target.put_speakers([*target.speakers().values(), *others])


def _merge_files(target: Store, source: Store, merged: Merged) -> None:
    """Record the source's files; of one path, what the target has stays unless only the source indexed it."""
    before = {file.path: file for file in target.files()}
    new: list[FileRecord] = []
    for file in source.files():
        known = before.get(file.path)
        if known is None or (known.state is not FileState.INDEXED and file.state is FileState.INDEXED):
            new.append(file)
        elif (file.video_id, file.recipe) != (known.video_id, known.recipe) and file.state is FileState.INDEXED:
            merged.conflicts.append(
                f"{file.path!r} is video {file.video_id} in {source.uri} and {known.video_id} in {target.uri}, or was "
                "indexed otherwise: the latter stays"
            )
    target.put_files(new)
    merged.files += len(new)


def _merge_settings(target: Store, source: Store, merged: Merged, encoders: Collection[str]) -> None:
    """Take over settings of encoders and folders that the target has none of, and pairs that are no duplicates.

    ``encoders`` are the names of those that the target had vectors of.
    """
    for encoder in sorted({use.info.name for use in source.encoders()}):
        before, settings = target.encoder_settings(encoder), source.encoder_settings(encoder)
        if encoder not in encoders and settings:
            target.put_encoder_settings(encoder, settings)
        elif before != settings:
            merged.conflicts.append(
                f"the encoder {encoder} has other settings in {source.uri}: those of {target.uri} stay, and "
                f"clamr index --encoder {encoder} encodes what came by them"
            )
    folders, others = target.folders(), source.folders()
    for path in sorted(others.keys() & folders.keys()):
        if others[path] != folders[path]:
            merged.conflicts.append(f"{path!r} has other settings in {source.uri}: those of {target.uri} stay")
    if others.keys() - folders.keys():
        target.put_folders({**others, **folders})
    if pairs := source.not_duplicates() - target.not_duplicates():
        target.put_not_duplicates(target.not_duplicates() | pairs)
