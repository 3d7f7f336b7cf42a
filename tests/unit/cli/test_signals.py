import errno
import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer

from clamr_cli.cli.app import run
from clamr_cli.cli.progress import interruptible
from clamr_cli.errors import IndexLocked, MediaError, ModelError

Capture = pytest.CaptureFixture[str]


def _program(error: BaseException | None = None, code: int | None = None) -> object:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command()
    def only(number: int = 0) -> int | None:
        if error is not None:
            raise error
        return code

    return typer.main.get_command(app)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_a_command_returns_its_exit_code(returned: int | None, code: int) -> None:
    assert run(_program(code=returned), ["--number", "1"]) == code


@pytest.mark.parametrize(
    ("error", "code"), [(ModelError("no model", "pull it"), 2), (IndexLocked("x"), 2), (MediaError("x"), 3)]
)
def test_an_error_on_purpose_is_one_line_and_its_own_exit_code(error: Exception, code: int, capsys: Capture) -> None:
    assert run(_program(error), ["--number", "1"]) == code
    assert capsys.readouterr().err == f"clamr: {error}\n"


def test_control_characters_of_an_error_are_escaped(capsys: Capture) -> None:
    run(_program(ModelError("bad\n\x1b[2Jname \udce9", "fix it")), ["--number", "1"])
    assert capsys.readouterr().err == "clamr: bad\\n\\x1b[2Jname \\xe9: fix it\n"


