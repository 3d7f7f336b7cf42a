"""Sources of a model's files: a local folder, a hub cache, or the hub itself; and digests of their contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError, safe_open

from clamr_cli import weights
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WAY_OUT: Final = "or use --encoder mini, which needs no download"
_PROJECTION: Final = re.compile(r"(^|\.)custom_text_proj(\.base_layer)?\.weight$")
_SMALL: Final = ("*.json", "*.txt")
_WEIGHTS: Final = ("*.safetensors",)
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_BIG: Final = 16 << 20
_SHOWN: Final = 12
_SHA256_NAME: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Files:
    """A model's folder on this machine. ``name`` is how the user called it."""

    name: str
    folder: Path

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder.

        Raises:
            ModelError: it is absent or damaged.
        """
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as problem:
            raise ModelError(f"{self.name} has no {name}", "give a folder or hub id of a complete model") from problem
        except (OSError, ValueError) as problem:
            raise ModelError(f"{name} of {self.name} cannot be read", "download the model again") from problem
        if not isinstance(value, dict):
            raise ModelError(f"{name} of {self.name} is not a JSON object", "download the model again")
        return value

    def weights(self) -> list[Path]:
        """The safetensors files in use: those an index names, else the single one.

        Raises:
            ModelError: there are none, or the index names files that are absent.
        """
        indexes = sorted(self.folder.glob("*.safetensors.index.json"))
        if indexes:
            named = self.json(indexes[0].name).get("weight_map", {})
            files = [self.folder / name for name in sorted(set(named.values()))] if isinstance(named, dict) else []
        else:
            files = sorted(self.folder.glob("*.safetensors"))
        absent = [path.name for path in files if not path.is_file()]
        if absent:
            raise ModelError(f"{self.name} lacks {', '.join(absent)}", "download the model again")
        if not files:
            raise ModelError(f"{self.name} has no safetensors files", "give a folder or hub id of a complete model")
        return files


def listed(names: Iterable[str]) -> str:
    """Names for an error message: all of a few, the first of many."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_SHOWN])
    return shown if len(ordered) <= _SHOWN else f"{shown} and {len(ordered) - _SHOWN} more"


def installed(artefact: str, part: str, name: str, cache: Path) -> Files:
    """A part of a published model: where ``clamr models pull`` put it, else in the hub's own cache. Nothing is fetched.

    Args:
        artefact: what ``clamr models`` calls the whole.
        part: "base" or "adapter".
        name: the part's hub id.
        cache: the cache folder.

    Raises:
        ModelError: it is in neither, or damaged.
    """
    if weights.status(artefact, cache).installed:
        return Files(name, weights.locate(artefact, cache) / part)
    from huggingface_hub import errors, snapshot_download

    try:
        return Files(name, Path(snapshot_download(name, local_files_only=True)))
    except (errors.EntryNotFoundError, OSError) as problem:
        hint = f"clamr models pull {artefact}, {WAY_OUT}"
        raise ModelError(f"the model {name} is not installed", hint) from problem


def find_small(name: str, revision: str) -> Files:
    """The folder with a model's configuration and tokenizer; from the hub only these are fetched.

    Raises:
        ModelError: there is no such folder or hub model, or the hub cannot be reached.
    """
    return _find(name, revision, _SMALL)


def find_all(name: str, revision: str) -> Files:
    """The folder with all of a model's files, fetched from the hub where they are not here yet.

    Raises:
        ModelError: see :func:`find_small`.
    """
    return _find(name, revision, (*_SMALL, *_WEIGHTS))


def _find(name: str, revision: str, patterns: Sequence[str]) -> Files:
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return Files(name, _snapshot(name, folder, revision))
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"there is no folder {name!r}", "give a folder with config.json, or a hub id such as owner/name"
        )
    return Files(name, _from_hub(name, revision, patterns))


