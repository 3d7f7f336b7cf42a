"""Jobs that requests start: an index run of the known folders, a clip of a video, the preparation of one for questions.

Their state lives in memory. A job is a process of its own: it takes nothing from the answers to others, and can be
ended at any time. One runs, a few wait. Whoever follows the events gets the changes of all jobs and of the index.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from clamr_cli import events
from clamr_cli.errors import ClamrError, UsageError
from clamr_cli.index.estimate import Estimate
from clamr_cli.index.executors.local import Worker
from clamr_cli.media.clips import copied_suffix, copy_clip, encode_clip
from clamr_cli.selection import choose_encoder
from clamr_cli.serve.library import Busy, Library
from clamr_cli.types import MediaInfo, Span

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_KEPT: Final = 50
_WAITING: Final = 8
_FOLLOWERS: Final = 32
_BEHIND: Final = 64
"""Messages that a follower may be behind; then the oldest are dropped."""

_LOOK: Final = 1.0
"""Seconds between two looks at the version of the index, while somebody follows."""

_BEAT: Final = 15.0
"""Seconds after which a follower gets a sign of life, so that both sides notice when the other is gone."""

_PAUSE: Final = 0.5
"""Seconds between two messages on the progress of a job."""

_LONGEST_LINE: Final = 1 << 20
_LAST_WORDS: Final = 4096
_LONGEST_CLIP: Final = 3600.0
_GRACE: Final = 10.0
_STALL: Final = 120.0
_KINDS: Final[dict[str, Any]] = {
    kind.__name__.lower(): kind
    for kind in (events.Discovered, events.Progress, events.Indexed, events.Moved, events.Skipped)
}


@dataclass(slots=True)
class Job:
    """A job: how far it is, and where its clip lies.

    Attributes:
        id: random.
        kind: index, cut or frames.
        state: of its life.
        done: the part of the work that is done, in [0, 1].
        left: seconds that are probably left, None where unknown.
        text: its last message.
        error: why it failed.
    """

    kind: Literal["index", "cut", "frames"]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    state: State = "waiting"
    created: float = field(default_factory=time.time)
    done: float = 0.0
    left: float | None = None
    text: str = ""
    error: str = ""
    clip: Path | None = None
    told: float = 0.0
    task: asyncio.Task[None] | None = None

    def record(self) -> dict[str, Any]:
        """The job as a JSON object."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "created": round(self.created, 3),
            "done": round(self.done, 3),
            "left": None if self.left is None else round(self.left, 1),
            "text": self.text,
            "error": self.error,
            "clip": self.clip is not None,
        }


