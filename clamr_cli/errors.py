"""Errors a user can act on: what happened, what to do, and the exit code.

Every error that clamr raises on purpose is a :class:`ClamrError`. The command line prints it as one line and exits with
its code; a library caller can catch it. Anything else that escapes is a defect.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_FOUND: Final = 0
EXIT_NOTHING: Final = 1
EXIT_USAGE: Final = 2
EXIT_PARTIAL: Final = 3
EXIT_INTERRUPTED: Final = 130


class ClamrError(Exception):
    """Something went wrong that the user can act on.

    Args:
        what: what happened, one plain sentence without a final period.
        hint: what to do about it; may be empty.
    """

    exit_code: ClassVar[int] = EXIT_USAGE

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what

    def __reduce__(self) -> tuple[type[ClamrError], tuple[str, str]]:
        # Errors cross process borders; the default would replay only `args`.
        return type(self), (self.what, self.hint)


class UsageError(ClamrError):
    """An option, id, filter or configuration value that cannot be used."""


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


class MissingExtra(ClamrError):
    """A feature needs an optional package.

    Args:
        feature: what was asked for.
        extra: the name of the extra that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package", f"pip install 'clamr-cli[{extra}]'")
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[type[ClamrError], tuple[str, str]]:
        return type(self), (self.feature, self.extra)


class EncoderMismatch(ClamrError):
    """The index holds no vectors of the encoder that was asked for, or vectors of another version of it."""
