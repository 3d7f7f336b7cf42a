"""Files beside a video: subtitles and notes, found by their names; and the captions that stand for its speech."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

from clamr_cli.languages import is_translation, language_named, language_of_text, same_language, short_code
from clamr_cli.types import Segment, Span, SubtitleTrack

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

SUFFIXES: Final = (
    ".srt", ".vtt", ".ass", ".ssa", ".ttml", ".dfxp", ".sbv", ".srv3", ".json3", ".srv2", ".srv1", ".smi", ".sami",
    ".lrc", ".sub", ".json", ".tsv", ".xml",
)  # fmt: skip
"""Readable formats, in order of preference when a video has several."""

QUIET: Final = frozenset((".json", ".tsv", ".xml"))
"""Names that need not be subtitles at all: nobody is told when they are none."""

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


Content = Literal["unread", "speech", "log", "none", "unsupported"]

# Marks, and the parts of file names and words of track titles that say them.
_MARKS: Final = {
    "forced": "forced foreign foreignonly signs sign songs song karaoke lyrics partial nonenglish non-english",
    "impaired": "sdh cc hoh impaired hearing hearing-impaired hearingimpaired closedcaptions",
    "machine": "auto asr ai whisper whisperx machine autogenerated auto-generated generated autosub",
    "commentary": "commentary commentaries comment comments",
    "original": "orig original",
    "plain": (
        "srt vtt default full sub subs subtitle subtitles caption captions complete dialog dialogue dialogues utf utf8 "
        "regular normal transcript transcription transcripts untertitel track text closed sync synced for the and "
        "parts only und mul mis zxx mp4 mkv mov avi webm m4v ts wav mp3 m4a"
    ),
}
_MARK_OF: Final = {word: mark for mark, words in _MARKS.items() for word in words.split()}
_BREAKS: Final = re.compile(r"[.\s_()\[\]{}+,&/|;]+")

_LONG: Final = 120.0
"""Seconds of a video from which a few lines are taken for those of a part only."""

_LEAST_COVERED: Final = 0.03
"""Share of a long video during which captions of its whole speech are on screen at the least."""

_SAMPLE: Final = 2_000
_MOST_NAMES: Final = 3

_NUMBER: Final = re.compile(r"[-+]?\d+(?:[.,:/]\d+)*")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_KEYED: Final = re.compile(r"[^\W\d_]{2,}[ ]?[:=(\[]?[ ]?[-+]?\d")
_LOG: Final = re.compile(
    r"\b(?:frame|srt)cnt\b|\bdifftime\b"
    r"|\b(?:shutter|fnum|focal_len|rel_alt|abs_alt|barometer|latitude|longitude)\b *[:=]"
    r"|\biso\b ?[:=]? ?\d+.*\bev\b|\b(?:home|gps) ?\( ?-?\d|\$G[A-Z]{4},",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Captions:
    """Subtitles that might stand for the speech: a file beside the video, or a track inside it.

    Attributes:
        name: the file's name, or what the track is called in messages.
        path: of a file.
        track: the index of a track.
        language: short code, empty where the name or the track has none.
        forced: only what is foreign or written in the video.
        impaired: for the hard of hearing.
        machine: recognised or translated by somebody else's machine.
        original: of the spoken language, as yt-dlp says it.
        commentary: what is said on another sound track.
        unknown: the name has a part that says nothing known.
        default: of tracks: the one that players show.
        order: what goes first among equals.
        content: what reading it has shown.
        sample: of its text, once it is read.
        seconds: for which a line is on screen, where that was looked at.
    """

    name: str
    path: Path | None = None
    track: int | None = None
    language: str = ""
    forced: bool = False
    impaired: bool = False
    machine: bool = False
    original: bool = False
    commentary: bool = False
    unknown: bool = False
    default: bool = False
    order: int = 0
    content: Content = "unread"
    sample: str = ""
    seconds: float | None = None

    def is_part(self, duration: float) -> bool:
        """Whether these are the lines of a part only: marked so, or far fewer than are said in a video that long."""
        few = self.seconds is not None and duration >= _LONG and self.seconds < _LEAST_COVERED * duration
        return self.forced or few

    @property
    def clear_language(self) -> str:
        """The language that they are marked with, else the one that their text is clearly in."""
        return self.language or (language_of_text(self.sample) if self.sample else "")

    def may_speak(self, spoken: str) -> bool:
        """Whether they may be in the spoken language."""
        return not spoken or not self.clear_language or same_language(self.clear_language, spoken)


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice between several captions.

    Attributes:
        speech: stands for the speech, so that nothing is recognised.
        beside: stands beside the recognised speech: a translation, or the lines of a part.
        detect: whether the choice depends on which language is spoken, and nothing sure says which.
    """

    speech: Captions | None = None
    beside: Captions | None = None
    detect: bool = False