class Jobs:
    """The jobs of a server, and those who follow them. All methods belong to one event loop."""

    def __init__(self, library: Library, command: Sequence[str]) -> None:
        """Prepare for jobs.

        Args:
            library: the index.
            command: the words that start clamr with the settings of this run, without a command.
        """
        self._library, self._command = library, tuple(command)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._one = asyncio.Semaphore(1)
        self._followers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._folder: Path | None = None

    @property
    def followers(self) -> int:
        """Number of those who follow."""
        return len(self._followers)

    def all(self) -> list[Job]:
        """The jobs, the newest first."""
        return list(reversed(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        """A job by its id."""
        return self._jobs.get(job_id)

    def index(self) -> Job:
        """Start an index run of the known folders.

        Raises:
            UsageError: no folder is known.
            Busy: too many jobs wait.
        """
        if not self._library.store.folders():
            raise UsageError("the index knows no folder", "name one first: clamr index DIR")
        return self._start(Job("index"), self._index)

    def cut(self, path: str, info: MediaInfo, span: Span, *, exact: bool) -> Job:
        """Start to cut a clip.

        Args:
            path: of the file.
            info: of the video.
            span: the stretch.
            exact: encode anew instead of copying from the keyframe before.

        Raises:
            UsageError: the stretch is none of the video, or too long.
            Busy: too many jobs wait.
        """
        if not 0 <= span.start < span.end or (0 < info.duration <= span.start):
            raise UsageError("the stretch is none of the video", f"it lasts {info.duration:.3f} seconds")
        if span.end - span.start > _LONGEST_CLIP:
            raise UsageError("the clip is too long", f"{_LONGEST_CLIP:.0f} seconds at most")

        async def cut(job: Job) -> None:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="clamr-clips-"))
            target = self._folder / f"{job.id}{'.mp4' if exact else copied_suffix(info)}"
            worker = Worker("cutting", confined=True)
            try:
                await worker.run(_cut, path, info, target, span, exact, stall_timeout=_STALL)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            finally:
                worker.stop()
            job.clip = target

        return self._start(Job("cut"), cut)

    def frames(self, video_id: str) -> Job:
        """Start to prepare a video for questions about its frames, by the encoder that would answer them.

        Raises:
            Busy: too many jobs wait.
        """
        encoder = choose_encoder(self._library.store, self._library.settings).encoder
        words = ("frames", video_id, "--prepare", "--json", "--encoder", encoder)

        async def prepare(job: Job) -> None:
            async with contextlib.aclosing(self._clamr(*words)) as messages:
                async for content in messages:
                    if content["event"] == "progress" and content["total"] > 0:
                        job.done = min(1.0, content["done"] / content["total"])
                        job.text = events.PREPARING[content["stage"]]
                        self._tell(job, often=True)

        return self._start(Job("frames"), prepare)

    def cancel(self, job: Job) -> None:
        """End a job that runs or waits, else forget it and its clip."""
        if job.task is not None and not job.task.done():
            job.task.cancel()
        else:
            self._forget(job)

    async def close(self) -> None:
        """End all jobs."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        tasks += [self._looking] if self._looking is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, job: Job, work: Callable[[Job], Any]) -> Job:
        if sum(job.state == "waiting" for job in self._jobs.values()) >= _WAITING:
            raise Busy
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        ended = [old for old in self._jobs.values() if old.state not in ("waiting", "running")]
        for old in ended[: max(0, len(self._jobs) - _KEPT)]:
            self._forget(old)
        self._tell(job)
        return job

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if job.clip is not None:
            job.clip.unlink(missing_ok=True)

    async def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            async with self._one:
                job.state = "running"
                self._tell(job)
                await work(job)
            job.state, job.done, job.left = "done", 1.0, None
        except asyncio.CancelledError:
            job.state, job.left = "cancelled", None
            raise
        except ClamrError as error:
            job.state, job.error, job.left = "failed", str(error), None
        except OSError as error:
            job.state, job.error, job.left = "failed", error.strerror or type(error).__name__, None
        finally:
            self._tell(job)

    async def _index(self, job: Job) -> None:
        estimate = Estimate()
        async with contextlib.aclosing(self._clamr("index", "--json", passes=(0, 1, 3))) as messages:
            async for content in messages:
                name = content.pop("event")
                if name in _KINDS:
                    estimate.take(msgspec.convert(content, _KINDS[name]), time.monotonic())
                job.done, job.left = estimate.done, estimate.left
                job.text = f"{estimate.finished} of {estimate.to_do} videos"
                if name == "finished" and content["failed"]:
                    job.text += "; some could not be indexed: clamr status --failed"
                self._tell(job, often=name == "progress")

    async def _clamr(self, *words: str, passes: Collection[int] = (0,)) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a command of clamr, which is ended when nobody asks for them any more.

        Raises:
            ClamrError: with the last line of its stderr, where it ended with a code that is none of ``passes``.
        """
        with tempfile.TemporaryFile() as said:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                limit=_LONGEST_LINE,
                # Ctrl-C in the terminal is for the server, which ends its jobs itself.
                start_new_session=True,
            )
            assert process.stdout is not None
            try:
                async for line in process.stdout:
                    yield json.loads(line)
                code = await process.wait()
            finally:
                await _end(process)
            if code not in passes:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _LAST_WORDS))
                lines = said.read().decode("utf-8", "replace").splitlines()
                raise ClamrError(lines[-1].removeprefix("clamr: ") if lines else f"clamr {words[0]} ended with {code}")

    def _tell(self, job: Job, *, often: bool = False) -> None:
        """Tell who follows how a job is; not each time where that is ``often``."""
        if not often or time.monotonic() - job.told > _PAUSE:
            job.told = time.monotonic()
            self.publish({"event": "job", **job.record()})

    def publish(self, message: dict[str, Any]) -> None:
        """Give a message to all who follow; one that is too far behind loses the oldest."""
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    async def follow(self) -> AsyncGenerator[dict[str, Any], None]:
        """The messages from now on, for as long as somebody asks; an empty one first, and where nothing happens.

        Raises:
            Busy: too many follow already.
        """
        if len(self._followers) >= _FOLLOWERS:
            raise Busy
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_BEHIND)
        self._followers.add(queue)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            # Whoever asks is answered at once.
            yield {}
            for job in self._jobs.values():
                yield {"event": "job", **job.record()}
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _BEAT)
                except TimeoutError:
                    yield {}
        finally:
            self._followers.discard(queue)

    async def _look(self) -> None:
        """Tell when the index changed, for as long as somebody follows."""
        before = None
        while self._followers:
            with contextlib.suppress(ClamrError, TimeoutError):
                version = await self._library.call(self._library.version)
                if before not in (None, version):
                    self.publish({"event": "index", "version": version})
                before = version
            await asyncio.sleep(_LOOK)


def _cut(_report: object, path: str, info: MediaInfo, target: Path, span: Span, exact: bool) -> None:
    """Cut a clip, in a worker process."""
    (encode_clip if exact else copy_clip)(path, info, target, span)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and those that it started: first it may finish what it writes."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE)
