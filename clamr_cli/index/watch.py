"""Folders that are watched: which of them changed, and which of their files are still being written.

What the system reports is only a hint to look at a folder again. A look walks it as an index run does, so that the same
rules leave files out, and folders that are left out are not watched either. Where the system reports nothing (network
file systems) or can watch no more folders, looks are taken now and then instead.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from clamr_cli.errors import MissingExtra, UsageError
from clamr_cli.events import Notice
from clamr_cli.extract.sidecars import sidecar_signature
from clamr_cli.files import locked
from clamr_cli.media.walk import IGNORE_FILE, VideoFile, expand_targets, is_below, is_hidden, survey

_NETWORKS: Final = frozenset(
    ("9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "fuse", "glusterfs", "lustre", "ncpfs", "nfs",
     "nfs4", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav")
)  # fmt: skip
"""File systems on which another machine may write, which nobody reports here; ``fuse.sshfs`` and the like count too."""

_LONGEST_WAIT: Final = 5.0
"""Seconds after which a root is looked for at least: whether it is there, and still the same folder."""

_COPIED_LONG_AGO: Final = 60.0
"""Age in seconds from which on a file that is met by the first look counts as whole."""

_SHARE: Final = 10
"""A walk that takes a second is not repeated within as many."""

Identity = tuple[int, int]
Key = tuple[int, int, str]
"""Size and time of a file, and the signature of its sidecars."""


@dataclass(frozen=True, slots=True)
class Due:
    """Targets below which something changed, and the files there that are still being written."""

    targets: tuple[str, ...]
    unfinished: frozenset[str]


@dataclass
class _Root:
    """A target that is watched: what the last look met, and what the last finished run knew."""

    target: str
    look_at: float = 0.0
    hinted: float = 0.0  # when the first report since the last look came; 0 for none
    look_took: float = 0.0
    looked: dict[str, tuple[Key, float]] = field(default_factory=dict)  # with the time since when it is so
    known: dict[str, Key] | None = None
    pending: dict[str, Key] = field(default_factory=dict)
    folders: dict[str, Identity] = field(default_factory=dict)
    polled: bool = False
    is_gone: bool = False
    lock: Path | None = None
    """Of the process that watches the target; None where this one does."""
    stop: threading.Event = field(default_factory=threading.Event)


class Watch:
    """Watches targets in the block; :meth:`wait` gives what there is to do, one thing after another.

    Args:
        targets: folders, files and globs, absolute.
        exclude: gives the globs that a folder's files are left out by.
        lock: gives the lock of a target, which one process watches at a time; None for no lock.
        debounce: seconds after the first report before a folder is looked at.
        settle: seconds for which a file must not have changed.
        poll: seconds between two looks where nothing is reported.
        sweep: seconds between two looks elsewhere.

    Raises:
        MissingExtra: the package that asks the system for reports is not installed.
    """

    def __init__(
        self,
        targets: Sequence[str],
        exclude: Callable[[str], Sequence[str]],
        lock: Callable[[str], Path | None] = lambda _: None,
        *,
        debounce: float = 2.0,
        settle: float = 5.0,
        poll: float = 30.0,
        sweep: float = 1800.0,
    ) -> None:
        try:
            import watchfiles  # noqa: F401
        except ImportError as error:
            raise MissingExtra("watching folders", "serve") from error
        self._roots = [_Root(target, lock=lock(target)) for target in targets]
        self._locks = ExitStack()
        self._exclude = exclude
        self._debounce, self._settle, self._poll, self._sweep = debounce, settle, poll, sweep
        self._notices: deque[Notice] = deque()
        self._found: Due | None = None
        self._said: set[str] = set()
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for root in self._roots:
            root.stop.set()
        self._locks.close()

    def wait(self) -> Due | Notice:
        """Wait until something is to be indexed or to be said. A change comes again until :meth:`done` is called."""
        while True:
            if self._notices:
                return self._notices.popleft()
            if self._found is not None:
                found, self._found = self._found, None
                return found
            now = time.monotonic()
            for root in self._roots:
                if not (root.polled or root.is_gone or root.known is None) and self._is_replaced(root):
                    root.look_at = now
            due = [root for root in self._roots if self._is_due(root, now) and self._is_ours(root)]
            if due:
                # What moves from one folder to another must be met in one run.
                due += [root for root in self._roots if root.hinted and root not in due]
                self._found = self._look(due)
            if due or self._notices:
                continue
            with self._changed:
                self._changed.wait(max(0.05, min([_LONGEST_WAIT, *(self._next(root) - now for root in self._roots)])))

    def done(self, due: Due) -> None:
        """Take what was due as indexed."""
        for root in self._roots:
            if root.target in due.targets:
                root.known = root.pending

    def again(self, due: Due, seconds: float) -> None:
        """Give what was due once more, after so many seconds."""
        for root in self._roots:
            if root.target in due.targets:
                root.look_at = time.monotonic() + seconds

    def _next(self, root: _Root) -> float:
        pause = max(self._debounce, _SHARE * root.look_took)
        return min(root.look_at, root.hinted + pause) if root.hinted else root.look_at

    def _is_due(self, root: _Root, now: float) -> bool:
        return self._next(root) <= now

    def _is_ours(self, root: _Root) -> bool:
        """Whether this process watches a root. While another one does, the lock is tried again now and then."""
        if root.lock is None:
            return True
        # An index that cannot be written to has no lock, and is left to whoever writes to it.
        with suppress(OSError), ExitStack() as held:
            if not held.enter_context(locked(root.lock, wait=False)):
                root.look_at = time.monotonic() + _LONGEST_WAIT
                other = f"{root.target} is watched by another clamr: this one does when that one has ended"
                self._say(f"lock of {root.target}", other)
                return False
            self._locks.push(held.pop_all())
        root.lock = None
        if f"lock of {root.target}" in self._said:
            self._notices.append(Notice("", f"{root.target} is watched by this clamr now"))
        return True

    def _is_replaced(self, root: _Root) -> bool:
        """Whether the folder of a root went, came, or is another one: a disk was mounted there, say."""
        top = root.target if root.target in root.folders else next(iter(root.folders), root.target)
        return _identity(top) != root.folders.get(top)

    def _look(self, roots: Sequence[_Root]) -> Due | None:
        """Walk roots, and say what is due there; None where all is as it was."""
        changed: list[_Root] = []
        unfinished: set[str] = set()
        met: dict[str, dict[str, Key]] = {}
        for root in roots:
            root.hinted, began = 0.0, time.monotonic()
            root.look_at = began + self._sweep
            seen = self._walk(root)
            root.look_took = time.monotonic() - began
            if root.polled:
                root.look_at = time.monotonic() + max(self._poll, _SHARE * root.look_took)
            if seen is not None:
                met[root.target] = seen
        gone = {
            key[:2]
            for root in roots
            for path, key in (root.known or {}).items()
            if root.target in met and path not in met[root.target]
        }
        for root in roots:
            if root.target not in met:
                continue
            seen, known, now = met[root.target], root.known or {}, time.monotonic()
            looked, root.looked = root.looked, {}
            writing = set()
            for path, key in seen.items():
                before, since = looked.get(path, (key, now))
                root.looked[path] = (key, since if before == key else now)
                if known.get(path) == key or (path not in known and key[:2] in gone):
                    continue
                old = root.known is None and time.time() - key[1] / 1e9 >= _COPIED_LONG_AGO
                is_open = _is_open_for_writing(path)
                if is_open or (not old and now - root.looked[path][1] < self._settle):
                    writing.add(path)
                    if is_open or before != key:
                        self._say(path, f"{path} is still being written: it waits until it is whole")
            kept = {path: known[path] for path in writing if path in known}
            root.pending = {**{path: key for path, key in seen.items() if path not in writing}, **kept}
            if writing:
                root.look_at = min(root.look_at, now + self._settle)
            self._said -= {path for path in self._said if path in seen and path not in writing}
            if root.known is None or root.pending != root.known:
                changed.append(root)
            unfinished |= writing
        if not changed:
            return None
        return Due(tuple(root.target for root in changed), frozenset(unfinished))

    def _walk(self, root: _Root) -> dict[str, Key] | None:
        """The files below a root by path; None where it cannot be walked, which is said once."""
        try:
            paths = expand_targets([root.target])
        except UsageError:
            paths = []
        if not paths:
            root.is_gone, root.look_at, root.folders = True, time.monotonic() + _LONGEST_WAIT, {}
            root.stop.set()
            self._say(
                root.target, f"{root.target} is not there: nothing is forgotten, and it is watched when it is back"
            )
            return None
        if root.is_gone:
            root.is_gone, root.known = False, None
            self._said.discard(root.target)
            self._notices.append(Notice("", f"{root.target} is back"))
        try:
            items, folders = survey(paths, exclude=self._exclude)
        except UsageError as error:
            root.look_at = time.monotonic() + self._poll
            self._say(str(error), str(error))
            return None
        self._watch_folders(root, [*folders, *(os.path.dirname(path) for path in paths if path not in folders)])
        return {
            item.path: (item.size, item.mtime_ns, sidecar_signature(item.path, item.root))
            if isinstance(item, VideoFile)
            else (0, 0, item.reason)
            for item in items
        }

    def _watch_folders(self, root: _Root, folders: Sequence[str]) -> None:
        """Ask for reports on folders where they are others than before."""
        identities = {folder: identity for folder in folders if (identity := _identity(folder)) is not None}
        if root.polled or identities == root.folders:
            return
        root.stop.set()
        root.folders, root.stop = identities, threading.Event()
        name = file_system(root.target)
        if name in _NETWORKS or name.startswith("fuse."):
            self._take_looks(root, f"on a file system that reports no changes ({name})")
            return
        threading.Thread(target=self._listen, args=(root, list(identities), root.stop), daemon=True).start()
        # What changed between the walk and the first report.
        root.look_at = time.monotonic() + self._debounce

    def _take_looks(self, root: _Root, reason: str) -> None:
        root.polled = True
        root.look_at = time.monotonic() + self._poll
        self._say(f"polled {root.target}", f"{root.target} is {reason}: it is looked at every {self._poll:g} s")

    def _listen(self, root: _Root, folders: Sequence[str], stop: threading.Event) -> None:
        """Take reports of the system on folders, until told to stop."""
        from watchfiles import watch

        try:
            reports = watch(
                *folders, watch_filter=None, stop_event=stop, recursive=False, raise_interrupt=False, step=250,
                debounce=1000, ignore_permission_denied=True, force_polling=False,
            )  # fmt: skip
            for changes in reports:
                names = (os.path.basename(path) for _, path in changes)
                if any(name == IGNORE_FILE or not is_hidden(name) for name in names):
                    root.hinted = root.hinted or time.monotonic()
                    with self._changed:
                        self._changed.notify()
        except FileNotFoundError:  # a folder went meanwhile
            root.folders, root.hinted = {}, root.hinted or time.monotonic()
        except Exception as error:  # the library's own, which are no OSError
            if stop.is_set():
                return
            full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EMFILE) or "limit" in str(error)
            limit = " (raise fs.inotify.max_user_watches)" if sys.platform == "linux" else ""
            reason = f"more than this system lets programs watch{limit}" if full else f"not reported on ({error})"
            self._take_looks(root, reason)
        with self._changed:
            self._changed.notify()

    def _say(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._notices.append(Notice("", text))


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def file_system(path: str) -> str:
    """The name of the file system that a path lies on, as Linux has it; empty where it cannot be told."""
    best, name = "", ""
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        real = os.path.realpath(path)
        for line in mounts:
            place, _, rest = line.partition(" - ")
            point = place.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            # Later lines lie over earlier ones.
            if is_below(real, point) and len(point) >= len(best):
                best, name = point, rest.split(" ")[0]
    return name


def _is_open_for_writing(path: str) -> bool:
    """Whether a program has a file open to write to it, as far as the system says so of files of this user."""
    try:
        import fcntl

        take, read, leave = fcntl.F_SETLEASE, fcntl.F_RDLCK, fcntl.F_UNLCK
    except (ImportError, AttributeError):
        return False
    # A writer who comes while the lease is held would have this process ended by a signal.
    if signal.getsignal(signal.SIGIO) == signal.SIG_DFL:
        with suppress(ValueError):
            signal.signal(signal.SIGIO, signal.SIG_IGN)
    if signal.getsignal(signal.SIGIO) == signal.SIG_DFL:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, take, read)
        fcntl.fcntl(handle, take, leave)
    except OSError as error:
        # Other errors: somebody else's file, or a file system that has no leases.
        return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK)
    finally:
        os.close(handle)
    return False
