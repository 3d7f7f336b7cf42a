"""The tables of an index: where they lie, their columns, and how they are read and changed.

Every row keeps its value whole in ``record``, as JSON in ASCII: that carries lone surrogates, which Arrow's UTF-8
columns cannot. The other columns repeat what is searched, filtered or joined by; a file name that is no UTF-8 lives in
``path`` as bytes.

Reads go through ``lance``, which imports in a fifth of the time of ``lancedb``; writes go through ``lancedb``, imported
when the first one happens. Both start threads of their own: a process that used them must not fork. Lance gives a
version of a table its name in one step, but forces nothing to the disk: after a power cut the newest manifest may be
empty, and so may files that it names. So the files of commits are forced to the disk, and versions that cannot be read
are told from those that can.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import struct
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote, urlparse

import lance
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clamr_cli.errors import StoreError, shortage
from clamr_cli.files import locked, sync_file, sync_folder, write_atomically
from clamr_cli.locations import RemoteError, lance_options, missing_bucket
from clamr_cli.types import DIMENSION

Record = TypeVar("Record")

SCHEMA_VERSION: Final = 1

META, FILES, VIDEOS, MOMENTS, VECTORS, EXTRACTIONS = "meta", "files", "videos", "moments", "vectors", "extractions"

SUMS: Final = pa.field("sums", pa.list_(pa.uint64(), 3))
"""Checksums of a row of vectors: Lance's files have none. Null in rows of an older clamr."""


def _key(name: str) -> pa.Field:
    """A column of the primary key. The mark makes LanceDB refuse commits that would double a row."""
    return pa.field(name, pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


_FACTS: Final = (("title", pa.string()), ("uploader", pa.string()), ("date", pa.string()), ("language", pa.string()),
                 ("duration", pa.float64()))  # fmt: skip

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    META: pa.schema([_key("name"), ("value", pa.string())]),
    FILES: pa.schema(
        [_key("key"), ("path", pa.binary()), ("display", pa.string()), ("video_id", pa.string()),
         ("state", pa.string()), ("record", pa.string())]
    ),
    VIDEOS: pa.schema([_key("video_id"), ("content_hash", pa.string()), *_FACTS, ("record", pa.string())]),
    MOMENTS: pa.schema(
        [_key("moment_id"), ("video_id", pa.string()), ("start", pa.float64()), ("end", pa.float64()), *_FACTS,
         ("text", pa.string()), ("record", pa.string())]
    ),
    VECTORS: pa.schema(
        [_key("moment_id"), _key("fingerprint"), ("encoder", pa.string()), ("dimension", pa.int32()),
         ("count", pa.int32()), ("vectors", pa.list_(pa.list_(pa.float16(), DIMENSION))),
         ("modality", pa.list_(pa.uint8())), ("spans", pa.list_(pa.list_(pa.float32(), 2))),
         ("segments", pa.list_(pa.int32())), ("offsets", pa.list_(pa.list_(pa.int32(), 2))),
         ("input_ids", pa.list_(pa.int32())), SUMS]
    ),
    EXTRACTIONS: pa.schema(
        [_key("digest"), ("key", pa.string()), ("payload", pa.string()), ("blobs", pa.list_(pa.large_binary()))]
    ),
}  # fmt: skip

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(field.name for field in schema if not field.nullable) for name, schema in SCHEMAS.items()
}
"""The primary key of each table."""

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

VERSIONS: Final = "_versions"

_NAME: Final = re.compile(r"(\d+)\.manifest")
_COUNTING_DOWN: Final = 20
"""Digits of the names that count down, so that the newest is listed first; older tables count up from 1."""

MAGIC: Final = b"LANC"
_FOOTER: Final = struct.Struct("<QHH4s")
_SYNCED: Final = ("data", "_deletions", "_indices", VERSIONS)
"""The folders of a table without which it cannot be read; what is noted of its transactions is only for writers that
meet, of which there are none."""

_THREADS: Final = 8
"""Files forced to the disk at once: the file system does several in the time of one."""

