"""Protection of the server, in front of every route: who may ask, from which page, and how much.

A page of another site that runs in the same browser can send requests here, and by DNS rebinding even read the
answers. So the name in Host must be one of ours, Origin and Sec-Fetch-Site must say that a page of this server asks,
and who asks must know the token: as a cookie that no other site's request carries, or as a bearer. Nothing is answered
across origins.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clamr_cli.errors import UsageError

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
HEALTH: Final = "/healthz"
LONG: Final = ("/media/", "/mcp", "/api/v1/events")
"""Beginnings of paths whose answers last as long as somebody reads them."""

_LEAST_TOKEN: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")
_OWN: Final = ("none", "same-origin")
"""Values of Sec-Fetch-Site where a person or a page of this server asks."""

_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_CONTENT_POLICY: Final = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of access to a server.

    Attributes:
        token: known to the user and to programs that the user trusts.
        hosts: names and addresses under which the server may be asked, without ports.
        port: it listens on.
        write: whether requests may start jobs that write.
        tickets: tokens for one use each, for command lines of browsers, which other users of the machine can read.
    """

    token: str
    hosts: frozenset[str]
    port: int
    write: bool = False
    tickets: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls, host: str, port: int, *, token: str | None = None, names: Iterable[str] = (), write: bool = False
    ) -> Access:
        """The rules for an address to listen on.

        Args:
            host: the address.
            port: to listen on.
            token: from the user; a random one where None.
            names: further names under which the server may be asked.
            write: whether requests may start jobs that write.

        Raises:
            UsageError: the token is too short or has other characters than a URL takes, a name is none, or others on
                the network could reach the server and it has no name.
        """
        names = [name.strip().lower().strip("[]") for name in names]
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(f"invalid --allow-host: {name!r}", "give a name such as media.local, without port")
        if token is not None and not (_TOKEN.fullmatch(token) and len(token) >= _LEAST_TOKEN):
            raise UsageError(
                f"the token cannot be used: it needs {_LEAST_TOKEN} or more letters, digits or . _ ~ -",
                "leave it out, and clamr makes one",
            )
        if not is_loopback(host) and not names:
            raise UsageError(
                f"--host {host} lets others on the network in, and no name is allowed",
                "name the host as they will call it: --allow-host NAME",
            )
        hosts = frozenset((*names, *LOOPBACK, *((host,) if host not in ("", "0.0.0.0", "::") else ())))  # noqa: S104
        return cls(token or secrets.token_urlsafe(32), hosts, port, write)

    def ticket(self) -> str:
        """A token that lets one browser in, once."""
        ticket = secrets.token_urlsafe(32)
        self.tickets.add(ticket)
        return ticket

    def admits(self, token: str) -> bool:
        """Whether a URL with this token lets a browser in."""
        if token in self.tickets:
            self.tickets.remove(token)
            return True
        return _equal(token, self.token)

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers share cookies between the ports of a host."""
        return f"clamr-{self.port}"

    @property
    def session(self) -> str:
        """Value of the cookie: proves the token without holding it."""
        return hmac.new(self.token.encode(), b"clamr session", hashlib.sha256).hexdigest()

    def knows(self, headers: Headers) -> bool:
        """Whether a request carries the token as a bearer."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and _equal(value.strip(), self.token)

    def has_session(self, headers: Headers) -> bool:
        """Whether a request carries the cookie."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and _equal(morsel.value, self.session)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in LOOPBACK or host.startswith("127.")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a request: characters of its URL, bytes of its headers and body, seconds of its parts."""

    url: int = 8192
    headers: int = 16_384
    body: int = 1 << 20
    receiving: float = 20.0
    answering: float = 150.0


