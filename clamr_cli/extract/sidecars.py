"""Files that lie beside a video and speak of it: subtitles and notes, found by their names."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from clamr_cli.extract.captions import Captions, marks_of, rank
from clamr_cli.extract.subtitles import QUIET, SUFFIXES
from clamr_cli.languages import language_named, short_code

NOTES: Final = {
    ".info.json": "info_json",
    ".nfo": "nfo",
    "movie.nfo": "movie_nfo",
    ".xmp": "xmp",
    ".description": "description",
    ".supplemental-metadata.json": "takeout",
    "m01.xml": "sony",
    "tvshow.nfo": "show_nfo",
}
"""Endings behind the video's stem -> the kind of notes; the first source of a field wins."""

_SUBTITLE_FOLDERS: Final = frozenset(("subs", "sub", "subtitles", "subtitle", "captions", "cc", "srt", "untertitel"))
_UNSUPPORTED: Final = (".sup", ".stl", ".scc", ".mks", ".usf")
"""Subtitles in formats that are not read; they are listed, so that somebody can be told."""

_CAPTIONS: Final = SUFFIXES + _UNSUPPORTED
_PARTS_OF_QUIET: Final = ("", ".whisper", ".whisperx", ".transcript")

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

_GOPRO: Final = re.compile(r"(g[hxs])(\d\d)(\d{4})")
_OLD_GOPRO: Final = re.compile(r"(?:gopr|gp(\d\d))(\d{4})")
_DVD: Final = re.compile(r"(vts_\d\d)_([1-9])")


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Files beside a video: captions, the best one first, and notes by kind (``info_json``, ``nfo`` and so on).

    ``refused`` are links that lead out of the folder that was asked for.
    """

    subtitles: tuple[Captions, ...] = ()
    notes: Mapping[str, Path] = field(default_factory=dict)
    refused: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them that may be read."""
        return (*(each.path for each in self.subtitles if each.path is not None), *self.notes.values())


class _Candidate(NamedTuple):
    """A file of a video, what its name says beside the video's, its suffix or a key of NOTES, if it is a link."""

    path: Path
    part: str
    suffix: str
    is_link: bool


class _Folder(NamedTuple):
    """A folder's content: (name in normal form and one case, name as it is, whether it is a link), sorted."""

    files: tuple[tuple[str, str, bool], ...] = ()
    folders: Mapping[str, tuple[str, bool]] = {}
    videos: frozenset[str] = frozenset()

    def starting_with(self, start: str) -> Iterator[tuple[str, str, bool]]:
        for entry in self.files[bisect.bisect_left(self.files, (start, "", False)) :]:
            if not entry[0].startswith(start):
                return
            yield entry


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
    subtitles: list[Captions] = []
    notes: dict[str, Path] = {}
    refused: list[Path] = []
    for file, part, suffix, is_link in _candidates(video, root):
        if is_link and not _leads_inside(file, video, root):
            refused.append(file)
        elif suffix in NOTES:
            notes.setdefault(NOTES[suffix], file)
        else:
            marks, code, unknown = marks_of(part)
            captions = Captions(
                name=os.fspath(file.relative_to(video.parent)) if video.parent in file.parents else file.name,
                path=file,
                language=code,
                forced="forced" in marks,
                impaired="impaired" in marks,
                machine="machine" in marks or suffix in QUIET,
                original="original" in marks,
                commentary="commentary" in marks,
                unknown=unknown,
                order=_CAPTIONS.index(suffix) if suffix in SUFFIXES else len(SUFFIXES),
                content="unsupported" if suffix in _UNSUPPORTED else "unread",
            )
            subtitles.append(captions)
    wanted = short_code(language)
    subtitles.sort(key=lambda each: rank(each, wanted))
    ordered = {kind: notes[kind] for kind in NOTES.values() if kind in notes}
    return Sidecars(tuple(subtitles), ordered, tuple(refused))


