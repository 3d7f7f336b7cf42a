"""One video on its way to encoded candidate frames: a generator of progress and of things to be kept."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import msgspec

from clamr_cli.errors import MediaError
from clamr_cli.events import Notice, Progress
from clamr_cli.frames import kept, keys, packing
from clamr_cli.frames.documents import Surroundings
from clamr_cli.frames.target import note, note_key
from clamr_cli.frames.texts import Known
from clamr_cli.frames.values import PART
from clamr_cli.index import sampling, tasks
from clamr_cli.index.executors.local import Worker
from clamr_cli.index.job import PROGRESS_INTERVAL, Job
from clamr_cli.index.outputs import Keep
from clamr_cli.index.pair import side_by_side
from clamr_cli.index.run import check_models
from clamr_cli.index.spool import DENSE, Spool
from clamr_cli.media.identity import content_hash, stamp
from clamr_cli.media.walk import Found

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from clamr_cli.frames.values import Candidate, DenseOptions, Target, Texts
    from clamr_cli.index.desk import Desk
    from clamr_cli.index.outputs import Output
    from clamr_cli.index.sampling import Sampled
    from clamr_cli.types import Document, TokenVectors

_TWICE: Final = frozenset({"mini", "hashed"})
"""Encoders small enough for two processes: on a CPU these keep two cores busier than one process with two threads."""

_PATIENCE: Final = 5


@dataclass(slots=True)
class _Count:
    """Candidates encoded so far, of how many, and when that was last told."""

    total: int
    done: int = 0
    told: float = field(default=0.0)


class DenseJob(Job):
    """Prepares one video; what it yields is to be written, then :func:`clamr_cli.frames.kept.load` finds all of it.

    Args:
        target: the video.
        desk: worker processes, store and options, as in an index run.
        options: how densely.
    """

    def __init__(self, target: Target, desk: Desk, options: DenseOptions) -> None:
        super().__init__(Found(target.path, os.path.dirname(target.path), 0, 0), desk)
        self.target, self.options = target, options
        self.content = target.content_hash
        self.recipe = keys.recipe(options)
        self.helper: Worker | None = None

    def run(self) -> Generator[Output, None, None]:
        """Everything that is not kept yet.

        Raises:
            MediaError: the file cannot be used, or is needed and not at hand.
            ModelError, StoreError: it cannot go on.
        """
        with self.desk.claim(self.target.video_id):
            if self.target.path:
                self.stamp = stamp(self.target.path)
            found = yield from self._sampled()
            known = self._known(found)
            if not known.complete:
                yield from self._recognise(known)
                known = self._known(found)
            yield from self._encoded(found, known.texts())

    def _known(self, found: Sampled) -> Known:
        with self.desk.reading:
            return Known(self.desk.store, self.target, found, self.options)

    # --- candidates ---------------------------------------------------------------------------------------------------

    def _sampled(self) -> Generator[Output, None, Sampled]:
        """The candidates: kept ones, else taken from the file now."""
        with self.desk.reading:
            found = kept.sampled(self.desk.store, self.target, self.options)
        spool = Spool(self.desk.spools / f"{self.content[:32]}{DENSE}")
        if found is not None:
            # A run that was killed when all was kept has left it.
            spool.remove()
            yield from self._noted()
            return found
        path = self._file()
        asked = (path, os.fspath(spool.folder), self.options.interval)
        made: Sampled = yield from self._task("sample", self.desk.decoder, sampling.sample, *asked)
        yield from (Notice(path, told) for told in made.notices)
        yield from self._noted()
        name = keys.samples(self.content, self.options)
        for part in keys.parts(len(made.stills)):
            some = made.stills[part * PART : (part + 1) * PART]
            jpegs = [frame.jpeg for frame in spool.pictures("frames", some)]
            yield Keep(keys.pictures(name, part), {}, jpegs)
        # Last: whoever finds it finds the pictures too.
        yield Keep(name, msgspec.to_builtins(replace(made, thumbs=b"")), [made.thumbs])
        spool.remove()
        return made

    def _noted(self) -> Generator[Output, None, None]:
        """Note the file, unless another has taken its place: nothing of that one may be kept under the old content."""
        if not self.target.path:
            return
        noted = note(self.target)
        if content_hash(self.target.path) != self.content:
            raise MediaError("the file was changed while it was read", "ask again when it is complete")
        yield Keep(note_key(self.target.path), noted)

    def _file(self) -> str:
        if not self.target.path:
            raise MediaError(
                f"no file of video {self.target.video_id} is at hand any more", "name the file, or bring it back"
            )
        return self.target.path

    # --- words --------------------------------------------------------------------------------------------------------

    def _recognise(self, known: Known) -> Generator[Output, None, None]:
        """Hear and read what is not known yet, as an index run would; it keeps what it finds."""
        self._file()
        # What is known already must not be recognised again, with whatever it was recognised.
        self.desk.options = replace(self.desk.options, speech=known.speech is None, text=known.ocr is None)
        check_models(self.desk.options)
        yield from self._list_captions()
        take = yield from self._take()
        yield from (Notice(self.found.path, told) for told in take.decoded.notices)
        yield from side_by_side(self._speech(take), self._text(take))
        if take.spool is not None:
            take.spool.remove()

    # --- vectors ------------------------------------------------------------------------------------------------------

    def _encoded(self, found: Sampled, texts: Texts) -> Generator[Output, None, None]:
        """Encode the parts whose vectors are not kept yet, on two processes where that is cheap."""
        name = keys.samples(self.content, self.options)
        candidates = kept.candidates_of(found)
        names = {
            part: keys.vectors(name, self.options, texts, self.desk.encoder, part)
            for part in keys.parts(len(candidates))
        }
        with self.desk.reading:
            missing = [part for part, one in names.items() if not self.desk.store.has_extraction(one)]
        count = _Count(len(candidates), len(candidates) - sum(len(_of(candidates, part)) for part in missing))
        around = Surroundings(texts, self.options.context)

        def work(worker: Worker, some: Sequence[int]) -> Generator[Output, None, None]:
            for part in some:
                documents = self._documents(name, around, _of(candidates, part))
                vectors = yield from self._encode(worker, documents, count)
                yield Keep(names[part], *packing.pack(vectors))

        if len(missing) > 1 and self.desk.choice.name in _TWICE and (os.cpu_count() or 1) > 1:
            self.helper = Worker(
                "encoding", log=self.desk.options.cache / "workers.log", threads=self.desk.choice.threads
            )
            try:
                yield from side_by_side(work(self.desk.encoding, missing[::2]), work(self.helper, missing[1::2]))
            finally:
                self.helper.stop()
        else:
            yield from work(self.desk.encoding, missing)

    def _documents(self, name: str, around: Surroundings, some: Sequence[Candidate]) -> list[Document]:
        with self.desk.reading:
            jpegs = kept.pictures(self.desk.store, name, [candidate.number for candidate in some])
        return [around.document(self.target.video_id, one, jpeg) for one, jpeg in zip(some, jpegs, strict=True)]

    def _encode(
        self, worker: Worker, documents: Sequence[Document], count: _Count
    ) -> Generator[Output, None, list[TokenVectors]]:
        made: list[TokenVectors] = []
        before = 0
        silence = self.desk.options.time_limit * _PATIENCE
        for item in worker.run(tasks.encode, self.desk.choice, documents, silence=silence):
            if not isinstance(item, tasks.Step):
                made = item
                continue
            count.done += int(item.done) - before
            before = int(item.done)
            if time.monotonic() - count.told >= PROGRESS_INTERVAL:
                count.told = time.monotonic()
                yield Progress(self.found.path, "encode", count.done, count.total)
        return made


def _of(candidates: Sequence[Candidate], part: int) -> Sequence[Candidate]:
    return candidates[part * PART : (part + 1) * PART]
