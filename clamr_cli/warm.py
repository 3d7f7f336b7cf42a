"""Reading commands that a running ``clamr serve`` answers: the same output in a fraction of the time.

The client sends its arguments, its environment and its terminal to a process that has everything loaded, which runs the
very command and sends back the bytes that it printed and the exit code. So nothing can look different. Nothing is
printed before the whole answer is there: whatever goes wrong until then (no server, another index, encoder or version,
a server that is busy or hangs), the client runs the command itself and says nothing of it.

The client imports only what Python has loaded anyway, and the C half of ``socket``: ``typing`` or ``enum``, which other
modules import, take longer than all that it does.

The process is a child of ``clamr serve``, not a thread of it: a command owns its environment, folder and streams. It
answers one command at a time. Its socket is private, and both sides check that the other is the same user.
"""

from __future__ import annotations

import _socket
import os
import sys

from clamr_cli import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

READING: Final = frozenset(("find", "search", "similar", "explain", "show", "ls", "list", "status"))
"""Commands that read the index, answer and end."""

_VALUED: Final = frozenset(("--db", "--config", "--color"))
_NOT_ASKED: Final = ("-", "-o", "--out", "--save", "--forget", "--sheet", "--pictures", "--queries", "--executor")
"""Arguments with which a command reads stdin, writes files, draws pictures, takes long or works elsewhere."""

_TAKEN_WITHIN: Final = 0.5
_ANSWERED_WITHIN: Final = 5.0
_SENT_WITHIN: Final = 5.0
_LONGEST_REQUEST: Final = 1 << 20
_LONGEST_ANSWER: Final = 32 << 20
_LOOKED_AGAIN: Final = 10.0
_MOST_SERVERS: Final = 8
_ENDING: Final = ".socket"
_LONGEST_PATH: Final = 100
"""Bytes; systems allow 104 to 108."""

_TAKEN, _COLD, _DONE = b"\6", 254, 255
_HEAD: Final = 5
"""Bytes that begin each part of an answer: the stream, or how it ended, and the length, or the exit code."""


class _Broken(Exception):
    """The other side sent what it should not, or stopped before it was done."""


def ask(
    arguments: Sequence[str], *, taken_within: float = _TAKEN_WITHIN, answered_within: float = _ANSWERED_WITHIN
) -> int | None:
    """Have a server run a command, print what it printed, and return the exit code.

    Args:
        arguments: of the command line.
        taken_within: seconds in which a server must take the request.
        answered_within: seconds in which each part of the answer must come.

    Returns:
        None where no server answers; nothing is printed then.
    """
    if not hasattr(_socket, "AF_UNIX") or not hasattr(os, "getuid") or not _may_ask(arguments):
        return None
    folder = _folder()
    if not _is_private(folder) or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_ENDING))[:_MOST_SERVERS]
        request = _request(arguments) if names else b""
    except (OSError, ValueError):
        return None
    for name in names if 0 < len(request) <= _LONGEST_REQUEST else ():
        try:
            answer = _exchange(os.path.join(folder, name), request, taken_within, answered_within)
        except (OSError, _Broken):
            continue
        if answer is not None:
            return _print(*answer)
    return None


def command_of(arguments: Sequence[str]) -> str:
    """The name of the command that the arguments ask for; "" where there is none."""
    words = iter(arguments)
    for word in words:
        if word in _VALUED:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _may_ask(arguments: Sequence[str]) -> bool:
    left_out = (argument.partition("=")[0] for argument in arguments)
    return command_of(arguments) in READING and not any(argument in _NOT_ASKED for argument in left_out)


def _folder() -> str:
    state = "~/Library/Application Support" if sys.platform == "darwin" else "~/.local/state"
    folder = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_STATE_HOME") or os.path.expanduser(state)
    return os.path.join(folder, "clamr")


