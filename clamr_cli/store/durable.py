"""Protection of the tables of a local index against a crash of the machine.

Lance gives a version of a table its name in one step, but forces nothing to the disk: after a power cut the newest
manifest may be empty, and so may files that it names. Here the files of commits are forced to the disk, and versions
that cannot be read are told from those that can.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from clamr_cli.files import sync_file, sync_folder

VERSIONS: Final = "_versions"

SET_ASIDE: Final = "set-aside"
"""The folder of the index with manifests that could not be read."""

COPIES: Final = "manifests"
"""The folder of the index with a copy of each table's newest manifest, as the last run left it."""

_NAME: Final = re.compile(r"(\d+)\.manifest")
_COUNTING_DOWN: Final = 20
"""Digits of the names that count down, so that the newest is listed first; older tables count up from 1."""

_MAGIC: Final = b"LANC"
_FOOTER: Final = struct.Struct("<QHH4s")
_SYNCED: Final = ("data", "_deletions", "_indices", VERSIONS)
"""The folders of a table without which it cannot be read; what is noted of its transactions is only for writers that
meet, of which there are none."""

_THREADS: Final = 8
"""Files forced to the disk at once: the file system does several in the time of one."""


def versions(table: Path) -> list[tuple[int, Path]]:
    """The numbers of a table's versions and their manifests, newest first."""
    numbered: list[tuple[int, Path]] = []
    with suppress(OSError):
        numbered = [(_number(entry.name), Path(entry.path)) for entry in os.scandir(table / VERSIONS)]
    return sorted((pair for pair in numbered if pair[0]), reverse=True)


def _number(name: str) -> int:
    """The number of the version of a manifest of this name; 0 for other files."""
    if not (digits := _NAME.fullmatch(name)):
        return 0
    return 2**64 - 1 - int(digits[1]) if len(digits[1]) == _COUNTING_DOWN else int(digits[1])


def is_whole(manifest: Path) -> bool:
    """Whether a manifest is neither empty, cut off nor overwritten: its footer, and the length of what it points to."""
    try:
        with manifest.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _FOOTER.size + 4:
                return False
            file.seek(size - _FOOTER.size)
            start, _, _, magic = _FOOTER.unpack(file.read(_FOOTER.size))
            if magic != _MAGIC or start + 4 > size - _FOOTER.size:
                return False
            file.seek(start)
            (length,) = struct.unpack("<I", file.read(4))
    except (FileNotFoundError, IsADirectoryError):
        return False
    return bool(0 < length <= size - _FOOTER.size - start - 4)


def has_its_files(table: Path, data: Any) -> bool:  # noqa: ANN401
    """Whether the data files of a version are there, with the length they had and the end they should have."""
    for fragment in data.get_fragments():
        for file in fragment.metadata.files:
            try:
                with (table / "data" / file.path).open("rb") as content:
                    size = os.fstat(content.fileno()).st_size
                    content.seek(max(0, size - len(_MAGIC)))
                    end = content.read()
            except FileNotFoundError:
                return False
            if end != _MAGIC or (file.file_size_bytes and file.file_size_bytes != size):
                return False
        if (deletion := fragment.metadata.deletion_file) is not None:
            path = table / deletion.path(fragment.fragment_id)
            if not path.is_file() or not path.stat().st_size:
                return False
    return True


def set_aside(index: Path, manifest: Path) -> None:
    """Move a manifest (or a folder in its place) out of its table, to a folder where it can be looked into."""
    folder = index / SET_ASIDE
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(manifest, folder / f"{manifest.parent.parent.stem}-{manifest.name}")
    sync_folder(manifest.parent)


def keep_copies(index: Path, tables: Sequence[str]) -> None:
    """Copy the newest manifest of each table beside the tables: old versions are removed, and one alone may be lost."""
    for name in tables:
        numbered = versions(index / f"{name}.lance")
        folder = index / COPIES / name
        if not numbered or (folder / numbered[0][1].name).is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{numbered[0][1].name}.part"
        shutil.copyfile(numbered[0][1], draft)
        sync_file(draft)
        os.replace(draft, folder / numbered[0][1].name)
        for old in folder.iterdir():
            if old.name != numbered[0][1].name:
                old.unlink(missing_ok=True)
        sync_folder(folder)


def has_copy(table: Path) -> bool:
    """Whether there is a whole copy of a manifest of the table."""
    return any(map(is_whole, (table.parent / COPIES / table.stem).glob("*.manifest")))


def restore(table: Path, newest: int) -> bool:
    """Put the copy of a manifest back in its place, if it is newer than the newest version that can be read."""
    for path in (table.parent / COPIES / table.stem).glob("*.manifest"):
        target = table / VERSIONS / path.name
        if is_whole(path) and _number(path.name) > newest and not target.exists():
            shutil.copyfile(path, target)
            sync_file(target)
            sync_folder(target.parent)
            return True
    return False


class Syncer:
    """Forces the files of tables to the disk, each once."""

    def __init__(self) -> None:
        self._done: dict[Path, set[str]] = {}

    def sync(self, tables: Sequence[Path]) -> None:
        """Force the new files of tables to the disk: data and deletions, then manifests, then their folders."""
        data: list[str] = []
        manifests: list[str] = []
        folders: set[Path] = set()
        for table in tables:
            # The hint of the newest version is replaced with every version under one name.
            present = {
                os.path.join(folder, file)
                for name in _SYNCED
                for folder, _, files in os.walk(table / name)
                for file in files
                if not file.endswith(".json")
            }
            for path in sorted(present - self._done.get(table, set())):
                (manifests if path.endswith(".manifest") else data).append(path)
                folders.add(Path(path).parent)
            if table not in self._done:
                folders |= {table, table.parent}
            self._done[table] = present
        with ThreadPoolExecutor(_THREADS) as pool:
            for paths in (data, manifests):
                list(pool.map(sync_file, paths))
            list(pool.map(sync_folder, folders))