LOCK_NAME: Final = "writer.lock"
"""The file beside the tables whose lock the one writer holds."""

HOLDER_NAME: Final = "writer.json"
"""The note beside it that says who the writer is."""

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
    (re.compile(r"Generic (?:S3|GCS|MicrosoftAzure|HTTP) error|credential|necessary privileges", re.IGNORECASE),
     "check the address, the credentials and the network"),
)  # fmt: skip
_INTERRUPTED: Final = "External error: KeyboardInterrupt"

_AGAIN: Final = "run the command again; if it stays, "
_DAMAGED: Final = _AGAIN + "build the index anew in another place with --db DIR"
_DAMAGED_TABLES: Final = {
    "vectors": _AGAIN + "clamr index --encoder NAME makes damaged vectors anew",
    **dict.fromkeys(("files", "videos", "moments"), _AGAIN + "clamr index DIR makes what is damaged anew"),
}


# --- values -----------------------------------------------------------------------------------------------------------


def dump(value: object) -> str:
    """A value as ASCII JSON."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=True, separators=(",", ":"))


def load(kind: type[Record], text: str) -> Record:
    """A value from its JSON. Fields that are missing take their defaults, unknown ones are passed over.

    Raises:
        StoreError: the text is not such a value.
    """
    try:
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, msgspec.ValidationError) as error:
        raise StoreError(f"the index holds a damaged {kind.__name__} ({error})", "index its folder again") from error


def moment_order(moment_id: str) -> tuple[str, int, str]:
    """Sort key of moments: their video, then their number."""
    video_id, _, number = moment_id.partition("#")
    return video_id, int(number) if number.isdecimal() else 0, number


def digest(text: str, size: int = 16) -> str:
    """A key made of hexadecimal digits for any text, equal for equal texts only, of ``size`` bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def readable(text: str) -> str:
    """Text without lone surrogates, for columns that are only searched and shown."""
    return text.encode("utf-8", "replace").decode()


_OTHER_FORM: Final = "[^\\x00-\\x7f\u0370-\u05ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
"""Characters that may stand for a letter of ASCII, or beside it: with accents, wide ones, marks, invisible ones."""

_COMPARED: Final = 30
"""Letters of a word that are looked for: a pattern of thousands is too large for RE2."""

_SEVERAL: Final = (
    "[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\u2100-\u24ff\u3200-\u33ff\ufb00-\ufb06\U0001f100-\U0001f2ff]"
)
"""Signs that stand for several letters; few texts have one."""

_AS_OTHERS: Final = {"\u00df": "ss", "\u0153": "oe", "\u00e6": "ae", "\u0131": "i", "\u03c2": "\u03c3"}
"""Letters that are compared as others, though no normal form makes them so."""

_LIKE_OTHERS: Final = re.compile("[0-9\u0590-\u0dff]")
"""Letters and digits that people write for one another; those of ASCII are looked for in another way."""


def may_hold(texts: pa.Array, word: str) -> pa.Array:
    """Mask of the texts [n] that may hold a word without accents (:func:`clamr_cli.text.without_accents`) in any form.

    It is much quicker than :func:`clamr_cli.text.words_of`, and lets pass too many rather than too few.
    """
    if word.isascii():
        return pc.match_substring_regex(texts, _pattern(word[:_COMPARED]), ignore_case=True)
    if _LIKE_OTHERS.search(word):
        return pa.array(np.ones(len(texts), np.bool_))
    bare = pc.utf8_lower(pc.utf8_normalize(texts, "NFKD"))
    bare = pc.replace_substring_regex(bare, "[\\p{M}\\p{Cf}]+", "")
    for letter, others in _AS_OTHERS.items():
        bare = pc.replace_substring(bare, letter, others)
    letters = (letter for letter in unicodedata.normalize("NFKD", word) if unicodedata.category(letter)[0] != "M")
    return pc.match_substring(bare, "".join(letters))