def choose(
    captions: Sequence[Captions], spoken: str = "", *, sure: bool = False, audible: bool = True, duration: float = 0.0
) -> Choice:
    """Choose what stands for the speech, and what stands beside it.

    Captions of a part, logs of a drone, and captions in another language than the spoken one never stand for it. Those
    without a language count as in the spoken one, unless their text is clearly in another. Where nothing stands for
    the speech, the best of the others stands beside it.

    Args:
        captions: all that there are.
        spoken: the short code of the language that is spoken, empty where nothing says it.
        sure: whether ``spoken`` is what the owner says, or was heard.
        audible: whether there is sound whose speech can be recognised.
        duration: of the video in seconds, 0 where it is not known.
    """

    def best(some: Sequence[Captions]) -> Captions | None:
        return min(some, key=lambda each: rank(each, spoken), default=None)

    lines = [each for each in captions if not each.commentary and each.content in ("unread", "speech")]
    whole = [each for each in lines if not each.is_part(duration)]
    speech = best([each for each in whole if each.may_speak(spoken)])
    if not audible and speech is None and not spoken:
        speech = best(whole)
    is_doubtful = speech is None if spoken else speech is not None and bool(speech.clear_language)
    detect = audible and not sure and bool(whole) and is_doubtful
    return Choice(speech, None if speech is not None else best(whole or lines), detect)


def rank(captions: Captions, spoken: str) -> tuple[object, ...]:
    """Sort key: the spoken language first, then the owner's files, then whole ones written by people."""
    language = captions.language
    misfit = (language != spoken) + (bool(language) and not same_language(language, spoken))
    return (
        misfit, captions.forced or captions.commentary, captions.unknown, captions.machine and not captions.original,
        not captions.original, captions.impaired, captions.track is not None, not captions.default, captions.order,
        captions.name,
    )  # fmt: skip


def passed_over(captions: Sequence[Captions], choice: Choice, spoken: str = "", duration: float = 0.0) -> list[str]:
    """A line for each reason for which captions were not taken for the speech."""
    names: dict[str, list[str]] = {}
    for each in captions:
        # A film with dozens of translated tracks is as it should be when one of them is what is said.
        is_expected = each.track is not None and choice.speech is not None
        if each == choice.speech or each.content == "none":
            continue
        if each.content == "log":
            reason = "a log of positions and settings, not speech"
        elif each.content == "unsupported":
            reason = "" if is_expected else "subtitles in a format that cannot be read"
        elif each.is_part(duration):
            reason = "subtitles of a part only"
        elif each.commentary:
            reason = "subtitles of a commentary"
        elif is_expected:
            reason = ""
        elif not each.may_speak(spoken):
            reason = f"subtitles in another language than the spoken one ({spoken})"
        else:
            reason = "another subtitle of the video is used"
        if reason:
            use = "kept beside the speech" if each == choice.beside else "not used"
            names.setdefault(f"{reason}; {use}", []).append(each.name)
    lines = []
    for reason, some in names.items():
        more = f" and {len(some) - _MOST_NAMES} more" if len(some) > _MOST_NAMES else ""
        lines.append(f"{', '.join(some[:_MOST_NAMES])}{more}: {reason}")
    return lines


def known_language(captions: Iterable[Captions], *tags: str) -> str:
    """The spoken language by the first tag that says it, else by captions that are marked as of the original one."""
    stated = (short_code(tag) for tag in tags)
    marked = (each.language for each in captions if each.original)
    return next(filter(None, stated), "") or next(filter(None, marked), "")


