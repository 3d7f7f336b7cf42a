"""The file of results: a line for each question and strategy, read again by the next run, which does the rest.

What failed is tried again; what was answered under other settings, or to another question that had the same id, stays
and does not count.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from clamr_cli.lines import append, exclusive, foreign, opened, whole_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Record: TypeAlias = "dict[str, Any]"

_KIND: Final = "results"
FAILED: Final = "failed"


@dataclass(slots=True)
class Journal:
    """Results by question and strategy. Without a path they are kept for this run only.

    Use it as a context; in it no other run writes to the same file.

    Attributes:
        path: of the JSONL file; its folder must exist.
        setup: what this run's results depend on; results of other setups are passed over.
        marks: of the questions of this run by id, see :class:`~.items.Item`; results of others are passed over.

    Raises:
        UsageError: the file holds something else, cannot be read or written, or another run writes to it.
    """

    setup: str
    path: Path | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    others: int = 0
    _records: dict[tuple[str, str], Record] = field(default_factory=dict)
    _stream: IO[bytes] | None = None
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as held:
            if self.path is not None:
                held.enter_context(exclusive(self.path))
                self._read(self.path)
                self._stream = held.enter_context(opened(self.path, _KIND))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream = None
        self._held.__exit__(kind, error, trace)

    def settled(self, item: str, strategy: str) -> bool:
        """Whether there is a result that is no failure."""
        record = self._records.get((item, strategy))
        return record is not None and record["outcome"] != FAILED

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a result; its keys ``id`` and ``strategy`` say of what. A later one takes the place of an earlier one."""
        head = {"id": record["id"], "strategy": record["strategy"], "setup": self.setup}
        whole = {**head, "mark": self.marks.get(record["id"], ""), **record}
        self._records[whole["id"], whole["strategy"]] = whole
        if self._stream is not None:
            # What a model said may hold anything; in ASCII no terminal obeys it.
            append(self._stream, whole, ascii_only=True)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def _read(self, path: Path) -> None:
        for line in filter(str.strip, whole_lines(path, _KIND)):
            try:
                record = json.loads(line)
                key = (str(record["id"]), str(record["strategy"]))
                setup, _ = record["setup"], record["outcome"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise foreign(path, _KIND) from error
            if setup == self.setup and record.get("mark", "") == self.marks.get(key[0], record.get("mark", "")):
                self._records[key] = record
            else:
                self.others += 1
