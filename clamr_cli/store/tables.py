"""Reading and writing Lance tables: merges by key, deletes by key, compaction. Knows columns, not their meaning.

Reads go through ``lance``, which imports in a fifth of the time of ``lancedb``; writes go through ``lancedb``, imported
when the first one happens. Both start threads of their own: a process that used them must not fork.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import lance
import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.store import durable
from clamr_cli.store.errors import is_damage, is_panic, store_errors
from clamr_cli.store.location import Location
from clamr_cli.store.records import KEYS

# 64 moments of 2,048 vectors are 32 MiB.
BATCH_ROWS: Final = 64

# Small fragments are joined up to this size, where there are enough of them. Larger ones are left alone, so no row is
# rewritten again and again.
FRAGMENT_BYTES: Final = 8 << 20
SMALL_FRAGMENTS: Final = 8

# Commits to one table before its small fragments are joined within a run: each commit writes a list of all fragments,
# so ten thousand of them would cost gigabytes.
COMMITS_BETWEEN: Final = 64

READER_GRACE: Final = timedelta(minutes=1)
"""Replaced data stays so long for readers that are still at it."""

# For reading and for writing each: by default it is gigabytes, which fill with the manifests of a long run.
_CACHES: Final = {"index_cache_size_bytes": 32 << 20, "metadata_cache_size_bytes": 4 << 20}

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
    """The Lance tables of one location. Reads always see the newest version; threads may read while one writes."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.uri = location.uri
        self._session = lance.Session(**_CACHES)
        self._connection: Any = None
        self._handles: dict[str, Any] = {}
        self._commits: Counter[str] = Counter()
        # The number of the newest version of each table, and of the newest that can be read.
        self._good: dict[str, tuple[int, int]] = {}
        self._syncer = durable.Syncer()
        self._unsynced: set[str] = set()
        self._writing = threading.RLock()

    # --- reading ------------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the table is there."""
        folder = self._folder(name)
        with store_errors("read", self.uri, name):
            try:
                if folder is not None and not folder.is_dir():
                    return False
                self._newest(name)
            except ValueError as error:
                # Lance has no error type of its own for this.
                if "was not found" not in str(error):
                    raise
                return False
        return True

    def dataset(self, name: str) -> Any:  # noqa: ANN401
        """The newest version of a table that can be read, to read from."""
        with store_errors("read", self.uri, name):
            return self._newest(name)

    def is_behind(self, name: str) -> bool:
        """Whether the newest version of a table cannot be read, so that reads see one before it."""
        if self._folder(name) is not None:
            self.dataset(name)
        newest, good = self._good.get(name, (0, 0))
        return good < newest

    def _newest(self, name: str) -> Any:  # noqa: ANN401
        folder = self._folder(name)
        versions = [] if folder is None else durable.versions(folder)
        if not versions:
            return self._at(name, None)
        newest = versions[0][0]
        checked, good = self._good.get(name, (0, 0))
        if checked == newest:
            return self._at(name, None if good == newest else good)
        reason = ValueError(f"no manifest of the table {name} is whole")
        for number, manifest in versions:
            # Lance takes a manifest full of zeros for an empty table.
            if durable.is_whole(manifest):
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
        """A version of a table, the newest where None; ValueError where it cannot be read."""
        try:
            return lance.dataset(f"{self.uri}/{name}.lance", version=version, session=self._session)
        except BaseException as error:
            if is_panic(error):
                raise ValueError(str(error)) from error
            raise

    @contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        data = self.dataset(name)
        with store_errors("read", self.uri, name):
            yield data

    def read(self, name: str, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """The rows of a table that pass a filter made by :func:`one_of`, in no particular order."""
        with self._reading(name) as data:
            table = data.to_table(columns=list(columns), filter=where)
            # A flipped bit in the data must not become text that cannot be decoded.
            table.validate(full=True)
            return table

    def column(self, name: str, column: str, by: str = "", values: Iterable[str] | None = None) -> list[Any]:
        """One column of the rows whose column ``by`` holds one of the values; of all rows where ``values`` is None."""
        filters = [None] if values is None else [one_of(by, part) for part in in_parts(values)]
        return [value for where in filters for value in self.read(name, [column], where).column(column).to_pylist()]

    def batches(
        self,
        name: str,
        columns: Sequence[str],
        where: str | None = None,
        *,
        data: lance.LanceDataset | None = None,
        fragments: Sequence[lance.LanceFragment] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Like :meth:`read`, a few rows at a time, of given fragments of a given version, or all of the newest.

        Small batches and a short read-ahead bound the memory.
        """
        data = data or self.dataset(name)
        with store_errors("read", self.uri, name):
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
            with store_errors("read", self.uri, name):
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            if batch.num_rows:
                yield batch

    def count(self, name: str, where: str | None = None) -> int:
        """The number of rows that pass a filter."""
        with self._reading(name) as data:
            return int(data.count_rows(where))

    def matching_text(self, name: str, column: str, key: str, text: str, limit: int) -> list[tuple[str, float]]:
        """Keys and scores (BM25) of rows whose text holds words of ``text``, best first; it is no query language."""
        query = {"columns": [column], "query": text}
        with self._reading(name) as data:
            rows = data.to_table(columns=[key, "_score"], full_text_query=query, limit=limit)
        pairs = zip(rows.column(key).to_pylist(), rows.column("_score").to_pylist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def nearest(
        self, name: str, column: str, key: str, query: Sequence[Sequence[float]], where: str, limit: int
    ) -> list[str]:
        """Keys of rows whose multivector an index has near a query's, in no particular order; of about ``limit``."""
        nearest = {"column": column, "q": query, "k": limit, "metric": "cosine", "nprobes": 64}
        # What the index says of multivectors is no MaxSim: as many times the rows are compared by their vectors.
        nearest["refine_factor"] = 5
        with self._reading(name) as data:
            rows = data.scanner(columns=[key, "_distance"], filter=where, prefilter=True, nearest=nearest).to_table()
        return list(rows.column(key).to_pylist())

    def has_index(self, name: str, column: str) -> bool:
        """Whether a column has an index."""
        with self._reading(name) as data:
            return any(column in index.field_names for index in data.describe_indices())

    # --- writing: the caller holds the writer lock --------------------------------------------------------------------

    @contextmanager
    def _changing(self, name: str) -> Iterator[Any]:
        """A table to change through ``lance``."""
        with self._writing:
            data = self.dataset(name)
            self._unsynced.add(name)
            with store_errors("write", self.uri):
                yield data

    @contextmanager
    def _committing(self, name: str) -> Iterator[Any]:
        """A table to change through ``lancedb``."""
        with self._writing, store_errors("write", self.uri):
            if name not in self._handles:
                self._handles[name] = self._connect().open_table(name)
            # Compaction writes through another library, and so may another process have done.
            self._handles[name].checkout_latest()
            self._unsynced.add(name)
            yield self._handles[name]

    def _connect(self) -> Any:  # noqa: ANN401
        if self._connection is None:
            import lancedb

            self._connection = lancedb.connect(self.uri, session=lancedb.Session(**_CACHES))
        return self._connection

    def create(self, name: str, schema: pa.Schema) -> None:
        """Make an empty table."""
        with self._writing, store_errors("create", self.uri):
            self._handles[name] = self._connect().create_table(name, schema=schema)
            self._unsynced.add(name)

    def add_column(self, name: str, field: pa.Field) -> None:
        """Add a column to a table of an older clamr, empty in all rows that it has; nothing where it is there."""
        if field.name not in self.dataset(name).schema.names:
            with self._changing(name) as data:
                data.add_columns(field)

    def upsert(self, name: str, rows: pa.Table) -> None:
        """Insert rows, replacing those of the same key, in one commit. Of rows of one key the last counts."""
        if not rows.num_rows:
            return
        # Without this two rows of one key in one batch would both be inserted.
        keys = zip(*(rows.column(column).to_pylist() for column in KEYS[name]), strict=True)
        last = {key: number for number, key in enumerate(keys)}
        if len(last) < rows.num_rows:
            rows = rows.take(pa.array(sorted(last.values())))
        with self._committing(name) as table:
            # An index over the key may lag behind the rows, and a row it misses would be doubled.
            merge = table.merge_insert(list(KEYS[name])).when_matched_update_all().when_not_matched_insert_all()
            merge.use_index(False).execute(rows)
        self._tidy(name)

    def delete(self, name: str, column: str, values: Iterable[str], where: str = "true") -> None:
        """Delete the rows whose column holds one of the values, of those that pass a filter of :func:`one_of`."""
        for part in in_parts(values):
            with self._committing(name) as table:
                table.delete(f"{one_of(column, part)} AND {where}")
            self._tidy(name)

    def drop_unreadable(
        self, name: str, columns: Sequence[str] | None = None, look: Callable[[pa.RecordBatch], None] | None = None
    ) -> int:
        """Take the fragments that cannot be read out of a table, with all of their rows; returns their number.

        ``look`` is called with all rows that can be read, some at a time.
        """
        data = self.dataset(name)
        unreadable: list[int] = []
        for fragment in data.get_fragments():
            try:
                with store_errors("read", self.uri, name):
                    scanner = data.scanner(columns=columns, fragments=[fragment], batch_size=BATCH_ROWS)
                    for batch in scanner.to_batches():
                        batch.validate(full=True)
                        if look is not None:
                            look(batch)
            except StoreError as error:
                if not is_damage(error):
                    raise
                unreadable.append(fragment.fragment_id)
        if unreadable:
            with self._changing(name):
                change = lance.LanceOperation.Delete([], unreadable, "damaged")
                lance.LanceDataset.commit(data, change, read_version=data.version)
            self._tidy(name)
        return len(unreadable)

    def index(self, name: str, column: str) -> None:
        """Build the index of a column, of words or of multivectors, or bring it up to date."""
        if self.has_index(name, column):
            with self._changing(name) as data:
                data.optimize.optimize_indices()
            return
        from lancedb.index import FTS, IvfRq

        # Words of all scripts, as they are written. Multivectors can be compared by their cosine only.
        words = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False)
        with self._committing(name) as table:
            table.create_index(column, config=words if column == "text" else IvfRq(distance_type="cosine"))

    def compact(self, name: str) -> None:
        """Join small fragments, if there are enough of them."""
        with self._writing:
            with self._reading(name) as data:
                fragments = [fragment.metadata for fragment in data.get_fragments()]
            size = sum(file.file_size_bytes or 0 for fragment in fragments for file in fragment.files)
            rows = sum(fragment.num_rows for fragment in fragments)
            target = max(1, FRAGMENT_BYTES // max(1, size // max(1, rows)))
            if sum(fragment.num_rows < target for fragment in fragments) >= SMALL_FRAGMENTS:
                with self._changing(name) as data:
                    data.optimize.compact_files(
                        target_rows_per_fragment=target, batch_size=min(1024, max(1, target // 8)), num_threads=1
                    )

    def forget_versions(self, name: str, grace: timedelta) -> None:
        """Remove replaced data and what killed writers left. Only the holder of the writer lock can know it is dead."""
        with self._changing(name) as data:
            data.cleanup_old_versions(older_than=grace, delete_unverified=True)

    def sync(self) -> None:
        """Force what was written since the last time to the disk; nothing where the index is remote."""
        with self._writing, store_errors("write", self.uri):
            folders = [self._folder(name) for name in sorted(self._unsynced)]
            self._syncer.sync([folder for folder in folders if folder is not None])
            self._unsynced.clear()

    def _tidy(self, name: str) -> None:
        """Join small fragments and forget old versions after some commits."""
        with self._writing:
            self._commits[name] += 1
            if self._commits[name] % COMMITS_BETWEEN == 0:
                self.compact(name)
                self.sync()
                self.forget_versions(name, READER_GRACE)

    def repair(self, names: Iterable[str]) -> dict[str, datetime | None]:
        """Set aside the newest versions of tables as far as they cannot be read.

        Returns the tables that lost any, and when the version was written that is the newest now; None where the lost
        one was put back from its copy.
        """
        lost: dict[str, datetime | None] = {}
        for name in names:
            folder = self._folder(name)
            if folder is None or not (versions := durable.versions(folder)):
                continue
            with store_errors("repair", self.uri):
                good = next((number for number, manifest in versions if self._is_good(name, number, manifest)), 0)
                bad = [manifest for number, manifest in versions if number > good]
                # Without any good version nothing is moved that may be read in part.
                partly = any(durable.is_whole(manifest) for manifest in bad)
                restorable = durable.has_copy(folder) or not any((folder / "data").glob("*"))
                if not bad or (not good and (partly or not restorable)):
                    continue
                for manifest in bad:
                    durable.set_aside(folder.parent, manifest)
                lost[name] = None
                if not durable.restore(folder, good) and good:
                    lost[name] = self._at(name, good).versions()[-1]["timestamp"]
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

    def _folder(self, name: str) -> Path | None:
        return None if self.location.folder is None else self.location.folder / f"{name}.lance"
