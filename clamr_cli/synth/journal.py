"""The file of queries: written line by line, read again by the next run, which goes on where this one stopped.

Beside ``FILE`` lies ``FILE.rejected``, which has a line for each query that was dropped or failed, with the reason:
what was dropped is not asked for again under the same settings, what failed is.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from clamr_cli.journal import append, exclusive, opened, whole_lines
from clamr_cli.queries import parse_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from clamr_cli.queries import LabelledQuery

_KIND: Final = "queries"


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
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as held:
            if self.path is not None:
                held.enter_context(exclusive(self.path))
                self._read(self.path)
                self._streams = [held.enter_context(opened(self.path, _KIND))]
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams = []
        self._held.__exit__(kind, error, trace)

    @property
    def finished(self) -> set[str]:
        """Ids of the queries that the file held."""
        return {query.id for query in self.kept}

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a query. It is on its way to the disk when this returns: a killed run loses nothing that it wrote."""
        if self._streams:
            append(self._streams[0], record)

    def reject(self, record: Mapping[str, Any]) -> None:
        """Add a query that was dropped or failed; the file for them comes with the first.

        Raises:
            UsageError: that file cannot be written.
        """
        if self.path is not None and len(self._streams) == 1:
            self._streams.append(self._held.enter_context(opened(rejects(self.path), _KIND)))
        if self._streams:
            append(self._streams[1], record, ascii_only=True)

    def _read(self, path: Path) -> None:
        lines = whole_lines(path, _KIND)
        self.kept = parse_lines(lines, path.name)
        self.setups = {record["id"]: setup_of(record) for record in map(json.loads, filter(str.strip, lines))}
        for line in whole_lines(rejects(path), _KIND):
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
