"""Playing videos: a file as it is, its packets in another container, or a copy encoded while it is watched.

A page asks for the plan of a video and takes the first way that its browser can go. All that reads a file runs in
worker processes: a decoder that crashes costs one segment, and work that nobody waits for any more is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from clamr_cli import locations
from clamr_cli.errors import ClamrError, UnknownVideo
from clamr_cli.index.executors.local import Worker
from clamr_cli.media import streaming
from clamr_cli.media.files import media_error
from clamr_cli.serve.library import Busy, Library
from clamr_cli.types import MediaInfo

CACHE_BYTES: Final = 2 * 2**30
"""Of segments on disk; those not played for the longest time go first."""

_STALL: Final = 30.0  # seconds without progress after which a worker is ended
_GRACE: Final = 0.5  # seconds that a worker has to end work that nobody waits for
_MOST_WAITING: Final = 16  # segments that may wait for a worker of a kind
_KNOWN: Final = 256  # videos whose plans are remembered
_PIECE: Final = 2**20  # bytes that are asked of a server at a time
_RANGE: Final = re.compile(r"bytes=(?=\d|-\d)(\d*)-(\d*)")
_CLOSED: Final = 499  # nobody reads the answer

VideoId = Annotated[str, InPath(pattern=r"^[0-9a-f]{6,64}$", description="Id of a video.")]
WayName = Annotated[Literal["remux", "transcode"], InPath(description="Packets copied, or pictures encoded anew.")]
PartName = Annotated[str, InPath(pattern=r"^(init\.mp4|\d{1,6}\.m4s)$", description="The header, or a segment.")]


@dataclass
class _Job:
    """Work on a file of the cache, and the number of those who wait for it."""

    task: asyncio.Task[Any]
    waiters: int = 0
    ending: bool = False


@dataclass
class _Crew:
    """Workers of a kind; the one that made the segment before goes on with the next."""

    size: int
    name: str
    idle: list[tuple[str, Worker]] = field(default_factory=list)
    waiting: int = 0
    free: asyncio.Condition = field(default_factory=asyncio.Condition)

    @contextlib.asynccontextmanager
    async def one(self, video: str) -> AsyncIterator[Worker]:
        if self.waiting >= _MOST_WAITING:
            raise Busy
        self.waiting += 1
        try:
            async with self.free:
                await self.free.wait_for(lambda: bool(self.idle))
                place = next((n for n, (last, _) in enumerate(self.idle) if last == video), 0)
                _, worker = self.idle.pop(place)
        finally:
            self.waiting -= 1
        try:
            yield worker
        finally:
            # Not awaited under a lock: a cancelled task must give its worker back.
            self.idle.append((video, worker))
            self._wake = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self.free:
            self.free.notify_all()

    def start(self) -> None:
        self.idle = [("", Worker(self.name, threads=1, confined=True)) for _ in range(self.size)]


class Playback:
    """Plans and segments of videos, made once and kept on disk for a while.

    Args:
        library: the index.
        folder: for segments; only files of this class are in it.
        transcoders: processes that encode at once; half of the cores by default.
        most: bytes that the folder may hold.
    """

    def __init__(self, library: Library, folder: Path, *, transcoders: int = 0, most: int = CACHE_BYTES) -> None:
        self._library, self._folder, self._most = library, folder, most
        self._crews = {
            "remux": _Crew(1, "remuxing"),
            "transcode": _Crew(transcoders or max(1, (os.cpu_count() or 1) // 2), "transcoding"),
        }
        for crew in self._crews.values():
            crew.start()
        self._jobs: dict[str, _Job] = {}
        self._plans: dict[tuple[str, str], streaming.Playable] = {}
        self._starts: dict[tuple[str, str], list[float]] = {}
        self._used: int | None = None

    def stop(self) -> None:
        """End all workers."""
        for job in self._jobs.values():
            job.task.cancel()
        for crew in self._crews.values():
            for _, worker in crew.idle:
                worker.stop()

    async def plan(self, video_id: str) -> dict[str, Any]:
        """Ways to play a video, the best first: kind, url, mime."""
        path, info = await self._media(video_id)
        playable = self._plans.get((video_id, path))
        if playable is None:
            playable = await self._run("remux", video_id, streaming.inspect, path, info)
            self._plans[video_id, path] = playable
            while len(self._plans) > _KNOWN:
                del self._plans[next(iter(self._plans))]
        if not playable.direct and not playable.remux:
            # The process starts while the page prepares its player.
            self._warming = asyncio.ensure_future(self._warm(video_id))
        urls = {
            "direct": f"/media/{video_id}/file",
            "remux": f"/media/{video_id}/remux/index.m3u8",
            "transcode": f"/media/{video_id}/transcode/index.m3u8",
        }
        ways = [{"kind": kind, "url": url, "mime": getattr(playable, kind)} for kind, url in urls.items()]
        width, height = info.width, info.height
        return {
            "video_id": video_id, "duration": round(info.duration, 3), "width": width, "height": height,
            "ways": [way for way in ways if way["mime"]],
        }  # fmt: skip

    async def _warm(self, video_id: str) -> None:
        with contextlib.suppress(ClamrError):
            await self._run("transcode", video_id, streaming.prepare)

    async def file(self, request: Request, video_id: str) -> Response:
        """The file itself, or the range of it that was asked for."""
        path, _ = await self._media(video_id)
        first = (await self.plan(video_id))["ways"][0]
        kind = first["mime"].split(";")[0] if first["kind"] == "direct" else "application/octet-stream"
        headers = {"Cache-Control": "private, no-cache"}
        if locations.is_remote(path):
            return await self._library.call(_remote_part, path, request.headers.get("range", ""), kind, headers)
        return FileResponse(path, media_type=kind, headers=headers)

    async def playlist(self, video_id: str, way: streaming.Way) -> str:
        """The HLS playlist of all segments."""
        path, info = await self._media(video_id)
        starts = await self._segments(video_id, way, path, info)
        ends = [*starts[1:], max(info.duration, starts[-1] + 0.1)]
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        lines = [
            "#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{max(1, round(max(lengths) + 0.5))}",
            "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-INDEPENDENT-SEGMENTS",
            '#EXT-X-MAP:URI="init.mp4"',
        ]  # fmt: skip
        for number, length in enumerate(lengths):
            lines += [f"#EXTINF:{length:.6f},", f"{number}.m4s"]
        return "\n".join([*lines, "#EXT-X-ENDLIST", ""])

    async def part(self, request: Request, video_id: str, way: streaming.Way, number: int | None) -> Path:
        """A segment, or for None the header of all, as a file that was there or is made now."""
        path, info = await self._media(video_id)
        starts = [] if number is None else await self._segments(video_id, way, path, info)
        if number is not None and number >= len(starts):
            raise UnknownVideo(f"video {video_id} has no segment {number}", "reload the page")
        target = self._folder / f"{video_id}-{way}-{'init' if number is None else number}.mp4"
        if target.exists():
            with contextlib.suppress(OSError):
                os.utime(target)
            return target
        args: tuple[Any, ...] = (path, info, way)
        if number is not None:
            ends = [*starts[1:], max(info.duration, starts[-1] + 0.1)]
            args += (starts[number], ends[number])
        task: Callable[..., None] = streaming.write_init if number is None else streaming.write_segment
        make = functools.partial(self._make, way, video_id, target, task, *args, os.fspath(target))
        await self._shared(request, target.name, make)
        return target

    async def _make(self, way: str, video_id: str, target: Path, task: Callable[..., None], *args: Any) -> None:  # noqa: ANN401
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        streaming.abandoned(os.fspath(target)).unlink(missing_ok=True)  # of a server that was killed
        await self._run(way, video_id, task, *args)
        await asyncio.to_thread(self._evict, target)

    async def _shared(self, request: Request, name: str, make: Callable[[], Any]) -> None:
        """Wait for work that others may wait for too; work that nobody waits for is ended."""
        while (job := self._jobs.get(name)) is not None and job.ending:
            await asyncio.wait([job.task])
        if job is None:
            job = self._jobs[name] = _Job(asyncio.ensure_future(make()))
            job.task.add_done_callback(lambda _: self._jobs.pop(name))
        job.waiters += 1
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({job.task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not job.task.done():
                raise ConnectionAbortedError
            job.task.result()
        finally:
            gone.cancel()
            job.waiters -= 1
            if not job.waiters and not job.task.done():
                job.ending = True
                job.task.cancel()

    async def _segments(self, video_id: str, way: streaming.Way, path: str, info: MediaInfo) -> list[float]:
        if way == "transcode":
            count = max(1, -int(-info.duration // streaming.ENCODED))
            return [number * streaming.ENCODED for number in range(count)]
        starts = self._starts.get((video_id, path))
        if starts is None:
            starts = await self._run("remux", video_id, streaming.segment_starts, path, info)
            self._starts[video_id, path] = starts
            while len(self._starts) > _KNOWN:
                del self._starts[next(iter(self._starts))]
        return starts

    async def _run(self, way: str, video_id: str, task: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        async with self._crews[way].one(video_id) as worker:
            running = asyncio.ensure_future(worker.run(task, *args, stall_timeout=_STALL))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                # A process that ends its work by itself is ready for the next at once; else it is killed.
                await self._abandon(running, args)
                raise

    async def _abandon(self, running: asyncio.Task[Any], args: tuple[Any, ...]) -> None:
        mark = streaming.abandoned(str(args[-1])) if isinstance(args[-1], str) else None
        with contextlib.suppress(OSError):
            if mark is not None:
                mark.touch()
        await asyncio.wait([running], timeout=_GRACE if mark is not None else 0)
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        with contextlib.suppress(OSError):
            if mark is not None:
                mark.unlink(missing_ok=True)

    async def _media(self, video_id: str) -> tuple[str, MediaInfo]:
        def find() -> tuple[str, MediaInfo]:
            return self._library.path(video_id), self._library.store.video(video_id).media

        return await self._library.call(find)

    def _evict(self, newest: Path) -> None:
        """Remove the files that were not played for the longest time where there are too many bytes."""
        with contextlib.suppress(OSError):
            self._used = None if self._used is None else self._used + newest.stat().st_size
        if self._used is not None and self._used <= self._most:
            return
        files = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                files.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        self._used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if self._used <= self._most * 0.9:
                break
            if path != os.fspath(newest):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                self._used -= size


def _remote_part(path: str, wanted: str, kind: str, headers: dict[str, str]) -> Response:
    """A remote file, or the one range of it that was asked for, read while it is sent."""
    try:
        entry = locations.look(path)
    except locations.RemoteError as error:
        raise media_error(error) from error
    size = entry.stat().st_size
    headers |= {"Accept-Ranges": "bytes"}
    start, end = 0, size
    if match := _RANGE.fullmatch(wanted):
        first, last = match.groups()
        start = int(first) if first else max(0, size - int(last or 0))
        end = min(size, int(last) + 1) if first and last else size
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)

    def pieces() -> Iterator[bytes]:
        for place in range(start, end, _PIECE):
            yield locations.read_range(entry, place, min(end, place + _PIECE))

    return StreamingResponse(pieces(), 206 if match else 200, headers, kind)


async def _disconnected(request: Request) -> None:
    """Wait until the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def router(library: Library) -> APIRouter:
    """The routes under ``/media/{video_id}``."""
    playback = Playback(library, library.settings.cache / "playback")

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            playback.stop()

    routes = APIRouter(prefix="/media/{video_id}", tags=["media"], lifespan=lifespan)

    @routes.get("/plan")
    async def plan(video_id: VideoId) -> JSONResponse:
        """Ways to play a video, the best first."""
        return JSONResponse(await playback.plan(video_id))

    @routes.get("/file")
    async def file(request: Request, video_id: VideoId) -> Response:
        """The file itself, or ranges of it."""
        return await playback.file(request, video_id)

    @routes.get("/{way}/index.m3u8")
    async def playlist(video_id: VideoId, way: WayName) -> Response:
        """The HLS playlist of copied or encoded segments."""
        return Response(await playback.playlist(video_id, way), media_type="application/vnd.apple.mpegurl")

    @routes.get("/{way}/{name}")
    async def part(request: Request, video_id: VideoId, way: WayName, name: PartName) -> Response:
        """The header or a segment."""
        number = None if name == "init.mp4" else int(name.removesuffix(".m4s"))
        try:
            made = await playback.part(request, video_id, way, number)
        except ConnectionAbortedError:
            return Response(status_code=_CLOSED)
        return FileResponse(made, media_type="video/mp4", headers={"Cache-Control": "private, max-age=600"})

    return routes