@lru_cache(256)
def _pattern(word: str) -> str:
    """A pattern of RE2 for what a word of ASCII may look like in a text."""

    def letters(match: re.Match[str]) -> str:
        each = "".join(f"(?:{letter}|{_OTHER_FORM}){_OTHER_FORM}*" for letter in match[0])
        return f"(?:{each}|{_OTHER_FORM}+)" if len(match[0]) > 1 else each

    return f"{re.sub('ss|ae|oe|.', letters, word)}|{_SEVERAL}"


# --- errors -----------------------------------------------------------------------------------------------------------


def as_store_error(doing: str, uri: str, error: BaseException, table: str = "") -> StoreError:
    """A :class:`StoreError` for an error of LanceDB, Arrow or the system.

    Args:
        doing: what failed, e.g. ``read`` or ``write``.
        uri: of the index.
        error: the cause.
        table: its name, where it matters for what to do.
    """
    if "://" in uri:
        error = missing_bucket(str(error), "/".join(uri.split("/")[:3])) or error
    if isinstance(error, RemoteError):
        return StoreError(f"cannot {doing} the index at {uri} ({error.strerror})", error.hint)
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


# --- places and versions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Location:
    """Location of an index.

    Attributes:
        uri: of the database, for LanceDB.
        folder: the local folder, None for an object store.
        beside: the local folder for lock, notes and scan cache, None where none was given for an object store.
        prefix: of the names in it.
    """

    uri: str
    folder: Path | None
    beside: Path | None
    prefix: str = ""

    @classmethod
    def of(cls, uri: str | Path, lock_dir: Path | None = None) -> Location:
        """Tell a folder from an address. Addresses (``scheme://...``) pass through; ``file://`` is a folder.

        Raises:
            StoreError: LanceDB cannot work in a folder of this name.
        """
        text = str(uri)
        if text.startswith("file://"):
            return cls.of(Path(unquote(urlparse(text).path)), lock_dir)
        if "://" in text:
            text = text.rstrip("/")
            digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
            return cls(text, None, lock_dir, f"index-{digest}-")
        # Lance resolves relative paths by itself; a later chdir must not move the index.
        folder = Path(text).absolute()
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in str(folder)):
            # Lance cannot name its files there.
            raise StoreError(
                f"an index cannot lie in {str(folder)!r}", "choose a folder without control characters in its name"
            )
        return cls(str(folder), folder, folder)

    def file(self, name: str) -> Path | None:
        """The path of a file beside the tables, None where there is no folder for it."""
        return None if self.beside is None else self.beside / f"{self.prefix}{name}"

    def is_being_written(self) -> bool:
        """Whether somebody writes to the index, as far as this process can see; what a killed writer noted goes."""
        path, note = self.file(LOCK_NAME), self.file(HOLDER_NAME)
        if path is None or note is None or not path.exists():
            return False
        try:
            with locked(path, wait=False) as free:
                if free:
                    with suppress(OSError):
                        note.unlink(missing_ok=True)
                return not free
        except OSError:
            return True


def read_note(path: Path | None, kind: type[Record]) -> Record | None:
    """A note from its JSON file; None where it is absent, damaged or of another version."""
    try:
        # msgspec's own reader refuses the lone surrogates of odd file names.
        return None if path is None else msgspec.convert(json.loads(path.read_bytes()), kind)
    except (OSError, ValueError, msgspec.ValidationError):
        return None


def write_note(path: Path | None, note: object) -> None:
    """Replace a note. A disk that is full or read-only leaves the old one: notes are a courtesy."""
    if path is not None:
        with suppress(OSError):
            write_atomically(path, json.dumps(msgspec.to_builtins(note)).encode("ascii"), sync=False)


def versions_of(table: Path) -> list[tuple[int, Path]]:
    """The numbers of a table's versions and their manifests, newest first."""
    numbered: list[tuple[int, Path]] = []
    with suppress(OSError):
        numbered = [(version_number(entry.name), Path(entry.path)) for entry in os.scandir(table / VERSIONS)]
    return sorted((pair for pair in numbered if pair[0]), reverse=True)


