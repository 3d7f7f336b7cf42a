"""Playing from a server: ranges, playlists, shared and abandoned work, files that are gone or break a decoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from fastapi import FastAPI
from starlette.testclient import TestClient

from clamr_cli.errors import MediaError, UnknownVideo
from clamr_cli.media import streaming
from clamr_cli.media.probe import probe
from clamr_cli.serve import playback
from tests.clips import Clip
from tests.unit.serve import tasks

pytestmark = pytest.mark.slow
VIDEO = "0123456789ab"


class Shelf:
    """A library of one video."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.file = path
        self.settings = SimpleNamespace(cache=cache)
        self.store = SimpleNamespace(video=lambda _: SimpleNamespace(media=self.info))
        self.info = probe(str(path))

    def path(self, video_id: str) -> str:
        if video_id != VIDEO or not self.file.exists():
            raise UnknownVideo(f"no file of video {video_id} is there now")
        return str(self.file)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip(size=(64, 48)).colour("red", 6).write(tmp_path_factory.mktemp("clips") / "a.mp4")


def served(path: Path, cache: Path) -> TestClient:
    app = FastAPI()
    app.include_router(playback.router(Shelf(path, cache)))

    @app.exception_handler(UnknownVideo)
    async def unknown(_: object, error: UnknownVideo) -> Any:
        from fastapi.responses import JSONResponse

        return JSONResponse({"error": error.what}, 404)

    return TestClient(app)


def test_a_file_is_sent_in_ranges_and_segments_by_their_playlist(clip: Path, tmp_path: Path) -> None:
    with served(clip, tmp_path) as client:
        plan = client.get(f"/media/{VIDEO}/plan").json()
        assert [way["kind"] for way in plan["ways"]] == ["direct", "remux", "transcode"]
        whole = client.get(f"/media/{VIDEO}/file")
        assert whole.headers["content-type"] == "video/mp4"
        part = client.get(f"/media/{VIDEO}/file", headers={"range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, clip.read_bytes()[4:12])
        changed = {"range": "bytes=4-11", "if-range": '"another"'}
        assert client.get(f"/media/{VIDEO}/file", headers=changed).status_code == 200
        assert client.get(f"/media/{VIDEO}/file", headers={"range": "bytes=99999999-"}).status_code == 416
        playlist = client.get(f"/media/{VIDEO}/transcode/index.m3u8").text
        assert playlist.count("#EXTINF:2.000000,") == 3
        assert client.get(f"/media/{VIDEO}/transcode/init.mp4").content[4:8] == b"ftyp"
        segment = client.get(f"/media/{VIDEO}/transcode/2.m4s")
        assert segment.content[4:8] == b"moof"
        assert client.get(f"/media/{VIDEO}/transcode/3.m4s").status_code == 404
        for bad in ("../../etc/passwd", "x.m4s", "-1.m4s", "9999999.m4s"):
            assert client.get(f"/media/{VIDEO}/transcode/{bad}").status_code in (404, 422)
        assert client.get("/media/ffffffffffff/plan").status_code == 404


class Client:
    """A request whose sender goes after some seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience

    async def receive(self) -> dict[str, str]:
        await asyncio.sleep(self._patience)
        return {"type": "http.disconnect"}


def test_a_decoder_that_crashes_costs_one_segment(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        player = playback.Playback(Shelf(clip, tmp_path), tmp_path / "parts", transcoders=1)
        try:
            with monkeypatch.context() as broken:
                broken.setattr(streaming, "write_segment", tasks.crash)
                with pytest.raises(MediaError, match="crashed"):
                    await player.part(Client(60), VIDEO, "transcode", 0)
            made = await player.part(Client(60), VIDEO, "transcode", 0)
            assert made.stat().st_size > 0
        finally:
            player.stop()

    asyncio.run(run())


def test_work_that_nobody_waits_for_ends_and_its_process_goes_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        player = playback.Playback(Shelf(clip, tmp_path), tmp_path / "parts", transcoders=1)
        try:
            await player.part(Client(60), VIDEO, "transcode", 0)
            ((_, worker),) = player._crews["transcode"].idle
            process = worker._process
            with monkeypatch.context() as slow:
                slow.setattr(streaming, "write_segment", tasks.wait_until_abandoned)
                slow.setattr(playback, "_GRACE", 60.0)
                with pytest.raises(ConnectionAbortedError):
                    await player.part(Client(0.3), VIDEO, "transcode", 1)
            made = await player.part(Client(60), VIDEO, "transcode", 1)
            assert made.stat().st_size > 0
            assert worker._process is process
            assert player._jobs == {}
        finally:
            player.stop()

    asyncio.run(run())


def test_the_segments_played_last_stay(clip: Path, tmp_path: Path) -> None:
    async def run() -> None:
        folder = tmp_path / "parts"
        player = playback.Playback(Shelf(clip, tmp_path), folder, transcoders=1, most=1)
        try:
            for number in (0, 1, 2):
                await player.part(Client(60), VIDEO, "transcode", number)
            assert [path.name for path in folder.iterdir()] == [f"{VIDEO}-transcode-2.mp4"]
        finally:
            player.stop()

    asyncio.run(run())
