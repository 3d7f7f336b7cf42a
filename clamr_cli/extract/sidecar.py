"""Files that lie beside a video and speak of it: which there are, and everything they and the container say."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.extract.clean import decode
from clamr_cli.extract.descriptions import Notes, from_container, from_dates, from_info_json, from_nfo, from_path
from clamr_cli.extract.languages import two_letters
from clamr_cli.extract.subtitles import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    from clamr_cli.types import MediaInfo, Segment, VideoFields

_LARGEST: Final = 64 << 20
_FLAGS: Final = frozenset({"forced", "sdh", "cc", "hi", "default", "auto", "orig", "full"})


@dataclass(frozen=True, slots=True)
class SubtitleFile:
    """A subtitle file beside a video.

    ``language`` is a two-letter code or empty; ``partial`` subtitles hold only what is foreign in the video,
    ``machine`` ones were recognised by somebody else's machine.
    """

    path: Path
    language: str = ""
    partial: bool = False
    machine: bool = False


@dataclass(frozen=True, slots=True)
class Sidecars:
    """What lies beside a video: subtitles, the best one first, and notes."""

    subtitles: tuple[SubtitleFile, ...] = ()
    info_json: Path | None = None
    nfo: Path | None = None
    description: Path | None = None

    @property
    def subtitle(self) -> Path | None:
        """The subtitles that stand for what is said; not those that are only for foreign words."""
        return next((subtitle.path for subtitle in self.subtitles if not subtitle.partial), None)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        notes = (self.info_json, self.nfo, self.description)
        return (*(subtitle.path for subtitle in self.subtitles), *(path for path in notes if path is not None))


def find_sidecars(path: str | os.PathLike[str], language: str = "") -> Sidecars:
    """The sidecars of a video: same stem, any case, ``NAME.srt``, ``NAME.en.srt``, ``NAME.info.json`` and so on.

    Args:
        path: the video.
        language: the language whose subtitles are wanted (any ISO 639 tag); without it the video's own come first:
            those without a language in their name.
    """
    video = Path(path)
    wanted = two_letters(language)
    subtitles: list[SubtitleFile] = []
    notes: dict[str, Path] = {}
    for rest, found in _beside(video):
        if rest in (".info.json", ".nfo", ".description"):
            notes.setdefault(rest, found)
        elif rest.endswith(SUFFIXES):
            subtitle = _subtitle(found, rest, video)
            if subtitle is not None:
                subtitles.append(subtitle)
    subtitles.sort(key=lambda subtitle: _rank(subtitle, wanted))
    return Sidecars(tuple(subtitles), notes.get(".info.json"), notes.get(".nfo"), notes.get(".description"))


def sidecar_signature(path: str | os.PathLike[str]) -> str:
    """A short key that changes when a sidecar of the video appears, disappears or is written: name, size, time."""
    digest = hashlib.sha256()
    for sidecar in sorted(find_sidecars(path).paths):
        try:
            stat = sidecar.stat()
        except OSError:
            continue
        digest.update(os.fsencode(sidecar.name) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def read_metadata(
    path: str | os.PathLike[str], root: str | os.PathLike[str], info: MediaInfo
) -> tuple[tuple[Segment, ...], VideoFields, list[str]]:
    """The description modality of a video: one segment per field, and the fields that can be filtered by.

    From the yt-dlp ``info.json``, the ``.nfo``, the ``.description``, the container's tags, chapters and recording
    date, and the words of the file's name and folders below ``root``. What one source repeats of another is left out.
    What the owner says goes before what a machine noted: the date of a sidecar, name or folder before a header's.

    Returns:
        segments (whole video, chapters their own span), fields, and a line for each sidecar that could not be read.
    """
    sidecars = find_sidecars(path)
    notes = Notes(info.duration)
    notices: list[str] = []
    readers: tuple[tuple[Path | None, Callable[[str, Notes], None]], ...] = (
        (sidecars.info_json, from_info_json),
        (sidecars.nfo, from_nfo),
        (sidecars.description, lambda text, into: into.add("description", text)),
    )
    for sidecar, reader in readers:
        if sidecar is not None:
            try:
                if sidecar.stat().st_size > _LARGEST:
                    raise ValueError("too large")
                reader(decode(sidecar.read_bytes()), notes)
            except (OSError, ValueError, RecursionError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                notices.append(f"{sidecar.name} was left out: {reason or type(error).__name__}")
    from_dates(Path(path), Path(root), info, notes)
    from_container(info, notes)
    from_path(Path(path), Path(root), notes)
    return notes.segments(), notes.fields(), notices


def _rank(subtitle: SubtitleFile, wanted: str) -> tuple[int, bool, int, str]:
    if wanted:
        fit = 0 if subtitle.language == wanted else 1 if not subtitle.language else 2
    else:
        fit = 0 if not subtitle.language else 1
    return fit, subtitle.partial or subtitle.machine, SUFFIXES.index(subtitle.path.suffix.lower()), subtitle.path.name


def _subtitle(found: Path, rest: str, video: Path) -> SubtitleFile | None:
    """``rest`` is what follows the video's stem, such as ``.en.forced.srt``; None when it names another video."""
    language, marks = "", set()
    for part in rest.split(".")[1:-1]:
        code = two_letters(part)
        if code:
            language = code
        elif part in _FLAGS:
            marks.add(part)
        elif f".{part}" != video.suffix.lower():
            return None
    return SubtitleFile(found, language, "forced" in marks, "auto" in marks)


def _beside(video: Path) -> list[tuple[str, Path]]:
    """Files whose name is the video's stem, a point and more; with what follows the stem, in lower case."""
    folder = video.parent
    try:
        names = _listing(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return []
    stem = video.stem.casefold()
    found = []
    for folded, name in names[bisect.bisect_left(names, (f"{stem}.", "")) :]:
        if not folded.startswith(f"{stem}."):
            break
        found.append((folded[len(stem) :], folder / name))
    return found


@functools.lru_cache(maxsize=16)
def _listing(folder: str, _mtime_ns: int) -> list[tuple[str, str]]:
    """Names of a folder's files, folded and as they are, sorted: read once for all the videos of a folder."""
    with os.scandir(folder) as entries:
        return sorted((entry.name.casefold(), entry.name) for entry in entries if entry.is_file())