def test_wrong_usage_is_one_line_that_says_where_help_is(capsys: Capture) -> None:
    assert run(_program(), ["--number", "\x1b[2J"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--number" in told
    assert "--help" in told
    assert "\x1b" not in told


def test_an_interruption_is_130(capsys: Capture) -> None:
    assert run(_program(KeyboardInterrupt()), ["--number", "1"]) == 130
    assert capsys.readouterr().err == "clamr: interrupted\n"


@pytest.mark.parametrize("kind", [RuntimeError, ModelError])
def test_an_error_that_was_made_of_an_interruption_is_one(kind: type[Exception], capsys: Capture) -> None:
    made = kind("Error calling __set_name__")
    made.__cause__ = RuntimeError("in between")
    made.__cause__.__context__ = KeyboardInterrupt()
    assert run(_program(made), ["--number", "1"]) == 130
    assert capsys.readouterr().err == "clamr: interrupted\n"


def test_a_full_disk_is_said_plainly(capsys: Capture) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/big/disk")
    assert run(_program(full), ["--number", "1"]) == 2
    assert capsys.readouterr().err.startswith("clamr: the disk is full (/big/disk): make room")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_a_place_that_the_system_refuses_is_no_defect(number: int, capsys: Capture) -> None:
    refused = OSError(number, os.strerror(number), "/my\n/place")
    assert run(_program(refused), ["--number", "1"]) == 2
    assert capsys.readouterr().err == (
        f"clamr: /my\\n/place cannot be used ({os.strerror(number)}): check its name, and who may read and write it\n"
    )


def test_a_defect_is_one_line_that_names_the_log_with_the_traceback(home: Path, capsys: Capture) -> None:
    assert run(_program(ValueError("odd\nvalue")), ["--number", "1"]) == 2
    told = capsys.readouterr().err
    log = home / "state" / "clamr" / "errors.log"
    assert told == f"clamr: unexpected ValueError: odd: this is a defect of clamr; its traceback is in {log}\n"
    assert "Traceback" in log.read_text()
    assert "ValueError: odd" in log.read_text()


def test_a_defect_without_a_place_for_its_log_is_still_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
    assert run(_program(ValueError("odd")), ["--number", "1"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "CLAMR_DEBUG=1" in told


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMR_DEBUG", "1")
    with pytest.raises(ValueError, match="odd"):
        run(_program(ValueError("odd")), ["--number", "1"])


@pytest.mark.slow
def test_a_reader_that_had_enough_is_no_error() -> None:
    script = (
        "import sys; from clamr_cli.cli.output import write; import typer; from clamr_cli.cli.app import run\n"
        "app = typer.Typer(rich_markup_mode=None, add_completion=False)\n"
        "@app.command()\n"
        "def endless() -> None:\n"
        "    while True: write([b'x' * 4096])\n"
        "sys.exit(run(typer.main.get_command(app), ['--', *sys.argv[1:]]))"
    )
    read, written = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=written, stderr=subprocess.PIPE, text=True)
    os.close(written)
    os.read(read, 10)
    os.close(read)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, "")


def test_a_complaint_that_nobody_can_hear_leaves_the_exit_code() -> None:
    script = "from clamr_cli.cli import main; raise SystemExit(main(['no-such-command']))"
    read, written = os.pipe()
    os.close(read)
    process = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=written, timeout=60)
    os.close(written)
    assert (process.returncode, process.stdout) == (2, b"")


def test_an_interruption_while_the_program_is_still_being_imported_is_one_line() -> None:
    script = (
        "import runpy, signal, sys\n"
        "class Interrupting:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'clamr_cli.cli.options': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "runpy.run_module('clamr_cli', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "clamr: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize(("closed", "told"), [(">&-", ""), ("<&-", "clamr 0"), (">&- 2>&- <&-", "")])
def test_closed_streams_are_as_good_as_empty_ones(closed: str, told: str) -> None:
    # It may be started by something that has none, such as a job of the system.
    command = f"exec {shlex.quote(sys.executable)} -m clamr_cli --version {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout[:7], ended.stderr) == (0, told, "")


class PanicException(BaseException):
    """As pyo3 has it: no Exception."""


def test_a_panic_of_a_library_is_one_line_and_logged(home: Path, capsys: Capture) -> None:
    assert run(_program(PanicException("called `Option::unwrap()` on a `None` value")), ["--number", "1"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("clamr: unexpected PanicException: called `Option::unwrap()` on a `None` value: ")
    assert told.count("\n") == 1
    assert "PanicException" in (home / "state" / "clamr" / "errors.log").read_text()


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        PanicException("failed to spawn thread: Os { code: 11, kind: WouldBlock }"),
        _caused(ValueError("the read failed"), MemoryError()),
    ],
)
def test_too_little_memory_is_no_defect(error: BaseException, home: Path, capsys: Capture) -> None:
    assert run(_program(error), ["--number", "1"]) == 2
    assert capsys.readouterr().err.startswith("clamr: not enough memory: close other programs")
    assert not (home / "state").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/lib/x.so"),
        OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
        PanicException('Creating Tokio runtime: Os { code: 24, message: "Too many open files" }'),
        RuntimeError("cannot open: Too many open files (os error 24)"),
    ],
)
def test_too_many_open_files_are_no_defect(error: BaseException, capsys: Capture) -> None:
    assert run(_program(error), ["--number", "1"]) == 2
    assert capsys.readouterr().err == "clamr: too many files are open: raise the limit with: ulimit -n 4096\n"


def test_a_library_on_a_disk_without_execution_is_not_short_of_memory(home: Path, capsys: Capture) -> None:
    error = ImportError("x.so: failed to map segment from shared object: Operation not permitted")
    assert run(_program(error), ["--number", "1"]) == 2
    assert "unexpected ImportError" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("ulimit -n 16", "clamr: only 16 files may be open at once: raise the limit with: ulimit -n 4096\n"),
        ("ulimit -v 500000", "clamr: only 512.0 MB of memory may be used: raise the limit with: ulimit -v unlimited\n"),
    ],
)
def test_limits_under_which_nothing_works_are_named(limit: str, said: str, tmp_path: Path) -> None:
    command = f'{limit}; exec "{sys.executable}" -m clamr_cli --db "{tmp_path}/db" search x'
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


@pytest.mark.slow
def test_a_low_limit_of_open_files_that_can_be_raised_is_raised(tmp_path: Path) -> None:
    command = f'ulimit -Sn 16; exec "{sys.executable}" -m clamr_cli --db "{tmp_path}/db" search x'
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.stderr.startswith("clamr: no index at ")


SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_interruptions_in_the_block_and_what_they_were_after_it(number: int) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible(on_signal=lambda: heard.append("yes")) as told:
        signal.raise_signal(number)
    assert heard == ["yes"]
    assert told == [number]
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_was_ignored_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible() as told:
            signal.raise_signal(number)
        assert told == []
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_in_another_thread_it_is_no_trouble() -> None:
    with ThreadPoolExecutor(1) as threads:

        def work() -> str:
            with interruptible():
                return "done"

        assert threads.submit(work).result() == "done"
