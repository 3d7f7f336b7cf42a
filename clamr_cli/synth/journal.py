"""The file of queries: written line by line, read again by the next run, which goes on where this one stopped.

Beside ``FILE`` lies ``FILE.rejected``, which has a line for each query that was dropped or failed, with the reason:
what was dropped is not asked for again under the same settings, what failed is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from filelock import FileLock, Timeout

from clamr_cli.errors import UsageError
from clamr_cli.queries import parse_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from clamr_cli.queries import LabelledQuery

_FIRST_KEY: Final = b'{"id"'


@dataclass(slots=True)
class Journal:
    """What is written, and what was written before. Without a path nothing is kept.

    Use it as a context; in it no other run writes to the same file.

    Attributes:
        path: of the JSONL file; its folder must exist.
        kept: the queries that the file held when it was opened.
        setups: how each of them was made, by id (``model``, ``seed`` and so on, as the line says).
        dropped: what was dropped before, as (id, setup).

    Raises:
        UsageError: the file holds something else, cannot be read or written, or another run writes to it.
    """

    path: Path | None = None
    kept: list[LabelledQuery] = field(default_factory=list)
    setups: dict[str, str] = field(default_factory=dict)
    dropped: set[tuple[str, str]] = field(default_factory=set)
    _streams: list[IO[bytes]] = field(default_factory=list)
    _lock: FileLock | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            self._acquire(self.path)
            try:
                self._read(self.path)
                self._streams = [opened(self.path)]
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def finished(self) -> set[str]:
        """Ids of the queries that the file held."""
        return {query.id for query in self.kept}

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a query. It is on its way to the disk when this returns: a killed run loses nothing that it wrote."""
        self._append(0, json.dumps(record, ensure_ascii=False))

    def reject(self, record: Mapping[str, Any]) -> None:
        """Add a query that was dropped or failed; the file for them comes with the first.

        Raises:
            UsageError: that file cannot be written.
        """
        if self.path is not None and len(self._streams) == 1:
            self._streams.append(opened(rejects(self.path)))
        # What a model said that was not cleaned may hold anything; in ASCII no terminal obeys it.
        self._append(1, json.dumps(record))

    def _append(self, which: int, line: str) -> None:
        if self._streams:
            # A byte of a file name that is no UTF-8 comes as a lone surrogate, whose escape is JSON's own.
            self._streams[which].write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._streams[which].flush()

    def _acquire(self, path: Path) -> None:
        lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UsageError(
                f"another run writes to {path}", "wait until it has finished, or name another file"
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from error
        self._lock = lock

    def _release(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _read(self, path: Path) -> None:
        lines = whole_lines(path)
        self.kept = parse_lines(lines, path.name)
        self.setups = {record["id"]: setup_of(record) for record in map(json.loads, filter(str.strip, lines))}
        for line in whole_lines(rejects(path)):
            try:
                record = json.loads(line)
                if record["outcome"] == "dropped":
                    self.dropped.add((str(record["id"]), setup_of(record)))
            except (ValueError, KeyError, TypeError):
                # Only a note for ourselves: without it the query is asked for once more.
                continue


def setup_of(record: Mapping[str, Any]) -> str:
    """How a query was made, in one text that is only compared."""
    return json.dumps([record.get(name) for name in ("model", "seed", "prompt", "temperature")])


def rejects(path: Path) -> Path:
    """The file beside a file of queries that tells of the others."""
    return path.with_name(f"{path.name}.rejected")


def whole_lines(path: Path) -> list[str]:
    """The lines of a JSONL file of ours, without one that a killed run left unfinished; none where there is no file.

    Raises:
        UsageError: it cannot be read, is no UTF-8, or ends in something that this program did not begin.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror})", "name another file with --out") from error
    whole = content[: end_of_whole_lines(content, path)]
    try:
        return whole.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _foreign(path) from error


def end_of_whole_lines(content: bytes, path: Path) -> int:
    """Where the last whole line of a file ends, in bytes.

    Raises:
        UsageError: see :func:`whole_lines`.
    """
    end = content.rfind(b"\n") + 1
    rest = content[end:]
    if not rest.strip() or _is_object(rest):
        return len(content)
    # Only what looks like the beginning of a line of ours may be cut off; anything else is somebody's file.
    if rest.startswith(_FIRST_KEY) or _FIRST_KEY.startswith(rest):
        return end
    raise _foreign(path)


def opened(path: Path) -> IO[bytes]:
    """A file of ours to add lines to, cut to its whole lines first.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        stream = path.open("r+b" if path.exists() else "w+b")
        content = stream.read()
        end = end_of_whole_lines(content, path)
        stream.truncate(end)
        stream.seek(end)
        if end and content[end - 1 : end] != b"\n":
            stream.write(b"\n")
        return stream
    except OSError as error:
        raise _unwritable(path, error) from error


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _foreign(path: Path) -> UsageError:
    return UsageError(f"{path} is no file of queries", "name another file with --out; this one is left as it is")


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write {path} ({error.strerror})", "name another file with --out")
