"""An endpoint of our own that speaks chat/completions on this machine, and fails in every way that real ones do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Sent:
    """Response of the endpoint: a status, a body, headers; ``hang`` waits until the endpoint ends first."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


def answer(text: str | None, **message: Any) -> Sent:
    """A good reply."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    return Sent(body=json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


def error(status: int, message: str, **headers: str) -> Sent:
    """A refusal in the protocol's form."""
    return Sent(status, json.dumps({"error": {"message": message, "type": "x"}}).encode(), dict(headers))


@dataclass
class Asked:
    """A request to the endpoint."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def user(self) -> str:
        """The texts of the user's message."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)

    @property
    def images(self) -> list[str]:
        """The addresses of the pictures shown."""
        content = self.body["messages"][-1]["content"]
        return [] if isinstance(content, str) else [p["image_url"]["url"] for p in content if p["type"] == "image_url"]


WORDS = (
    "amber",
    "bison",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "ivory",
    "jetty",
    "kiosk",
    "lemon",
    "maple",
    "north",
    "ocean",
    "pearl",
    "quartz",
    "raven",
    "sedan",
    "tulip",
    "umbra",
    "viola",
    "walnut",
    "xenon",
    "yacht",
    "zebra",
)


def inventive(asked: Asked) -> Sent:
    """A query that depends on the question alone, and differs between questions."""
    seed = asked.body.get("seed", 0) + 7 * len(asked.user)
    return answer(" ".join(WORDS[(seed // 26**place) % 26] for place in range(5)))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about: nothing is said of it."""


class Endpoint:
    """A running endpoint. ``reply`` says what to send; it is called with what was asked."""

    def __init__(self, reply: Callable[[Asked], Sent]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def stop(self) -> None:
        """Ends it, and those who wait for it."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked = Asked(body, {name.lower(): value for name, value in self.headers.items()})
                if endpoint._over.is_set():
                    self.close_connection = True
                    return
                with endpoint._lock:
                    endpoint.asked.append(asked)
                found = self.path == "/v1/chat/completions"
                self._send(endpoint.reply(asked) if found else error(404, f"no page {self.path}"))

            def _send(self, sent: Sent) -> None:
                if sent.hang:
                    endpoint._over.wait(60)
                self.send_response(sent.status)
                self.send_header("Content-Length", str(len(sent.body)))
                for name, value in sent.headers.items():
                    self.send_header(re.sub("_", "-", name), value)
                self.end_headers()
                self.wfile.write(sent.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


@contextmanager
def endpoint(reply: Callable[[Asked], Sent] = inventive) -> Iterator[Endpoint]:
    """An endpoint for the time of a block."""
    running = Endpoint(reply)
    try:
        yield running
    finally:
        running.stop()


def in_turn(*replies: Sent) -> Callable[[Asked], Sent]:
    """Sends these one after the other, then the last one for ever."""
    left = list(replies)
    lock = threading.Lock()

    def reply(_asked: Asked) -> Sent:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return reply
