"""What ends a command: every error becomes one line and an exit code, and no traceback reaches the terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import typer

from clamr_cli.errors import (
    EXIT_FOUND,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    MORE_FILES,
    ClamrError,
    UsageError,
    shortage,
)

# Not where an error is reported: a process that can open no more files can import nothing either.
from clamr_cli.render.text import escape_terminal, size

if TYPE_CHECKING:
    from collections.abc import Sequence

# The root of the parser's errors; Typer gives it no public name.
_ParserError: Final[type[Exception]] = typer.BadParameter.__bases__[0]
_BEFORE: Final = ("--db", "--config")
"""Options of the program itself, which many people look for behind the command."""

_FILES: Final = 4096
"""Open files that are allowed where the user's limit can be raised to it."""

_LEAST_FILES: Final = 64
_LEAST_MEMORY: Final = 1 << 30
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_REFUSED: Final = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP
}  # fmt: skip
"""What a system says of places that the user chose, and that no command can use."""


def guarded(program: Any, arguments: Sequence[str]) -> int:  # noqa: ANN401 -- Typer's command has no public type
    """Run a command line and return its exit code, whatever happens.

    Args:
        program: the command, as ``typer.main.get_command`` makes it.
        arguments: what follows the program's name; none asks for help.
    """
    try:
        with program.make_context("clamr", list(arguments) or ["--help"]) as context:
            code = program.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return int(code or EXIT_FOUND)
    except typer.Exit as done:
        return done.exit_code
    except _ParserError as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except ClamrError as error:
        if _began_with_interruption(error):
            return _interrupted()
        complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output had enough.
        leave_broken_pipes()
        return EXIT_FOUND
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # Panics of Rust libraries are no Exception.
        return _interrupted() if _began_with_interruption(error) else _defect(error)


def check_limits() -> None:
    """Let this process open as many files as clamr may need, and refuse limits under which no command gets far.

    Native libraries end a process without an error that could be reported when they get no file or no memory.

    Raises:
        UsageError: the user's limits allow too few open files, or too little memory.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FILES:
        wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            files = wanted
        if files < _LEAST_FILES:
            raise UsageError(f"only {files} files may be open at once", MORE_FILES)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY and memory < _LEAST_MEMORY:
        raise UsageError(f"only {size(memory)} of memory may be used", "raise the limit with: ulimit -v unlimited")


def _interrupted() -> int:
    complain("interrupted")
    return EXIT_INTERRUPTED


def _began_with_interruption(error: BaseException | None) -> bool:
    """Whether an error is what somebody made of an interruption, as Python does with one in the body of a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def complain(message: str) -> None:
    """One line on stderr; control characters are escaped."""
    if sys.stderr is not None:
        # Where it cannot be said, the exit code still says that something went wrong.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"clamr: {escape_terminal(message)}\n")
            sys.stderr.flush()


def _usage(error: Any) -> int:  # noqa: ANN401 -- see _ParserError
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "clamr"
    misplaced = getattr(error, "option_name", "")
    if misplaced in _BEFORE and command != "clamr":
        complain(f"{misplaced} goes before the command: clamr {misplaced} ... {command.removeprefix('clamr ')} ...")
        return EXIT_USAGE
    message = error.format_message().rstrip(".")
    complain(f"{message}{' See' if message.endswith('?') else ': see'} '{command} --help'")
    return EXIT_USAGE


def leave_broken_pipes() -> None:
    """Let output that nobody reads any more go nowhere: what is still buffered must not fail again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _defect(error: BaseException) -> int:
    short = shortage(error)
    try:
        from clamr_cli import config
    except (OSError, ImportError, MemoryError):
        if short is None:
            raise
        complain(": ".join(short))
        return EXIT_USAGE
    if config.debugging():
        raise error
    if short is not None:
        complain(": ".join(short))
        return EXIT_USAGE
    if isinstance(error, OSError) and error.errno in _FULL:
        place = f" ({error.filename})" if error.filename else ""
        complain(f"the disk is full{place}: make room and run the command again")
        return EXIT_USAGE
    if isinstance(error, OSError) and error.filename and error.errno in _REFUSED:
        place = os.fsdecode(error.filename)
        complain(f"{place} cannot be used ({error.strerror}): check its name, and who may read and write it")
        return EXIT_USAGE
    if isinstance(error, FileNotFoundError) and _stands_nowhere():
        complain("the folder you are in was deleted: change to another one")
        return EXIT_USAGE
    what = f"unexpected {type(error).__name__}: {_first_line(error)}"
    complain(f"{what}: {_log(config.state_folder())}")
    return EXIT_USAGE


def _stands_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def _log(folder: Any) -> str:  # noqa: ANN401
    """Write the traceback of the current exception to a file and say where it is."""
    import traceback
    from datetime import UTC, datetime
    from pathlib import Path

    from clamr_cli.files import make_folder, private_file

    path = Path(folder) / "errors.log"
    trace = traceback.format_exc().encode("utf-8", "backslashreplace")
    try:
        make_folder(path.parent)
        with open(path, "ab", opener=private_file) as log:
            log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode() + trace)
    except OSError:
        return "set CLAMR_DEBUG=1 to see where; this is a defect of clamr"
    return f"this is a defect of clamr; its traceback is in {path}"