def _is_private(folder: str) -> bool:
    """Whether a folder is this user's, and nobody else can look into it."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o077


def _peer(connection: _socket.socket) -> int:
    """The id of the user at the other end; -1 where it cannot be told."""
    if hasattr(_socket, "SO_PEERCRED"):
        told = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    elif hasattr(_socket, "LOCAL_PEERCRED") or sys.platform == "darwin":
        told = connection.getsockopt(0, 1, 76)
    else:
        return -1
    return int.from_bytes(told[4:8], sys.byteorder)


def _request(arguments: Sequence[str]) -> bytes:
    streams = [text for stream in (sys.stdout, sys.stderr) for text in (stream.encoding, stream.errors or "strict")]
    fields = [__version__, os.path.dirname(__file__), os.getcwd(), *streams, str(len(arguments)), *arguments]
    fields += [f"{name}={value}" for name, value in {**os.environ}.items()]
    return b"\0".join(map(os.fsencode, fields))


def _exchange(
    path: str, request: bytes, taken_within: float, answered_within: float
) -> tuple[int, list[tuple[int, bytes]]] | None:
    """Send a request; the exit code and what was printed, by stream, or None where the server is another one."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(taken_within)
        connection.connect(path)
        if _peer(connection) != os.getuid():
            return None
        if connection.recv(1) != _TAKEN:
            return None
        handles = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
        length = len(request).to_bytes(4, "big")
        connection.sendmsg([length], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handles)])
        connection.sendall(request)
        connection.settimeout(answered_within)
        parts: list[tuple[int, bytes]] = []
        total = 0
        while True:
            stream, *rest = _receive(connection, _HEAD)
            number = int.from_bytes(rest, "big")
            if stream == _COLD:
                return None
            if stream == _DONE:
                return number, parts
            total += number
            if stream not in (1, 2) or total > _LONGEST_ANSWER:
                raise _Broken
            parts.append((stream, _receive(connection, number)))
    finally:
        connection.close()


def _head(stream: int, number: int) -> bytes:
    return bytes((stream,)) + number.to_bytes(_HEAD - 1, "big")


def _receive(connection: _socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        part = connection.recv(min(length - len(content), 1 << 16))
        if not part:
            raise _Broken
        content += part
    return bytes(content)


def _print(code: int, parts: Sequence[tuple[int, bytes]]) -> int:
    try:
        for stream, content in parts:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(stream, rest) :]
    except BrokenPipeError:
        # Whoever read the output had enough, as with a command that runs here.
        return 0
    return code


# --- the server -------------------------------------------------------------------------------------------------------


