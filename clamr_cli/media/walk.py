"""Files that may be videos: found under targets, by content, each once; and whether known ones are there, gone or away.

Only a file that is missing from a folder which still holds others is gone. An empty folder may be the mount point of a
disk that is not plugged in, and what cannot be read says nothing about what is there.
"""

import codecs
import errno
import fnmatch
import functools
import glob
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pathspec import GitIgnoreSpec

from clamr_cli import locations
from clamr_cli.errors import UsageError
from clamr_cli.media.files import (
    HEAD,
    NO_FILE,
    NO_VIDEO_EXTENSIONS,
    VIDEO_EXTENSIONS,
    explain,
    extension,
    may_hold_video,
)

_Entry = os.DirEntry[str] | locations.RemoteEntry

IGNORE_FILE: Final = ".clamrignore"
_LONGEST_IGNORE_FILE: Final = 1 << 20
_SYSTEM_NAMES: Final = frozenset(
    ("$recycle.bin", "system volume information", "lost+found", "__macosx", "@eadir", "#recycle", "thumbs.db",
     "desktop.ini")
)  # fmt: skip

_COPY_EXTENSIONS: Final = frozenset((".lrv", ".lrf", ".glv", ".thm"))
_MASTER_EXTENSIONS: Final = frozenset((*VIDEO_EXTENSIONS - _COPY_EXTENSIONS, ".360", ".mts"))

# Stem of a small copy -> stems that its video may have.
_STEMS: Final = tuple(
    (re.compile(pattern), masters)
    for pattern, masters in (
        (r"gl(\d{6})", (r"gx\1", r"gh\1", r"gs\1")),  # GoPro
        (r"(pro_)?lrv_(\d{8}_\d{6})_\d\d_(\d{3})", (r"\1vid_\2_00_\3", r"\1vid_\2_10_\3")),  # Insta360
        (r"([a-z]\d{3}c\d{3}(?:_\w+)?)_p", (r"\1",)),  # Canon
        (r"(\d{6}_\d{6}_\d{3}_[fr])l", (r"\1h",)),  # Nextbase
        (r"(\d{14}_\d{4}(?:_[a-z]+)?)_s", (r"\1",)),  # DDPai
        (r"(ydxj\d+)_sec", (r"\1",)),  # Yi
        (r"(.+)[_-](?:proxy|thm)", (r"\1",)),
    )
)
_SONY_COPY: Final = re.compile(r"(.+)s\d\d")
# Folder of small copies -> where their videos lie, beside it or above.
_FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "proxy": ("", "video"),
    "proxies": ("",),
    "lrv": ("",),
    "lrf": ("",),
    "proxy media": ("../original media",),
    "sub": ("clip",),
}


# Endings that other files have, too. In a bucket only these files are looked into: each look is a request.
_DOUBTFUL: Final = frozenset(("", ".dat", ".mod", ".mts", ".tod", ".ts"))

# Errors that say that there is no such file. All others say that it could not be looked at.
MISSING: Final = (errno.ENOENT, errno.ENOTDIR)
# Folders in which disks and shares appear as folders of their own, and vanish when they are unplugged.
_MOUNTS: Final = re.compile(r"/(?:media(?:/[^/]+)?|run/media/[^/]+|run/user/[^/]+/gvfs|mnt|Volumes|net)")
_ABSENT: Final = "the folder is not there"


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file that may be a video; bytes of its name that are no UTF-8 stand as surrogate escapes."""

    path: str  # absolute, as is the root
    root: str  # the folder that was asked for, or the parent of a named file
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that could not be looked at; ``reason`` and ``hint`` are one line each."""

    path: str
    reason: str
    hint: str


