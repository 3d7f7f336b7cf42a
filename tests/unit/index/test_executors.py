"""Executors: whatever a task does to its process, it fails alone, and nothing stays behind."""

import asyncio
import ctypes
import os
import platform
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.index.executors import Kind, Reporter, TaskFailed
from clamr_cli.index.executors.local import LocalExecutor, Worker, ignore

loaded: list[int] = []


def run_on(worker: Worker, task, *args, stall_timeout: float, on_report: Reporter = ignore):
    return asyncio.run(worker.run(task, *args, stall_timeout=stall_timeout, on_report=on_report))


def count(report: Reporter, to: int) -> int:
    for number in range(to):
        report(number, to)
    return to


def remember(_report: Reporter) -> tuple[int, int]:
    loaded.append(1)
    return os.getpid(), len(loaded)


def complain(report: Reporter) -> None:
    report(1, 2)
    raise MediaError("the file is torn", "get it again")


def blunder(report: Reporter) -> None:
    report(1, 2)
    raise ZeroDivisionError("oh\nno")


class Panic(BaseException):
    """As Rust libraries raise it."""


def starve(report: Reporter) -> None:
    report(1, 2)
    raise MemoryError


def panic(report: Reporter) -> None:
    report(1, 2)
    raise Panic("index out of bounds")


def get_killed(report: Reporter) -> None:
    report(1, 2)
    os.kill(os.getpid(), signal.SIGKILL)


def crash(report: Reporter) -> None:
    report(1, 2)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(report: Reporter) -> None:
    report(1, 2)
    time.sleep(60)


def dawdle(report: Reporter, seconds: float) -> int:
    for step in range(10):
        report(step, 10)
        time.sleep(seconds / 10)
    return os.getpid()


def chatter(_report: Reporter) -> str:
    os.write(1, b"noise on stdout\n")
    return "data"


def limits(_report: Reporter) -> tuple[int, int, bool]:
    with open("/proc/self/status", encoding="ascii") as status:
        bound = "NoNewPrivs:\t1" in status.read()
    return resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], bound


def take_memory(_report: Reporter) -> int:
    return len(bytearray(1 << 45))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    return libc


def use_memory(_report: Reporter) -> int:
    """Page faults of a thread that takes and frees 72 MB twice, the second time."""
    libc = _libc()
    faults: list[int] = []

    def take() -> None:
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = libc.malloc(72_000_000)
            ctypes.memset(block, 1, 72_000_000)
            libc.free(block)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return faults[1]


