"""A scan that is divided among workers. Its ranking is that of one scan, for three reasons.

1. Every video is in one part, with all of its moments: a part is a stretch of the videos in the order of their ids,
   about as many vectors in each. A score depends on the query and the moment alone.
2. Each worker bounds its part and scores the few moments that promise most. The k-th score among all that were scored
   is at most the k-th of the whole ranking, so what cannot reach it is out in every part, see
   :class:`clamr_cli.search.cascade.Cascade`. Each worker then scores what still can.
3. The first k of the whole ranking are among the first k of their parts, since what is before a moment in its part is
   before it in the whole ranking. So the first k of all these lists together are the first k, ties included.

Workers read the version of the vectors that the search took, so a writer changes nothing in between. A worker remembers
nothing that it cannot compute again: where one is lost, another does its part.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np

from clamr_cli.cluster import BACK_WITHIN, SAME_PATHS, STARTED_WITHIN, Cluster
from clamr_cli.errors import ClamrError, StoreError, first_line
from clamr_cli.search.cascade import (
    SPARE,
    Candidates,
    Cascade,
    Float32,
    ScoringRule,
    Stretch,
    first_of_each_video,
    kernel_scan,
    ranked,
)
from clamr_cli.store import CorruptCache, ScanFile, Snapshot, SnapshotUnion, Store, StoreUnion
from clamr_cli.text import plural
from clamr_cli.types import RayOptions

Result = TypeVar("Result")

_KEPT: Final = 32
"""Queries of which a worker keeps the bounds between its two answers; those of others are computed again."""

_AGAIN: Final = 1.0

_AT_ONCE: Final = 4
"""Queries that a worker answers at once: while one waits for its disk, another one computes."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query as workers get it.

    Attributes:
        fingerprint: of the encoder.
        version: of the vectors, see :meth:`clamr_cli.store.Store.snapshot`.
        vectors: [q, 128] float32.
        rule: of scoring.
        videos, moments, without: as :class:`clamr_cli.search.cascade.Candidates` has them.
        first: moments that come before all others.
        key: of this question and no other.
    """

    fingerprint: str
    version: object
    vectors: Float32
    rule: ScoringRule
    videos: frozenset[str] | None
    moments: frozenset[str] | None
    without: frozenset[str]
    first: frozenset[str] = frozenset()
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


class ScanWorker:
    """A worker: it scans parts of an index, or of several that are read as one.

    Args:
        uris: of the indexes.
        beside: the local folder for what lies beside an index on object storage, see :meth:`Store.open`.
        threads: of the scan, 0 for all.
    """

    def __init__(self, uris: Sequence[str], beside: Path | None = None, threads: int = 0) -> None:
        self._uris, self._beside, self._threads = uris, beside, threads
        self._cascades: OrderedDict[tuple[str, Stretch], Cascade] = OrderedDict()
        self._packed: dict[str, object] = {}
        self._lock = threading.Lock()

    @cached_property
    def _store(self) -> Store:
        stores = [Store.open(uri, lock_dir=self._beside) for uri in self._uris]
        return stores[0] if len(stores) == 1 else StoreUnion(stores)

    def node(self) -> str:
        """The name of the machine.

        Raises:
            StoreError: the index cannot be read here.
        """
        name = socket.gethostname()
        try:
            self._store.video_ids()
        except StoreError as error:
            raise StoreError(f"{error.what} on node {name}", SAME_PATHS) from error
        return name

    def begin(
        self, question: Question, part: Stretch, limit: int, count: int, of_each_video: bool
    ) -> list[tuple[str, float]]:
        """The first of the moments that promise most, with their scores; see :meth:`Cascade.begin`."""

        def begin(cascade: Cascade) -> list[tuple[str, float]]:
            best = cascade.begin(limit, count, of_each_video=of_each_video)
            with self._lock:
                self._cascades[question.key, part] = cascade
                while len(self._cascades) > _KEPT:
                    self._cascades.popitem(last=False)
            return best

        return self._with_cascade(question, part, begin)

    def finish(
        self, question: Question, part: Stretch, limit: int, of_each_video: bool, least: tuple[bool, float]
    ) -> list[tuple[str, float]]:
        """The first moments of a part, as far as they may be before a place in the ranking; see :meth:`Cascade.top`."""
        with self._lock:
            cascade = self._cascades.pop((question.key, part), None)
        return self._with_cascade(
            question, part, lambda cascade: cascade.top(limit, of_each_video=of_each_video, least=least), cascade
        )

    def reaching(self, question: Question, part: Stretch, level: float) -> frozenset[str]:
        """The moments of a part whose score is at least a level; see :meth:`Cascade.reaching`."""
        return self._with_cascade(question, part, lambda cascade: cascade.reaching(level))

    def _with_cascade(
        self, question: Question, part: Stretch, work: Callable[[Cascade], Result], cascade: Cascade | None = None
    ) -> Result:
        """The result of some work, done again without the scan cache where that is not what was written."""
        with suppress(CorruptCache):
            return work(cascade or self._cascade(question, part, use_cache=True))
        return work(self._cascade(question, part, use_cache=False))

    def _cascade(self, question: Question, part: Stretch, *, use_cache: bool) -> Cascade:
        store: Any = self._store  # the version of a union has one of each index
        if use_cache and self._packed.get(question.fingerprint) != question.version:
            # Of an index on object storage each machine has a scan cache of its own.
            store.refresh(question.fingerprint)
            self._packed[question.fingerprint] = question.version
        snapshot = store.snapshot(question.fingerprint, use_cache=use_cache, version=question.version)
        candidates = Candidates(snapshot, question.videos, question.moments, question.without, part)
        scan = kernel_scan(question.vectors, threads=self._threads)
        return Cascade(candidates, question.vectors, [question.rule], scan, question.first)


class Workers(ABC):
    """Workers among which scans are divided; subclasses say where they are.

    Attributes:
        count: how many.
        threads: of all of them together.
    """

    count: int
    threads: int
    _last: tuple[object, list[Stretch]] | None = None

    @abstractmethod
    def ask(
        self,
        method: Literal["begin", "finish", "reaching"],
        question: Question,
        parts: Sequence[Stretch],
        *args: object,
    ) -> list[Any]:
        """The results of a method of :class:`ScanWorker`, of one worker for each part."""

    def top(
        self,
        candidates: Candidates,
        fingerprint: str,
        vectors: Float32,
        rule: ScoringRule,
        first: Iterable[str],
        limit: int,
        *,
        of_each_video: bool,
    ) -> list[tuple[str, float]]:
        """The ranking that :meth:`Cascade.top` gives for all parts together.

        Raises:
            StoreError: the index cannot be read.
            ClamrError: a worker is lost for good.
        """
        # As in a cascade, moments come first only where all texts count.
        before = frozenset(first) if rule.counts_texts else frozenset()
        question = _question(candidates, fingerprint, vectors, rule, before)
        parts, least = self._parts(candidates.snapshot), (False, -np.inf)
        if len(parts) > 1:
            share = -(-(limit + SPARE) // len(parts))
            best = _merged(
                self.ask("begin", question, parts, limit, share, of_each_video), before, limit, of_each_video
            )
            if len(best) == limit:
                least = (best[-1][0] in before, best[-1][1])
        lists = self.ask("finish", question, parts, limit, of_each_video, least)
        return _merged(lists, before, limit, of_each_video)

    def reaching(
        self, candidates: Candidates, fingerprint: str, vectors: Float32, rule: ScoringRule, level: float
    ) -> frozenset[str]:
        """The moments that :meth:`Cascade.reaching` gives for all parts together. Errors are those of :meth:`top`."""
        question = _question(candidates, fingerprint, vectors, rule, frozenset())
        return frozenset().union(*self.ask("reaching", question, self._parts(candidates.snapshot), level))

    def _parts(self, snapshot: Snapshot | SnapshotUnion) -> list[Stretch]:
        """The stretches of a snapshot; those of the last one are remembered."""
        key = snapshot.version, [file.name for file in snapshot.files]
        if self._last is None or self._last[0] != key:
            self._last = key, stretches(snapshot.files, self.count)
        return self._last[1]


def _question(
    candidates: Candidates, fingerprint: str, vectors: Float32, rule: ScoringRule, first: frozenset[str]
) -> Question:
    videos, moments = (None if ids is None else frozenset(ids) for ids in (candidates.videos, candidates.moments))
    version = candidates.snapshot.version
    return Question(fingerprint, version, vectors, rule, videos, moments, frozenset(candidates.without), first)


def stretches(files: Sequence[ScanFile], count: int) -> list[Stretch]:
    """At most so many stretches that hold all videos, with about as many vectors of the files in each."""
    sizes: dict[str, int] = {}
    for file in files:
        for video_id, size in zip(file.video_ids, np.diff(file.starts[file.videos]).tolist(), strict=True):
            sizes[video_id] = sizes.get(video_id, 0) + size
    names = sorted(sizes)
    ends = np.cumsum([sizes[name] for name in names], dtype=np.int64)
    wanted = (ends[-1] if names else 0) * np.arange(1, count) / count
    places = np.unique(np.searchsorted(ends, wanted, side="right"))
    starts = ["", *(names[place] for place in places.tolist() if 0 < place < len(names))]
    return list(zip(starts, [*starts[1:], ""], strict=True))


def _merged(
    lists: Iterable[Sequence[tuple[str, float]]], first: frozenset[str], limit: int, of_each_video: bool
) -> list[tuple[str, float]]:
    """The first of several rankings together; ``first`` come before all others."""
    pairs = [pair for one in lists for pair in one]
    tiers = ([pair for pair in pairs if (pair[0] in first) is tier] for tier in (True, False))
    ranking = chain.from_iterable(
        ranked([name for name, _ in tier], np.array([score for _, score in tier], np.float32)) for tier in tiers
    )
    return list(islice(first_of_each_video(ranking) if of_each_video else ranking, limit))


class RayWorkers(Workers):
    """Workers of a Ray cluster: actors that stay until :meth:`close`. Ray starts one that is lost again."""

    def __init__(self, options: RayOptions, store: Store, beside: Path | None) -> None:
        """Start them, without waiting.

        Args:
            options: of the cluster.
            store: the index, which all nodes must have under the same path.
            beside: see :class:`ScanWorker`.

        Raises:
            MissingExtra: Ray is not installed.
            UsageError: no cluster is there.
        """
        # Scans use processors, whatever the tasks of an index run need.
        self._cluster = Cluster(replace(options, gpus_per_worker=0.0))
        ray, self.count = self._cluster.ray, self._cluster.count
        threads = max(1, int(self._cluster.cpus))
        self.threads = self.count * threads
        remote = ray.remote(num_cpus=self._cluster.cpus, max_restarts=-1)(ScanWorker)
        spread = remote.options(scheduling_strategy="SPREAD", max_concurrency=_AT_ONCE)
        uris = [part.uri for part in store.parts]
        self._actors = [spread.remote(uris, beside, threads) for _ in range(self.count)]
        self._starting = {number: actor.node.remote() for number, actor in enumerate(self._actors)}
        self._started = False
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait until all workers are there.

        Raises:
            ClamrError: some are not there after two minutes.
            StoreError: the index cannot be read on a node.
        """
        with self._lock:
            if not self._started:
                starting = list(self._starting.values())
                _, missing = self._cluster.ray.wait(starting, num_returns=self.count, timeout=STARTED_WITHIN)
                if missing:
                    raise ClamrError(
                        f"{len(missing)} of {plural(self.count, 'worker')} of the cluster are not there: "
                        f"{self._cluster.no_room()}",
                        "see ray status; ask for less with --workers or cpus_per_worker of [executors.ray]",
                    )
                self._started = True
        self._there()

    def ask(
        self,
        method: Literal["begin", "finish", "reaching"],
        question: Question,
        parts: Sequence[Stretch],
        *args: object,
    ) -> list[Any]:
        """See :class:`Workers`. Where a worker is lost, another one does its part; errors are those of :meth:`top`."""
        self.wait()
        ray, limit = self._cluster.ray, time.monotonic() + BACK_WITHIN
        reference = ray.put(question)
        answers: dict[int, Any] = {}
        while len(answers) < len(parts):
            while not (there := self._there()):
                if time.monotonic() > limit:
                    raise ClamrError("all workers of the cluster are lost", "see ray status")
                time.sleep(_AGAIN)
            asked = []
            for number, part in enumerate(parts):
                if number not in answers:
                    worker = there[number % len(there)]
                    answer = getattr(self._actors[worker], method).remote(reference, part, *args)
                    asked.append((number, worker, answer))
            for number, worker, answer in asked:
                with suppress(ray.exceptions.RayActorError):
                    answers[number] = self._get(answer)
                    continue
                with self._lock:
                    self._starting.setdefault(worker, self._actors[worker].node.remote())
        return [answers[number] for number in range(len(parts))]

    def _there(self) -> list[int]:
        """The numbers of the workers that can be asked; those that were lost are looked at again."""
        ray = self._cluster.ray
        with self._lock:
            for worker, node in list(self._starting.items()):
                if ray.wait([node], timeout=0)[0]:
                    try:
                        self._get(node)
                        del self._starting[worker]
                    except ray.exceptions.RayActorError:
                        self._starting[worker] = self._actors[worker].node.remote()
            return [worker for worker in range(self.count) if worker not in self._starting]

    def _get(self, answer: Any) -> Any:  # noqa: ANN401 -- a reference of Ray, and what it stands for
        exceptions = self._cluster.ray.exceptions
        try:
            return self._cluster.ray.get(answer)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ClamrError):
                raise error.cause from error
            raise ClamrError(f"a worker failed: {first_line(error.cause)}", "see the logs of Ray") from error

    def close(self) -> None:
        """End the workers, and the connection to the cluster where this made it."""
        for actor in self._actors:
            with suppress(Exception):
                self._cluster.ray.kill(actor)
        self._actors = []
        self._cluster.close()
