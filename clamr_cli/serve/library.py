"""An index that stays open: its encoder, its mapped vectors and what was decoded are ready for the next question.

REST, MCP and the socket ask the same :class:`Library`. Each question reads the newest state of the index, whichever
process wrote it. Methods are safe in threads; :meth:`Library.call` runs them in a few, and refuses what would wait too
long.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from clamr_cli import terms
from clamr_cli.config import Settings
from clamr_cli.errors import ClamrError, UnknownVideo, UsageError
from clamr_cli.kernel import usable_threads
from clamr_cli.records import (
    EXPLANATION,
    HIT,
    TIMELINE,
    file_rows,
    partial_coverage,
    record,
    status_row,
    video_record,
)
from clamr_cli.selection import encoder_for
from clamr_cli.store import Store
from clamr_cli.types import Document, Encoder, EncoderInfo, Hit, SearchOptions, Segment, TokenVectors

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_REMEMBERED_QUERIES: Final = 256


class Busy(ClamrError):
    """So many requests wait already that one more is refused; ``seconds`` is when to try again."""

    seconds: Final = 2

    def __init__(self) -> None:
        super().__init__("too many requests at once", f"try again in {self.seconds} seconds")
        self.args = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a search.

    Attributes:
        query: as it was searched for, with misspelt words corrected.
        hits: best first.
        corrections: the corrections by the word as it was written.
        reason: why nothing was found; empty where there are hits, or no reason is known.
        coverage: ``searched`` and ``of``, the numbers of videos, where not all of them answer.
        indexing: whether the index is being written, so that more may be found later.
        notes: what people should know of the answer, a line each.
    """

    query: str
    hits: tuple[Hit, ...]
    corrections: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    coverage: Mapping[str, object] = field(default_factory=dict)
    indexing: bool = False
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The answer as a JSON object; its hits are those of ``clamr search --json``."""
        return {
            "query": self.query,
            "corrections": dict(self.corrections),
            "hits": [{**record(HIT, hit), **self.coverage} for hit in self.hits],
            "weak": bool(self.hits) and all(hit.weak for hit in self.hits),
            "reason": self.reason,
            "indexing": self.indexing,
            "notes": list(self.notes),
            **self.coverage,
        }


class SharedEncoder:
    """An encoder that threads share: it encodes for one at a time and remembers the vectors of the last queries."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, TokenVectors] = OrderedDict()

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return self._encoder.info

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The vectors of each document."""
        with self._lock:
            return self._encoder.encode_documents(documents)

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """The vectors of each query."""
        with self._lock:
            for text in dict.fromkeys(queries):
                if text not in self._vectors:
                    # One at a time, so that the vectors do not depend on what is asked beside it.
                    (self._vectors[text],) = self._encoder.encode_queries([text])
                self._vectors.move_to_end(text)
            vectors = [self._vectors[text] for text in queries]
            while len(self._vectors) > _REMEMBERED_QUERIES:
                self._vectors.popitem(last=False)
            return vectors


class Library:
    """An open index with its encoder, for any number of threads.

    Attributes:
        store: the index.
        settings: of this run; the encoder that they name is used where it is the one that the command line would use.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        own: Mapping[str, object] | None = None,
        *,
        workers: int | None = None,
        waiting: int = 64,
        seconds: float = 30.0,
    ) -> None:
        """Take an index.

        Args:
            store: the index.
            settings: of this run.
            own: the settings of the encoder that the command line gave.
            workers: questions that are answered at once; as many as there are cores where None.
            waiting: further questions that may wait.
            seconds: a question may take.
        """
        self.store, self.settings = store, settings
        self._own, self._seconds = own or {}, seconds
        count = workers or usable_threads()
        self._most = count + waiting
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="clamr-library")
        self._pending = 0
        self._counting = threading.Lock()
        self._choosing = threading.Lock()
        self._encoders: dict[tuple[str, str], SharedEncoder] = {}
        self._chosen: tuple[str, SharedEncoder, tuple[str, ...]] | None = None

    # --- many at once -------------------------------------------------------------------------------------------------

    async def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Run a function in a thread of the library.

        Raises:
            Busy: so many wait already.
            TimeoutError: it took too long; its thread goes on until it is done.
        """
        with self._counting:
            if self._pending >= self._most:
                raise Busy
            self._pending += 1
        try:
            future = self._pool.submit(partial(function, *args, **kwargs))
        except RuntimeError:
            self._done(None)
            raise Busy from None
        future.add_done_callback(self._done)
        return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)

    def _done(self, _: Future[Any] | None) -> None:
        with self._counting:
            self._pending -= 1

    def close(self) -> None:
        """Take no more questions."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- the state of the index ---------------------------------------------------------------------------------------

    def version(self) -> str:
        """A text that is another one when the index has changed."""
        return ".".join(str(self.store.tables.dataset(name).version) for name in ("videos", "files", "vectors"))

    def encoder(self) -> tuple[Encoder, tuple[str, ...]]:
        """The encoder that the command line would search with now, and what people should know of it."""
        with self._choosing:
            version = self.version()
            if self._chosen is None or self._chosen[0] != version:
                notes: list[str] = []
                encoder = encoder_for(self.store, self.settings, self._own, notes.append)
                key = encoder.info.name, encoder.info.fingerprint
                shared = self._encoders.setdefault(key, SharedEncoder(encoder))
                self._chosen = version, shared, tuple(notes)
            return self._chosen[1:]

    # --- questions ----------------------------------------------------------------------------------------------------

    def options(self, **words: Any) -> SearchOptions:  # noqa: ANN401 -- those of terms.search_options
        """Options of a search by the names of :func:`clamr_cli.terms.search_options`, the settings beneath.

        Raises:
            UsageError: a word that cannot be understood.
        """
        settings = self.settings
        beneath = {"scoring": settings.scoring, "limit": settings.limit, "scan_limit": settings.scan_limit}
        return terms.search_options(**(beneath | {name: value for name, value in words.items() if value is not None}))

    def search(self, query: str, options: SearchOptions, *, verbatim: bool = False) -> Answer:
        """The hits that ``clamr search`` gives for a query.

        Args:
            query: what to look for.
            options: filters, modalities, weights, scoring and how many.
            verbatim: search misspelt words as they are written.

        Raises:
            UsageError: the query is empty, or a filter cannot be used.
            EncoderMismatch: the index has no vectors of the encoder.
            StoreError: the index cannot be read.
        """
        from dataclasses import replace

        from clamr_cli.search import correct, why_nothing
        from clamr_cli.search import search as find

        store = self.store
        query = terms.query(query, "red car")
        encoder, notes = self.encoder()
        corrections: dict[str, str] = {}
        if not verbatim:

            def corrected(text: str) -> str:
                text, own = correct(store, text)
                corrections.update(own)
                return text

            also, without = (tuple(map(corrected, texts)) for texts in (options.also, options.without))
            query, options = corrected(query), replace(options, also=also, without=without)
        hits = find(store, encoder, query, options, device=self.settings.device)
        reason = ""
        if not hits:
            reason = why_nothing(store, encoder, query, options) if store.catalog() else "nothing is indexed yet"
        coverage = partial_coverage(store, encoder.info.fingerprint)
        return Answer(query, tuple(hits), corrections, reason, coverage, store.is_being_written(), notes)

    def explain(self, video_id: str, query: str, options: SearchOptions) -> dict[str, Any]:
        """The record of ``clamr explain --json``: why a video ranks where it does.

        Raises:
            UnknownVideo: the index has no such video.
            UsageError: the query is empty, or the options leave the video out.
        """
        from clamr_cli.search import explain

        query = terms.query(query, "red car")
        self.store.video(video_id)
        encoder, _ = self.encoder()
        explanation = explain(self.store, encoder, video_id, query, options)
        return {**record(EXPLANATION, explanation), **partial_coverage(self.store, encoder.info.fingerprint)}

    def videos(self, path: str | None = None) -> list[dict[str, Any]]:
        """The records of ``clamr ls --json``."""
        return file_rows(self.store, path)

    def video(self, video_id: str) -> dict[str, Any]:
        """The record of ``clamr show --json``; UnknownVideo where there is none."""
        from clamr_cli.search import timeline

        return video_record(timeline(self.store, video_id), self.store.moments([video_id]))

    def timeline(self, video_id: str) -> dict[str, Any]:
        """All that the index knows of a video in time order; UnknownVideo where there is none."""
        from clamr_cli.search import timeline

        return record(TIMELINE, timeline(self.store, video_id))

    def transcript(self, video_id: str) -> Sequence[Segment]:
        """What is said in a video; UnknownVideo where there is none."""
        from clamr_cli.index.documents import spoken_segments

        self.store.video(video_id)
        return spoken_segments(self.store, video_id)

    def thumbnail(self, video_id: str, second: float) -> bytes:
        """The stored JPEG nearest to a second of a video; UnknownVideo where there is no video or no picture of it."""
        from clamr_cli.index.documents import frames_at

        self.store.video(video_id)
        (jpeg,) = frames_at(self.store, [(video_id, second)])
        if not jpeg:
            raise UnknownVideo(f"no picture of video {video_id} is stored", "it has no picture, or was not read yet")
        return jpeg

    def path(self, video_id: str) -> str:
        """A file of a video that can be read now.

        Raises:
            UnknownVideo: the index has no such video, or no file of it is there now.
        """
        from clamr_cli.files import readable_now

        self.store.video(video_id)
        files = self.store.files([video_id])
        there = readable_now(files)
        path = next((file.path for file in files if file.path in there), None)
        if path is None:
            raise UnknownVideo(f"no file of video {video_id} is there now", "connect its disk, or bring it back")
        return path

    def status(self) -> dict[str, Any]:
        """The record of ``clamr status --json``."""
        from clamr_cli.records import STATUS

        return record(STATUS, status_row(self.store))


def video_of(moment_id: str) -> str:
    """The id of the video of a moment.

    Raises:
        UsageError: it is no id of a moment.
    """
    video_id, mark, number = moment_id.partition("#")
    if not (video_id and mark and number.isascii() and number.isdigit()):
        raise UsageError(f"{moment_id!r} is no id of a moment", "it looks like 4f1a2b3c#7")
    return video_id