def resident(_report: Reporter) -> int:
    """Memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def fill_memory(report: Reporter) -> int:
    """The most memory while blocks of 1 MB are there, of which all but the last are freed."""
    libc = _libc()
    blocks = [libc.malloc(1 << 20) for _ in range(1700)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 20)
    most = resident(report)
    for block in blocks[:-1]:
        libc.free(block)
    return most


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.stop()


def test_reports_stream_back_in_order_from_one_process(worker: Worker):
    reports = []
    assert run_on(worker, count, 4, stall_timeout=30, on_report=lambda *report: reports.append(report)) == 4
    assert reports == [(number, 4, None) for number in range(4)]
    first, _ = run_on(worker, remember, stall_timeout=30)
    second, times = run_on(worker, remember, stall_timeout=30)
    assert first == second != os.getpid()
    assert times == 2


def test_errors_of_the_task_arrive_whole_and_the_process_lives_on(worker: Worker):
    with pytest.raises(MediaError) as caught:
        run_on(worker, complain, stall_timeout=30)
    assert (caught.value.what, caught.value.hint) == ("the file is torn", "get it again")
    process, _ = run_on(worker, remember, stall_timeout=30)
    with pytest.raises(MediaError):
        run_on(worker, complain, stall_timeout=30)
    assert run_on(worker, remember, stall_timeout=30) == (process, 2)


def test_a_defect_becomes_one_line(worker: Worker):
    with pytest.raises(TaskFailed) as caught:
        run_on(worker, blunder, stall_timeout=30)
    assert caught.value.what == "ZeroDivisionError: oh no"


@pytest.mark.slow
def test_a_crash_is_named_and_the_next_task_gets_a_new_process(worker: Worker):
    with pytest.raises(TaskFailed, match="SIGSEGV"):
        run_on(worker, crash, stall_timeout=30)
    assert run_on(worker, count, 1, stall_timeout=30) == 1


def test_a_process_that_the_system_killed_may_have_had_too_little_memory(worker: Worker):
    with pytest.raises(TaskFailed, match="SIGKILL") as caught:
        run_on(worker, get_killed, stall_timeout=30)
    assert caught.value.hint.startswith("not enough memory? close other programs")


@pytest.mark.parametrize(("task", "what"), [(starve, "not enough memory"), (panic, "Panic: index out of bounds")])
def test_a_task_that_gets_no_memory_or_panics_is_an_error_and_the_process_goes_on(worker: Worker, task, what: str):
    with pytest.raises(TaskFailed, match=what):
        run_on(worker, task, stall_timeout=30)
    assert run_on(worker, count, 1, stall_timeout=30) == 1


@pytest.mark.slow
def test_a_task_that_stalls_is_stopped(worker: Worker):
    assert run_on(worker, count, 1, stall_timeout=30) == 1
    with pytest.raises(TaskFailed, match="said nothing"):
        run_on(worker, hang, stall_timeout=0.5)
    assert run_on(worker, count, 1, stall_timeout=30) == 1


@pytest.mark.slow
def test_an_abandoned_task_does_not_answer_the_next(worker: Worker):
    def give_up(done: float, total: float, part: object = None, /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(worker, count, 1000, stall_timeout=30, on_report=give_up)
    assert run_on(worker, count, 2, stall_timeout=30) == 2


async def run(executor: LocalExecutor, kind, task, *args, stall_timeout: float = 30, on_report: Reporter = ignore):
    return await executor.run(kind, task, *args, stall_timeout=stall_timeout, on_report=on_report)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(tmp_path / "workers.log", 1, encoders=2)
    yield executor
    executor.stop()


@pytest.mark.slow
def test_tasks_of_one_kind_share_its_processes_and_those_of_several_run_at_once(executor: LocalExecutor):
    async def work() -> list[int]:
        kinds = ("encode", "encode", "speech", "encode", "speech")
        return await asyncio.gather(*(run(executor, kind, dawdle, 0.2) for kind in kinds))

    first, second, speech, third, again = asyncio.run(work())
    assert first != second
    assert third in (first, second)
    assert speech == again not in (first, second)


@pytest.mark.slow
def test_on_a_single_core_kinds_that_load_the_same_share_a_process(tmp_path: Path):
    executor = LocalExecutor(tmp_path / "workers.log", 1, single_core=True)
    kinds: tuple[Kind, ...] = ("ocr", "encode", "decode", "sidecars", "speech")

    async def work() -> list[int]:
        return await asyncio.gather(*(run(executor, kind, dawdle, 0.2) for kind in kinds))

    try:
        ocr, encode, decode, sidecars, speech = asyncio.run(work())
    finally:
        executor.stop()
    assert (ocr, decode) == (encode, sidecars)
    assert len({ocr, decode, speech}) == 3


@pytest.mark.slow
def test_a_crash_and_a_stall_end_their_task_and_no_other(executor: LocalExecutor):
    async def work() -> list[object]:
        tasks = [
            run(executor, "decode", crash),
            run(executor, "ocr", hang, stall_timeout=0.5),
            run(executor, "speech", dawdle, 1.0),
            run(executor, "decode", count, 3),
            run(executor, "ocr", count, 3),
        ]
        return await asyncio.gather(*tasks, return_exceptions=True)

    crashed, stalled, process, *counts = asyncio.run(work())
    assert "SIGSEGV" in str(crashed)
    assert "said nothing" in str(stalled)
    assert isinstance(process, int)
    assert counts == [3, 3]


@pytest.mark.slow
def test_a_cancelled_task_ends_its_process_at_once(executor: LocalExecutor):
    async def work() -> int:
        process, _ = await run(executor, "speech", remember)
        task = asyncio.create_task(run(executor, "speech", hang))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not _running(process)
        return await run(executor, "speech", count, 2)

    assert asyncio.run(work()) == 2


@pytest.mark.slow
def test_a_stopped_executor_leaves_no_process(executor: LocalExecutor):
    async def work() -> list[int]:
        return [(await run(executor, kind, remember))[0] for kind in ("decode", "sidecars", "encode")]

    processes = asyncio.run(work())
    executor.stop()
    assert not any(map(_running, processes))


def test_libraries_print_into_the_log(tmp_path, capfd):
    worker = Worker("test", log=tmp_path / "log")
    assert run_on(worker, chatter, stall_timeout=30) == "data"
    worker.stop()
    assert "noise on stdout" in (tmp_path / "log").read_text()
    assert capfd.readouterr().out == ""


def test_the_error_classes_survive_pickling(worker: Worker):
    assert issubclass(TaskFailed, MediaError)
    assert not issubclass(TaskFailed, UsageError)


@pytest.mark.slow
def test_children_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from clamr_cli.index.executors.local import Worker
            from tests.unit.index.test_executors import remember, run_on
            if __name__ == "__main__":
                worker = Worker("test")
                child, _ = run_on(worker, remember, stall_timeout=30)
                print(child, flush=True)
                time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _running(child):
        time.sleep(0.05)
    assert not _running(child)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = f"/proc/{pid}/stat"
    # A process whose parent died first may stay a zombie until init collects it.
    return not (os.path.exists(status) and open(status).read().split()[2] == "Z")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can confine processes")
def test_a_confined_process_has_limits_and_others_have_none() -> None:
    confined, free = Worker("test", confined=True), Worker("test")
    try:
        memory, cores, bound = run_on(confined, limits, stall_timeout=20)
        assert 4 << 30 < memory < 1 << 40
        assert (cores, bound) == (0, True)
        with pytest.raises(TaskFailed, match="not enough memory"):
            run_on(confined, take_memory, stall_timeout=20)
        assert run_on(confined, count, 2, stall_timeout=20) == 2
        own = (resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], False)
        assert run_on(free, limits, stall_timeout=20) == own
    finally:
        confined.stop()
        free.stop()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_was_freed_is_used_again(worker: Worker) -> None:
    assert run_on(worker, use_memory, stall_timeout=20) < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a function of glibc")
def test_a_large_process_gives_back_what_is_free(worker: Worker) -> None:
    large = run_on(worker, fill_memory, stall_timeout=60)
    assert run_on(worker, resident, stall_timeout=20) < large / 2
