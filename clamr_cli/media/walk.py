"""From targets on the command line to the files that may be videos: by content, each file once, in a steady order."""

from __future__ import annotations

import codecs
import fnmatch
import glob
import os
import stat
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pathspec import GitIgnoreSpec

from clamr_cli.errors import UsageError
from clamr_cli.media.cameras import copied_from
from clamr_cli.media.sniff import (
    AUDIO_EXTENSIONS,
    HEAD,
    UNFINISHED_EXTENSIONS,
    VIDEO_EXTENSIONS,
    extension,
    may_hold_video,
)
from clamr_cli.media.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IGNORE_FILE: Final = ".clamrignore"
_LONGEST_IGNORE_FILE: Final = 1 << 20

_SYSTEM_NAMES: Final = frozenset(
    ("$recycle.bin", "system volume information", "lost+found", "__macosx", "@eadir", "#recycle", "thumbs.db",
     "desktop.ini")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be a video.

    ``path`` and ``root`` are absolute; ``root`` is the folder that was asked for, or the parent of a named file. Bytes
    that are no UTF-8 stand as surrogate escapes, so ``os.fsencode`` gives the true name.
    """

    path: str
    root: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that could not be looked at; ``reason`` and ``hint`` are one line each."""

    path: str
    reason: str
    hint: str


def discover(targets: Sequence[str], *, exclude: Sequence[str] = ()) -> Iterator[Found | Unreadable]:
    """Find the candidates under files, folders and globs (``**`` too), sorted, each real file once.

    In folders, hidden and system files are passed over, and so are unfinished downloads, sound, still images, and the
    small copies that cameras make of their videos. A file is a candidate when its first bytes are those of a video
    container, or when its name promises a video, so that a broken file is recorded and not passed over in silence. A
    file named by itself is always a candidate. Links are followed; circles end. A file ``.clamrignore`` leaves out what
    its lines match in its folder and below, by the rules of ``.gitignore``.

    Args:
        targets: what to look at; a name that exists is never taken for a glob.
        exclude: globs matched against the name and the path relative to the root; a folder that matches is not entered.

    Raises:
        UsageError: a target does not exist or a glob matches nothing; before anything is found.
    """
    return _Walk(tuple(exclude)).run(places(targets))


def places(targets: Sequence[str]) -> list[str]:
    """The files and folders that targets name, absolute; ``~`` and globs are resolved.

    Raises:
        UsageError: a target does not exist or a glob matches nothing.
    """
    return [place for target in targets for place in _expand(target)]


def _expand(target: str) -> list[str]:
    path = os.path.expanduser(target)
    if os.path.lexists(path):
        return [os.path.abspath(path)]
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    if not matches:
        missing = "nothing matches" if glob.has_magic(path) else "there is no file or folder"
        raise UsageError(f"{missing} {target!r}", "check the spelling")
    return [os.path.abspath(match) for match in matches]


@dataclass(frozen=True, slots=True)
class _Ignored:
    """The rules of a folder's ``.clamrignore``."""

    folder: str
    rules: GitIgnoreSpec

    @classmethod
    def read(cls, folder: str) -> _Ignored:
        """Raises: OSError: it cannot be read. UsageError: one of its lines is invalid."""
        path = os.path.join(folder, IGNORE_FILE)
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"invalid {path}: it is not a file", "move it away, or make it a text file")
        with open(path, "rb") as file:
            content = file.read(_LONGEST_IGNORE_FILE)
        # Windows writes UTF-16 where a line is sent to a file.
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        text = content.decode(encoding, "replace" if encoding == "utf-16" else "surrogateescape")
        lines = [line.removesuffix("\r") for line in unicodedata.normalize("NFC", text).split("\n")]
        for number, line in enumerate(lines, 1):
            try:
                GitIgnoreSpec.from_lines([line])
            except ValueError as error:
                raise UsageError(
                    f"invalid pattern in {path}, line {number}: {line!r}", "write it as in a .gitignore, or remove it"
                ) from error
        return cls(folder, GitIgnoreSpec.from_lines(lines))


def _is_ignored(entry: os.DirEntry[str], ignored: Sequence[_Ignored]) -> bool:
    """Whether the last rule that matches leaves an entry out; those of the nearest folder come last."""
    is_folder = entry.is_dir()
    for one in reversed(ignored):
        name = unicodedata.normalize("NFC", entry.path[len(os.path.join(one.folder, "")) :].replace(os.sep, "/"))
        if is_folder:
            # The library judges a folder by the files in it: for "*" and "!*/", say, it leaves out every folder.
            matches = (rule.include for rule in reversed(list(one.rules.patterns)) if rule.match_file(f"{name}/"))
            verdict = next((include for include in matches if include is not None), None)
        else:
            verdict = one.rules.check_file(name).include
        if verdict is not None:
            return verdict
    return False


