"""A folder on disk that carries one video's pictures and sound from the decoder to the recognisers.

Layout: ``frames/NNNNNN.jpg`` for the encoder, ``text/NNNNNN.jpg`` for the text reader, ``audio.s16`` with mono 16-bit
samples at 16 kHz, and ``decoded.json``, which is written last: a spool without it is unfinished and worthless, one with
it can be used by a later run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec
import numpy as np
from filelock import FileLock, Timeout

from clamr_cli.errors import StoreError
from clamr_cli.files import make_folder
from clamr_cli.media.identity import video_id
from clamr_cli.types import Frame, MediaInfo, Segment, Span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000
"""Samples a second of the sound in a spool."""

_LEFTOVER_AGE: Final = 7 * 24 * 3600.0

DENSE: Final = "-dense"
"""Behind the names of spools of candidates for questions about one video."""

_OWN: Final = "run-"
"""Before the names of folders that runs have for themselves."""

_ALIVE: Final = ".lock"
"""The file in such a folder that its run holds a lock of for as long as it lives."""


@dataclass(frozen=True, slots=True)
class Still:
    """A picture in the spool: its number in its folder, its time, the span it stands for, and its shot."""

    number: int
    time: float
    span: Span
    shot: int = 0


@dataclass(frozen=True, slots=True)
class TrackLines:
    """The lines of a subtitle track; ``index`` is the track's."""

    index: int
    lines: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding a video gave, beside the pictures and the sound themselves.

    ``tracks`` are the embedded subtitles that may be wanted; ``samples`` is the length of the sound, 0 where there is
    none; ``notices`` tell what had to be left out and why. ``sound`` says whether sound was to be taken. ``speech`` is
    what embedded subtitles say where an earlier version chose among them.
    """

    media: MediaInfo
    frames: tuple[Still, ...] = ()
    text: tuple[Still, ...] = ()
    speech: tuple[Segment, ...] = ()
    samples: int = 0
    notices: tuple[str, ...] = ()
    tracks: tuple[TrackLines, ...] = ()
    sound: bool = False


class Spool:
    """One video's spool folder.

    Args:
        folder: where it is or shall be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        """Make the folder, empty.

        Raises:
            StoreError: it cannot be made.
        """
        with _saying_what_failed(self.folder):
            self.remove()
            (self.folder / "frames").mkdir(parents=True)
            (self.folder / "text").mkdir()

    def remove(self) -> None:
        """Delete the folder; fine if it is not there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_picture(self, kind: str, number: int, jpeg: bytes) -> None:
        """Keep a picture; ``kind`` is ``frames`` or ``text``.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        with _saying_what_failed(self.folder):
            self._picture(kind, number).write_bytes(jpeg)

    def pictures(self, kind: str, stills: Iterable[Still]) -> Iterator[Frame]:
        """The pictures of these stills, read one at a time."""
        for still in stills:
            yield Frame(still.time, still.span, self._picture(kind, still.number).read_bytes())

    def write_tracks(self, chunks: Iterable[tuple[int, NDArray[np.float32]]]) -> Iterator[int]:
        """Write chunks to the sound of their tracks, as :meth:`write_audio` does; yields the samples of the longest.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        written: dict[int, int] = {}
        with contextlib.ExitStack() as stack:
            files: dict[int, IO[bytes]] = {}
            for place, chunk in chunks:
                with _saying_what_failed(self.folder):
                    if place not in files:
                        files[place] = stack.enter_context(self._track(place).open("wb"))
                    files[place].write(_as_bytes(chunk))
                written[place] = written.get(place, 0) + len(chunk)
                yield max(written.values())

    def track(self, place: int) -> NDArray[np.int16]:
        """The sound of a track, as :meth:`audio`; empty where nothing was written."""
        path = self._track(place)
        if not path.exists() or not path.stat().st_size:
            return np.zeros(0, np.int16)
        return np.memmap(path, dtype="<i2", mode="r")

    def use_track(self, place: int) -> int:
        """Let a track be the sound; how many samples it has."""
        count = len(self.track(place))
        if count:
            with _saying_what_failed(self.folder):
                self._track(place).replace(self.folder / "audio.s16")
        return count

    def remove_tracks(self) -> None:
        """Delete the sound of the tracks."""
        for path in self.folder.glob("track-*.s16"):
            path.unlink(missing_ok=True)

    def write_audio(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[int]:
        """Append float32 chunks in [-1, 1] as 16-bit samples; yields the number of samples written so far.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        written = 0
        with _saying_what_failed(self.folder):
            out = (self.folder / "audio.s16").open("wb")
        with out:
            for chunk in chunks:
                with _saying_what_failed(self.folder):
                    out.write(_as_bytes(chunk))
                written += len(chunk)
                yield written

    def audio(self) -> NDArray[np.int16]:
        """The sound, [samples] int16, mapped from disk rather than read."""
        return np.memmap(self.folder / "audio.s16", dtype="<i2", mode="r")

    def has_audio(self) -> bool:
        """Whether the sound was written."""
        return (self.folder / "audio.s16").exists()

    def finish(self, decoded: Decoded) -> None:
        """Say that everything is there.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        with _saying_what_failed(self.folder):
            draft = self.folder / "decoded.json.tmp"
            draft.write_bytes(msgspec.json.encode(decoded))
            draft.replace(self.folder / "decoded.json")

    def decoded(self) -> Decoded | None:
        """What an earlier decoding gave, if it came to its end."""
        try:
            return msgspec.json.decode((self.folder / "decoded.json").read_bytes(), type=Decoded)
        except (OSError, msgspec.MsgspecError):
            return None

    def _track(self, place: int) -> Path:
        return self.folder / f"track-{place}.s16"

    def _picture(self, kind: str, number: int) -> Path:
        return self.folder / kind / f"{number:06d}.jpg"


def _as_bytes(chunk: NDArray[np.float32]) -> bytes:
    return (np.clip(chunk, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


class Room:
    """The folder in which a run has its spools. Make one with :meth:`take`.

    A spool is named by its content, so that an interrupted run's can be used again; two runs that work on one video at
    a time, for two indexes, must not share it. The first to come has the common folder, others have one of their own.
    """

    def __init__(self, folder: Path, lock: FileLock, *, shared: bool = True) -> None:
        self.folder = folder
        self._lock = lock
        self.shared = shared

    @classmethod
    def take(cls, cache: Path) -> Room:
        """A folder below the cache folder that no other process uses until :meth:`leave`, or until this one ends.

        Raises:
            StoreError: it cannot be made.
        """
        common = cache / "spool"
        # Not thread-local: a generator that works may be closed by another thread than the one that began it.
        lock = FileLock(cache / ".spool.lock", thread_local=False)
        try:
            make_folder(common)
            # Held by another run, or a file system without such locks.
            with contextlib.suppress(Timeout, NotImplementedError):
                lock.acquire(blocking=False)
                return cls(common, lock)
            own = Path(tempfile.mkdtemp(prefix=_OWN, dir=common))
            alive = FileLock(own / _ALIVE, thread_local=False)
            with contextlib.suppress(NotImplementedError):
                alive.acquire(blocking=False)
            return cls(own, alive, shared=False)
        except OSError as error:
            raise StoreError(
                f"cannot make the cache folder {common}: {error.strerror}", "choose another place with CLAMR_CACHE"
            ) from error

    def leave(self) -> None:
        """Let the next one have the common folder; one of the run's own goes with all that is in it."""
        self._lock.release()
        if not self.shared:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _saying_what_failed(folder: Path) -> Iterator[None]:
    """Turn the file system's refusals into one clear line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to the cache folder {os.fspath(folder.parent)}: {error.strerror or error}",
            "free some space, or choose another place with CLAMR_CACHE",
        ) from error


def sweep(common: Path, finished: Collection[str] = (), *, now: float | None = None) -> None:
    """Remove what killed runs left: the folders of dead runs, and spools that nobody needs.

    Args:
        common: the folder that runs share; the caller has it, so that no other run works in it.
        finished: the videos that were indexed wholly; the spools of others stay for a week.
        now: seconds since the epoch.
    """
    now = time.time() if now is None else now
    for folder in common.iterdir() if common.is_dir() else ():
        if folder.name.startswith(_OWN):
            gone = _is_dead(folder, now)
        else:
            # What is taken for questions about a video has nothing to do with whether it is indexed.
            done = not folder.name.endswith(DENSE) and video_id(folder.name) in finished
            gone = done or _age(folder, now) > _LEFTOVER_AGE
        if gone:
            Spool(folder).remove()


def _age(folder: Path, now: float) -> float:
    try:
        return now - folder.stat().st_mtime
    except OSError:
        return 0.0


def _is_dead(folder: Path, now: float) -> bool:
    """Whether the run that had a folder of its own has ended without removing it."""
    lock = folder / _ALIVE
    if not lock.exists():
        # Just made, or by an older clamr.
        return _age(folder, now) > _LEFTOVER_AGE
    try:
        with FileLock(lock, thread_local=False, blocking=False):
            return True
    except (Timeout, OSError, NotImplementedError):
        return False
