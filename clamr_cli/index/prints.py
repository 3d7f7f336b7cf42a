"""Fingerprints of indexed videos: those that are stored, and those that are made anew from files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import MediaError
from clamr_cli.index import tasks
from clamr_cli.index.documents import Density, levels_key, prints_key, sound_print_key
from clamr_cli.index.executors.local import LocalExecutor
from clamr_cli.media.prints import CLOSE, INTERVAL, Prints, levels_of

if TYPE_CHECKING:
    from clamr_cli.store import Store
    from clamr_cli.types import VideoRecord

What = Density | Literal["sound"]
"""The hashes of pictures, or the energies of the sound."""

_INTERVALS: Final[dict[Density, float]] = {"": 0.0, "/dense": INTERVAL, "/close": CLOSE}

_AT_ONCE: Final = 500


def _key(video: VideoRecord, what: What) -> str:
    content = video.content_hash
    return sound_print_key(content) if what == "sound" else prints_key(content, what)


def _stored(store: Store, videos: Sequence[VideoRecord], what: What) -> dict[str, list[bytes]]:
    blobs: dict[str, list[bytes]] = {}
    for start in range(0, len(videos), _AT_ONCE):
        keys = {_key(video, what): video.video_id for video in videos[start : start + _AT_ONCE]}
        for key, extraction in store.extractions(list(keys)).items():
            blobs[keys[key]] = extraction.blobs
    return blobs


def stored_prints(store: Store, videos: Sequence[VideoRecord]) -> dict[str, Prints]:
    """The hashes that are stored of videos, by their ids; the closer ones where there are both."""
    blobs = {**_stored(store, videos, ""), **_stored(store, videos, "/dense")}
    return {video_id: Prints.of(*parts) for video_id, parts in blobs.items()}


def stored_levels(store: Store, video: VideoRecord, count: int) -> NDArray[np.uint8]:
    """The levels of the ``count`` pictures that :func:`stored_prints` gives of a video, [n, 16, 16]."""
    keys = [levels_key(video.content_hash), levels_key(video.content_hash, "/dense")]
    # A run that was killed may have stored levels without their hashes.
    stored = (levels_of(extraction.blobs[0]) for extraction in store.extractions(keys).values())
    return next(levels for levels in stored if len(levels) == count)


def has_close_prints(store: Store, video: VideoRecord) -> bool:
    """Whether there are fingerprints by which a video can be looked at closely."""
    return store.has_extraction(prints_key(video.content_hash, "/close"))


def stored_close_prints(store: Store, video: VideoRecord) -> Prints | None:
    """The fingerprints by which a video can be looked at closely, with their levels; None where they are not stored."""
    hashes = _stored(store, [video], "/close").get(video.video_id)
    levels = store.extraction(levels_key(video.content_hash, "/close"))
    return replace(Prints.of(*hashes), levels=levels_of(levels.blobs[0])) if hashes and levels else None


def put_prints(store: Store, content: str, blobs: Sequence[bytes], density: Density = "") -> None:
    """Store those of :meth:`clamr_cli.media.prints.Prints.blobs`; where there are hashes, there are levels, too."""
    *hashes, levels = blobs
    store.put_extraction(levels_key(content, density), {}, [levels])
    store.put_extraction(prints_key(content, density), {}, hashes)


def stored_sounds(store: Store, videos: Sequence[VideoRecord]) -> dict[str, NDArray[np.uint8]]:
    """The energies of sounds that are stored, by the ids of the videos, [n, 8] each."""
    blobs = _stored(store, videos, "sound")
    return {name: np.frombuffer(parts[0], np.uint8).reshape(-1, 8) for name, parts in blobs.items()}


def make_prints(
    store: Store,
    videos: Sequence[VideoRecord],
    paths: Mapping[str, str],
    what: What,
    cache: Path,
    *,
    time_limit: float,
    progress: Callable[[float, float], None],
) -> dict[str, MediaError]:
    """Make fingerprints of videos that lack them and store each as soon as it is there, in processes of their own.

    Args:
        store: the index, which nobody else writes to.
        videos: those without.
        paths: of their files, by the videos' ids.
        what: to make.
        cache: the folder for logs.
        time_limit: seconds without progress after which a decoder counts as hung.
        progress: called with the seconds of video that are done, and of all.

    Returns:
        The errors of files that cannot be read, by the ids of their videos.

    Raises:
        IndexLocked: another process writes to the index.
        StoreError: the index cannot be written.
    """
    total = sum(video.media.duration for video in videos)
    errors: dict[str, MediaError] = {}

    async def work() -> None:
        executor, before = LocalExecutor(cache / "workers.log", 0), 0.0
        try:
            for video in videos:
                path, media = paths[video.video_id], video.media

                def report(done: float, _total: float, _part: object = None, /, before: float = before) -> None:
                    progress(before + done, total)

                try:
                    if what == "sound":
                        blobs = await executor.run(
                            "decode", tasks.read_sound_print, path, media, stall_timeout=time_limit, on_report=report
                        )
                        store.put_extraction(sound_print_key(video.content_hash), {}, blobs)
                    else:
                        blobs = await executor.run(
                            "decode", tasks.read_prints, path, media, _INTERVALS[what],
                            stall_timeout=time_limit, on_report=report,
                        )  # fmt: skip
                        put_prints(store, video.content_hash, blobs, what)
                except MediaError as error:
                    errors[video.video_id] = error
                before += media.duration
                progress(before, total)
        finally:
            executor.stop()

    if videos:
        with store.writer("clamr duplicates"):
            asyncio.run(work())
    return errors