def discover(
    targets: Sequence[str], *, exclude: Sequence[str] | Callable[[str], Sequence[str]] = ()
) -> Iterator[VideoFile | Unreadable]:
    """Find the candidates under files, folders and globs (``**`` too), sorted, each real file once.

    In folders, hidden and system files are passed over, and so are unfinished downloads, sound, still images, and the
    small copies that cameras make of their videos. A file is a candidate when its first bytes are those of a video
    container, or when its name promises a video, so that a broken file is recorded and not passed over in silence. A
    file named by itself is always a candidate. Links are followed; circles end. A file ``.clamrignore`` leaves out what
    its lines match in its folder and below, by the rules of ``.gitignore``.

    Args:
        targets: to look at; a name that exists is never taken for a glob.
        exclude: globs matched against the name and the path relative to the root, or a function that gives those of a
            folder; a folder that matches is not entered.

    Raises:
        UsageError: a target does not exist or a glob matches nothing; before anything is found.
    """
    return _Walk(exclude).run(expand_targets(targets))


def survey(
    targets: Sequence[str], *, exclude: Sequence[str] | Callable[[str], Sequence[str]] = ()
) -> tuple[list[VideoFile | Unreadable], list[str]]:
    """All that :func:`discover` finds, and the folders that it looked into: those that are left out are not among them.

    Raises:
        UsageError: as :func:`discover`.
    """
    walk = _Walk(exclude)
    items = list(walk.run(expand_targets(targets)))
    return items, walk.entered


def expand_targets(targets: Sequence[str]) -> list[str]:
    """The files and folders that targets name, absolute; ``~`` and globs are resolved.

    Raises:
        UsageError: a target does not exist or a glob matches nothing.
    """
    named: list[str] = []
    for target in targets:
        if locations.is_remote(target):
            path = locations.absolute(target)
            try:
                locations.stat(path)
            except OSError as error:
                if error.errno in MISSING:
                    if glob.has_magic(path):
                        raise UsageError(
                            f"there is no object or folder {path!r}, and addresses are no globs",
                            "name a folder, and leave out what matches with --exclude",
                        ) from error
                    raise UsageError(f"there is no object or folder {path!r}", "check the spelling") from error
                raise UsageError(*explain(error)) from error
            named.append(path)
            continue
        path = os.path.expanduser(target)
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        if not matches:
            missing = "nothing matches" if glob.has_magic(path) else "no such file or folder:"
            raise UsageError(f"{missing} {target!r}", "check the spelling")
        named += map(os.path.abspath, matches)
    return named


