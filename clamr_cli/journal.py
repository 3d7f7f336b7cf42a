"""Files of JSON lines that one run writes and the next one continues: whole lines survive a kill, and only they."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from clamr_cli.errors import UsageError
from clamr_cli.files import locked

_LINE_START: Final = b'{"id"'


class Journal:
    """Records in a file of JSON lines; without a path nothing is written.

    Use it as a context manager: within, no other run writes to the file. A line that a killed run left unfinished is
    cut off. A file that clamr did not write is refused and left as it is.

    Args:
        path: of the file, which appears with the first record; its folder must exist.
        kind: of the records, for messages: ``queries``.
        key: fields that every record has as strings; the first is ``id``, with which each line begins.
        ascii_only: escape all that is not ASCII, for texts whose control characters a terminal would obey.

    Attributes:
        records: what the file held when it was opened.

    Raises:
        UsageError: the file holds something else, cannot be read or written, or another run writes to it.
    """

    def __init__(self, path: Path | None, kind: str, key: Sequence[str], *, ascii_only: bool = False) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._kind, self._key, self._ascii_only = kind, key, ascii_only
        self._stream: IO[bytes] | None = None
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        with ExitStack() as resources:
            try:
                resources.enter_context(_exclusive(self.path))
                if self.path.exists():
                    self._stream = resources.enter_context(self.path.open("r+b"))
                    self._resume(self._stream)
            except OSError as error:
                raise self._unwritable(error) from error
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream = None
        self._resources.__exit__(kind, error, trace)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record. It is on its way to the disk when this returns: a killed run loses nothing that it wrote."""
        if self.path is None:
            return
        try:
            if self._stream is None:
                self._stream = self._resources.enter_context(self.path.open("wb"))
            line = json.dumps(record, ensure_ascii=self._ascii_only)
            # A byte of a file name that is not UTF-8 is a lone surrogate, whose escape is JSON's own.
            self._stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _resume(self, stream: IO[bytes]) -> None:
        """Read the records, and leave the stream at the end of the last whole line."""
        content = stream.read()
        end = content.rfind(b"\n") + 1
        rest = content[end:]
        try:
            json.loads(rest)
            end = len(content)
        except (ValueError, RecursionError):
            if not (rest.startswith(_LINE_START) or _LINE_START.startswith(rest)):
                # Not the beginning of a line of ours.
                raise self._foreign() from None
        try:
            lines = content[:end].decode("utf-8").split("\n")
            self.records = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            raise self._foreign() from error
        for record in self.records:
            if not (isinstance(record, dict) and all(isinstance(record.get(name), str) for name in self._key)):
                raise self._foreign()
        stream.truncate(end)
        stream.seek(end)
        if end and content[end - 1 : end] != b"\n":
            stream.write(b"\n")

    def _foreign(self) -> UsageError:
        hint = "name another file with --out; this one is left as it is"
        return UsageError(f"{self.path} is not a file of {self._kind}", hint)

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"cannot write {self.path} ({error.strerror})", "name another file with --out")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """No other run writes to a file during the block."""
    lock_file = path.with_name(f".{path.name}.lock")
    with ExitStack() as locks:
        while True:
            if not locks.enter_context(locked(lock_file, wait=False)):
                raise UsageError(f"another run writes to {path}", "wait until it has finished, or name another file")
            # The run before may have removed it between our opening and our locking it.
            if lock_file.exists():
                break
        try:
            yield
        finally:
            lock_file.unlink(missing_ok=True)
