"""Reading and writing Lance tables: merges by key, deletes by key, compaction. Knows columns, not their meaning.

Reads go through ``lance``, which imports in a fifth of the time of ``lancedb``; writes go through ``lancedb``, imported
when the first one happens. Both start threads of their own: a process that used them must not fork.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import lance
import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.store import durable
from clamr_cli.store.failures import failing_as_store_error, is_panic, is_passing
from clamr_cli.store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from clamr_cli.store.place import Place

BATCH_ROWS: Final = 64
"""Rows read at once: 64 moments of 2,048 vectors are 32 MiB."""

FRAGMENT_BYTES: Final = 8 << 20
"""What small fragments are joined up to. Larger ones are left alone, so no row is rewritten again and again."""

SMALL_FRAGMENTS: Final = 8
"""How many fragments smaller than that make compaction worth it."""

COMMITS_BETWEEN: Final = 64
"""Commits to one table before its small fragments are joined within a run: each commit writes a list of all fragments,
so ten thousand of them would cost gigabytes."""

READER_GRACE: Final = timedelta(minutes=1)
"""How long replaced data stays for readers that are still at it."""

PROBES: Final = 64
"""Partitions of an approximate index that are looked into for each vector of a query."""

REFINED: Final = 5
"""As many times the rows asked for are compared by their vectors: what the index says of multivectors is no MaxSim."""

CACHES: Final = {"index_cache_size_bytes": 32 << 20, "metadata_cache_size_bytes": 4 << 20}
"""What Lance may keep in memory, for reading and for writing each: by default it is gigabytes, which fill with the
manifests of a long run."""

_IDS_PER_FILTER: Final = 500


def literal(text: str) -> str:
    """A string as an SQL literal. Lance knows no backslash escapes: a doubled quote is all there is.

    Raises:
        StoreError: the text cannot be part of a key (a null byte or a lone surrogate).
    """
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise StoreError(f"{text!r} cannot be a key of the index")
    return "'" + text.replace("'", "''") + "'"


def one_of(column: str, values: Sequence[str]) -> str:
    """A filter for rows whose column holds one of the values; ``column`` is ours, ``values`` may be anything."""
    return f"{column} IN ({', '.join(map(literal, values))})" if values else "false"


def in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    """Values without repetition, as many at a time as one filter may name."""
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), _IDS_PER_FILTER):
        yield unique[start : start + _IDS_PER_FILTER]


class Tables:
    """The Lance tables of one place. Reads always see the newest version; threads may read while one writes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.uri = place.uri
        self._session = lance.Session(**CACHES)
        self._connection: Any = None
        self._handles: dict[str, Any] = {}
        self._commits: Counter[str] = Counter()
        self._good: dict[str, tuple[int, int]] = {}
        self._syncer = durable.Syncer()
        self._unsynced: set[str] = set()
        self._writing = threading.RLock()

    # --- reading ------------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the table is there.

        Raises:
            StoreError: the place cannot be reached, or holds something else.
        """
        folder = self._folder(name)
        try:
            if folder is not None and not folder.is_dir():
                return False
            self._newest(name)
        except ValueError as error:
            # Lance has no error type of its own for this.
            if "was not found" in str(error):
                return False
            with failing_as_store_error("read", self.uri, name):
                raise
        except (OSError, RuntimeError):
            with failing_as_store_error("read", self.uri, name):
                raise
        return True

    def dataset(self, name: str) -> Any:  # noqa: ANN401
        """The newest version of a table that can be read, to read from."""
        with failing_as_store_error("read", self.uri, name):
            return self._newest(name)

    def set_back(self, name: str) -> bool:
        """Whether the newest version of a table cannot be read, so that reads see one before it."""
        if self._folder(name) is not None:
            self.dataset(name)
        newest, good = self._good.get(name, (0, 0))
        return good < newest

    def _newest(self, name: str) -> Any:  # noqa: ANN401
        folder = self._folder(name)
        found = [] if folder is None else durable.versions(folder)
        if not found:
            return lance.dataset(self._address(name), session=self._session)
        newest = found[0][0]
        known, good = self._good.get(name, (0, 0))
        if known == newest:
            version = None if good == newest else good
            return lance.dataset(self._address(name), version=version, session=self._session)
        reason: BaseException = ValueError(f"no manifest of the table {name} is whole")
        # Lance takes a manifest full of zeros for an empty table.
        for number, _ in filter(lambda version: durable.is_whole(version[1]), found):
            try:
                data = self._at(name, None if number == newest else number)
            except ValueError as error:
                reason = error
                continue
            if data.version >= number:
                self._good[name] = newest, number
                return data
        raise reason

    def _at(self, name: str, version: int | None) -> Any:  # noqa: ANN401
        """A version of a table, the newest where None.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return lance.dataset(self._address(name), version=version, session=self._session)
        except BaseException as error:
            if is_panic(error):
                raise ValueError(str(error)) from error
            raise

    def read(self, name: str, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """The rows of a table that pass a filter made by :func:`one_of`, in no particular order."""
        data = self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            table = data.to_table(columns=list(columns), filter=where)
            # A flipped bit in the data must not become text that cannot be decoded.
            table.validate(full=True)
            return table

    def batches(
        self,
        name: str,
        columns: Sequence[str],
        where: str | None = None,
        *,
        data: lance.LanceDataset | None = None,
        fragments: Sequence[lance.LanceFragment] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Like :meth:`read`, a few rows at a time: :data:`BATCH_ROWS` and a short read-ahead bound the memory.

        Args:
            name: of the table.
            columns: to read.
            where: made by :func:`one_of`.
            data: a version of the table, the newest where None.
            fragments: of that version, all where None.
        """
        data = data or self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            scanner = data.scanner(
                columns=list(columns),
                filter=where,
                fragments=fragments,
                batch_size=BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=2,
            )
            batches = iter(scanner.to_batches() if fragments is None or fragments else [])
        while True:
            with failing_as_store_error("read", self.uri, name):
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            if batch.num_rows:
                yield batch

    def version(self, name: str) -> int:
        """A number that changes with every write to a table."""
        return int(self.dataset(name).version)

    def count(self, name: str, where: str | None = None) -> int:
        """How many rows pass a filter."""
        data = self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            return int(data.count_rows(where))

    def matching_text(self, name: str, column: str, key: str, text: str, limit: int) -> list[tuple[str, float]]:
        """Keys and scores (BM25) of rows whose text holds words of ``text``, best first; it is no query language."""
        data = self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            found = data.to_table(
                columns=[key, "_score"], full_text_query={"columns": [column], "query": text}, limit=limit
            )
        scores, keys = found.column("_score").to_pylist(), found.column(key).to_pylist()
        return sorted(zip(keys, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))

    def has_index(self, name: str, column: str) -> bool:
        """Whether a column has an index."""
        data = self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            return any(column in index.field_names for index in data.describe_indices())

    def nearest(
        self, name: str, column: str, key: str, query: Sequence[Sequence[float]], where: str, limit: int
    ) -> list[str]:
        """Keys of rows whose multivector an index has near a query's, in no particular order; of about ``limit``."""
        data = self.dataset(name)
        with failing_as_store_error("read", self.uri, name):
            found = data.scanner(
                columns=[key, "_distance"],
                filter=where,
                prefilter=True,
                nearest={
                    "column": column,
                    "q": query,
                    "k": limit,
                    "metric": "cosine",
                    "nprobes": PROBES,
                    "refine_factor": REFINED,
                },
            ).to_table()
        return list(found.column(key).to_pylist())

    # --- writing: the caller holds the writer lock --------------------------------------------------------------------

    def create(self, name: str, schema: pa.Schema) -> None:
        """Make an empty table."""
        with self._writing, failing_as_store_error("create", self.uri):
            self._handles[name] = self._connect().create_table(name, schema=schema)
            self._unsynced.add(name)

    def add_column(self, name: str, field: pa.Field) -> None:
        """Add a column to a table of an older clamr, empty in all rows that it has; nothing where it is there."""
        with self._writing:
            data = self.dataset(name)
            if field.name not in data.schema.names:
                with failing_as_store_error("write", self.uri):
                    data.add_columns(field)
                self._unsynced.add(name)

    def drop_unreadable(
        self, name: str, columns: Sequence[str] | None = None, look: Callable[[pa.RecordBatch], None] | None = None
    ) -> int:
        """Take the fragments that cannot be read out of a table, with all of their rows; how many went.

        Args:
            name: of the table.
            columns: to read, all where None.
            look: called with all rows that can be read, some at a time.
        """
        data = self.dataset(name)
        unreadable: list[int] = []
        for fragment in data.get_fragments():
            try:
                with failing_as_store_error("read", self.uri, name):
                    for batch in data.scanner(
                        columns=columns, fragments=[fragment], batch_size=BATCH_ROWS
                    ).to_batches():
                        batch.validate(full=True)
                        if look is not None:
                            look(batch)
            except StoreError as error:
                if is_passing(error):
                    raise
                unreadable.append(fragment.fragment_id)
        if unreadable:
            with self._writing:
                with failing_as_store_error("write", self.uri):
                    gone = lance.LanceOperation.Delete([], unreadable, "damaged")
                    lance.LanceDataset.commit(data, gone, read_version=data.version)
                self._committed(name)
        return len(unreadable)

    def sync(self) -> None:
        """Force what was written since the last time to the disk; nothing where the index is remote."""
        with self._writing, failing_as_store_error("write", self.uri):
            folders = [self._folder(name) for name in sorted(self._unsynced)]
            self._syncer.sync([folder for folder in folders if folder is not None])
            self._unsynced.clear()

    def repair(self, names: Iterable[str]) -> dict[str, datetime | None]:
        """Set aside the newest versions of tables as far as they cannot be read. The caller holds the writer lock.

        Returns:
            The tables that lost any, and when the version was written that is the newest now; None where the lost one
            was put back from its copy.

        Raises:
            StoreError: a manifest cannot be moved.
        """
        lost: dict[str, datetime | None] = {}
        for name in names:
            folder = self._folder(name)
            if folder is None or not (found := durable.versions(folder)):
                continue
            with failing_as_store_error("repair", self.uri):
                good = next((number for number, manifest in found if self._is_good(name, number, manifest)), 0)
                bad = [manifest for number, manifest in found if number > good]
                # Without any good version nothing is moved that may be read in part.
                last = any(durable.is_whole(manifest) for manifest in bad)
                if not bad or (not good and (last or not (durable.has_copy(folder) or _is_empty(folder)))):
                    continue
                for manifest in bad:
                    durable.set_aside(folder.parent, manifest)
                lost[name] = None
                if not durable.restore(folder, good) and good:
                    lost[name] = lance.dataset(self._address(name), version=good).versions()[-1]["timestamp"]
            self._good.pop(name, None)
            self._handles.pop(name, None)
        return lost

    def _is_good(self, name: str, number: int, manifest: Path) -> bool:
        if not durable.is_whole(manifest):
            return False
        try:
            data = self._at(name, number)
        except ValueError as error:
            if "os error" in str(error):
                raise
            return False
        return int(data.version) == number and durable.has_its_files(manifest.parent.parent, data)

    def upsert(self, name: str, rows: pa.Table) -> None:
        """Insert rows, replacing those of the same key, in one commit. Of rows of one key the last counts."""
        rows = _last_of_each_key(rows, KEYS[name])
        if not rows.num_rows:
            return
        with self._writing:
            table = self._handle(name)
            with failing_as_store_error("write", self.uri):
                # An index over the key may lag behind the rows, and a row it misses would be doubled.
                merge = table.merge_insert(list(KEYS[name])).when_matched_update_all().when_not_matched_insert_all()
                merge.use_index(False).execute(rows)
            self._committed(name)

    def delete(self, name: str, column: str, values: Iterable[str], where: str = "true") -> None:
        """Delete the rows whose column holds one of the values, of those that pass a filter of :func:`one_of`."""
        for part in in_parts(values):
            with self._writing:
                table = self._handle(name)
                with failing_as_store_error("write", self.uri):
                    table.delete(f"{one_of(column, part)} AND {where}")
                self._committed(name)

    def index_text(self, name: str, column: str) -> None:
        """Build the full-text index of a column, or bring it up to date. Words of all scripts, as they are written."""
        with self._writing:
            self._unsynced.add(name)
            if self.has_index(name, column):
                data = self.dataset(name)
                with failing_as_store_error("write", self.uri):
                    data.optimize.optimize_indices()
                return
            from lancedb.index import FTS

            table = self._handle(name)
            with failing_as_store_error("write", self.uri):
                config = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False)
                table.create_index(column, config=config)

    def index_vectors(self, name: str, column: str) -> None:
        """Build the approximate index of a column of multivectors, or bring it up to date."""
        with self._writing:
            self._unsynced.add(name)
            if self.has_index(name, column):
                data = self.dataset(name)
                with failing_as_store_error("write", self.uri):
                    data.optimize.optimize_indices()
                return
            from lancedb.index import IvfRq

            table = self._handle(name)
            with failing_as_store_error("write", self.uri):
                # Multivectors can be compared by their cosine only.
                table.create_index(column, config=IvfRq(distance_type="cosine"))

    def compact(self, name: str) -> None:
        """Join small fragments, if there are enough of them."""
        with self._writing:
            data = self.dataset(name)
            with failing_as_store_error("write", self.uri):
                sizes = [
                    (fragment.num_rows, sum(file.file_size_bytes or 0 for file in fragment.files))
                    for fragment in (fragment.metadata for fragment in data.get_fragments())
                ]
                rows, size = (sum(column) for column in zip(*sizes, strict=True)) if sizes else (0, 0)
                row_bytes = max(1, size // max(1, rows))
                target = max(1, FRAGMENT_BYTES // row_bytes)
                if sum(count < target for count, _ in sizes) >= SMALL_FRAGMENTS:
                    self._unsynced.add(name)
                    data.optimize.compact_files(
                        target_rows_per_fragment=target, batch_size=min(1024, max(1, target // 8)), num_threads=1
                    )

    def forget_versions(self, name: str, grace: timedelta) -> None:
        """Remove replaced data and what killed writers left. Only the holder of the writer lock can know it is dead."""
        with self._writing:
            data = self.dataset(name)
            with failing_as_store_error("write", self.uri):
                data.cleanup_old_versions(older_than=grace, delete_unverified=True)

    def _committed(self, name: str) -> None:
        self._unsynced.add(name)
        self._commits[name] += 1
        if self._commits[name] % COMMITS_BETWEEN == 0:
            self.compact(name)
            self.sync()
            self.forget_versions(name, READER_GRACE)

    def _connect(self) -> Any:  # noqa: ANN401
        if self._connection is None:
            import lancedb

            self._connection = lancedb.connect(self.uri, session=lancedb.Session(**CACHES))
        return self._connection

    def _handle(self, name: str) -> Any:  # noqa: ANN401
        with failing_as_store_error("write", self.uri):
            if name not in self._handles:
                self._handles[name] = self._connect().open_table(name)
            # Compaction writes through another library, and so may another process have done.
            self._handles[name].checkout_latest()
            return self._handles[name]

    def _folder(self, name: str) -> Path | None:
        return None if self.place.folder is None else self.place.folder / f"{name}.lance"

    def _address(self, name: str) -> str:
        return f"{self.uri}/{name}.lance"


def _is_empty(table: Path) -> bool:
    """Whether a table has no data at all: its creation was cut off."""
    return not any((table / "data").glob("*"))


def _last_of_each_key(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Without this two rows of one key in one batch would both be inserted."""
    names = list(zip(*(rows.column(column).to_pylist() for column in key), strict=True))
    last = {name: number for number, name in enumerate(names)}
    return rows if len(last) == len(names) else rows.take(pa.array(sorted(last.values())))
