"""``clamr watch`` as a process: what comes is indexed, what goes is forgotten, and it ends cleanly."""

from __future__ import annotations

import contextlib
import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli.errors import IndexLocked
from clamr_cli.store import Store
from tests.bench.process import tree
from tests.clips import Clip
from tests.cluster import two_nodes
from tests.e2e.harness import PATIENCE, Clamr

pytest.importorskip("watchfiles")
pytestmark = pytest.mark.slow
HASHED = {"encoder": "hashed", "speech": "no", "text": "no"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    Clip().photo("cat", 1).write(path)
    return path


@pytest.fixture
def clamr(tmp_path: Path) -> Clamr:
    """The command line on an index that is not there yet."""
    (tmp_path / "empty.toml").touch()
    return Clamr(tmp_path / "my index", tmp_path, HASHED)


@contextlib.contextmanager
def _watching(clamr: Clamr, *arguments: str, lines: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        lines.open("wb") as err,
        subprocess.Popen(
            clamr.command("watch", *arguments), env=clamr.environment, stderr=err, stdin=subprocess.PIPE
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _writing(db: Path) -> Iterator[None]:
    """Writes to an index in the block, as soon as nobody else does."""
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(Store.open(db).writer("another command"))
                break
            except IndexLocked:
                assert time.monotonic() < end
                time.sleep(0.1)
        yield


def _until(process: subprocess.Popen[bytes], lines: Path, text: str) -> None:
    """Wait until a line of a running process has a text."""
    end = time.monotonic() + PATIENCE
    while text not in lines.read_text():
        assert process.poll() is None, lines.read_text()
        assert time.monotonic() < end, lines.read_text()
        time.sleep(0.1)


def test_a_folder_is_followed_until_it_is_told_to_stop(clamr: Clamr, tmp_path: Path, clip: Path) -> None:
    folder, lines = tmp_path / "in", tmp_path / "lines"
    folder.mkdir()
    shutil.copy2(clip, folder / "a.mp4")
    os.utime(folder / "a.mp4", (0, 0))
    with _watching(clamr, str(folder), lines=lines) as process:
        _until(process, lines, f"indexed {folder}/a.mp4")
        with _writing(clamr.db):
            (folder / "a.mp4").rename(folder / "b.mp4")
            _until(process, lines, "waiting: 'another command' is writing to the index")
        _until(process, lines, f"moved {folder}/a.mp4 -> {folder}/b.mp4")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert lines.read_text().splitlines()[-1] == "stopped; what is done is kept"
    assert clamr.listed() == ["b.mp4"]


def test_changes_are_worked_on_by_a_cluster_that_is_let_go_after_each_and_waited_for_when_it_is_away(
    clamr: Clamr, tmp_path: Path, clip: Path
) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    folder, lines = tmp_path / "in", tmp_path / "lines"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(two_nodes())
        more = ("--executor", "ray", "--address", cluster.address, "--workers", "1")
        process = stack.enter_context(_watching(clamr, str(folder), *more, lines=lines))
        for number, name in enumerate(("a.mp4", "b.mp4"), start=1):
            (folder / name).write_bytes(clip.read_bytes() + b"\0" * 8 * number)
            _until(process, lines, f"indexed {folder}/{name}")
            end = time.monotonic() + PATIENCE
            while any(b"ray::ClusterWorker" in _command(pid) for pid in tree(os.getpid())):
                assert time.monotonic() < end
                time.sleep(0.1)
        cluster.shutdown()
        shutil.copy2(clip, folder / "c.mp4")
        _until(process, lines, "waiting: there is no Ray cluster")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert clamr.listed() == ["a.mp4", "b.mp4"]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_second_watch_takes_over_from_one_that_is_killed(clamr: Clamr, tmp_path: Path, clip: Path) -> None:
    folder, lines, more = tmp_path / "in", tmp_path / "lines", tmp_path / "more"
    folder.mkdir()
    with _watching(clamr, str(folder), lines=lines) as first:
        _until(first, lines, f"watching {folder}")
        shutil.copy2(clip, folder / "a.mp4")
        _until(first, lines, f"indexed {folder}/a.mp4")
        with _watching(clamr, lines=more) as second:
            _until(second, more, f"{folder} is watched by another clamr: this one does when that one has ended")
            first.kill()
            _until(second, more, f"{folder} is watched by this clamr now")
            (folder / "a.mp4").rename(folder / "b.mp4")
            _until(second, more, f"moved {folder}/a.mp4 -> {folder}/b.mp4")
            assert more.read_text().count("is watched by another clamr") == 1


def test_an_attached_watch_ends_with_the_process_that_started_it(clamr: Clamr, tmp_path: Path) -> None:
    folder, lines = tmp_path / "in", tmp_path / "lines"
    folder.mkdir()
    with _watching(clamr, "--attached", str(folder), lines=lines) as process:
        _until(process, lines, f"watching {folder}")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_a_folder_that_is_not_there_is_refused(clamr: Clamr, tmp_path: Path) -> None:
    result = clamr("watch", str(tmp_path / "no"))
    assert (result.code, result.out) == (2, b"")
    assert len(result.err.splitlines()) == 1


def test_a_service_has_quoted_words(clamr: Clamr, tmp_path: Path) -> None:
    folder = tmp_path / 'my "clips" 100% $HOME'
    folder.mkdir()
    plist = plistlib.loads(clamr("service", "print", "launchd", "--", "watch", str(folder)).ok().out)
    assert plist["ProgramArguments"][-4:] == ["--db", str(tmp_path / "my index"), "watch", str(folder)]
    assert Path(plist["ProgramArguments"][0]).is_absolute()
    unit = clamr("service", "print", "systemd", "--", "watch", str(folder)).ok().out.decode()
    (command,) = (line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart="))
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    assert words == plist["ProgramArguments"]
    assert b"'rm'" in clamr("service", "print", "systemd", "--", "rm").err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_unit(clamr: Clamr, tmp_path: Path) -> None:
    unit = tmp_path / "clamr.service"
    unit.write_bytes(clamr("service", "print", "systemd").ok().out)
    (tmp_path / "run").mkdir(mode=0o700)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
