"""The HTTP server around the application: bounded connections, and patience with slow ones that has an end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_CONNECTIONS: Final = 256
_HEADERS: Final = 32_768
_PATIENCE: Final = 20.0
"""Seconds that a connection may take for the headers of a request."""

_UNREAD: Final = 60.0
"""Seconds after which a connection is dropped whose client takes nothing of what is sent to it."""


class _Protocol(H11Protocol):
    """A connection that is closed where no whole request comes in time, and dropped where an answer is not read.

    What is dropped gives back its file and its place among the connections: a closed one would wait for its reader.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._stop_waiting()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        self._stop_waiting()
        self._unread = self.loop.call_later(_UNREAD, self._drop)

    def _drop(self) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        if self._is_waiting():
            self._deadline = self._deadline or self.loop.call_later(_PATIENCE, self._expire)
        else:
            self._forget()

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expire(self) -> None:
        self._deadline = None
        if self._is_waiting() and not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def configured(app: Any, **more: Any) -> uvicorn.Config:  # noqa: ANN401
    """The configuration of a server that keeps no log of what is asked."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=_HEADERS,
        **more,
    )


def run(app: Any, listening: socket.socket) -> None:  # noqa: ANN401
    """Serve an application on a socket until SIGINT or SIGTERM."""
    uvicorn.Server(configured(app)).run(sockets=[listening])
