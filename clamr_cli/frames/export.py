"""A folder of chosen frames: begun with the list of what will be in it, so that an interrupted export goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIST: Final = "frames.json"
"""The list of an export, written first."""

_OWN: Final = re.compile(r"\d{2,}-\d\d-\d\d\.\d{3}(\.jpg|\.mp4|\.mkv|\.webm)")
"""Names of files that an export writes; no other file is ever removed."""

_DRAFT: Final = ".part-"


class Folder:
    """A folder that an export goes into. Make one with :meth:`begin`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, listing: bytes, names: Sequence[str], *, force: bool) -> Folder:
        """Make the folder and write its list.

        A folder with the same list is an export that was interrupted, or is repeated: what is there stays.

        Args:
            path: the folder.
            listing: content of ``frames.json``.
            names: of all files that will be written beside it.
            force: whether an earlier export in the folder may be replaced.

        Raises:
            UsageError: the folder holds something else, or cannot be written.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            present = sorted(one.name for one in path.iterdir() if not one.name.startswith(_DRAFT))
            if present and not _is(path / LIST, listing):
                _make_room(path, present, names, force=force)
            folder = cls(path)
            folder.write(LIST, listing)
            return folder

    def has(self, name: str) -> bool:
        """Whether a file of the export is there, whole."""
        return (self.path / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        with self.draft(name) as draft, writing(self.path):
            draft.write_bytes(content)

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Path]:
        """A path to write a file to; it gets its name when the block ends without an error.

        Raises:
            UsageError: it cannot be written.
        """
        draft = self.path / f"{_DRAFT}{secrets.token_hex(4)}-{name}"
        try:
            yield draft
            with writing(self.path):
                draft.replace(self.path / name)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear line.

    Raises:
        UsageError: it refused.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write to {os.fspath(path)}: {error.strerror or error}", "choose another place, or make room"
        ) from error


def _is(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _make_room(path: Path, present: Sequence[str], names: Sequence[str], *, force: bool) -> None:
    """Remove an earlier export. Nothing that is not its own is touched, and nothing is removed without leave."""
    earlier = _files_of(path / LIST)
    if earlier is None or not force:
        hint = "name another one" if earlier is None else "name another one, or replace that with --force"
        held = "is not empty" if earlier is None else "holds an export of something else"
        raise UsageError(f"the folder {os.fspath(path)} {held}", hint)
    foreign = (set(present) - earlier) & set(names)
    if foreign:
        raise UsageError(f"{os.fspath(path / min(foreign))} is no file of an earlier export", "name another folder")
    # The list goes last: an interruption leaves an export that can still be recognised and replaced.
    for name in (*sorted(earlier - {LIST}), LIST):
        (path / name).unlink(missing_ok=True)


def _files_of(path: Path) -> set[str] | None:
    """The files that the list of an earlier export names, with itself; None where there is no such list."""
    try:
        content = json.loads(path.read_bytes())
        frames = content["frames"]
        if content["format"] != "clamr-frames":
            return None
        named = {str(name) for frame in frames for key in ("file", "clip") if (name := frame.get(key))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {LIST} | {name for name in named if _OWN.fullmatch(name)}
