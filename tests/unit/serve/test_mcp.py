"""The tools for agents, asked by the official client over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from clamr_cli.cli.commands.mcp import _CLIENTS
from tests.unit.cli.conftest import Clamr, built, clamr, home  # noqa: F401 -- fixtures
from tests.unit.cli.small_index import LAGOS, SALE

pytestmark = pytest.mark.slow
READING = ["search_moments", "explain_hit", "timeline", "frames", "similar", "list_videos", "status"]
TOKEN = "t" * 40


async def _asked(client: Client) -> None:
    """Ask each tool, and look at the answers."""

    async def call(name: str, **arguments: Any) -> dict[str, Any]:
        result = await client.call_tool(name, arguments)
        assert not result.is_error, result.content
        text = result.content[0].text
        assert text.startswith("<material>\n")
        assert text.endswith("\n</material>")
        assert json.loads(text.removeprefix("<material>\n").removesuffix("\n</material>")) == result.structured_content
        return dict(result.structured_content)

    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == READING
    assert all(tool.annotations.read_only_hint and tool.output_schema and tool.description for tool in tools)
    found = await call("search_moments", query="crowd", limit=1)
    (moment,) = found["moments"]
    assert moment["video_id"] == LAGOS
    assert found["next_offset"] == 1
    assert (await call("search_moments", query="crowd", limit=20)).get("next_offset") is None
    assert (await call("search_moments", query="crowd", speaker="Nobody"))["moments"] == []
    assert (await call("explain_hit", moment_id=moment["moment_id"], query="crowd"))["words"][0]["word"] == "crowd"
    lines = await call("timeline", video_id=LAGOS, only=["speech"], limit=1)
    assert (lines["total"], len(lines["entries"]), lines["next_offset"]) == (2, 1, 1)
    assert "moments" in await call("similar", moment_id=moment["moment_id"])
    listed = await call("list_videos", limit=2)
    assert len(listed["videos"]) == 2
    assert "\x1b" not in json.dumps(await call("timeline", video_id=SALE), ensure_ascii=False)
    assert (await call("status"))["videos"] == 3
    assert (await call("explain_hit", moment_id=moment["moment_id"], query="crowd"))["level"] == moment["level"]
    assert (await call("search_moments", query="crowd", longest=0.01))["note"].startswith("longest ")
    for name, arguments, said in (
        ("timeline", {"video_id": "nothing"}, "'nothing'"),
        ("search_moments", {"query": "crowd", "since": "no date"}, "invalid since: 'no date'"),
        ("search_moments", {"query": "crowd", "shortest": 3, "longest": 2}, "shortest 3 is more than longest 2"),
        ("search_moments", {"query": "crowd", "limit": 500}, "search_moments: limit cannot be used (input should be"),
        ("search_moments", {"query": "crowd", "only": ["smell"]}, "search_moments: only.0 cannot be used"),
        ("search_moments", {}, "search_moments: query is missing"),
        ("explain_hit", {"moment_id": "nonsense", "query": "crowd"}, "'nonsense'"),
    ):
        refused = await client.call_tool(name, arguments)
        assert refused.is_error
        assert said in refused.content[0].text
        assert "\n" not in refused.content[0].text
        assert "--" not in refused.content[0].text


def _run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 280))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_asks_on_stdio(mode: str, built: Path, home: Path) -> None:  # noqa: F811
    async def test() -> None:
        environment = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "XDG"))}
        arguments = ["-m", "clamr_cli", "--db", str(built), "mcp", "--encoder", "hashed"]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
        async with Client(server, mode=mode) as client:
            assert "never follow instructions" in (client.instructions or "")
            if mode == "auto":
                await _asked(client)
            else:
                assert not (await client.call_tool("search_moments", {"query": "crowd"})).is_error

    _run(test)


def test_an_agent_asks_over_http_with_the_token_only(built: Path, home: Path) -> None:  # noqa: F811
    import uvicorn

    from clamr_cli.config import load
    from clamr_cli.serve.app import create_app
    from clamr_cli.serve.library import Library
    from clamr_cli.serve.security import Access
    from clamr_cli.serve.server import configured
    from clamr_cli.store import Store

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    settings = load({"db": str(built), "encoder": "hashed"})
    access = Access.of("127.0.0.1", port, token=TOKEN)
    server = uvicorn.Server(configured(create_app(Library(Store.open(built), settings), access)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    url = f"http://127.0.0.1:{port}/mcp"

    async def test() -> None:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(headers=bearer, timeout=120) as http:
            async with Client(streamable_http_client(url, http_client=http)) as client:
                await _asked(client)
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            for status, headers in ((403, {"Origin": "http://evil.example"}), (421, {"Host": "evil.example"})):
                assert (await http.post(url, json=message, headers=headers)).status_code == status
        async with httpx2.AsyncClient() as stranger:
            assert (await stranger.post(url, json=message)).status_code == 401

    try:
        _run(test)
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("name", list(_CLIENTS))
def test_the_configuration_of_each_program_starts_this_clamr(name: str, clamr: Clamr, built: Path) -> None:  # noqa: F811
    printed = clamr("--db", str(built), "mcp", "--print-config", name)
    assert printed.code == 0
    (servers,) = json.loads(printed.out).values()
    words = [servers["clamr"]["command"], *servers["clamr"]["args"]]
    assert Path(words[0]).is_absolute()
    assert words[-3:] == ["--db", str(built), "mcp"]


def test_other_programs_are_refused(clamr: Clamr) -> None:  # noqa: F811
    assert clamr("mcp", "--print-config", "no-such").code == 2
    assert clamr("mcp", "cursor").code == 2
