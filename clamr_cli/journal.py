"""Files of JSON lines that a run adds to and that the next run goes on with: whole lines survive a kill, and only they.

Every line of ours begins with the key ``id``: what a killed run left unfinished can be told from somebody's own file,
which is never touched.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final

from filelock import FileLock, Timeout

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FIRST_KEY: Final = b'{"id"'


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """No other run writes to a file during the block.

    A file that was not there before, and that is still empty where the block fails, is removed.

    Raises:
        UsageError: another run writes to it, or the folder cannot be written to.
    """
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place, thread_local=False)
    try:
        lock.acquire(blocking=False)
        if not place.exists():
            # The run before removed it between our opening and our locking it.
            lock.release()
            lock.acquire(blocking=False)
        new = not path.exists()
    except Timeout:
        raise UsageError(f"another run writes to {path}", "wait until it has finished, or name another file") from None
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if new and path.stat().st_size == 0:
                path.unlink()
        raise
    finally:
        with suppress(OSError):
            place.unlink()
        lock.release()


def whole_lines(path: Path, kind: str) -> list[str]:
    """The lines of a file of ours, without one that a killed run left unfinished; none where there is no file.

    Args:
        path: of the file.
        kind: what it is a file of, for messages: ``queries``.

    Raises:
        UsageError: it cannot be read, is no UTF-8, or ends in something that this program did not begin.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror})", "name another file with --out") from error
    whole = content[: _end_of_whole_lines(content, path, kind)]
    try:
        return whole.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise foreign(path, kind) from error


def opened(path: Path, kind: str) -> IO[bytes]:
    """A file of ours to add lines to, cut to its whole lines first.

    Raises:
        UsageError: it cannot be written, or see :func:`whole_lines`.
    """
    try:
        stream = path.open("r+b" if path.exists() else "w+b")
        content = stream.read()
        end = _end_of_whole_lines(content, path, kind)
        stream.truncate(end)
        stream.seek(end)
        if end and content[end - 1 : end] != b"\n":
            stream.write(b"\n")
        return stream
    except OSError as error:
        raise _unwritable(path, error) from error


def append(stream: IO[bytes], record: Mapping[str, Any], *, ascii_only: bool = False) -> None:
    """Add a line. It is on its way to the disk when this returns: a killed run loses nothing that it wrote.

    Args:
        stream: as :func:`opened` gives it.
        record: its first key is ``id``.
        ascii_only: for texts that were not cleaned: in ASCII no terminal obeys them.
    """
    line = json.dumps(record, ensure_ascii=ascii_only)
    # A byte of a file name that is no UTF-8 comes as a lone surrogate, whose escape is JSON's own.
    stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
    stream.flush()


def foreign(path: Path, kind: str) -> UsageError:
    """The error for a file that is not ours."""
    return UsageError(f"{path} is no file of {kind}", "name another file with --out; this one is left as it is")


def _end_of_whole_lines(content: bytes, path: Path, kind: str) -> int:
    """Where the last whole line of a file ends, in bytes."""
    end = content.rfind(b"\n") + 1
    rest = content[end:]
    if not rest.strip() or _is_object(rest):
        return len(content)
    # Only what looks like the beginning of a line of ours may be cut off; anything else is somebody's file.
    if rest.startswith(_FIRST_KEY) or _FIRST_KEY.startswith(rest):
        return end
    raise foreign(path, kind)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write {path} ({error.strerror})", "name another file with --out")