def newest_version(table: Path) -> int:
    """The number of a table's newest version; 0 where there is none."""
    try:
        return max(map(version_number, os.listdir(table / VERSIONS)), default=0)
    except OSError:
        return 0


def version_number(name: str) -> int:
    """The number of the version of a manifest of this name; 0 for other files."""
    if not (digits := _NAME.fullmatch(name)):
        return 0
    return 2**64 - 1 - int(digits[1]) if len(digits[1]) == _COUNTING_DOWN else int(digits[1])


def is_whole(manifest: Path) -> bool:
    """Whether a manifest is neither empty, cut off nor overwritten: its footer, and the length of what it points to."""
    try:
        with manifest.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _FOOTER.size + 4:
                return False
            file.seek(size - _FOOTER.size)
            start, _, _, magic = _FOOTER.unpack(file.read(_FOOTER.size))
            if magic != MAGIC or start + 4 > size - _FOOTER.size:
                return False
            file.seek(start)
            (length,) = struct.unpack("<I", file.read(4))
    except (FileNotFoundError, IsADirectoryError):
        return False
    return bool(0 < length <= size - _FOOTER.size - start - 4)


# --- the tables -------------------------------------------------------------------------------------------------------


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


class Guard(Protocol):
    """Says before each commit whether it may be made; StoreError where it may not."""

    def check(self) -> None:
        """Raise StoreError where another writer has taken over."""
        ...