class _Walk:
    """One walk: remembers which real files and folders it has met."""

    def __init__(self, exclude: tuple[str, ...]) -> None:
        self._exclude = tuple(pattern.rstrip("/").removeprefix("./") for pattern in exclude)
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def run(self, places: Sequence[str]) -> Iterator[Found | Unreadable]:
        for place in places:
            try:
                status = os.stat(place)
            except OSError as error:
                yield _unreadable(place, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._folder(place)
            elif not self._excluded(os.path.basename(place), os.path.basename(place)):
                yield from self._named_file(place, status)

    def _named_file(self, path: str, status: os.stat_result) -> Iterator[Found | Unreadable]:
        if not stat.S_ISREG(status.st_mode):
            yield Unreadable(path, "this is a pipe or a device, not a file", "save the recording to a file first")
        elif self._is_new(self._files, path):
            yield Found(path, os.path.dirname(path), status.st_size, status.st_mtime_ns)

    def _folder(self, root: str) -> Iterator[Found | Unreadable]:
        waiting: list[tuple[str, tuple[_Ignored, ...]]] = [(root, ())]
        while waiting:
            folder, ignored = waiting.pop()
            below: list[str] = []
            try:
                if not self._is_new(self._folders, folder):
                    continue
                with os.scandir(folder) as entries:
                    sorted_entries = sorted(entries, key=lambda entry: entry.name)
                if any(entry.name == IGNORE_FILE for entry in sorted_entries):
                    ignored = (*ignored, _Ignored.read(folder))
            except OSError as error:
                yield Unreadable(folder, *explain(error))
                continue
            names = [entry.name for entry in sorted_entries]
            for entry in sorted_entries:
                if is_hidden(entry.name) or self._excluded(entry.name, os.path.relpath(entry.path, root)):
                    continue
                if ignored and _is_ignored(entry, ignored):
                    continue
                yield from self._entry(entry, root, names, below)
            waiting.extend((each, ignored) for each in reversed(below))

    def _entry(
        self, entry: os.DirEntry[str], root: str, names: list[str], below: list[str]
    ) -> Iterator[Found | Unreadable]:
        try:
            status = entry.stat()
            if stat.S_ISDIR(status.st_mode):
                below.append(entry.path)
            elif not stat.S_ISREG(status.st_mode) or _is_small_copy(entry.path, status.st_size, names):
                return
            elif _is_candidate(entry) and self._is_new(self._files, entry.path):
                yield Found(entry.path, root, status.st_size, status.st_mtime_ns)
        except OSError as error:
            # Of a file that cannot be opened only the name is left to judge by.
            if extension(entry.name) in VIDEO_EXTENSIONS or not extension(entry.name):
                yield _unreadable(entry.path, error)

    def _excluded(self, name: str, relative: str) -> bool:
        relative = relative.replace(os.sep, "/")
        return any(
            fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(relative, pattern)
            or fnmatch.fnmatchcase(relative, pattern.removeprefix("**/"))
            for pattern in self._exclude
        )

    @staticmethod
    def _is_new(met: set[str], path: str) -> bool:
        real = os.path.realpath(path)
        new = real not in met
        met.add(real)
        return new


def _unreadable(path: str, error: OSError) -> Unreadable:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return Unreadable(path, "the link leads to nothing", "bring back what it leads to, or remove it")
    return Unreadable(path, *explain(error))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or made by the system for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_small_copy(path: str, size: int, names: list[str]) -> bool:
    """Whether a camera made this file of a larger one that is there too."""
    master = copied_from(path, names)
    try:
        return bool(master) and os.path.isfile(master) and os.path.getsize(master) > size
    except OSError:
        return False


def _is_candidate(entry: os.DirEntry[str]) -> bool:
    ending = extension(entry.name)
    if ending in UNFINISHED_EXTENSIONS or ending in AUDIO_EXTENSIONS:
        return False
    with open(entry.path, "rb", buffering=0) as file:
        if ending in VIDEO_EXTENSIONS:
            return True
        head = file.read(HEAD)
        # Some recorders leave room for a header that they never write.
        return may_hold_video(head if head.strip(b"\0") else head + file.read(16 * HEAD))