def _snapshot(name: str, folder: Path, revision: str) -> Path:
    """The folder itself, or where it is a model's place in a hub cache, the snapshot of the revision in it."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    chosen = [path for path in sorted(snapshots.iterdir()) if path.is_dir() and (not commit or path.name == commit)]
    if len(chosen) != 1:
        raise ModelError(f"{name} holds {len(chosen)} snapshots that could be meant", "name one with --revision")
    return chosen[0]


def _from_hub(name: str, revision: str, patterns: Sequence[str]) -> Path:
    """Fetch from the hub, or take what its cache has where it cannot be reached."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except errors.GatedRepoError as problem:
        hint = f"accept its terms on its hub page and run 'hf auth login', {WAY_OUT}"
        raise ModelError(f"the model {name} is gated", hint) from problem
    except errors.RevisionNotFoundError as problem:
        raise ModelError(f"the model {name} has no revision {revision!r}", "leave --revision out") from problem
    except errors.RepositoryNotFoundError as problem:
        hint = f"check the name, run 'hf auth login' if it is private, {WAY_OUT}"
        raise ModelError(f"the hub has no model {name} for you", hint) from problem
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as problem:
        hint = f"connect to the network once, give a folder with --model, {WAY_OUT}"
        raise ModelError(f"the model {name} is not on this machine and the hub cannot be reached", hint) from problem
    except errors.HfHubHTTPError as problem:
        raise ModelError(f"the hub refused {name}", f"try again later, {WAY_OUT}") from problem
    # Beside full disks these are errors of the transport, whose classes change with the hub's library.
    except Exception as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise ModelError(f"the model {name} cannot be fetched: {reason}", f"try again, {WAY_OUT}") from problem


def declared_elements(files: Files) -> int:
    """The count of numbers that a sharded model's index declares (two bytes each), 0 where none does."""
    indexes = sorted(files.folder.glob("*.safetensors.index.json"))
    metadata = files.json(indexes[0].name).get("metadata") if indexes else None
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    return int(size) // 2 if isinstance(size, int | float) else 0


def keeps_projection(files: Files) -> bool:
    """Whether the projection's base stands in the files, so that nothing has to be drawn.

    Raises:
        ModelError: a file is damaged.
    """
    for path in files.weights():
        try:
            # Names alone are read, and without torch.
            with safe_open(path, framework="numpy") as opened:
                if any(_PROJECTION.search(name) for name in opened.keys()):  # noqa: SIM118 -- not a mapping
                    return True
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path.name} is damaged", "download the model again") from problem
    return False


def digest(files: Files, cache: Path) -> str:
    """SHA-256 over a model's configuration, tokenizer and weights, as hexadecimal digits.

    Hub caches name weights by their SHA-256 already; digests of other large files are kept in ``cache`` beside their
    size and time, so that only the first use of a folder reads them.
    """
    names = ("config.json", "adapter_config.json", "tokenizer.json", "preprocessor_config.json")
    small = [path for name in names if (path := files.folder / name).is_file()]
    total = hashlib.sha256()
    for path in [*small, *files.weights()]:
        total.update(f"{path.name} {_file_digest(path, cache)}\n".encode())
    return total.hexdigest()


def digest_all(files: Files, cache: Path) -> str:
    """SHA-256 over all configurations, tokenizers and weights in a folder, however deep, as hexadecimal digits."""
    total = hashlib.sha256()
    for path in sorted(files.folder.rglob("*")):
        if path.is_file() and path.suffix in (".json", ".txt", ".safetensors", ".bin", ".model"):
            total.update(f"{path.relative_to(files.folder).as_posix()} {_file_digest(path, cache)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path, cache: Path) -> str:
    resolved = path.resolve()
    if resolved.parent.name == "blobs" and _SHA256_NAME.fullmatch(resolved.name):
        return resolved.name
    state = resolved.stat()
    if state.st_size < _BIG:
        return hashlib.sha256(resolved.read_bytes()).hexdigest()
    record = cache / "digests.json"
    digests: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads(record.read_text(encoding="utf-8"))
        digests = stored if isinstance(stored, dict) else {}
    mark = [state.st_size, state.st_mtime_ns]
    entry = digests.get(str(resolved))
    if isinstance(entry, list) and entry[:2] == mark and len(entry) == 3:
        return str(entry[2])
    with resolved.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    digests[str(resolved)] = [*mark, digest]
    # Without a cache that can be written the next run reads the file again, and that is all.
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        fresh = record.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(digests), encoding="utf-8")
        fresh.replace(record)
    return digest
