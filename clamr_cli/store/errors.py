"""Errors of LanceDB, Arrow and the system as errors that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clamr_cli.errors import StoreError, shortage

_SOURCE_PLACE: Final = re.compile(r",? ?(?:/|[A-Za-z]:\\)\S*\.rs:\d+(?::\d+)?")
_WRAPPERS: Final = re.compile(r"^(?:lance error: |LanceError\(\w+\): )+")
_HINTS: Final = (
    (re.compile(r"no space left|os error 28\b|quota exceeded|os error 122\b", re.IGNORECASE),
     "free some disk space and run the command again; what was finished is kept"),
    (re.compile(r"file too large|os error 27\b", re.IGNORECASE),
     "the file system or a limit forbids files this large; put the index elsewhere with --db DIR"),
    (re.compile(r"permission denied|read-only file system|os error (?:1|13|30)\b", re.IGNORECASE),
     "check who may read and write that folder, or choose another with --db DIR"),
    (re.compile(r"not a directory|file exists|os error (?:17|20)\b", re.IGNORECASE),
     "an index is a folder; choose another with --db DIR"),
    (re.compile(r"Generic (?:S3|GCS|MicrosoftAzure|HTTP) error|credential", re.IGNORECASE),
     "check the address, the credentials and the network"),
)  # fmt: skip
_INTERRUPTED: Final = "External error: KeyboardInterrupt"

_AGAIN: Final = "run the command again; if it stays, "
_DAMAGED: Final = _AGAIN + "build the index anew in another place with --db DIR"
_DAMAGED_TABLES: Final = {
    "vectors": _AGAIN + "clamr index --encoder NAME makes damaged vectors anew",
    **dict.fromkeys(("files", "videos", "moments"), _AGAIN + "clamr index DIR makes what is damaged anew"),
}


def as_store_error(doing: str, uri: str, error: BaseException, table: str = "") -> StoreError:
    """A :class:`StoreError` for an error of LanceDB, Arrow or the system.

    Args:
        doing: what failed, e.g. ``read`` or ``write``.
        uri: of the index.
        error: the cause.
        table: its name, where it matters for what to do.
    """
    text = _SOURCE_PLACE.sub("", str(error)).strip() or type(error).__name__
    text = _WRAPPERS.sub("", text).splitlines()[0]
    short = shortage(text)
    damaged = _DAMAGED_TABLES.get(table, _DAMAGED)
    hint = short[1] if short else next((hint for pattern, hint in _HINTS if pattern.search(text)), damaged)
    return StoreError(f"cannot {doing} the index at {uri} ({text[:300]})", hint)


def is_damage(error: StoreError) -> bool:
    """Whether an error is of what is stored, and not of the system, as a refusal or a limit."""
    return error.hint in (_DAMAGED, *_DAMAGED_TABLES.values())


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust, which has no public type: damaged files can cause one."""
    return type(error).__name__ == "PanicException"


@contextmanager
def store_errors(doing: str, uri: str, table: str = "") -> Iterator[None]:
    """Raise errors of storage libraries as :class:`StoreError`. Wrap calls to them, nothing else.

    An interruption that met them while they called Python comes back as an error of theirs, and is one again here.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, (OSError, ValueError, RuntimeError)) and not is_panic(error):
            raise
        if _WRAPPERS.sub("", str(error)).startswith(_INTERRUPTED):
            raise KeyboardInterrupt from error
        raise as_store_error(doing, uri, error, table) from error
