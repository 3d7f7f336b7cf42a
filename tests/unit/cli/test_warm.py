"""A warm command prints what a cold one prints, byte for byte; where no server helps, nothing is printed."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from clamr_cli import warm
from clamr_cli.store import Store
from tests.unit.cli import small_index
from tests.unit.cli.conftest import Clamr, Ended
from tests.unit.cli.small_index import BEES, LAGOS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets of Unix here")]
Ask = Callable[..., Ended | None]
PATIENCE = 120.0


def _steady(text: bytes) -> bytes:
    """Without the numbers that the terminal's links get by chance."""
    return re.sub(rb"(?<=\x1b\]8;id=)\d+", b"0", text)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short path: those of sockets are limited."""
    folder = Path(tempfile.mkdtemp(prefix="clamr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def index(place: Path) -> Path:
    """A small index of this module."""
    small_index.build(place / "index")
    return place / "index"


@pytest.fixture(scope="module")
def server(place: Path, index: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server of that index."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place), "CLAMR_CACHE": str(place / "cache")}
    command = [sys.executable, "-m", "clamr_cli.warm", json.dumps({"db": str(index), "encoder": "hashed"})]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        end = time.monotonic() + PATIENCE
        while not list(place.glob("clamr/*.socket")):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert list(place.glob("clamr/*")) == []


@pytest.fixture
def ask(place: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Ask:
    """Asks a server, which may take its time; None where none answered."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    monkeypatch.setenv("CLAMR_CACHE", str(place / "cache"))
    monkeypatch.setenv("CLAMR_DB", str(place / "index"))
    monkeypatch.setenv("CLAMR_ENCODER", "hashed")
    for number, name in enumerate(("stdout", "stderr"), 1):
        stream = io.TextIOWrapper(io.FileIO(os.dup(number), "w"), "utf-8", line_buffering=number == 2)
        monkeypatch.setattr(sys, name, stream)

    def call(*arguments: str, patience: float = PATIENCE) -> Ended | None:
        capfdbinary.readouterr()
        code = warm.ask(arguments, taken_within=patience, answered_within=patience)
        out, err = capfdbinary.readouterr()
        out = _steady(out)
        if code is None:
            assert (out, err) == (b"", b"")
            return None
        return Ended(code, out, err.decode())

    return call


INVOCATIONS = (
    ("search", "crowd", "--table"),
    ("search", "crowd", "--table", "--color", "always"),
    ("search", "crowd"),
    ("search", "crowd", "--json"),
    ("search", "crowd", "--csv"),
    ("search", "crowd", "--paths"),
    ("search", "sale", "--paths", "-0", "--modality", "ocr"),
    ("search", "the crowd speech", "--moments", "-n", "2"),
    ("search", "crowd", "--and", "speech", "--not", "bees"),
    ("search", "crowd", "--since", "2030"),
    ("search", '"no more crowd"'),
    ("search", "zebra helicopter"),
    ("search", "marchng"),
    ("search", "marchng", "--verbatim"),
    ("-q", "search", "marchng"),
    ("search", "crowd", "--limit", "0"),
    ("search", "crowd", "--limit", "many"),
    ("search", "crowd", "--json", "--tsv"),
    ("search", ""),
    ("search", "sale 50", "--table", "--limit", "1"),
    ("search", "@unknown"),
    ("find", "bees"),
    ("explain", LAGOS[:4], "--query", "crowd lagos", "--table"),
    ("explain", "1", "--query", "crowd"),
    ("show", BEES),
    ("show", "1a"),
    ("ls", "--table"),
    ("ls", "--path", "no-such"),
    ("status", "--failed"),
    ("search", "--help"),
    ("search", "crowd", "--no-such-option"),
)


@pytest.mark.parametrize("arguments", INVOCATIONS, ids=" ".join)
def test_the_output_is_the_same(
    arguments: tuple[str, ...], server: object, ask: Ask, clamr: Clamr, index: Path
) -> None:
    answered = ask(*arguments)
    remembered = Store.open(index).last_search()
    cold = clamr(*arguments)
    assert answered == replace(cold, out=_steady(cold.out))
    assert Store.open(index).last_search() == remembered


@pytest.mark.parametrize("columns", ["40", "132"])
def test_the_width_and_the_folder_are_the_clients(
    columns: str, server: object, ask: Ask, clamr: Clamr, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.chdir(place)
    arguments = ("search", "the crowd in lagos", "--table", "--db", "index")
    assert ask(*arguments) == clamr(*arguments)


def test_a_terminal_gets_the_same(server: object, ask: Ask) -> None:
    import pty

    def drawn(*command: str) -> bytes:
        inner, outer = pty.openpty()
        with subprocess.Popen([sys.executable, *command], stdin=outer, stdout=outer, stderr=outer) as process:
            os.close(outer)
            content = b""
            while True:
                try:
                    part = os.read(inner, 4096)
                except OSError:
                    break
                content += part
                if not part:
                    break
            assert process.wait(PATIENCE) == 0
        os.close(inner)
        return _steady(content)

    arguments = ["search", "crowd", "lagos"]
    patience = "taken_within=99, answered_within=99"
    warmed = f"import sys; from clamr_cli import warm; sys.exit(warm.ask({arguments}, {patience}))"
    cold = drawn("-c", "import sys; from clamr_cli.cli import main; sys.exit(main(sys.argv[1:]))", *arguments)
    assert b"\x1b[1m" in cold
    assert drawn("-c", warmed) == cold


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "-"),
        ("search", "crowd", "--sheet", "x.png"),
        ("search", "crowd", "--save", "x"),
        ("search", "crowd", "--db", "/nowhere"),
        ("search", "crowd", "--encoder", "mini"),
        ("index",),
        ("--version",),
        (),
    ],
    ids=" ".join,
)
def test_other_commands_indexes_and_encoders_are_left_to_the_client(
    arguments: tuple[str, ...], server: object, ask: Ask
) -> None:
    assert ask(*arguments) is None
    assert ask("search", "crowd") is not None


