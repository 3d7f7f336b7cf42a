"""Documents of an index as they were encoded: stored moments with the pictures that were kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clamr_cli.errors import MediaError
from clamr_cli.index.options import Recipe
from clamr_cli.index.outputs import document_of, frames_of
from clamr_cli.index.spool import Decoded
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.store import Store
    from clamr_cli.types import Document, FileRecord, VideoRecord


def indexed_videos(store: Store) -> list[FileRecord]:
    """One indexed file of each video, by video-id: the first path of those that hold it."""
    first: dict[str, FileRecord] = {}
    for record in sorted(store.files(), key=lambda record: record.path):
        if record.state is FileState.INDEXED:
            first.setdefault(record.video_id, record)
    return [first[identity] for identity in sorted(first)]


def stored_documents(
    store: Store, records: Sequence[FileRecord] | None = None
) -> Iterator[tuple[FileRecord, VideoRecord, list[Document]]]:
    """The documents of an index, one video after another, without touching any video file.

    Args:
        store: the index.
        records: files of the wanted videos, as :func:`indexed_videos` gives them; None for all videos.

    Raises:
        MediaError: the pictures of a video are no longer kept.
    """
    for record in indexed_videos(store) if records is None else records:
        yield record, *documents_of(store, record)


def documents_of(store: Store, record: FileRecord, recipe: Recipe | None = None) -> tuple[VideoRecord, list[Document]]:
    """A video and its documents.

    Args:
        store: the index.
        record: an indexed file that holds it.
        recipe: what its moments were made with, where the record does not say.

    Raises:
        MediaError: its pictures are no longer kept.
    """
    video = store.video(record.video_id)
    recipe = Recipe.parse(record.recipe) or recipe
    kept = None if recipe is None else store.extraction(recipe.key(video.content_hash, "media"))
    if kept is None:
        raise MediaError("its pictures are no longer kept", "index its folder again")
    decoded = msgspec.convert(kept.payload, Decoded)
    pictures = {frame.time: frame for frame in frames_of(decoded, kept.blobs)}
    return video, [document_of(moment, pictures) for moment in store.moments([record.video_id])]
