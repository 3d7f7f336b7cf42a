"""Files that lie beside a video and speak of it: which there are, and everything they and the container say."""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.extract.captions import Captions, marks_of, named_captions, rank
from clamr_cli.extract.clean import decode
from clamr_cli.extract.descriptions import (
    Notes,
    from_container,
    from_dates,
    from_info_json,
    from_nfo,
    from_path,
    from_show_nfo,
    from_sony,
    from_takeout,
    from_xmp,
)
from clamr_cli.extract.nfo import ReadInPart
from clamr_cli.extract.subtitles import QUIET, SUFFIXES
from clamr_cli.extract.words import part_of
from clamr_cli.languages import language_named, short_code

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from clamr_cli.types import MediaInfo, Segment, VideoFields

_LARGEST: Final = 64 << 20
_LARGEST_TEXT: Final = 1 << 20

# What follows the video's stem -> its name, and who reads it, in the order in which the first to say a thing wins.
_NOTES: Final[Mapping[str, tuple[str, Callable[[str, Notes], None]]]] = {
    ".info.json": ("info_json", from_info_json),
    ".nfo": ("nfo", from_nfo),
    "movie.nfo": ("movie_nfo", from_nfo),
    ".xmp": ("xmp", from_xmp),
    ".description": ("description", lambda text, notes: notes.add("description", text)),
    ".supplemental-metadata.json": ("takeout", from_takeout),
    "m01.xml": ("sony", from_sony),
    "tvshow.nfo": ("show_nfo", from_show_nfo),
}

_SUBTITLE_FOLDERS: Final = frozenset(("subs", "sub", "subtitles", "subtitle", "captions", "cc", "srt", "untertitel"))
_UNSUPPORTED: Final = (".sup", ".stl", ".scc", ".mks", ".usf")
"""Subtitles in formats that are not read; they are listed, so that somebody can be told."""

_VIDEO: Final = frozenset((
    ".3gp", ".asf", ".avi", ".dat", ".dav", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mod", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
))  # fmt: skip
"""Names of what may be another video in the folder, with subtitles of its own."""
_CLIP_OF_A_FILM: Final = re.compile(r"(?:^|[^a-z])(?:sample|trailer|featurette)$")

# Zoom: the recording is called by its view and size, the transcript is not.
_ZOOM: Final = re.compile(r"(gmt\d{8}-\d{6}_recording).*")


_NUMBERED: Final = re.compile(r"(.+)(\(\d+\))")
_LONGEST_TAKEOUT: Final = 46
"""Characters that Google Takeout leaves of a name before ``.json``."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """What lies beside a video: captions, the best one first, and notes by name (``info_json``, ``nfo`` and so on).

    ``refused`` are links that lead out of the folder that was asked for.
    """

    subtitles: tuple[Captions, ...] = ()
    notes: Mapping[str, Path] = field(default_factory=dict)
    refused: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them that may be read."""
        return (*(one.path for one in self.subtitles if one.path is not None), *self.notes.values())


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder's content: (name in normal form and one case, name as it is, whether it is a link), sorted."""

    files: tuple[tuple[str, str, bool], ...] = ()
    folders: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    videos: frozenset[str] = frozenset()


def find_sidecars(path: str | os.PathLike[str], language: str = "", root: str | os.PathLike[str] = "") -> Sidecars:
    """The sidecars of a video: same stem, any case and normal form of Unicode.

    Subtitles are ``NAME.srt``, ``NAME.en.srt``, ``NAME_English.srt`` and so on beside it, in a folder such as ``Subs``
    under the video's name, and there under any name where the video is the only one.

    Args:
        path: the video.
        language: the language whose subtitles are wanted (any ISO 639 tag); without it the video's own come first:
            those without a language in their name.
        root: the folder that was asked for; links that lead out of it, and out of the video's own folder, are refused.
    """
    video = Path(path)
    wanted = short_code(language)
    subtitles: list[Captions] = []
    notes: dict[str, Path] = {}
    refused: list[Path] = []
    for file, part, suffix, is_link in _beside(video, root):
        if is_link and not _leads_inside(file, video, root):
            refused.append(file)
        elif suffix in _NOTES:
            notes.setdefault(_NOTES[suffix][0], file)
        else:
            subtitles.append(_captions(file, part, suffix, video))
    subtitles.sort(key=lambda one: rank(one, wanted))
    order = [name for name, _ in _NOTES.values()]
    return Sidecars(tuple(subtitles), {name: notes[name] for name in order if name in notes}, tuple(refused))