class Tables:
    """The Lance tables of one location. Reads always see the newest version; threads may read while one writes."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.uri = location.uri
        self._session = lance.Session(**_CACHES)
        self._connection: Any = None
        self._keys: dict[str, str] | None = None
        self._handles: dict[str, Any] = {}
        self._commits: Counter[str] = Counter()
        # The number of the newest version of each table, and of the newest that can be read.
        self._good: dict[str, tuple[int, int]] = {}
        self._unsynced: set[str] = set()
        # The files of each table's folder that are on the disk for sure.
        self._synced: dict[Path, set[str]] = {}
        self._writing = threading.RLock()
        self._lease: Guard | None = None

    # --- reading ------------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the table is there."""
        folder = self.folder(name)
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
        if self.folder(name) is not None:
            self.dataset(name)
        newest, good = self._good.get(name, (0, 0))
        return good < newest

    def _newest(self, name: str) -> Any:  # noqa: ANN401
        folder = self.folder(name)
        newest = 0 if folder is None else newest_version(folder)
        if folder is None or not newest:
            return self.at(name, None)
        checked, good = self._good.get(name, (0, 0))
        if checked == newest:
            return self.at(name, None if good == newest else good)
        reason = ValueError(f"no manifest of the table {name} is whole")
        for number, manifest in versions_of(folder):
            # Lance takes a manifest full of zeros for an empty table.
            if is_whole(manifest):
                try:
                    data = self.at(name, None if number == newest else number)
                except ValueError as error:
                    reason = error
                    continue
                if data.version >= number:
                    self._good[name] = newest, number
                    return data
        raise reason

    def at(self, name: str, version: int | None) -> Any:  # noqa: ANN401
        """A version of a table, the newest where None; ValueError where it cannot be read."""
        try:
            return lance.dataset(
                f"{self.uri}/{name}.lance",
                version=version,
                session=self._session,
                storage_options=lance_options(self.uri),
            )
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
        return [value for (value,) in self.columns(name, [column], by, values)]

    def columns(
        self, name: str, columns: Sequence[str], by: str = "", values: Iterable[str] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Like :meth:`column`, a tuple of several columns for each row."""
        for where in [None] if values is None else [one_of(by, part) for part in in_parts(values)]:
            table = self.read(name, columns, where)
            yield from zip(*(table.column(column).to_pylist() for column in columns), strict=True)

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
    def guarded(self, lease: Guard | None) -> Iterator[None]:
        """Look at a lease before every commit of the block."""
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None

    def _guard(self) -> None:
        if self._lease is not None:
            self._lease.check()

    @contextmanager
    def _changing(self, name: str) -> Iterator[Any]:
        """A table to change through ``lance``."""
        with self._writing:
            self._guard()
            data = self.dataset(name)
            self._unsynced.add(name)
            with store_errors("write", self.uri):
                yield data

    @contextmanager
    def _committing(self, name: str) -> Iterator[Any]:
        """A table to change through ``lancedb``."""
        with self._writing, store_errors("write", self.uri):
            self._guard()
            connection = self.connect()
            if name not in self._handles:
                self._handles[name] = connection.open_table(name)
            # Compaction writes through another library, and so may another process have done.
            self._handles[name].checkout_latest()
            self._unsynced.add(name)
            yield self._handles[name]

    def connect(self) -> Any:  # noqa: ANN401
        """The connection to write through, made anew where the keys of a bucket are others now."""
        keys = lance_options(self.uri)
        if self._connection is None or keys != self._keys:
            import lancedb

            self._connection = lancedb.connect(self.uri, session=lancedb.Session(**_CACHES), storage_options=keys)
            self._keys = keys
            self._handles.clear()
        return self._connection

    def create(self, name: str, schema: pa.Schema) -> None:
        """Make an empty table."""
        with self._writing, store_errors("create", self.uri):
            self._handles[name] = self.connect().create_table(name, schema=schema)
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

    def append(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Append rows whose keys the table does not have, in one commit; they are taken a batch at a time."""
        batches = iter(batches)
        if (first := next(batches, None)) is None:
            return
        with self._committing(name) as table:
            table.add(pa.RecordBatchReader.from_batches(schema, itertools.chain([first], batches)))
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
        """Force what was written since the last time to the disk: data and deletions, then manifests, then folders."""
        with self._writing, store_errors("write", self.uri):
            data: list[str] = []
            manifests: list[str] = []
            changed: set[Path] = set()
            for table in (folder for name in sorted(self._unsynced) if (folder := self.folder(name)) is not None):
                # The hint of the newest version is replaced with every version under one name.
                present = {
                    os.path.join(folder, file)
                    for name in _SYNCED
                    for folder, _, files in os.walk(table / name)
                    for file in files
                    if not file.endswith(".json")
                }
                for path in sorted(present - self._synced.get(table, set())):
                    (manifests if path.endswith(".manifest") else data).append(path)
                    changed.add(Path(path).parent)
                if table not in self._synced:
                    changed |= {table, table.parent}
                self._synced[table] = present
            with ThreadPoolExecutor(_THREADS) as pool:
                for paths in (data, manifests):
                    list(pool.map(sync_file, paths))
                list(pool.map(sync_folder, changed))
            self._unsynced.clear()

    def _tidy(self, name: str) -> None:
        """Join small fragments and forget old versions after some commits."""
        with self._writing:
            self._commits[name] += 1
            if self._commits[name] % COMMITS_BETWEEN == 0:
                self.compact(name)
                self.sync()
                self.forget_versions(name, READER_GRACE)

    def forget_state(self, name: str) -> None:
        """Forget what is known of a table whose files were changed by others."""
        self._good.pop(name, None)
        self._handles.pop(name, None)

    def folder(self, name: str) -> Path | None:
        """The folder of a local table, None where the index is remote."""
        return None if self.location.folder is None else self.location.folder / f"{name}.lance"


def read_version(tables: Tables) -> int | None:
    """The version of the tables, None where there is no index (or one whose creation was cut off)."""
    if not tables.exists(META):
        return None
    if not {"name", "value"} <= set(tables.dataset(META).schema.names):
        raise StoreError(f"the tables at {tables.uri} are not an index of clamr", "choose another place with --db DIR")
    values = tables.column(META, "value", "name", ["schema_version"])
    if not values and tables.is_behind(META):
        # The write that noted it is what was lost.
        return SCHEMA_VERSION
    if not values:
        return None
    if not values[0].isdecimal():
        raise StoreError(f"the index at {tables.uri} has no readable version", "build it anew in another place")
    return int(values[0])
