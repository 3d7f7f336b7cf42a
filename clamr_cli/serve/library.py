"""An index that stays open: its encoder, its mapped vectors and what was decoded are ready for the next question.

REST, MCP and the socket ask the same :class:`Library`. Each question reads the newest state of the index, whichever
process wrote it. Methods are safe in threads; :meth:`Library.call` runs them in a few, and refuses what would wait too
long.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from clamr_cli import terms
from clamr_cli.config import Settings
from clamr_cli.errors import ClamrError, UnknownVideo, UsageError
from clamr_cli.files import readable_now
from clamr_cli.index.documents import nearest_frame, spoken_segments, stored_frames
from clamr_cli.kernel import usable_threads
from clamr_cli.media.pictures import decode_picture
from clamr_cli.records import (
    EXPLANATION,
    FRAME,
    HIT,
    STATUS,
    TIMELINE,
    file_rows,
    partial_coverage,
    record,
    status_row,
    video_record,
)
from clamr_cli.search import correct, explain, picture_example, similar, timeline, why_nothing
from clamr_cli.search import search as find
from clamr_cli.search.search import SAMPLE
from clamr_cli.search.workers import Workers
from clamr_cli.selection import choose_encoder, create_encoder, encoder_for, index_options, settings_for
from clamr_cli.store import Store
from clamr_cli.types import (
    Document,
    Encoder,
    EncoderInfo,
    Frame,
    Hit,
    Modality,
    SearchOptions,
    Segment,
    Span,
    TokenVectors,
)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_REMEMBERED_QUERIES: Final = 256
_REMEMBERED_BYTES: Final = 64 << 20
"""Of the stored frames of videos whose thumbnails were asked for last."""


class NotPrepared(UsageError):
    """A question about frames of a video that was not prepared for it."""


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
        seconds: float = 120.0,
        scan: Workers | None = None,
    ) -> None:
        """Take an index.

        Args:
            store: the index.
            settings: of this run.
            own: the settings of the encoder that the command line gave.
            workers: questions that are answered at once; as many as there are cores where None.
            waiting: further questions that may wait.
            seconds: a question may take.
            scan: workers that scan the vectors, None for this machine.
        """
        self.store, self.settings, self._scan = store, settings, scan
        self._own, self._seconds = own or {}, seconds
        count = workers or usable_threads()
        self._most = count + waiting
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="clamr-library")
        self._pending = 0
        self._counting = threading.Lock()
        self._choosing = threading.Lock()
        self._encoders: dict[str, SharedEncoder] = {}
        self._chosen: tuple[str, SharedEncoder, tuple[str, ...]] | None = None
        self._frames: OrderedDict[str, tuple[Frame, ...]] = OrderedDict()
        self._frames_version = ""

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
                shared = self._shared(encoder_for(self.store, self.settings, self._own, notes.append))
                self.store.refresh(shared.info.fingerprint)
                self._chosen = version, shared, tuple(notes)
            return self._chosen[1:]

    def _shared(self, encoder: Encoder) -> SharedEncoder:
        """The encoder of the same fingerprint that is loaded already, else this one."""
        return self._encoders.setdefault(encoder.info.fingerprint, SharedEncoder(encoder))

    def warm(self) -> None:
        """Load the encoder and map the vectors, so that the first question does not wait for them."""
        encoder, _ = self.encoder()
        encoder.encode_queries(["clamr"])
        self.store.snapshot(encoder.info.fingerprint)
        self.store.sample(encoder.info.fingerprint, SAMPLE)
        self.store.vocabulary()
        if self._scan is not None and self.store.has_vectors(encoder.info.fingerprint):
            find(self.store, encoder, "clamr", self.options(), workers=self._scan)

    # --- questions ----------------------------------------------------------------------------------------------------

    def options(self, **words: Any) -> SearchOptions:  # noqa: ANN401 -- those of terms.search_options
        """Options of a search by the names of :func:`clamr_cli.terms.search_options`, the settings beneath.

        Raises:
            UsageError: a word that cannot be understood.
        """
        settings = self.settings
        beneath = {"scoring": settings.scoring, "limit": settings.limit, "scan_limit": settings.scan_limit}
        return terms.search_options(**(beneath | {name: value for name, value in words.items() if value is not None}))

    def search(
        self, query: str, options: SearchOptions, *, verbatim: bool = False, picture: bytes | None = None
    ) -> Answer:
        """The hits that ``clamr search`` gives for a query.

        Args:
            query: what to look for.
            options: filters, modalities, weights, scoring and how many.
            verbatim: search misspelt words as they are written.
            picture: the content of a picture file, to which the moments must be like; the query may then be empty.

        Raises:
            UsageError: the query is empty, a filter cannot be used, or the picture is none.
            EncoderMismatch: the index has no vectors of the encoder.
            StoreError: the index cannot be read.
        """
        store = self.store
        query = terms.query(query, "red car") if query or picture is None else ""
        encoder, notes = self.encoder()
        example = None
        if picture is not None:
            frame = Frame(0.0, Span(0.0, 0.0), decode_picture(picture))
            example = picture_example(encoder, [frame], ["the picture"])
        corrections: dict[str, str] = {}
        if not verbatim:

            def corrected(text: str) -> str:
                text, own = correct(store, text)
                corrections.update(own)
                return text

            also, without = (tuple(map(corrected, texts)) for texts in (options.also, options.without))
            query, options = corrected(query) if query else "", replace(options, also=also, without=without)
        device, scan = self.settings.device, self._scan
        hits = find(store, encoder, query, options, device=device, example=example, workers=scan)
        reason = ""
        if not hits and example is not None:
            reason = "nothing that the filters leave can be compared with it"
        elif not hits:
            reason = why_nothing(store, encoder, query, options) if store.catalog() else "nothing is indexed yet"
        return self._answer(query, hits, encoder, notes, corrections, reason)

    def similar(self, video_id: str, span: Span | None, options: SearchOptions) -> Answer:
        """The moments that are most like a stretch or second (an empty span) of a video, as ``clamr similar`` has it.

        Raises:
            UnknownVideo: the index has no such video.
            UsageError: nothing of it can be compared.
        """
        encoder, notes = self.encoder()
        device, scan = self.settings.device, self._scan
        hits = similar(self.store, encoder, video_id, span, options, device=device, workers=scan)
        return self._answer("", hits, encoder, notes, {}, "" if hits else "nothing else can be compared with it")

    def _answer(
        self,
        query: str,
        hits: Sequence[Hit],
        encoder: Encoder,
        notes: Sequence[str],
        corrections: Mapping[str, str],
        reason: str,
    ) -> Answer:
        if any(hit.approximate for hit in hits):
            notes = [*notes, "candidates came from an approximate index; exact compares with everything"]
        coverage = partial_coverage(self.store, encoder.info.fingerprint)
        return Answer(query, tuple(hits), corrections, reason, coverage, self.store.is_being_written(), tuple(notes))

    def explain(
        self, video_id: str, query: str, options: SearchOptions, *, moment_id: str | None = None
    ) -> dict[str, Any]:
        """The record of ``clamr explain --json``: why a video ranks where it does.

        Args:
            video_id: the video.
            query: what was looked for.
            options: of the search.
            moment_id: its moment whose evidence is wanted; the best one where None.

        Raises:
            UnknownVideo: the index has no such video.
            UsageError: the query is empty, or the options leave the video out.
        """
        query = terms.query(query, "red car")
        self.store.video(video_id)
        encoder, _ = self.encoder()
        explanation = explain(self.store, encoder, video_id, query, options, moment_id=moment_id)
        return {**record(EXPLANATION, explanation), **partial_coverage(self.store, encoder.info.fingerprint)}

    def span_of(self, moment_id: str) -> tuple[str, Span]:
        """The video and the stretch of a moment.

        Raises:
            UnknownVideo: the index has no such moment.
        """
        video_id = moment_id.partition("#")[0]
        for moment in self.store.moments([video_id]):
            if moment.moment_id == moment_id:
                return video_id, moment.span
        raise UnknownVideo(f"no moment of the index is called {moment_id!r}", "it looks like 4f1a2b3c5d6e#7")

    def frames(
        self, video_id: str, question: str, count: int, modalities: Sequence[Modality] = ()
    ) -> list[dict[str, Any]]:
        """The records of ``clamr frames --json`` for a video that was prepared.

        Raises:
            UnknownVideo: the index has no such video.
            NotPrepared: the video has to be prepared first.
        """
        from clamr_cli.frames import DenseOptions, FrameChoice, Target, find, load_prepared

        question, video = terms.query(question, "who opens the door?"), self.store.video(video_id)
        settings = choose_encoder(self.store, self.settings)
        own = settings_for(self.store, settings.encoder, settings, self._own)
        options = DenseOptions(index_options(settings, own), 2.0)
        files = self.store.files([video_id])
        there = readable_now(files)
        path = next((file.path for file in files if file.path in there), "")
        prepared = asyncio.run(load_prepared(self.store, Target(path, video_id, video.content_hash), options))
        if prepared is None:
            raise NotPrepared(
                f"video {video_id} is not prepared for questions about its frames",
                f'prepare it with a job of the kind "frames", or: clamr frames {video_id} "what to look for"',
            )
        encoder = self._shared(create_encoder(settings.encoder, settings, own))
        columns = [column for column in FRAME if column.name not in ("file", "clip")]
        choice = FrameChoice(count, "diverse", tuple(modalities))
        return [record(columns, hit) for hit in find(prepared, encoder, question, choice)]

    def videos(self, path: str | None = None) -> list[dict[str, Any]]:
        """The records of ``clamr ls --json``."""
        return file_rows(self.store, path)

    def video(self, video_id: str) -> dict[str, Any]:
        """The record of ``clamr show --json``; UnknownVideo where there is none."""
        return video_record(timeline(self.store, video_id), self.store.moments([video_id]))

    def timeline(self, video_id: str) -> dict[str, Any]:
        """All that the index knows of a video in time order; UnknownVideo where there is none."""
        return record(TIMELINE, timeline(self.store, video_id))

    def transcript(self, video_id: str) -> Sequence[Segment]:
        """The transcript of a video; UnknownVideo where there is none."""
        self.store.video(video_id)
        return spoken_segments(self.store, video_id)

    def thumbnail(self, video_id: str, second: float) -> tuple[bytes, str]:
        """The stored JPEG nearest to a second of a video, and a tag that is another one when it changes.

        Raises:
            UnknownVideo: the index has no such video, or no picture of it.
        """
        frames = self._stored_frames(video_id)
        if not frames:
            self.store.video(video_id)
            raise UnknownVideo(f"no picture of video {video_id} is stored", "it has none, or was not read yet")
        jpeg = nearest_frame(frames, second).jpeg
        return jpeg, hashlib.blake2b(jpeg, digest_size=12).hexdigest()

    def frames_between(self, video_id: str, start: float, end: float, count: int) -> tuple[str, list[Frame]]:
        """The title of a video, and up to so many of its stored frames between two seconds, spread evenly.

        Raises:
            UnknownVideo: the index has no such video, or no picture of it there.
        """
        title = self.store.video(video_id).fields.title
        frames = [frame for frame in self._stored_frames(video_id) if start <= frame.time <= end]
        if not frames:
            raise UnknownVideo(f"no picture of video {video_id} is stored there", "ask for a longer stretch")
        if len(frames) > count:
            frames = [frames[round(n * (len(frames) - 1) / max(1, count - 1))] for n in range(count)]
        return title, frames

    def _stored_frames(self, video_id: str) -> tuple[Frame, ...]:
        """The stored frames of a video; those of the last videos stay in memory, as far as it is meant for them."""
        version = self.version()
        with self._counting:
            if version != self._frames_version:
                self._frames.clear()
                self._frames_version = version
            if video_id in self._frames:
                self._frames.move_to_end(video_id)
                return self._frames[video_id]
        frames = stored_frames(self.store, [video_id]).get(video_id, ())
        with self._counting:
            if version == self._frames_version:
                self._frames[video_id] = frames
                size = sum(len(frame.jpeg) for own in self._frames.values() for frame in own)
                while size > _REMEMBERED_BYTES or len(self._frames) > _REMEMBERED_QUERIES:
                    size -= sum(len(frame.jpeg) for frame in self._frames.popitem(last=False)[1])
        return frames

    def path(self, video_id: str) -> str:
        """A file of a video that can be read now.

        Raises:
            UnknownVideo: the index has no such video, or no file of it is there now.
        """
        self.store.video(video_id)
        files = self.store.files([video_id])
        there = readable_now(files)
        path = next((file.path for file in files if file.path in there), None)
        if path is None:
            raise UnknownVideo(f"no file of video {video_id} is there now", "connect its disk, or bring it back")
        return path

    def status(self) -> dict[str, Any]:
        """The record of ``clamr status --json``."""
        return record(STATUS, status_row(self.store))


def as_parameters(text: str, names: Mapping[str, str] | None = None) -> str:
    """A message about options as one about parameters; ``names`` has those that are called otherwise."""
    return re.sub(r"(?<![\w-])--([a-z][a-z-]*)", lambda option: (names or {}).get(option[1], option[1]), text)
