"""A real server in this process, on an index of its own."""

import contextlib
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from clamr_cli import config
from clamr_cli.serve.app import create_app
from clamr_cli.serve.library import Library
from clamr_cli.serve.security import Access, Limits
from clamr_cli.serve.server import configured
from clamr_cli.store import Store
from tests.unit.cli import small_index
from tests.unit.cli.conftest import clamr, home  # noqa: F401 -- fixtures

TOKEN = "a-token-for-tests-0123456789-abcdefgh"


@dataclass(frozen=True)
class Answer:
    """The status, headers (in lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A server that runs: its port, its library, and the unexpected errors that it reported."""

    port: int
    library: Library
    access: Access
    app: Any
    reported: list[Exception] = field(default_factory=list)

    def __call__(
        self, path: str, method: str = "GET", body: bytes | None = None, *, token: bool = True, **headers: str
    ) -> Answer:
        """Ask; underscores in names of headers are dashes."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given.setdefault("authorization", f"Bearer {TOKEN}")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )


@contextlib.contextmanager
def serving(
    db: Path, *, limits: Limits | None = None, write: bool = False, sent_ahead: int = 0, **options: Any
) -> Iterator[Served]:
    """A server on an index; ``sent_ahead`` are bytes that the system keeps for a client, the options the library's."""
    settings = config.load({"db": str(db), "encoder": "hashed"})
    library = Library(Store.open(db), settings, **options)
    with contextlib.closing(socket.socket()) as listening:
        if sent_ahead:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sent_ahead)
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        access = Access.of("127.0.0.1", port, token=TOKEN, write=write)
        reported: list[Exception] = []
        command = [sys.executable, "-m", "clamr_cli", "--db", str(db)]
        app = create_app(library, access, limits, command=command, report=reported.append)
        server = uvicorn.Server(configured(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Served(port, library, access, app, reported)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


Serving = Callable[..., contextlib.AbstractContextManager[Served]]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index that is never changed."""
    folder = tmp_path_factory.mktemp("served") / "index"
    small_index.build(folder)
    return folder


@pytest.fixture
def db(index: Path, tmp_path: Path) -> Path:
    """A copy of the small index of one's own."""
    return Path(shutil.copytree(index, tmp_path / "index"))


@pytest.fixture(scope="session")
def served(index: Path) -> Iterator[Served]:
    """A server that all tests share."""
    with serving(index) as one:
        yield one