class _Walk:
    """One walk: remembers the real files and folders that it has met."""

    def __init__(self, exclude: Sequence[str] | Callable[[str], Sequence[str]]) -> None:
        self._globs_of = exclude if callable(exclude) else lambda _: exclude
        self._met: set[str] = set()
        self.entered: list[str] = []

    def run(self, targets: Sequence[str]) -> Iterator[VideoFile | Unreadable]:
        for target in targets:
            try:
                status = locations.stat(target)
                if stat.S_ISDIR(status.st_mode) and locations.is_remote(target):
                    locations.list_below(target)
            except OSError as error:
                yield _unreadable(target, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._folder(target)
            elif _excluded(os.path.basename(target), os.path.basename(target), self._globs(os.path.dirname(target))):
                continue
            elif not stat.S_ISREG(status.st_mode):
                yield Unreadable(target, *NO_FILE)
            elif self._is_new(target):
                yield VideoFile(target, os.path.dirname(target), status.st_size, status.st_mtime_ns)

    def _folder(self, root: str) -> Iterator[VideoFile | Unreadable]:
        waiting: list[tuple[str, list[tuple[str, GitIgnoreSpec]]]] = [(root, [])]
        while waiting:
            folder, ignored = waiting.pop()
            below: list[str] = []
            globs = self._globs(folder)
            try:
                if not self._is_new(folder):
                    continue
                self.entered.append(folder)
                with locations.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
                names = [entry.name for entry in entries]
                if IGNORE_FILE in names:
                    ignored = [*ignored, (folder, _read_ignore_file(os.path.join(folder, IGNORE_FILE)))]
            except OSError as error:
                yield Unreadable(folder, *explain(error))
                continue
            for entry in entries:
                if is_hidden(entry.name) or _excluded(entry.name, os.path.relpath(entry.path, root), globs):
                    continue
                if ignored and _is_ignored(entry, ignored):
                    continue
                try:
                    status = entry.stat()
                    if stat.S_ISDIR(status.st_mode):
                        below.append(entry.path)
                    elif (
                        stat.S_ISREG(status.st_mode)
                        and not _is_small_copy(entry.path, status.st_size, names)
                        and _is_candidate(entry)
                        and self._is_new(entry.path)
                    ):
                        yield VideoFile(entry.path, root, status.st_size, status.st_mtime_ns)
                except OSError as error:
                    # Of a file that cannot be opened only the name is left to judge by.
                    if extension(entry.name) in VIDEO_EXTENSIONS or not extension(entry.name):
                        yield _unreadable(entry.path, error)
            waiting.extend((path, ignored) for path in reversed(below))

    def _globs(self, folder: str) -> list[str]:
        return [pattern.rstrip("/").removeprefix("./") for pattern in self._globs_of(folder)]

    def _is_new(self, path: str) -> bool:
        real = locations.realpath(path)
        new = real not in self._met
        self._met.add(real)
        return new


def _excluded(name: str, relative: str, globs: Sequence[str]) -> bool:
    relative = relative.replace(os.sep, "/")
    return any(
        fnmatch.fnmatchcase(name, pattern)
        or fnmatch.fnmatchcase(relative, pattern)
        or fnmatch.fnmatchcase(relative, pattern.removeprefix("**/"))
        for pattern in globs
    )


def _read_ignore_file(path: str) -> GitIgnoreSpec:
    """Raises: OSError: it cannot be read. UsageError: one of its lines is invalid."""
    if not stat.S_ISREG(locations.stat(path).st_mode):
        raise UsageError(f"invalid {path}: it is not a file", "move it away, or make it a text file")
    with locations.open_binary(path) as file:
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
    return GitIgnoreSpec.from_lines(lines)


def _is_ignored(entry: _Entry, ignored: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    """Whether the last rule that matches leaves an entry out; those of the nearest folder come last."""
    for folder, rules in reversed(ignored):
        name = unicodedata.normalize("NFC", entry.path[len(os.path.join(folder, "")) :].replace(os.sep, "/"))
        if entry.is_dir():
            # The library judges a folder by the files in it: for "*" and "!*/", say, it leaves out every folder.
            matches = (rule.include for rule in reversed(list(rules.patterns)) if rule.match_file(f"{name}/"))
            verdict = next((include for include in matches if include is not None), None)
        else:
            verdict = rules.check_file(name).include
        if verdict is not None:
            return verdict
    return False


def _unreadable(path: str, error: OSError) -> Unreadable:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return Unreadable(path, "the link leads to nothing", "bring back what it leads to, or remove it")
    return Unreadable(path, *explain(error))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or made by the system for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_candidate(entry: _Entry) -> bool:
    ending = extension(entry.name)
    if ending in NO_VIDEO_EXTENSIONS:
        return False
    if isinstance(entry, locations.RemoteEntry) and ending not in _DOUBTFUL:
        return ending in VIDEO_EXTENSIONS
    with locations.open_binary(entry.path) as file:
        if ending in VIDEO_EXTENSIONS:
            return True
        head = file.read(HEAD)
        # Some recorders leave room for a header that they never write.
        return may_hold_video(head if head.strip(b"\0") else head + file.read(16 * HEAD))


def _is_small_copy(path: str, size: int, siblings: Collection[str]) -> bool:
    """Whether a camera made this file of a larger one that is there too: ``GL010777.LRV`` of ``GX010777.MP4``, say."""
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name.lower())
    is_copy = ending in _COPY_EXTENSIONS
    stems = [match.expand(one) for pattern, ones in _STEMS if (match := pattern.fullmatch(stem)) for one in ones]
    master = ""
    if stems or is_copy:
        master = _master(folder, siblings, [stem, *stems] if is_copy else stems)
    inside = os.path.basename(folder).lower()
    if inside == "sub":
        stems = [match[1]] if (match := _SONY_COPY.fullmatch(stem)) else []
    else:
        stems.append(stem)
    for relative in _FOLDERS.get(inside, ()):
        other = "" if master else _below(os.path.dirname(folder), relative)
        if other:
            master = _master(other, _names(other), stems)
    try:
        status = locations.stat(master) if master else None
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > size
    except OSError:
        return False


def _master(folder: str, names: Collection[str], stems: Collection[str]) -> str:
    for name in names:
        stem, ending = os.path.splitext(name.lower())
        if stem in stems and ending in _MASTER_EXTENSIONS:
            return os.path.join(folder, name)
    return ""


def _below(folder: str, relative: str) -> str:
    """A folder by its relative path in any case; empty where there is none."""
    for part in relative.split("/") if relative else ():
        if part == "..":
            folder = os.path.dirname(folder)
        else:
            name = next((name for name in _names(folder) if name.lower() == part), "")
            if not name:
                return ""
            folder = os.path.join(folder, name)
    return folder


def _names(folder: str) -> list[str]:
    try:
        with locations.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Absence:
    """The reason why a known file was not met."""

    folder: str  # the nearest that is still there, else the root; what cannot be read, where that is the reason
    gone: bool  # it is missing from a folder that still holds others
    missing: bool  # there is no such file now, its disk away or not; False where it could not be looked at
    reason: str = ""  # why it does not count as gone


class Folders:
    """The state of the folders of absent files, each looked at once; ``unreadable`` are paths that a walk could not."""

    def __init__(self, unreadable: Collection[str] = ()) -> None:
        self._unreadable = frozenset(unreadable)
        self._reason_of = functools.cache(_reason)

    def absence(self, path: str, root: str) -> Absence | None:
        """The reason why a file below a root is absent, None where it is there."""
        for parent in (path, *ancestors(path)):
            if parent in self._unreadable:
                # What lies on a server is not asked for one by one where all of it could not be looked at.
                missing = not locations.is_remote(path) and is_missing(path)
                return Absence(parent, gone=False, missing=missing, reason="it cannot be read")
        try:
            locations.lstat(path)
        except OSError as error:
            if error.errno not in MISSING:
                return Absence(os.path.dirname(path), gone=False, missing=False, reason=explain(error)[0])
        else:
            return None
        below, folder = path, os.path.dirname(path)
        while len(folder) > len(root) and self._reason_of(folder) == _ABSENT:
            below, folder = folder, os.path.dirname(folder)
        reason = self._reason_of(folder)
        if not reason and below != path and _MOUNTS.fullmatch(folder):
            return Absence(below, gone=False, missing=True, reason="its disk is not there")
        return Absence(folder, gone=not reason, missing=True, reason=reason)


def _reason(folder: str) -> str:
    """The reason why a folder holds nothing; empty where it holds something."""
    try:
        with locations.scandir(folder) as entries:
            # What desktops and file systems leave behind by themselves is nobody's content.
            return "" if any(not is_hidden(entry.name) for entry in entries) else "the folder is empty"
    except OSError as error:
        if error.errno not in MISSING:
            return explain(error)[0]
    return "the link leads to nothing" if os.path.islink(folder) else _ABSENT


def is_missing(path: str) -> bool:
    """Whether there is no such file: False too where it cannot be told."""
    try:
        locations.lstat(path)
    except OSError as error:
        return error.errno in MISSING
    except ValueError:  # a null byte
        return True
    return False


def ancestors(path: str) -> Iterator[str]:
    """The folders above a path, nearest first."""
    folder = os.path.dirname(path)
    while folder != path:
        yield folder
        path, folder = folder, os.path.dirname(folder)


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))