def track_captions(track: SubtitleTrack) -> Captions:
    """Captions of a track inside the video by its language tag, title and flags."""
    marks, language, _ = marks_of(track.title)
    return Captions(
        name=f"subtitle track {track.index}" + (f" ({track.title})" if track.title else ""),
        track=track.index,
        language=track.language or language,
        forced=track.forced or "forced" in marks,
        impaired=track.hearing_impaired or "impaired" in marks,
        machine="machine" in marks,
        commentary=track.comment or "commentary" in marks,
        default=track.default,
        order=track.index,
        content="unread" if track.text else "unsupported",
    )


def marks_of(text: str) -> tuple[set[str], str, bool]:
    """Meaning of the words of a name: marks, the language, and whether there is a word that says nothing known.

    Marks are ``forced``, ``impaired``, ``machine``, ``original``, ``commentary``, and ``plain`` for words such as
    ``subs`` that say nothing more. Words with digits are release tags and numbers.
    """
    marks: set[str] = set()
    names: list[tuple[str, str]] = []
    codes: list[tuple[str, str]] = []
    unknown: list[str] = []
    words = (word.strip("-") for word in _BREAKS.split(unicodedata.normalize("NFC", text).casefold()))
    for word in filter(None, words):
        if word in _MARK_OF:
            marks.add(_MARK_OF[word])
        elif code := language_named(word):
            (names if len(word) > 3 and "-" not in word else codes).append((word, code))
            marks |= {_MARK_OF[rest] for rest in word.split("-")[1:] if rest in _MARK_OF}
            if word.endswith("-hi"):
                marks.add("impaired")
            elif is_translation(word):
                marks.add("machine")
        elif not any(character.isdigit() for character in word):
            unknown.append(word)
    if unknown and (code := language_named(" ".join(unknown))):
        names.append((" ".join(unknown), code))
        unknown = []
    if len(codes) + len(names) > 1 and ("hi", "hi") in codes:
        # Beside another language it stands for the hearing impaired.
        codes.remove(("hi", "hi"))
        marks.add("impaired")
    # Beside another language "la" and "latin" are Latin America and the Latin script.
    languages = [code for _, code in names if code != "la"] or [code for _, code in (*codes, *names)]
    languages = [code for code in languages if code != "la"] or languages
    return marks, languages[-1] if languages else "", bool(unknown)


def examined(captions: Captions, segments: Sequence[Segment]) -> Captions:
    """The captions with what their lines show: whether they are speech, and for how long."""
    texts = [segment.text for segment in segments]
    content: Content = "none" if not texts else "log" if is_log(texts) else "speech"
    seconds = until = 0.0
    for segment in segments:
        seconds += max(0.0, segment.span.end - max(until, segment.span.start))
        until = max(until, segment.span.end)
    return replace(captions, content=content, sample=" ".join(texts[:100])[:_SAMPLE], seconds=seconds)


def is_log(texts: Sequence[str]) -> bool:
    """Whether lines are what a drone, a dashcam or a tracker writes for each frame: settings, positions, times.

    Either their keys are known, or most lines are one form with other numbers, and have few words beside the numbers.
    """
    sample = texts[:: max(1, len(texts) // 200)][:200]
    if sum(bool(_LOG.search(text[:2_000])) for text in sample) >= 0.5 * len(sample):
        return True
    forms: Counter[str] = Counter()
    for text in (text[:500] for text in sample):
        numbers = len(_NUMBER.findall(text))
        words = len(_WORD.findall(text)) - len(_KEYED.findall(text))
        if numbers >= 2 and words <= numbers / 2:
            forms[_NUMBER.sub("0", text)] += 1
    # Signs and directions (N, SW) change; a log of one form that is broken into several is still one.
    return len(sample) >= 3 and sum(count for _, count in forms.most_common(4)) >= 0.6 * len(sample)


def on_video(segments: Sequence[Segment], duration: float) -> Sequence[Segment]:
    """Lines whose times begin at a full hour, as those of a broadcast do (01:00:00, 10:00:00), from 0 on.

    They are moved where they lie beyond the end of the video as they are, and within it without the hours.
    """
    starts = [segment.span.start for segment in segments]
    hours = 3600.0 * (min(starts, default=0.0) // 3600)
    if not hours or not duration or not max(starts) - hours < duration <= max(starts):
        return segments
    return [replace(each, span=Span(each.span.start - hours, each.span.end - hours)) for each in segments]
