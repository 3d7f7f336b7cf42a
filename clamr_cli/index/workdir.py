"""The working directory that carries one video's frames and sound from the decoder to the recognisers.

Layout: ``frames/NNNNNN.jpg`` for the encoder, ``text/NNNNNN.jpg`` for the text reader, ``audio.s16`` with mono 16-bit
samples at 16 kHz, and ``decoded.json``, which is written last: a directory without it is unfinished and worthless, one
with it can be used by a later run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import StoreError
from clamr_cli.files import locked, make_folder, write_atomically
from clamr_cli.locations import FETCHED
from clamr_cli.media.files import video_id
from clamr_cli.types import Frame, MediaInfo, Segment, Span

SAMPLE_RATE: Final = 16_000
"""Samples a second of the sound."""

DENSE: Final = "-dense"
"""Ends the names of directories with candidate frames for questions about one video."""

_LEFTOVER_AGE: Final = 7 * 24 * 3600.0

_OWN: Final = "run-"
"""Begins the names of folders that runs have for themselves."""

_ALIVE: Final = ".lock"
"""The file in such a folder that its run holds a lock of for as long as it lives."""


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame on disk: its number in its folder, its time, the span it stands for, and its shot."""

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
class DecodedMedia:
    """The result of decoding a video, beside the frames and the sound themselves. Stored as JSON.

    ``text`` are the frames to be read. ``tracks`` are the embedded subtitles that may be wanted; ``samples`` is the
    length of the sound, 0 where there is none; ``notices`` say what had to be left out and why. ``sound`` says whether
    sound was to be taken. ``speech`` is from embedded subtitles where an earlier version chose among them.
    """

    media: MediaInfo
    frames: tuple[StoredFrame, ...] = ()
    text: tuple[StoredFrame, ...] = ()
    speech: tuple[Segment, ...] = ()
    samples: int = 0
    notices: tuple[str, ...] = ()
    tracks: tuple[TrackLines, ...] = ()
    sound: bool = False
    prints: tuple[bytes, ...] = field(default=(), repr=False)


class Workdir:
    """One video's working directory. All methods that write raise StoreError where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        """Make it, empty."""
        with self._refusals():
            self.remove()
            (self.folder / "frames").mkdir(parents=True)
            (self.folder / "text").mkdir()

    def remove(self) -> None:
        """Delete it; fine if it is not there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_frame(self, kind: Literal["frames", "text"], number: int, jpeg: bytes) -> None:
        with self._refusals():
            self._frame(kind, number).write_bytes(jpeg)

    def frames(self, kind: Literal["frames", "text"], stored: Iterable[StoredFrame]) -> Iterator[Frame]:
        """Read frames, one at a time."""
        for frame in stored:
            yield Frame(frame.time, frame.span, self._frame(kind, frame.number).read_bytes())

    def write_tracks(self, chunks: Iterable[tuple[int, NDArray[np.float32]]]) -> Iterator[int]:
        """Write float32 chunks in [-1, 1] to the sound of their tracks; yields the samples of the longest so far."""
        written: dict[int, int] = {}
        with contextlib.ExitStack() as stack:
            files: dict[int, IO[bytes]] = {}
            for number, chunk in chunks:
                with self._refusals():
                    if number not in files:
                        files[number] = stack.enter_context(self._track(number).open("wb"))
                    files[number].write((np.clip(chunk, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
                written[number] = written.get(number, 0) + len(chunk)
                yield max(written.values())

    def track(self, number: int) -> NDArray[np.int16]:
        """The sound of a track, as :meth:`audio`; empty where nothing was written."""
        path = self._track(number)
        if not path.exists() or not path.stat().st_size:
            return np.zeros(0, np.int16)
        return np.memmap(path, dtype="<i2", mode="r")

    def use_track(self, number: int) -> int:
        """Make a track the sound; returns its number of samples."""
        count = len(self.track(number))
        if count:
            with self._refusals():
                self._track(number).replace(self.folder / "audio.s16")
        return count

    def remove_tracks(self) -> None:
        for path in self.folder.glob("track-*.s16"):
            path.unlink(missing_ok=True)

    def audio(self) -> NDArray[np.int16]:
        """The sound, [samples] int16, mapped from disk rather than read."""
        return np.memmap(self.folder / "audio.s16", dtype="<i2", mode="r")

    def finish(self, decoded: DecodedMedia) -> None:
        """Note that everything is there."""
        with self._refusals():
            write_atomically(self.folder / "decoded.json", msgspec.json.encode(decoded), sync=False)

    def decoded(self) -> DecodedMedia | None:
        """The result of an earlier decoding that came to its end."""
        try:
            return msgspec.json.decode((self.folder / "decoded.json").read_bytes(), type=DecodedMedia)
        except (OSError, msgspec.MsgspecError):
            return None

    def _track(self, number: int) -> Path:
        return self.folder / f"track-{number}.s16"

    def _frame(self, kind: str, number: int) -> Path:
        return self.folder / kind / f"{number:06d}.jpg"

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn the file system's refusals into one clear line."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write to the cache folder {os.fspath(self.folder.parent)}: {error.strerror or error}",
                "free some space, or choose another place with CLAMR_CACHE",
            ) from error


@contextlib.contextmanager
def work_area(cache: Path) -> Iterator[Path]:
    """The folder for a run's working directories, which no other process uses in the block.

    A working directory is named by its content, so that an interrupted run's can be used again; two runs that work on
    one video at a time, for two indexes, must not share it. The first to come has the common folder, others have one of
    their own, which goes with all that is in it.

    Raises:
        StoreError: it cannot be made.
    """
    common = cache / "spool"
    with contextlib.ExitStack() as stack:
        try:
            make_folder(common)
            folder = common
            if not stack.enter_context(locked(cache / ".spool.lock", wait=False)):
                folder = Path(tempfile.mkdtemp(prefix=_OWN, dir=common))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.enter_context(locked(folder / _ALIVE, wait=False))
        except OSError as error:
            raise StoreError(
                f"cannot make the cache folder {common}: {error.strerror}", "choose another place with CLAMR_CACHE"
            ) from error
        yield folder


def sweep(folder: Path, finished: Collection[str] = ()) -> None:
    """Remove what killed runs left: the folders of dead runs, and working directories that nobody needs.

    Those of ``finished`` videos, which are indexed wholly, go at once, those of others after a week. Nothing is done in
    a folder of a run's own, since others may work beside it.
    """
    for entry in () if folder.name.startswith(_OWN) or not folder.is_dir() else folder.iterdir():
        is_superfluous = False
        with contextlib.suppress(OSError):
            lock = entry / _ALIVE
            if entry.name.startswith(_OWN) and lock.exists():
                with locked(lock, wait=False) as is_dead:
                    is_superfluous = is_dead
            else:
                # A run's folder without a lock was just made, or by an older clamr. The candidates for questions about
                # a video have nothing to do with whether it is indexed.
                is_of_run = entry.name.startswith(_OWN) or entry.name.endswith(DENSE)
                is_done = not is_of_run and video_id(entry.name) in finished
                is_superfluous = (
                    is_done or entry.name.endswith(FETCHED) or time.time() - entry.stat().st_mtime > _LEFTOVER_AGE
                )
        if is_superfluous:
            shutil.rmtree(entry, ignore_errors=True)