def sidecar_signature(path: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> str:
    """A short key that changes when a sidecar of the video appears, disappears or is written: name, size, time."""
    digest, video = hashlib.sha256(), Path(path)
    for file, is_link in sorted((each.path, each.is_link) for each in _candidates(video, root)):
        try:
            stat = file.stat()
        except OSError:
            continue
        if is_link and not _leads_inside(file, video, root):
            continue
        name = os.fsencode(os.path.relpath(file, os.path.dirname(path)))
        digest.update(name + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        if file.suffix.lower() in SUFFIXES:
            # Changes with the rules by which subtitles are chosen, so that the next run chooses anew.
            digest.update(b"2")
    if (part := recording_part(video)) is not None:
        digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def recording_part(video: Path) -> tuple[int, int, str] | None:
    """Part of a recording that a file is: its number, how many there are, the recording's name.

    Cameras cut long recordings into files of a few gigabytes: ``GH010123.MP4``, ``GH020123.MP4``; older ones into
    ``GOPR0123.MP4``, ``GP010123.MP4``; and DVDs are cut into ``VTS_01_1.VOB``, ``VTS_01_2.VOB``.
    """

    def chapter(name: str) -> tuple[tuple[str, str], int] | None:
        stem, ending = os.path.splitext(name.lower())
        if ending in (".mp4", ".360"):
            if match := _GOPRO.fullmatch(stem):
                return (match[1] + match[3], ending), int(match[2])
            if match := _OLD_GOPRO.fullmatch(stem):
                return (f"gopr{match[2]}", ending), int(match[1] or 0)
        if ending == ".vob" and (match := _DVD.fullmatch(stem)):
            return (match[1], ending), int(match[2])
        return None

    own = chapter(video.name)
    if own is None:
        return None
    recording, number = own
    chapters = (chapter(name) for _, name, _ in _listing(video.parent).files)
    numbers = sorted({each[1] for each in chapters if each is not None and each[0] == recording})
    if len(numbers) < 2 or number not in numbers:
        return None
    return numbers.index(number) + 1, len(numbers), recording[0].upper()


def _candidates(video: Path, root: str | os.PathLike[str]) -> Iterator[_Candidate]:
    """Files that are called as sidecars of a video are."""
    folder = video.parent
    here = _listing(folder)
    own = _folded(video.stem)
    stems = [own, *(match[1] for match in (_ZOOM.fullmatch(own),) if match)]
    yield from _named_after(video, stems, folder, here, notes=True)
    yield from _takeout_notes(video, here)
    # Kodi's files that are called the same in each folder: of the one film in it, and of the show in or above it.
    kodi = [("movie.nfo", folder)] if here.videos <= {own} else []
    kodi.append(("tvshow.nfo", folder))
    if root and Path(root) in folder.parents:
        kodi.append(("tvshow.nfo", folder.parent))
    for name, place in kodi:
        for match, file, is_link in _listing(place).files:
            if match == name:
                yield _Candidate(place / file, "", name, is_link)
    for folded in _SUBTITLE_FOLDERS & here.folders.keys():
        name, is_link = here.folders[folded]
        inside = _listing(folder / name)
        is_lone = here.videos <= {own} and not inside.videos
        yield from _in_subtitle_folder(video, stems, folder / name, is_link, is_lone=is_lone)
        for language, (deeper, is_deeper_link) in inside.folders.items():
            place, linked = folder / name / deeper, is_link or is_deeper_link
            if language in stems:
                yield from _in_subtitle_folder(video, stems, place, linked, is_lone=True)
            elif not any(character.isdigit() for character in language) and language_named(language):
                for each in _in_subtitle_folder(video, stems, place, linked, is_lone=is_lone):
                    # What the file's own name says goes before what the folder's does.
                    yield each._replace(part=f".{language}{each.part}")


def _named_after(
    video: Path, stems: Sequence[str], folder: Path, content: _Folder, *, notes: bool
) -> Iterator[_Candidate]:
    """Files of a folder whose name begins with the video's stem and goes on as subtitles and notes do."""
    own, extension = stems[0], video.suffix.lower()
    names = {match for match, _, _ in content.files}
    for stem in dict.fromkeys(stems):
        for match, name, is_link in content.starting_with(stem):
            rest = match[len(stem) :]
            if (about := rest.removeprefix(extension)) in NOTES:
                if notes and stem == own:
                    yield _Candidate(folder / name, "", about, is_link)
                continue
            part, suffix = _split(rest)
            if suffix not in _CAPTIONS or rest.endswith((".info.json", ".live_chat.json")):
                continue
            if suffix in QUIET and part not in _PARTS_OF_QUIET and not language_named(part.removeprefix(".")):
                continue
            longer = {match[: len(stem) + length] for length in range(1, len(part) + 1)}
            if not longer.isdisjoint(content.videos - set(stems)):
                continue  # it belongs to a video with a longer name
            other = f".{part[1:].partition('.')[0]}"
            if other in _VIDEO and other != extension and own + other in names:
                continue  # NAME.mkv.srt belongs to NAME.mkv and not to this NAME.mp4
            if part and not part.startswith("."):
                marks, language, unknown = marks_of(part)
                if unknown or part[0].isalnum() or not (marks or language):
                    continue
            yield _Candidate(folder / name, part, suffix, is_link)


def _in_subtitle_folder(
    video: Path, stems: Sequence[str], folder: Path, is_link: bool, *, is_lone: bool
) -> Iterator[_Candidate]:
    """Subtitles of a video in a folder for them: all of them where it is the only video, else those of its name."""
    content = _listing(folder)
    if not is_lone:
        for each in _named_after(video, stems, folder, content, notes=False):
            yield each._replace(is_link=is_link or each.is_link)
        return
    for match, name, is_file_link in content.files:
        stem, suffix = _split(match)
        if suffix in _CAPTIONS and suffix not in QUIET:
            part = next((stem[len(each) :] for each in stems if stem.startswith(each)), stem)
            yield _Candidate(folder / name, part, suffix, is_link or is_file_link)


def _takeout_notes(video: Path, here: _Folder) -> Iterator[_Candidate]:
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
        for match, file, is_link in here.starting_with(start):
            rest, ending = _split(match)
            if ending != ".json" or not rest.endswith(number):
                continue
            rest = rest.removesuffix(number)
            if longest.startswith(rest) and len(rest) >= len(start):
                yield _Candidate(video.parent / file, "", ".supplemental-metadata.json", is_link)
                return


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
