"""Errors a user can act on: what happened, what to do, and the exit code.

Every error that clamr raises on purpose is a :class:`ClamrError`. The command line prints it as one line and exits with
its code; a library caller can catch it. Anything else that escapes is a defect.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from typing import ClassVar, Final

_DISTRIBUTION: Final = "clamr-cli"

EXIT_FOUND: Final = 0
EXIT_NOTHING: Final = 1
EXIT_USAGE: Final = 2
EXIT_PARTIAL: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_CODES: Final = {
    EXIT_FOUND: "found or done",
    EXIT_NOTHING: "nothing found",
    EXIT_USAGE: "wrong usage, configuration or an error",
    EXIT_PARTIAL: "some videos failed (the others are indexed)",
    EXIT_INTERRUPTED: "interrupted",
}


class ClamrError(Exception):
    """Something went wrong that the user can act on.

    Args:
        what: what happened, one plain sentence without a final period.
        hint: what to do about it; may be empty.
    """

    exit_code: ClassVar[int] = EXIT_USAGE

    def __init__(self, what: str, hint: str = "") -> None:
        # Errors cross process borders: an exception is made anew from these arguments.
        super().__init__(what, hint)
        self.what, self.hint = what, hint

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what


class UsageError(ClamrError):
    """An option, id, filter or configuration value that cannot be used."""


class UnknownVideo(UsageError):
    """An id that no video of the index has."""


class MediaError(ClamrError):
    """A file that cannot be read as a video; it is recorded and skipped, never fatal to a run."""

    exit_code = EXIT_PARTIAL


class Unreachable(MediaError):
    """A file that cannot be reached: its disk, its share or a permission is the reason, not its content."""


class StoreError(ClamrError):
    """The index cannot be opened, written or trusted."""


class IndexLocked(StoreError):
    """Another process holds the index's writer lock."""


class ModelError(ClamrError):
    """Weights are absent, damaged, incomplete or do not fit the code that loads them."""


class EncoderMismatch(ClamrError):
    """The index holds no vectors of the encoder that was asked for, or vectors of another version of it."""


class MissingExtra(ClamrError):
    """A feature needs an optional package.

    Args:
        feature: what was asked for.
        extra: the name of the extra that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package", pip_install(extra))
        self.args = (feature, extra)


def pip_install(extra: str = "", *options: str) -> str:
    """The command that installs clamr again, with an extra, from where it came: a folder, an archive or an index."""
    # Slow to import, and needed for hints alone.
    import json
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    source, editable = _DISTRIBUTION, False
    try:
        origin = json.loads(metadata.distribution(_DISTRIBUTION).read_text("direct_url.json") or "{}")
        url, git = str(origin.get("url", "")), origin.get("vcs_info")
        path = url2pathname(urlsplit(url).path) if url.startswith("file:") else ""
        if git:
            revision = git.get("requested_revision")
            source = f"{git['vcs']}+{url}" + (f"@{revision}" if revision else "")
        elif path and os.path.exists(path):
            source, editable = path, bool(origin.get("dir_info", {}).get("editable"))
        elif url.startswith("https:"):
            source = url
    except metadata.PackageNotFoundError:
        # Run from its folder, without an installation.
        tree = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        if os.path.isfile(os.path.join(tree, "pyproject.toml")):
            source = tree
    except (ValueError, TypeError, AttributeError, KeyError, OSError):
        pass
    name = f"[{extra}]" if extra else ""
    target = f"{_DISTRIBUTION}{name} @ {source}" if "://" in source else f"{source}{name}"
    return shlex.join(["pip", "install", *options, *(["-e"] if editable else []), target])


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, its class where it says nothing; 200 characters at most."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


_OPEN_FILES: Final = re.compile(r"too many open files|too many files are open|os error 24\b", re.IGNORECASE)
_MEMORY: Final = re.compile(
    r"can(?:no|')t allocate memory|out of memory|not enough memory|insufficient memory|bad_?alloc|unable to allocate"
    r"|memory allocation failed|failed to allocate|could ?n[o']t (?:allocate|create thread)|mmap failed|os error 12\b"
    r"|can(?:no|')t (?:start|spawn) (?:a )?new thread|failed to (?:spawn|create) (?:a )?(?:new )?thread"
    r"|pthread_create failed|failed to map segment from shared object(?!: operation not permitted)",
    re.IGNORECASE,
)
_GPU: Final = re.compile(r"\b(?:CUDA|MPS|HIP|GPU)\b")
MORE_FILES: Final = "raise the limit with: ulimit -n 4096"
MORE_MEMORY: Final = "close other programs, or raise the limit of memory if there is one (ulimit -v)"


def shortage(error: BaseException | str) -> tuple[str, str] | None:
    """The resource that the machine ran short of, and the remedy; None for any other error.

    Libraries say it in types and words of their own, and wrap each other's errors: the causes of an error count too.
    """
    chain: list[BaseException | str] = [error]
    while isinstance(last := chain[-1], BaseException) and (last.__cause__ or last.__context__) and len(chain) < 20:
        chain.append(last.__cause__ or last.__context__ or "")
    for link in chain:
        number = link.errno if isinstance(link, OSError) else None
        text = str(link)
        if number in (errno.EMFILE, errno.ENFILE) or _OPEN_FILES.search(text):
            return "too many files are open", MORE_FILES
        if isinstance(link, MemoryError) or number == errno.ENOMEM or _MEMORY.search(text):
            if _GPU.search(text):
                return "the GPU has not enough memory", "close other programs that use it, or run with --device cpu"
            return "not enough memory", MORE_MEMORY
    return None