def test_a_server_of_another_version_does_not_answer(server: object, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "__version__", "0.0.1")
    assert ask("search", "crowd") is None


def test_another_user_is_not_believed(server: object, ask: Ask, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(warm, "_peer", lambda _: os.getuid() + 1)
    assert ask("search", "crowd") is None
    monkeypatch.undo()


def test_a_folder_that_others_can_enter_is_not_used(server: object, ask: Ask, place: Path) -> None:
    (place / "clamr").chmod(0o755)
    try:
        assert ask("search", "crowd") is None
    finally:
        (place / "clamr").chmod(0o700)
    (path,) = place.glob("clamr/*.socket")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\5", b"\xff\xff\xff\xff", b"x" * 4096])
def test_a_client_that_vanishes_or_talks_nonsense_costs_nothing(
    sent: bytes, server: object, ask: Ask, place: Path
) -> None:
    (path,) = place.glob("clamr/*.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        if sent:
            socket.send_fds(client, [sent], [0, 1, 2])
    assert ask("search", "crowd") is not None


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"\6", b"\6" + struct.pack("!BI", 7, 1), b"\6" + struct.pack("!BI", 1, 1 << 31), b"\6\1\0\0"],
)
def test_a_server_that_hangs_or_talks_nonsense_is_left(answer: bytes | None, ask: Ask, place: Path) -> None:
    folder = place / "clamr"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "0.socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        if answer is not None:
            listening.listen()

        def talk() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(answer or b"")
                stopped.wait(PATIENCE)

        stopped = threading.Event()
        talker = threading.Thread(target=talk, daemon=True)
        if answer is not None:
            talker.start()
        running = {other for other in folder.glob("*.socket") if other != path}
        for other in running:
            other.rename(other.with_suffix(".away"))
        try:
            assert ask("search", "crowd", patience=0.2) is None
        finally:
            stopped.set()
            path.unlink()
            for other in running:
                other.with_suffix(".away").rename(other)


def test_a_reader_that_had_enough_is_no_error(server: object, ask: Ask) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    before = os.dup(1)
    os.dup2(writing, 1)
    try:
        assert warm.ask(("ls",), taken_within=PATIENCE, answered_within=PATIENCE) == 0
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(writing)


def test_changes_and_another_index_in_its_place_are_seen(
    server: object, ask: Ask, clamr: Clamr, index: Path, place: Path
) -> None:
    commands = (("search", "bees"), ("ls",), ("status",))
    shutil.copytree(index, place / "kept")
    before = [ask(*command) for command in commands]
    try:
        store = Store.open(index)
        with store.writer("test"):
            store.remove_videos([store.resolve(BEES)])
        fewer = [ask(*command) for command in commands]
        assert fewer == [clamr(*command) for command in commands]
        assert fewer[0] != before[0]
        assert fewer[1] != before[1]
    finally:
        shutil.rmtree(index)
        (place / "kept").rename(index)
    assert [ask(*command) for command in commands] == before
    assert before == [clamr(*command) for command in commands]


def test_a_client_imports_hardly_anything(server: object, ask: Ask, place: Path) -> None:
    """Beside its own files it loads what Python loads anyway: each module of Python code would cost milliseconds."""

    def loaded(script: str) -> tuple[set[str], str]:
        script += "\nprint(*sys.modules, file=sys.stderr)"
        words = [sys.executable, "-c", script, "search", "crowd"]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
        return set(ended.stderr.split()), ended.stdout

    asking = "import sys, clamr_cli.__main__; from clamr_cli import warm\n"
    asking += "assert warm.ask(sys.argv[1:], taken_within=99, answered_within=99) == 0"
    bare, (modules, out) = loaded("import sys")[0], loaded(asking)
    assert "crowd" in out
    assert modules - bare <= {"__future__", "_socket", "clamr_cli", "clamr_cli.__main__", "clamr_cli.warm"}


def test_the_socket_lies_where_the_system_keeps_the_state_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert warm._folder() == platformdirs.user_state_dir("clamr", appauthor=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert warm._folder() == "/state/clamr"


def test_a_second_server_says_that_it_waits_and_takes_over(place: Path, index: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place / "two"), "CLAMR_CACHE": str(place / "cache")}
    (place / "two").mkdir(mode=0o700)
    path = place / "two" / "clamr" / f"{warm._name(str(index))}.socket"
    path.parent.mkdir(mode=0o700)
    program = "import json, sys; from clamr_cli import warm; warm._LOOKED_AGAIN = 0.1"
    program += "; warm.Server(json.loads(sys.argv[1])).run()"
    command = [sys.executable, "-c", program, json.dumps({"db": str(index), "encoder": "hashed"})]
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(100)
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stderr is not None
        assert b"another clamr serve answers" in process.stderr.readline()
    end = time.monotonic() + PATIENCE
    while not _listens(path) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    process.stdin.close()
    assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert not path.exists()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
