import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.index.executors.local import TaskFailed, Worker, report

loaded: list[int] = []


def count(to: int) -> Iterator[int]:
    yield from range(to)


def remember() -> Iterator[tuple[int, int]]:
    loaded.append(1)
    yield os.getpid(), len(loaded)


def complain() -> Iterator[int]:
    yield 1
    raise MediaError("the file is torn", "get it again")


def blunder() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError("oh\nno")


class Panic(BaseException):
    """As Rust libraries raise it."""


def starve() -> Iterator[int]:
    yield 1
    raise MemoryError


def panic() -> Iterator[int]:
    yield 1
    raise Panic("index out of bounds")


def get_killed() -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> Iterator[int]:
    yield 1
    time.sleep(60)


def tell() -> Iterator[str]:
    for step in ("one", "two"):
        report(step)
    yield "result"


def chatter() -> Iterator[str]:
    os.write(1, b"noise on stdout\n")
    yield "data"


def limits() -> Iterator[tuple[int, int, bool]]:
    with open("/proc/self/status", encoding="ascii") as status:
        bound = "NoNewPrivs:\t1" in status.read()
    yield resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], bound


def take_memory() -> Iterator[int]:
    yield len(bytearray(1 << 45))


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.stop()


def test_items_stream_back_in_order_from_one_process(worker: Worker):
    assert list(worker.run(count, 4, silence=30)) == [0, 1, 2, 3]
    [(first, _)] = worker.run(remember, silence=30)
    [(second, times)] = worker.run(remember, silence=30)
    assert first == second != os.getpid()
    assert times == 2


def test_errors_of_the_task_arrive_whole_and_the_process_lives_on(worker: Worker):
    with pytest.raises(MediaError) as caught:
        list(worker.run(complain, silence=30))
    assert (caught.value.what, caught.value.hint) == ("the file is torn", "get it again")
    assert list(worker.run(count, 1, silence=30)) == [0]


def test_a_defect_becomes_one_line(worker: Worker):
    with pytest.raises(TaskFailed) as caught:
        list(worker.run(blunder, silence=30))
    assert caught.value.what == "ZeroDivisionError: oh no"


def test_a_crash_is_named_and_the_next_task_gets_a_new_process(worker: Worker):
    with pytest.raises(TaskFailed, match="SIGSEGV"):
        list(worker.run(crash, silence=30))
    assert list(worker.run(count, 1, silence=30)) == [0]


def test_a_process_that_the_system_killed_may_have_had_too_little_memory(worker: Worker):
    with pytest.raises(TaskFailed, match="SIGKILL") as caught:
        list(worker.run(get_killed, silence=30))
    assert caught.value.hint.startswith("not enough memory? close other programs")


@pytest.mark.parametrize(("task", "what"), [(starve, "not enough memory"), (panic, "Panic: index out of bounds")])
def test_a_task_that_gets_no_memory_or_panics_is_an_error_and_the_process_goes_on(worker: Worker, task, what: str):
    with pytest.raises(TaskFailed, match=what):
        list(worker.run(task, silence=30))
    assert list(worker.run(count, 1, silence=30)) == [0]


def test_a_task_that_falls_silent_is_stopped(worker: Worker):
    assert list(worker.run(count, 1, silence=30)) == [0]
    with pytest.raises(TaskFailed, match="said nothing"):
        list(worker.run(hang, silence=0.5))
    assert list(worker.run(count, 1, silence=30)) == [0]


def test_an_abandoned_task_does_not_answer_the_next(worker: Worker):
    for item in worker.run(count, 1000, silence=30):
        assert item == 0
        break
    assert list(worker.run(count, 2, silence=30)) == [0, 1]


def test_callbacks_can_report_ahead_of_the_result(worker: Worker):
    assert list(worker.run(tell, silence=30)) == ["one", "two", "result"]
    assert list(tell()) == ["result"]


def test_a_stopped_worker_takes_no_more(worker: Worker):
    worker.stop()
    with pytest.raises(TaskFailed):
        list(worker.run(count, 1, silence=1))


@pytest.mark.parametrize("wait", [0.0, 0.005, 0.02, 0.05])
def test_a_worker_can_be_stopped_while_it_starts(worker: Worker, wait: float):
    failed = []

    def work():
        try:
            list(worker.run(count, 10**9, silence=30))
        except TaskFailed as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(wait)
    worker.stop()
    thread.join(timeout=20)
    assert len(failed) == 1


def test_what_libraries_print_goes_to_the_log(tmp_path, capfd):
    worker = Worker("test", log=tmp_path / "log")
    assert list(worker.run(chatter, silence=30)) == ["data"]
    worker.stop()
    assert "noise on stdout" in (tmp_path / "log").read_text()
    assert capfd.readouterr().out == ""


def test_the_error_classes_survive_pickling(worker: Worker):
    assert issubclass(TaskFailed, MediaError)
    assert not issubclass(TaskFailed, UsageError)


def test_children_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from clamr_cli.index.executors.local import Worker
            from tests.unit.index.test_local import remember
            if __name__ == "__main__":
                worker = Worker("test")
                [(child, _)] = worker.run(remember, silence=30)
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can confine processes")
def test_a_confined_process_has_limits_and_others_have_none() -> None:
    confined, free = Worker("test", confined=True), Worker("test")
    try:
        ((memory, cores, bound),) = confined.run(limits, silence=20)
        assert 4 << 30 < memory < 1 << 40
        assert (cores, bound) == (0, True)
        with pytest.raises(TaskFailed, match="not enough memory"):
            list(confined.run(take_memory, silence=20))
        assert list(confined.run(count, 2, silence=20)) == [0, 1]
        assert list(free.run(limits, silence=20)) == [
            (resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], False)
        ]
    finally:
        confined.stop()
        free.stop()
