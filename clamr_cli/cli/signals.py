"""The end of a command: every error becomes one line and an exit code, signals become interruptions."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

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
from clamr_cli.text import escape_terminal, size

# The root of the parser's errors; Typer gives it no public name.
_ParserError: Final[type[Exception]] = typer.BadParameter.__bases__[0]
_BEFORE_COMMAND: Final = ("--db", "--config")
"""Options of the program itself, which many people look for behind the command."""

_FILES: Final = 4096
"""Open files that are allowed where the user's limit can be raised to it."""

_LEAST_FILES: Final = 64
_LEAST_MEMORY: Final = 1 << 30
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_PATH_REFUSED: Final = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP
}  # fmt: skip
"""Errors of the system about locations that the user chose and no command can use."""


def run(program: Any, arguments: Sequence[str]) -> int:  # noqa: ANN401 -- Typer's command has no public type
    """Run a command line and return its exit code, whatever happens; no traceback reaches the terminal.

    Args:
        program: the command, as ``typer.main.get_command`` makes it.
        arguments: what follows the program's name; none asks for help.
    """
    try:
        with program.make_context("clamr", list(arguments) or ["--help"]) as context:
            code = program.invoke(context)
        sys.stdout.flush()
        return int(code or EXIT_FOUND)
    except typer.Exit as end:
        return end.exit_code
    except _ParserError as error:
        return _fail(_usage_message(error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except ClamrError as error:
        return _fail("interrupted", EXIT_INTERRUPTED) if _hides_interrupt(error) else _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read the output had enough.
        leave_broken_pipes()
        return EXIT_FOUND
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # panics of Rust libraries are no Exception
        return _fail("interrupted", EXIT_INTERRUPTED) if _hides_interrupt(error) else _fail(_defect_message(error))


@contextlib.contextmanager
def interruptible(on_signal: Callable[[], None] | None = None) -> Iterator[Sequence[int]]:
    """In the block, signals that end a process raise KeyboardInterrupt; after it they mean what they meant before.

    What the process was started to ignore stays ignored: ``nohup`` and jobs in the background of a script rely on it.

    Args:
        on_signal: called before the exception is raised, where the end takes a while.

    Yields:
        The signals received, which grows; an exception alone can get lost in what a library calls back.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        if on_signal is not None:
            on_signal()
        raise KeyboardInterrupt

    previous = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


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
        raised = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
            files = raised
        if files < _LEAST_FILES:
            raise UsageError(f"only {files} files may be open at once", MORE_FILES)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY and memory < _LEAST_MEMORY:
        raise UsageError(f"only {size(memory)} of memory may be used", "raise the limit with: ulimit -v unlimited")


def leave_broken_pipes() -> None:
    """Discard output that nobody reads any more: what is still buffered must not fail again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, code: int = EXIT_USAGE) -> int:
    # Where it cannot be written, the exit code still says that something went wrong.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"clamr: {escape_terminal(message)}\n")
        sys.stderr.flush()
    return code


def _hides_interrupt(error: BaseException | None) -> bool:
    """True if an error was made of an interruption, as Python does with one in the body of a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _usage_message(error: Any) -> str:  # noqa: ANN401 -- see _ParserError
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "clamr"
    option = getattr(error, "option_name", "")
    if option in _BEFORE_COMMAND and command != "clamr":
        return f"{option} goes before the command: clamr {option} ... {command.removeprefix('clamr ')} ..."
    message = error.format_message().rstrip(".")
    return f"{message}{' See' if message.endswith('?') else ': see'} '{command} --help'"


def _defect_message(error: BaseException) -> str:
    """An error that no code of clamr expected, in one line; its traceback goes to a file.

    Raises:
        BaseException: the error itself, where CLAMR_DEBUG is set or nothing can be imported any more.
    """
    short = shortage(error)
    try:
        from clamr_cli import config
    except (OSError, ImportError, MemoryError):
        if short is None:
            raise
        return ": ".join(short)
    if config.debugging():
        raise error
    if short is not None:
        return ": ".join(short)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}: make room and run the command again"
    if isinstance(error, OSError) and error.filename and error.errno in _PATH_REFUSED:
        place = os.fsdecode(error.filename)
        return f"{place} cannot be used ({error.strerror}): check its name, and who may read and write it"
    lines = str(error).strip().splitlines() or ["no message"]
    return f"unexpected {type(error).__name__}: {lines[0][:300]}: {_log_traceback(config.state_folder())}"


def _log_traceback(folder: Any) -> str:  # noqa: ANN401 -- a path, which is imported late
    import traceback
    from datetime import UTC, datetime

    from clamr_cli.files import make_folder, private_file

    path = folder / "errors.log"
    trace = traceback.format_exc().encode("utf-8", "backslashreplace")
    try:
        make_folder(path.parent)
        with open(path, "ab", opener=private_file) as log:
            log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode() + trace)
    except OSError:
        return "set CLAMR_DEBUG=1 to see where; this is a defect of clamr"
    return f"this is a defect of clamr; its traceback is in {path}"
