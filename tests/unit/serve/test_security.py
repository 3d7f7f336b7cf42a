"""Every rule of access, tried on a real server."""

import socket
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.serve import server
from clamr_cli.serve.security import Access, Limits
from tests.unit.serve.conftest import TOKEN, Served, serving

ROUTES = (
    "/",
    "/docs",
    "/openapi.json",
    "/api/v1/search?q=bees",
    "/api/v1/videos",
    "/api/v1/events",
    "/media/x",
    "/mcp",
)


def raw(port: int, *lines: str, body: bytes = b"") -> bytes:
    """The beginning of the answer to a request that is written line by line."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        return connection.recv(65_536)


def test_other_machines_are_let_in_only_by_a_name() -> None:
    assert Access.of("127.0.0.1", 1).hosts == {"127.0.0.1", "localhost", "::1"}
    with pytest.raises(UsageError, match="no name is allowed"):
        Access.of("0.0.0.0", 1)
    assert "media.local" in Access.of("0.0.0.0", 1, names=["Media.local"]).hosts
    with pytest.raises(UsageError, match="allow-host"):
        Access.of("0.0.0.0", 1, names=["media.local:80/"])


@pytest.mark.parametrize("token", ["short", "x" * 31, "with a space in it, but long enough for it", ""])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="32 or more"):
        Access.of("127.0.0.1", 1, token=token)


def test_tokens_are_made_at_random_and_long() -> None:
    made = {Access.of("127.0.0.1", 1).token for _ in range(10)}
    assert len(made) == 10
    assert min(map(len, made)) >= 43


@pytest.mark.parametrize("path", [*ROUTES, "/healthz"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "x@127.0.0.1", "[", ""])
def test_a_foreign_host_is_refused_everywhere(served: Served, path: str, host: str) -> None:
    assert served(path, host=host).status in (400, 421)


def test_a_second_or_absent_host_is_refused(served: Served) -> None:
    assert b" 400 " in raw(served.port, "GET / HTTP/1.1").partition(b"\r\n")[0]
    assert b" 4" in raw(served.port, "GET / HTTP/1.1", "Host: localhost", "Host: evil").partition(b"\r\n")[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST.", "[::1]"])
def test_our_own_names_are_answered(served: Served, host: str) -> None:
    assert served("/healthz", host=f"{host}:{served.port}").status == 200


@pytest.mark.parametrize("path", [*ROUTES, "/healthz"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_origins_are_refused_everywhere(served: Served, path: str, headers: dict[str, str]) -> None:
    assert served(path, **headers).status == 403


def test_our_own_page_is_answered(served: Served) -> None:
    own = {"origin": f"http://127.0.0.1:{served.port}", "sec_fetch_site": "same-origin"}
    assert served("/api/v1/videos", **own).status == 200


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_answered_without_the_token(served: Served, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"cookie": "clamr=1"}):
        answer = served(path, token=False, **headers)
        assert (answer.status, set(answer.json())) == (401, {"error", "hint"})


def test_people_are_told_in_a_page_what_they_lack(served: Served) -> None:
    answer = served("/", token=False, accept="text/html,*/*")
    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert b"open the URL that clamr serve printed" in answer.body


def test_every_route_of_the_api_asks_for_the_token(served: Served) -> None:
    paths = served("/openapi.json").json()["paths"]
    assert len(paths) > 12
    for path in paths:
        if path != "/healthz":
            assert served(path.replace("{", "").replace("}", ""), token=False).status == 401


def test_the_sign_of_life_says_nothing_more(served: Served) -> None:
    answer = served("/healthz", token=False)
    assert (answer.status, answer.json()) == (200, {"ok": True})


def enter(served: Served, token: str, **headers: str) -> tuple[int, dict[str, str]]:
    answer = served(f"/?q=bees%26&token={token}", token=False, **headers)
    return answer.status, answer.headers


def test_the_opened_address_gives_a_cookie_and_loses_its_token(served: Served) -> None:
    status, headers = enter(served, TOKEN, sec_fetch_site="none")
    assert (status, headers["location"]) == (303, "/?q=bees%26")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert TOKEN not in str(headers)
    assert served("/", token=False, cookie=f"other=1; {cookie}").status == 200
    assert served("/", token=False, cookie=cookie.replace("=", "=0")).status == 401


def test_a_link_on_another_page_leads_in_by_a_page_of_ours(served: Served) -> None:
    answer = served(f"/?token={TOKEN}", token=False, sec_fetch_site="cross-site")
    assert answer.status == 200
    assert b'content="0; url=/"' in answer.body
    assert "set-cookie" in answer.headers


def test_a_wrong_token_in_the_address_is_refused(served: Served) -> None:
    assert enter(served, "wrong")[0] == 401
    assert served(f"/?token={TOKEN}&token=x", token=False).status == 401
    assert served(f"/api/v1/videos?token={TOKEN}", token=False).status == 401


def test_a_ticket_lets_in_once(served: Served) -> None:
    ticket = served.access.ticket()
    assert [enter(served, ticket)[0] for _ in range(2)] == [303, 401]


def test_a_change_by_cookie_must_come_from_our_page(served: Served) -> None:
    cookie = f"{served.access.cookie}={served.access.session}"
    ask = {"method": "POST", "body": b'{"kind": "index"}', "token": False, "cookie": cookie}
    json_body = {"content_type": "application/json"}
    assert "from the page" in served("/api/v1/jobs", **ask, **json_body).json()["error"]
    own = {"origin": f"http://127.0.0.1:{served.port}"}
    assert "allow-write" in served("/api/v1/jobs", **ask, **json_body, **own).json()["error"]


def test_only_json_is_taken(served: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert served("/api/v1/jobs", "POST", b"{}", content_type=kind).status == 415


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "TRACE"])
def test_nothing_is_answered_across_origins(served: Served, method: str) -> None:
    answer = served("/api/v1/videos", method, access_control_request_method="GET")
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", [*ROUTES[:3], "/api/v1/videos", "/healthz", "/nowhere", "/api/v1/videos/x"])
def test_every_answer_says_that_browsers_must_be_strict(served: Served, path: str) -> None:
    headers = served(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert "no-store" in headers["cache-control"] or "private" in headers["cache-control"]


def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    assert served("/?x=" + "a" * 9000).status == 414
    assert served("/", x="a" * 20_000).status == 431
    assert served(f"/api/v1/search?q={'a' * 1001}").status == 422
    long = {"content_type": "application/json", "content_length": str(2 << 20)}
    assert served("/api/v1/jobs", "POST", b"", **long).status == 413
    chunk = b"%x\r\n%s\r\n" % (1 << 18, b" " * (1 << 18))
    lines = ("POST /api/v1/jobs HTTP/1.1", f"Host: localhost:{served.port}", f"Authorization: Bearer {TOKEN}")
    more = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    assert b" 413 " in raw(served.port, *lines, *more, body=chunk * 5 + b"0\r\n\r\n").partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/%2e%2e/%2e%2e/app.py", "/..%2fapp.py", "/page/../../app.py", "//etc/passwd",
        "/media/..%2f..%2fetc%2fpasswd", "/api/v1/videos/..%2f..%2fetc", "/api/v1/thumbnails/%2fvideos%2flagos.mp4",
        "/api/v1/jobs/..%2f..%2f/clip", "/api/v1/videos/%00", "/%00",
    ],
)  # fmt: skip
def test_no_path_leads_out(served: Served, path: str) -> None:
    assert served(path).status in (404, 405)


@pytest.mark.slow
def test_a_slow_request_is_ended(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.3)
    with serving(index, limits=Limits(receiving=0.3)) as served:
        with closing(socket.create_connection(("127.0.0.1", served.port), timeout=20)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
            assert connection.recv(10) == b""
        lines = ("POST /api/v1/jobs HTTP/1.1", f"Host: localhost:{served.port}", f"Authorization: Bearer {TOKEN}")
        more = ("Content-Type: application/json", "Content-Length: 100")
        assert b" 408 " in raw(served.port, *lines, *more, body=b"{").partition(b"\r\n")[0]


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_dropped(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is closed and its connection gone; one that reads slowly gets everything."""
    monkeypatch.setattr(server, "_UNREAD", 2.0)
    path = "/vendor/hls.light.min.mjs"

    def ask(served: Served) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        lines = (f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", "", "")
        connection.sendall("\r\n".join(lines).encode())
        return connection

    with serving(index, sent_ahead=4096) as served:
        length = len(served(path).body)
        with closing(ask(served)) as slow:
            read = 0
            while read < length:
                read += len(part := slow.recv(16_384))
                assert part
                time.sleep(0.01)
        with closing(ask(served)) as ended, closing(ask(served)) as stalled:
            # It took all but what lies in buffers: the answer is complete, and waits to be read.
            taken = 0
            while taken < length - 55_000:
                taken += len(ended.recv(16_384))
            time.sleep(2 * server._UNREAD)
            for client, before in ((stalled, 0), (ended, taken)):
                assert before + _rest(client) < length
            end = time.monotonic() + 20
            while any(name.endswith(path) for name in _open_files()) and time.monotonic() < end:
                time.sleep(0.05)
            assert not any(name.endswith(path) for name in _open_files())


def _rest(connection: socket.socket) -> int:
    """The number of bytes that still come."""
    count = 0
    try:
        while part := connection.recv(65_536):
            count += len(part)
    except ConnectionResetError:
        pass
    return count


def _open_files() -> list[str]:
    """The files that this process has open, where the system tells."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


@pytest.mark.slow
def test_an_answer_that_takes_too_long_or_fails_is_one_line(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(index, limits=Limits(answering=0.3)) as served:
        monkeypatch.setattr(served.library, "videos", lambda path: time.sleep(1))
        slow = served("/api/v1/videos")
        assert (slow.status, slow.json()["error"]) == (503, "the answer took too long")

        def fail() -> None:
            raise ZeroDivisionError("a secret")

        monkeypatch.setattr(served.library, "status", fail)
        broken = served("/api/v1/status")
        assert (broken.status, broken.json()["error"]) == (500, "an unexpected error")
        assert b"secret" not in broken.body
        assert [type(error) for error in served.reported] == [ZeroDivisionError]


def test_hostile_text_of_videos_stays_text(served: Served) -> None:
    for path in (f"/api/v1/search?q={quote('sale today')}", "/api/v1/videos", "/docs"):
        body = served(path).body
        assert b"\x1b" not in body
        assert "\u202e".encode() not in body
