"""``clamr index`` shows a run and ends, whatever the run does."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli.cli.commands.index import IndexArguments
from clamr_cli.cli.options import Context
from clamr_cli.cli.progress import IndexView, follow
from clamr_cli.events import Discovered, Event, Finished, Indexed, Skipped
from clamr_cli.index.pipeline import IndexOptions
from clamr_cli.selection import index_options
from tests.unit.cli.conftest import Clamr


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Restore the signal handlers that a run changes."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


Capture = pytest.CaptureFixture[bytes]

DONE = (Discovered(2, 0, 2), Indexed("/a.mp4", "aa", 60.0, 1), Indexed("/b.mp4", "bb", 60.0, 1))


def _follow(events: Iterator[Event]) -> int:
    return follow(events, IndexView())


def test_a_run_without_failures_ends_with_0_and_a_summary(capfdbinary: Capture) -> None:
    assert _follow(iter((*DONE, Finished(2, 0, 0, 0, 0, 3.0)))) == 0
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert err.decode().splitlines()[-1] == "2 videos indexed in 3 s"


def test_a_failed_video_makes_it_3_and_is_named_even_when_quiet(capfdbinary: Capture) -> None:
    events = (*DONE, Skipped("/c.mp4", "it is empty", "copy it again"), Finished(2, 0, 0, 0, 1, 3.0))
    assert follow(iter(events), IndexView(), quiet=True) == 3
    assert capfdbinary.readouterr().err == b"failed /c.mp4: it is empty: copy it again\n"


def test_events_are_json_lines_on_stdout_and_talk_stays_on_stderr(capfdbinary: Capture) -> None:
    follow(iter((*DONE, Finished(2, 0, 0, 0, 0, 3.0))), IndexView(), json=True)
    out, err = capfdbinary.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["discovered", "indexed", "indexed", "finished"]
    assert b"2 videos indexed" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_closes_the_run_and_says_what_is_kept_and_how_to_go_on(
    number: signal.Signals, capfdbinary: Capture
) -> None:
    closed = []

    def events() -> Iterator[Event]:
        try:
            yield from DONE
            signal.raise_signal(number)
        finally:
            closed.append(True)

    assert _follow(events()) == 130
    assert closed == [True]
    last = capfdbinary.readouterr().err.decode().splitlines()[-1]
    assert last == "interrupted: 2 videos kept; run the same command again to go on"


@pytest.mark.parametrize("broken", ["stdout", "stderr"])
def test_output_that_nobody_reads_any_more_is_an_interruption(broken: str) -> None:
    script = (
        "import sys; from clamr_cli.cli.progress import IndexView, follow\n"
        "from clamr_cli.events import Discovered, Indexed\n"
        "def events():\n"
        "    yield Discovered(9, 0, 9)\n"
        "    for number in range(9): yield Indexed('/a.mp4', 'aa', 60.0, 1)\n"
        "sys.exit(follow(events(), IndexView(), json=True))"
    )
    read, written = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, broken: written}
    ended = subprocess.run([sys.executable, "-c", script], **streams, text=True, timeout=60)
    os.close(written)
    assert ended.returncode == 130
    if broken == "stdout":
        assert ended.stderr.splitlines()[-1] == "interrupted: 0 videos kept; run the same command again to go on"


def test_a_misspelled_name_is_told_before_an_index_is_made(clamr: Clamr, tmp_path: Path) -> None:
    ended = clamr("--db", str(tmp_path / "index"), "index", str(tmp_path / "no-such"))
    assert (ended.code, ended.out) == (2, b"")
    assert "no-such" in ended.err
    assert not (tmp_path / "index").exists()


def test_an_interruption_that_a_library_swallows_still_ends_the_run(capfdbinary: Capture) -> None:
    def events() -> Iterator[Event]:
        yield DONE[0]
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        yield from DONE[1:]

    assert _follow(events()) == 130
    assert capfdbinary.readouterr().err.decode().splitlines()[-1].startswith("interrupted: 0 videos kept")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_run_was_started_to_ignore_stays_ignored(number: signal.Signals) -> None:
    def events() -> Iterator[Event]:
        yield from DONE
        signal.raise_signal(number)

    signal.signal(number, signal.SIG_IGN)
    assert _follow(events()) == 0


def test_a_second_interruption_while_stopping_changes_nothing(capfdbinary: Capture) -> None:
    def events() -> Iterator[Event]:
        try:
            yield DONE[0]
            yield DONE[1]
        finally:
            signal.raise_signal(signal.SIGINT)

    def interrupted() -> Iterator[Event]:
        inner = events()
        try:
            yield next(inner)
            raise KeyboardInterrupt
        finally:
            inner.close()  # type: ignore[attr-defined]

    assert _follow(interrupted()) == 130
    assert capfdbinary.readouterr().err.decode().splitlines()[-1].startswith("interrupted: 0 videos kept")


def test_arguments_become_options_of_the_run() -> None:
    arguments = IndexArguments(
        language="EN",
        asr_model="whisper-tiny",
        ocr="rapidocr",
        ocr_lang=["en,fr", "de"],
        no_speech=True,
        no_ocr=True,
        device="mps",
    )
    options = index_options(arguments.settings(Context(), exclude=["*.tmp"], window=90.0), {"pool": 2})
    assert (options.exclude, options.language, options.window, options.device) == (("*.tmp",), "en", 90.0, "mps")
    assert (options.speech, options.text, options.encoder_settings) == (False, False, {"pool": 2})
    assert (options.asr.model, options.asr.language, options.asr.device) == ("whisper-tiny", "en", "mps")
    assert (options.ocr.engine, options.ocr.languages, options.ocr.device) == ("rapidocr", ("en", "fr", "de"), "mps")


def test_without_arguments_a_run_does_what_the_library_does_by_default() -> None:
    options = index_options(IndexArguments().settings(Context()), {})
    assert options == IndexOptions(cache=options.cache)