class Refusal(Exception):
    """A request that is not answered: its status, what is wrong, and what to do."""

    def __init__(self, status: int, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.status, self.what, self.hint = status, what, hint


class Guard:
    """The middleware that lets only requests through which keep all rules, and puts the headers on every answer."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        limits: Limits | None = None,
        report: Callable[[Exception], None] | None = None,
    ) -> None:
        """Guard an application; ``report`` is called with errors that no code expected."""
        self._app, self._access, self._limits, self._report = app, access, limits or Limits(), report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no web sockets here.
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False
        broken: list[Refusal] = []

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                if broken:
                    # Whoever read the body took this for an error of their own.
                    raise broken.pop()
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                if "server" in headers:
                    del headers["server"]
            await send(message)

        try:
            self._check(scope)
            if (location := self._entrance(scope)) is not None:
                await self._enter(scope, location, guarded_send)
                return
            _check_origin(scope)
            self._authenticate(scope)
            body = self._bounded(receive, broken)
            if scope["path"].startswith(LONG):
                await self._app(scope, body, guarded_send)
            else:
                await asyncio.wait_for(self._app(scope, body, guarded_send), self._limits.answering)
        except Refusal as refusal:
            if started:
                raise
            is_read = "text/html" in Headers(scope=scope).get("accept", "")
            await _refuse(refusal, guarded_send, for_people=is_read)
        except TimeoutError:
            if not started:
                await _refuse(Refusal(503, "the answer took too long", "ask for less, or try again"), guarded_send)
        except Exception as error:
            if self._report is not None:
                self._report(error)
            if started:
                raise
            await _refuse(Refusal(500, "an unexpected error", "the terminal of clamr serve says more"), guarded_send)

    def _check(self, scope: Scope) -> None:
        """Refuse a request of the wrong size, host or origin."""
        limits, headers = self._limits, Headers(scope=scope)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.url:
            raise Refusal(414, "the URL is too long", f"{limits.url} characters at most")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > limits.headers:
            raise Refusal(431, "the headers are too long", f"{limits.headers} bytes at most")
        if scope["method"] not in _METHODS:
            raise Refusal(405, f"{scope['method']} is not supported", f"use {', '.join(_METHODS)}")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_of(hosts[0]) not in self._access.hosts:
            raise Refusal(421, "this server does not answer for that host", "allow it with: clamr serve --allow-host")
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refusal(415, "the body must be JSON", "send content-type: application/json")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and int(length) <= limits.body):
            raise Refusal(413, "the body is too long", f"{limits.body} bytes at most")

    def _entrance(self, scope: Scope) -> str | None:
        """The place to go on at, where a URL has the token; None for other requests."""
        if scope["method"] != "GET" or scope["path"] != "/" or b"token=" not in scope["query_string"]:
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in pairs if name == "token"]
        if len(tokens) != 1 or not self._access.admits(tokens[0]):
            raise Refusal(401, "the token is not that of this server", "open the URL that clamr serve printed last")
        rest = urlencode([(name, value) for name, value in pairs if name != "token"])
        return f"/?{rest}" if rest else "/"

    async def _enter(self, scope: Scope, location: str, send: Send) -> None:
        """Give the browser its cookie and send it to the page without the token in its URL."""
        cookie = f"{self._access.cookie}={self._access.session}; HttpOnly; SameSite=Strict; Path=/"
        headers, status, body = [(b"set-cookie", cookie.encode())], 303, b""
        if Headers(scope=scope).get("sec-fetch-site", "none") in _OWN:
            headers.append((b"location", location.encode()))
        else:
            # After a link on another site the browser keeps the cookie back until a page from here asks.
            refresh = f'<meta http-equiv="refresh" content="0; url={escape(location)}">'
            status, body = 200, f"<!doctype html>{refresh}<title>clamr</title>".encode()
            headers.append((b"content-type", b"text/html; charset=utf-8"))
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _authenticate(self, scope: Scope) -> None:
        """Refuse who does not know the token."""
        headers, access = Headers(scope=scope), self._access
        if scope["path"] == HEALTH or access.knows(headers):
            return
        if not access.has_session(headers):
            raise Refusal(
                401, "this server needs its token", "open the URL that clamr serve printed, or send it as a bearer"
            )
        # A page on another port of this host has the same cookies; a browser says which page changes things.
        same = headers.get("sec-fetch-site") == "same-origin" or "origin" in headers
        if scope["method"] not in ("GET", "HEAD") and not same:
            raise Refusal(403, "a change must come from the page, or with the token as a bearer")

    def _bounded(self, receive: Receive, broken: list[Refusal]) -> Receive:
        """The body of a request, as long as it is short and comes in time; else a refusal is put on ``broken``."""
        limits, taken, complete = self._limits, 0, False

        async def bounded() -> Message:
            nonlocal taken, complete
            # After its body a client sends nothing until it goes, however long that takes.
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), limits.receiving)
            except TimeoutError:
                broken.append(Refusal(408, "the body did not come in time", "send it at once"))
                raise broken[-1] from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if taken > limits.body:
                    broken.append(Refusal(413, "the body is too long", f"{limits.body} bytes at most"))
                    raise broken[-1]
            return message

        return bounded


def _check_origin(scope: Scope) -> None:
    """Refuse a request that a page of another origin makes."""
    headers = Headers(scope=scope)
    own = headers.get("sec-fetch-site", "none") in _OWN
    origins = headers.getlist("origin")
    if not own or any(urlsplit(origin).netloc.lower() != headers["host"].lower() for origin in origins):
        raise Refusal(403, "a page of another origin asked", "open the page that clamr serve printed")


def _host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".") if "@" not in header else ""
    except ValueError:
        return ""


async def _refuse(refusal: Refusal, send: Send, *, for_people: bool = False) -> None:
    body, kind = json.dumps({"error": refusal.what, "hint": refusal.hint}).encode(), b"application/json"
    if for_people:
        text = escape(f"{refusal.what}: {refusal.hint}" if refusal.hint else refusal.what)
        page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>clamr</title><p>{text}</p></html>'
        body, kind = page.encode(), b"text/html; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="clamr"'))
    if refusal.status == 503:
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