def sidecar_signature(path: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> str:
    """A short key that changes when a sidecar of the video appears, disappears or is written: name, size, time."""
    digest = hashlib.sha256()
    sidecars = [(file, is_link) for file, _, _, is_link in _beside(Path(path), root)]
    for sidecar, is_link in sorted(sidecars):
        try:
            stat = sidecar.stat()
        except OSError:
            continue
        if is_link and not _leads_inside(sidecar, Path(path), root):
            continue
        name = os.fsencode(os.path.relpath(sidecar, os.path.dirname(path)))
        digest.update(name + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        if sidecar.suffix.lower() in SUFFIXES:
            # Changes with the rules by which subtitles are chosen, so that the next run chooses anew.
            digest.update(b"2")
    if (part := _part(Path(path))) is not None:
        digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def read_metadata(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    info: MediaInfo,
    *,
    without: Collection[str] = (),
    progress: Callable[[str], None] | None = None,
) -> tuple[tuple[Segment, ...], VideoFields, list[str]]:
    """The description modality of a video: one segment per field, and the fields that can be filtered by.

    From the yt-dlp ``info.json``, the ``.nfo``, the XMP file, the ``.description``, Google Takeout's JSON, the
    container's tags, chapters and recording date, and the words of the file's name and folders below ``root``. What one
    source repeats of another is left out. What the owner says goes before what a machine noted: the date of a sidecar,
    name or folder before a header's.

    Args:
        path: the video.
        root: the folder that was asked for.
        info: of the video.
        without: paths of sidecars that are left out.
        progress: called with the path of each sidecar before it is read.

    Returns:
        segments (whole video, chapters their own span), fields, and a line for each sidecar that could not be read.
    """
    notes = Notes(info.duration)
    notices: list[str] = []
    readers = {name: (reader, suffix) for suffix, (name, reader) in _NOTES.items()}
    for name, sidecar in find_sidecars(path, root=root).notes.items():
        if os.fspath(sidecar) in without:
            continue
        if progress is not None:
            progress(os.fspath(sidecar))
        reader, suffix = readers[name]
        try:
            if sidecar.stat().st_size > (_LARGEST if suffix.endswith(".json") else _LARGEST_TEXT):
                raise ValueError("too large")
            reader(decode(sidecar.read_bytes()), notes)
        except (OSError, ValueError, ArithmeticError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            became = "read in part" if isinstance(error, ReadInPart) else "left out"
            notices.append(f"{sidecar.name} was {became}: {reason or type(error).__name__}")
    notes.part = _part(Path(path))
    from_dates(Path(path), Path(root), info, notes)
    from_container(info, Path(path).name, notes)
    from_path(Path(path), Path(root), notes)
    return notes.segments(), notes.fields(), notices


def spoken_language(path: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> str:
    """The short code of the language that the video's ``info.json`` names; empty where none does."""
    file = find_sidecars(path, root=root).notes.get("info_json")
    try:
        if file is None or file.stat().st_size > _LARGEST:
            return ""
        info = json.loads(decode(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return ""  # reading the notes tells of it
    return short_code(str(info.get("language") or "")) if isinstance(info, dict) else ""


def _captions(file: Path, part: str, suffix: str, video: Path) -> Captions:
    order = SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)
    name = os.fspath(file.relative_to(video.parent)) if video.parent in file.parents else file.name
    captions = named_captions(name, part, file, order)
    if suffix in _UNSUPPORTED:
        return replace(captions, content="unsupported")
    return replace(captions, machine=captions.machine or suffix in QUIET)


def _beside(video: Path, root: str | os.PathLike[str]) -> Iterator[tuple[Path, str, str, bool]]:
    """Files of a video: the file, what its name says beside the video's, its suffix, and whether it is a link."""
    here = _listing(video.parent)
    own = _folded(video.stem)
    stems = [own, *(match[1] for match in (_ZOOM.fullmatch(own),) if match)]
    yield from _named_after(video, stems, video.parent, here, notes=True)
    yield from _of_takeout(video, here)
    yield from _of_folders(video, here, root)
    for folded in _SUBTITLE_FOLDERS & here.folders.keys():
        name, is_link = here.folders[folded]
        below = video.parent / name
        inside = _listing(below)
        lone = here.videos <= {own} and not inside.videos
        yield from _of_subtitle_folder(video, stems, below, is_link, lone=lone)
        for folder, (deeper, linked) in inside.folders.items():
            if folder in stems:
                yield from _of_subtitle_folder(video, stems, below / deeper, is_link or linked, lone=True)
            elif not any(character.isdigit() for character in folder) and language_named(folder):
                named = _of_subtitle_folder(video, stems, below / deeper, is_link or linked, lone=lone)
                # What the file's own name says goes before what the folder's does.
                yield from ((file, f".{folder}{part}", suffix, link) for file, part, suffix, link in named)


def _of_subtitle_folder(
    video: Path, stems: Sequence[str], folder: Path, is_link: bool, *, lone: bool
) -> Iterator[tuple[Path, str, str, bool]]:
    """Subtitles of a video in a folder for them: all of them where it is the only video, else those of its name."""
    content = _listing(folder)
    if not lone:
        for file, part, suffix, linked in _named_after(video, stems, folder, content, notes=False):
            yield file, part, suffix, is_link or linked
        return
    for match, file, linked in content.files:
        stem, suffix = _split(match)
        if suffix in SUFFIXES + _UNSUPPORTED and suffix not in QUIET:
            part = next((stem[len(one) :] for one in stems if stem.startswith(one)), stem)
            yield folder / file, part, suffix, is_link or linked


def _named_after(
    video: Path, stems: Sequence[str], folder: Path, content: _Folder, *, notes: bool
) -> Iterator[tuple[Path, str, str, bool]]:
    """Files of a folder whose name begins with the video's stem and goes on as subtitles and notes do."""
    own = stems[0]
    for stem in dict.fromkeys(stems):
        for match, name, is_link in content.files[bisect.bisect_left(content.files, (stem, "", False)) :]:
            if not match.startswith(stem):
                break
            rest = match[len(stem) :]
            if (about := rest.removeprefix(video.suffix.lower())) in _NOTES:
                if notes and stem == own:
                    yield folder / name, "", about, is_link
                continue
            part, suffix = _split(rest)
            if suffix not in SUFFIXES + _UNSUPPORTED or rest.endswith((".info.json", ".live_chat.json")):
                continue
            if suffix in QUIET and part not in _PARTS_OF_QUIET and not language_named(part.removeprefix(".")):
                continue
            longer = {match[: len(stem) + length] for length in range(1, len(part) + 1)}
            if not longer.isdisjoint(content.videos - set(stems)) or _names_another_format(part, video, own, content):
                continue  # it belongs to a video with a longer name
            if part and not part.startswith("."):
                marks, language, unknown = marks_of(part)
                if unknown or part[0].isalnum() or not (marks or language):
                    continue
            yield folder / name, part, suffix, is_link


_PARTS_OF_QUIET: Final = ("", ".whisper", ".whisperx", ".transcript")


def _of_folders(video: Path, here: _Folder, root: str | os.PathLike[str]) -> Iterator[tuple[Path, str, str, bool]]:
    """Kodi's files that are called the same in each folder: of the one film in it, and of the show in or above it."""
    own = video.parent
    places = [("movie.nfo", own)] if here.videos <= {_folded(video.stem)} else []
    places.append(("tvshow.nfo", own))
    if root and Path(root) in own.parents:
        places.append(("tvshow.nfo", own.parent))
    for name, folder in places:
        for match, file, is_link in _listing(folder).files:
            if match == name:
                yield folder / file, "", name, is_link


def _of_takeout(video: Path, here: _Folder) -> Iterator[tuple[Path, str, str, bool]]:
    """Google Takeout's files: ``NAME.mp4.json``, ``NAME.mp4.supplemental-metadata.json`` cut to 51 characters.

    Of ``NAME(1).mp4`` it is ``NAME.mp4(1).json``, of an edited video and of a moving photo that of what it was made of.
    """
    stem, suffix = _split(_folded(video.name))
    numbered = _NUMBERED.fullmatch(stem)
    stem, number = numbered.groups() if numbered else (stem, "")
    stem = stem.removesuffix("-edited")
    for name in (stem + suffix, *(stem + photo for photo in (".heic", ".jpg", ".jpeg"))):
        longest = name + ".supplemental-metadata"
        start = name[:_LONGEST_TAKEOUT]
        for match, file, is_link in here.files[bisect.bisect_left(here.files, (start, "", False)) :]:
            if not match.startswith(start):
                break
            rest, ending = _split(match)
            if ending != ".json" or not rest.endswith(number):
                continue
            rest = rest.removesuffix(number)
            if longest.startswith(rest) and len(rest) >= len(start):
                yield video.parent / file, "", ".supplemental-metadata.json", is_link
                return


def _names_another_format(part: str, video: Path, own: str, content: _Folder) -> bool:
    """Whether ``NAME.mkv.srt`` belongs to ``NAME.mkv`` and not to this ``NAME.mp4``."""
    extension = f".{part[1:].partition('.')[0]}"
    return (
        extension in _VIDEO
        and extension != video.suffix.lower()
        and any(match == own + extension for match, _, _ in content.files)
    )


def _leads_inside(link: Path, video: Path, root: str | os.PathLike[str]) -> bool:
    """Whether a link ends below the folder that was asked for, or in the folder where the video truly lies."""
    end = os.path.realpath(link)
    folders = {os.path.realpath(root or video.parent), os.path.realpath(video.parent)}
    folders.add(os.path.dirname(os.path.realpath(video)))
    return any(end.startswith(os.path.join(folder, "")) for folder in folders)


def _split(name: str) -> tuple[str, str]:
    stem, point, suffix = name.rpartition(".")
    return (stem, point + suffix) if point else (name, "")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _part(video: Path) -> tuple[int, int, str] | None:
    return part_of(video.name, (name for _, name, _ in _listing(video.parent).files))


def _listing(folder: Path) -> _Folder:
    try:
        return _read_folder(os.fspath(folder), folder.stat().st_mtime_ns)
    except OSError:
        return _Folder()


@functools.lru_cache(maxsize=16)
def _read_folder(folder: str, _mtime_ns: int) -> _Folder:
    """A folder's content: read once for all the videos of a folder."""
    files: list[tuple[str, str, bool]] = []
    folders: dict[str, tuple[str, bool]] = {}
    videos: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            folded = _folded(entry.name)
            stem, suffix = _split(folded)
            try:
                if entry.is_dir():
                    folders.setdefault(folded, (entry.name, entry.is_symlink()))
                elif entry.is_file():
                    files.append((folded, entry.name, entry.is_symlink()))
                    if suffix in _VIDEO and not _CLIP_OF_A_FILM.search(stem):
                        videos.add(stem)
            except OSError:
                continue  # a link that goes round in circles
    return _Folder(tuple(sorted(files)), folders, frozenset(videos))