class Server:
    """The process that answers; see the module."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Take the options of ``clamr serve``: db, config, encoder, device, and ``own`` of the encoder."""
        from clamr_cli.config import load

        given = {name: options.get(name) for name in ("db", "encoder", "device")}
        self.settings = load(given, config=options.get("config"))
        self.own = options.get("own") or {}

    def run(self) -> None:
        """Answer until stdin closes.

        An index that cannot be searched yet, or that another server answers for, is looked at again now and then.
        """
        import select
        import signal
        import socket
        from pathlib import Path

        from clamr_cli.cli.output import warn
        from clamr_cli.files import make_folder

        parent = os.dup(0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends this process
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        folder = _folder()
        make_folder(Path(folder))
        path = os.path.join(folder, f"{_name(self.settings.db)}{_ENDING}")
        if not _is_private(folder) or len(os.fsencode(path)) > _LONGEST_PATH:
            return
        told = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            while not (is_free := _is_free(path)) or not self.warm_up() or not _bind(listening, path):
                if not is_free and not told:
                    told = True
                    warn("another clamr serve answers commands on this index; this one does when that one has ended")
                if select.select([parent], [], [], _LOOKED_AGAIN)[0]:
                    return
            try:
                listening.listen(8)
                while parent not in select.select([listening.fileno(), parent], [], [])[0]:
                    self._answer(listening.accept()[0])
            finally:
                os.unlink(path)

    def warm_up(self) -> bool:
        """Load what commands need; False where the index cannot be searched yet."""
        from clamr_cli import selection
        from clamr_cli.cli.commands import explain, ls, search, show, status  # noqa: F401
        from clamr_cli.cli.hits import print_hits  # noqa: F401
        from clamr_cli.cli.options import open_store
        from clamr_cli.cli.output import console
        from clamr_cli.errors import ClamrError

        console(sys.stderr)
        selection.keep(None)
        try:
            store = open_store(self.settings)
            settings = selection.searched_encoder(store, self.settings)
            own = selection.settings_for(store, settings.encoder, settings, self.own)
            encoder = selection.create_encoder(settings.encoder, settings, own)
            if not store.has_vectors(encoder.info.fingerprint):
                return False
            encoder.encode_queries(["warm"])
        except ClamrError:
            return False
        selection.keep(selection.Kept(settings, dict(own), encoder))
        return True

    def _answer(self, connection: socket.socket) -> None:
        """Answer one client. One that vanishes, stalls or sends nonsense costs a moment."""
        import socket

        handles: list[int] = []
        try:
            with connection:
                connection.settimeout(_TAKEN_WITHIN)
                if _peer(connection) != os.getuid():
                    return
                connection.sendall(_TAKEN)
                head, handles, _, _ = socket.recv_fds(connection, 4, 3)
                if len(head) != 4 or len(handles) != 3:
                    return
                length = int.from_bytes(head, "big")
                if length > _LONGEST_REQUEST:
                    return
                answer = self._run(_receive(connection, length).split(b"\0"), handles)
                connection.settimeout(_SENT_WITHIN)
                connection.sendall(answer)
        except (OSError, _Broken, ValueError, IndexError):
            return
        finally:
            for handle in handles:
                os.close(handle)

    def _run(self, fields: Sequence[bytes], handles: Sequence[int]) -> bytes:
        """Run a command on the streams of a client, and give what it printed."""
        from contextlib import suppress

        from clamr_cli import selection
        from clamr_cli.cli import main
        from clamr_cli.cli.options import open_store
        from clamr_cli.config import shows_pictures
        from clamr_cli.errors import ClamrError

        cold = _head(_COLD, 0)
        version, package, folder, *rest = map(os.fsdecode, fields)
        if (version, package) != (__version__, os.path.dirname(__file__)):
            return cold
        encodings, count = rest[:4], int(rest[4])
        arguments, variables = rest[5 : 5 + count], rest[5 + count :]
        kept, before = selection.kept(), dict(os.environ)
        assert kept is not None
        own_streams, own_handles = (sys.stdout, sys.stderr), [os.dup(number) for number in range(3)]
        parts: list[tuple[int, bytes]] = []
        kept.refused = False
        try:
            os.chdir(folder)
            _set_environment(dict(each.partition("=")[::2] for each in variables))
            for number, handle in enumerate(handles):
                os.dup2(handle, number)
            sys.stdout = _stream(1, encodings[0], encodings[1], parts)
            sys.stderr = _stream(2, encodings[2], encodings[3], parts)
            if os.isatty(1) and shows_pictures():
                return cold
            code = main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        except (Exception, SystemExit):
            return cold
        finally:
            sys.stdout, sys.stderr = own_streams
            for number, handle in enumerate(own_handles):
                os.dup2(handle, number)
                os.close(handle)
            _set_environment(before)
            os.chdir("/")
        if kept.refused:
            # Another index or encoder; perhaps this index has been encoded anew since.
            with suppress(ClamrError):
                if not kept.is_current(open_store(kept.settings), self.settings, self.own):
                    self.warm_up()
            return cold
        if sum(len(content) for _, content in parts) > _LONGEST_ANSWER:
            return cold
        printed = b"".join(_head(stream, len(content)) + content for stream, content in parts)
        return printed + _head(_DONE, code)


def _set_environment(variables: Mapping[str, str]) -> None:
    """Make these the variables of this process. Only what differs is changed."""
    import time

    before = dict(os.environ)
    for name in before.keys() - variables.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if before.get(name) != value})
    time.tzset()


def _stream(number: int, encoding: str, errors: str, parts: list[tuple[int, bytes]]) -> Any:  # noqa: ANN401
    """A stream such as Python makes of a standard one, that keeps what is written to it."""
    import io

    class Recorder(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def fileno(self) -> int:
            return number

        def isatty(self) -> bool:
            return os.isatty(number)

        def write(self, content: Any, /) -> int:  # noqa: ANN401 -- any buffer
            parts.append((number, bytes(content)))
            return len(content)

    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(io.BufferedWriter(Recorder()), encoding, errors, newline="\n", line_buffering=lines)


def _name(db: str) -> str:
    """A short name for the socket of an index."""
    from hashlib import blake2b

    return blake2b(os.fsencode(db if "://" in db else os.path.realpath(db)), digest_size=8).hexdigest()


def _bind(listening: _socket.socket, path: str) -> bool:
    """Give a socket its path, which this user alone can open; False where another server was faster."""
    import errno

    mask = os.umask(0o177)
    try:
        listening.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    finally:
        os.umask(mask)
    return True


def _is_free(path: str) -> bool:
    """Whether no server listens there; what a killed one left is removed."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TAKEN_WITHIN)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return True
        except ConnectionRefusedError:
            os.unlink(path)
            return True
        except OSError:
            return False
    return False


if __name__ == "__main__":
    import json

    Server(json.loads(sys.argv[1])).run()
