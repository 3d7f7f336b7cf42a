"""The video that a user names: a file, whose content is read only if it is new, or an id of the index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from clamr_cli.errors import UsageError
from clamr_cli.frames.values import Target
from clamr_cli.media.files import content_hash, video_id
from clamr_cli.search.filters import file_named
from clamr_cli.store import Extraction, Store
from clamr_cli.types import FileState


def locate(store: Store, text: str) -> Target:
    """The video that a path or an id (or its beginning) names. A file of that name goes before an id.

    Raises:
        UsageError: there is neither, or the id is of several.
        MediaError: the file cannot be read.
    """
    if not text.strip() or "\0" in text:
        raise UsageError("no video was named", "give a file, or an id that clamr ls shows")
    path = os.path.abspath(text) if os.path.lexists(text) else ""
    if not path and (os.sep in text or "." in text):
        file = file_named(store.files(), text)
        if file is None or not os.path.lexists(file.path):
            raise UsageError(f"there is no file {text}", "check the path, or give an id that clamr ls shows")
        path = file.path
    if path:
        if os.path.isdir(path):
            raise UsageError(f"{path} is a folder", "name one video in it")
        content = _stored_hash(store, path) or content_hash(path)
        return Target(path, video_id(content), content)
    identity = store.resolve(text)
    paths = [record.path for record in store.files([identity]) if os.path.isfile(record.path)]
    return Target(paths[0] if paths else "", identity, store.video(identity).content_hash)


def _stored_hash(store: Store, path: str) -> str | None:
    """The hash of a file's content if it was looked at before and has not changed since."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    state = (status.st_size, status.st_mtime_ns)
    record = store.file(path)
    if record is not None and record.state is FileState.INDEXED and (record.size, record.mtime_ns) == state:
        for video in store.videos([record.video_id]):
            return video.content_hash
    note = noted(store, path)
    if note is not None and (note.payload["size"], note.payload["mtime_ns"]) == state:
        return str(note.payload["content_hash"])
    return None


def note_key(path: str) -> str:
    """The name under which a file's note is kept."""
    digest = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    return f"file/{digest}"


def noted(store: Store, path: str) -> Extraction | None:
    """Record of a prepared file, None for one that never was prepared."""
    return None if "\0" in path else store.extraction(note_key(path))


def forget(store: Store, path: str) -> None:
    """Forget what was prepared of a noted file; of a video of the index, what the index needs stays.

    The caller is the index's one writer.
    """
    note = noted(store, path)
    if note is None:
        return
    content = str(note.payload["content_hash"])
    store.drop_extractions(f"{content}/dense" if store.videos([video_id(content)]) else content)
    store.drop_extractions(note_key(path))


def note(target: Target) -> Mapping[str, Any]:
    """Record of a file by which its content need not be read again."""
    status = os.stat(target.path)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "content_hash": target.content_hash}
