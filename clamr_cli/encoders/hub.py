"""Files of a model: a local folder, a hub cache, or the hub itself; and digests of their contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clamr_cli import weights
from clamr_cli.errors import ModelError

WAY_OUT: Final = "or use --encoder mini, which needs no download"
_AGAIN: Final = "download the model again"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SHA256_NAME: Final = re.compile(r"[0-9a-f]{64}")
LARGE: Final = 16 << 20  # bytes from which digests of files are kept
_SHOWN: Final = 12


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
        try:
            value = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"{self.name} lacks {name}", "give a folder or hub id of a complete model") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"{name} of {self.name} cannot be read", _AGAIN) from error
        if not isinstance(value, dict):
            raise ModelError(f"{name} of {self.name} is not a JSON object", _AGAIN)
        return value

    def index(self) -> dict[str, Any]:
        """The index of a model in several safetensors files, empty for one in a single file."""
        indexes = sorted(self.folder.glob("*.safetensors.index.json"))
        return self.json(indexes[0].name) if indexes else {}

    def weights(self) -> list[Path]:
        """The safetensors files in use: those an index names, else the single one.

        Raises:
            ModelError: files are absent.
        """
        if index := self.index():
            names = index.get("weight_map")
            files = [self.folder / name for name in sorted(set(names.values()))] if isinstance(names, dict) else []
        else:
            files = sorted(self.folder.glob("*.safetensors"))
        if absent := [path.name for path in files if not path.is_file()]:
            raise ModelError(f"{self.name} lacks {', '.join(absent)}", _AGAIN)
        if not files:
            raise ModelError(f"{self.name} lacks safetensors files", "give a folder or hub id of a complete model")
        return files

    def declared_elements(self) -> int:
        """The count of numbers that an index declares (two bytes each), 0 without one."""
        metadata = self.index().get("metadata")
        size = metadata.get("total_size") if isinstance(metadata, dict) else None
        return int(size) // 2 if isinstance(size, int | float) else 0


def shorten(names: Iterable[str]) -> str:
    """Names for an error message: all of a few, the first of many."""
    ordered = sorted(names)
    text = ", ".join(ordered[:_SHOWN])
    return text if len(ordered) <= _SHOWN else f"{text} and {len(ordered) - _SHOWN} more"


def find_installed(artefact: str, part: str, name: str, cache: Path) -> Files:
    """A part of a published model: where ``clamr models pull`` put it, else in the hub's own cache. Nothing is fetched.

    ``artefact`` is what ``clamr models`` calls the whole, ``part`` "base" or "adapter", ``name`` the part's hub id.

    Raises:
        ModelError: it is in neither, or damaged.
    """
    if weights.status(artefact, cache).installed:
        return Files(name, weights.locate(artefact, cache) / part)
    from huggingface_hub import errors, snapshot_download

    try:
        return Files(name, Path(snapshot_download(name, local_files_only=True)))
    except (errors.EntryNotFoundError, OSError) as error:
        hint = f"clamr models pull {artefact}, {WAY_OUT}"
        raise ModelError(f"the model {name} is not installed", hint) from error


def find(name: str, revision: str = "", *, configuration_only: bool = False) -> Files:
    """The folder with a model's files, fetched from the hub where they are not here yet.

    Args:
        name: a folder, also that of a model in a hub cache, or a hub id.
        revision: branch, tag or commit on the hub; empty for the main one.
        configuration_only: fetch configuration and tokenizer only.

    Raises:
        ModelError: there is no such folder or hub model, or the hub cannot be reached.
    """
    folder = Path(os.path.expanduser(name))
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(name):
            hint = "give a folder with config.json, or a hub id such as owner/name"
            raise ModelError(f"invalid model: no folder {name!r}", hint)
        patterns = ["*.json", "*.txt"] if configuration_only else ["*.json", "*.txt", "*.safetensors"]
        return Files(name, _fetch(name, revision, patterns))
    if not (folder / "snapshots").is_dir():
        return Files(name, folder)
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshots = [path for path in (folder / "snapshots").iterdir() if path.is_dir() and commit in ("", path.name)]
    if len(snapshots) != 1:
        raise ModelError(f"{name} holds {len(snapshots)} snapshots that could be meant", "name one with --revision")
    return Files(name, snapshots[0])


def _fetch(name: str, revision: str, patterns: list[str]) -> Path:
    """Fetch from the hub, or take what its cache has where it cannot be reached."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        hint = f"accept its terms on its hub page and run 'hf auth login', {WAY_OUT}"
        raise ModelError(f"the model {name} is gated", hint) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"invalid revision of the model {name}: {revision!r}", "leave --revision out") from error
    except errors.RepositoryNotFoundError as error:
        hint = f"check the name, run 'hf auth login' if it is private, {WAY_OUT}"
        raise ModelError(f"the model {name} is not on the hub, or not visible to you", hint) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        hint = f"connect to the network once, give a folder with --model, {WAY_OUT}"
        raise ModelError(f"the model {name} is not on this machine and the hub cannot be reached", hint) from error
    except errors.HfHubHTTPError as error:
        raise ModelError(f"the hub refused {name}", f"try again later, {WAY_OUT}") from error
    # Beside full disks these are errors of the transport, whose classes change with the hub's library.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"the model {name} cannot be fetched: {reason}", f"try again, {WAY_OUT}") from error


def digest(files: Files, cache: Path, *, whole_folder: bool = False) -> str:
    """SHA-256 over a model's configuration, tokenizer and weights, as hexadecimal digits.

    Hub caches name weights by their SHA-256 already; digests of other large files are kept in ``cache`` beside their
    size and time, so that only the first use of a folder reads them. ``whole_folder`` takes all configurations,
    tokenizers and weights in the folder, however deep.
    """
    if whole_folder:
        suffixes = (".json", ".txt", ".safetensors", ".bin", ".model")
        paths = [path for path in sorted(files.folder.rglob("*")) if path.is_file() and path.suffix in suffixes]
        names = [path.relative_to(files.folder).as_posix() for path in paths]
    else:
        small = ("config.json", "adapter_config.json", "tokenizer.json", "preprocessor_config.json")
        paths = [path for name in small if (path := files.folder / name).is_file()] + files.weights()
        names = [path.name for path in paths]
    total = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        total.update(f"{name} {_file_digest(path, cache)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path, cache: Path) -> str:
    resolved = path.resolve()
    if resolved.parent.name == "blobs" and _SHA256_NAME.fullmatch(resolved.name):
        return resolved.name
    state = resolved.stat()
    if state.st_size < LARGE:
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
