"""Bad files give one line each, are recorded, and stop nothing else."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests import hostile
from tests.clips import Clip
from tests.e2e.harness import Clamr, Result


@pytest.fixture
def clamr(cache: Path, tmp_path: Path) -> Clamr:
    """An empty index. Recognition is left out where it is not what is tested: these are files that give no picture."""
    return Clamr(tmp_path / "index", cache, {"encoder": "hashed", "speech": "no", "text": "no"})


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with one good video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    hostile.small().write(folder / "good.mp4")
    return folder


def complaints(result: Result) -> list[str]:
    """The lines about files that failed."""
    return [line for line in result.err.decode().splitlines() if re.match(r"(\[\d+/\d+\] )?failed ", line)]


def failed(clamr: Clamr) -> dict[str, str]:
    """Failures that the index recorded: reason by file name."""
    records = clamr("status", "--failed", "--json").ok().records
    return {Path(record["path"]).name: record["reason"] for record in records}


def test_broken_files_are_recorded_and_the_others_indexed(clamr: Clamr, videos: Path) -> None:
    broken = hostile.broken_files(videos)
    result = clamr("index", str(videos))
    assert result.code == 3
    assert len(complaints(result)) == len(broken)
    for path in broken:
        assert sum(str(path) in line for line in complaints(result)) == 1
    reasons = failed(clamr)
    assert set(reasons) == {path.name for path in broken}
    assert all(reasons.values())
    assert clamr.listed() == ["good.mp4"]


def test_failed_files_are_tried_again_only_when_asked(clamr: Clamr, videos: Path) -> None:
    (videos / "late.mp4").write_bytes(b"")
    assert clamr.index(str(videos)).code == 3
    again = clamr.index(str(videos))
    assert (again.code, again.events("skipped")) == (0, [])
    retried = clamr.index("--retry-failed", str(videos))
    assert (retried.code, len(retried.events("skipped"))) == (3, 1)
    hostile.small("olive").write(videos / "late.mp4")
    assert clamr.index(str(videos)).ok().events("indexed")
    assert failed(clamr) == {}


def test_damaged_middle_costs_only_the_damage(clamr: Clamr, videos: Path) -> None:
    hostile.damaged_middle(videos / "scratched.mp4")
    clamr.index(str(videos)).ok()
    assert clamr.listed() == ["good.mp4", "scratched.mp4"]


def test_names_that_mean_harm_are_indexed_found_and_shown_harmless(clamr: Clamr, videos: Path) -> None:
    paths = hostile.named_badly(videos)
    indexing = clamr("index", str(videos))
    assert indexing.code == 0
    found = clamr("search", "mp4", "--paths", "-0", "--limit", "50")
    assert set(found.out.split(b"\0")) - {b""} >= set(paths)
    for shown in (
        indexing,
        clamr("ls"),
        clamr("ls", "--table"),
        clamr("search", "video", "--table"),
        clamr("ls", "--json"),
    ):
        assert b"\x1b" not in shown.out + shown.err
        assert "\u202e".encode() not in shown.out + shown.err
        assert b"Traceback" not in shown.err
    (clamr("rm", *(os.path.join(os.fsencode(videos), name) for name in hostile.NAMES))).ok()
    assert clamr.listed() == ["good.mp4"]


def test_files_of_bad_names_can_be_named(clamr: Clamr, videos: Path) -> None:
    clamr.index(*hostile.named_badly(videos)).ok()
    assert len(clamr.listed()) == len(hostile.NAMES)


def test_markup_in_tags_is_shown_as_text(clamr: Clamr, videos: Path) -> None:
    clip = hostile.small("gold")
    clip.tags = hostile.MARKUP
    clip.write(videos / "tags.mp4")
    clamr.index(str(videos)).ok()
    shown = clamr("search", "sale", "--table")
    assert b"[bold red]Sale[/]" in shown.out
    assert b"\x1b" not in shown.out


def test_ten_thousand_subtitles_are_searchable(clamr: Clamr, videos: Path) -> None:
    Clip(size=(64, 48), fps=1, gop=4).colour("black", 5000).write(videos / "marathon.mp4")
    hostile.many_lines(videos / "marathon.srt")
    clamr.having(speech="yes").index(str(videos)).ok()
    hit = clamr.search("purple submarine", "--modality", "speech")[0]
    assert Path(hit["path"]).name == "marathon.mp4"
    assert hit["start"] <= 7777 * 0.5 <= hit["end"]
    assert hit["at"] == pytest.approx(7777 * 0.5, abs=2.0)


@pytest.mark.parametrize("kind", [hostile.pipe, hostile.endless])
def test_pipe_or_device_is_refused_at_once(clamr: Clamr, videos: Path, kind) -> None:
    path = kind(videos / "stream.mp4")
    result = clamr("index", str(path))
    assert result.code == 3
    assert len(complaints(result)) == 1
    assert set(failed(clamr)) == {"stream.mp4"}


def test_a_link_to_nothing_is_told_and_counted(clamr: Clamr, videos: Path) -> None:
    (videos / "gone.mp4").symlink_to(videos / "nothing")
    result = clamr.index(str(videos))
    assert result.code == 3
    assert [(event["files"], event["to_do"]) for event in result.events("discovered")] == [(2, 2)]
    assert [event["reason"] for event in result.events("skipped")] == ["the link leads to nothing"]


def test_unreadable_file_is_recorded(clamr: Clamr, videos: Path) -> None:
    hostile.forbidden(videos / "secret.mp4")
    result = clamr("index", str(videos), preexec_fn=give_up_reading_everything)
    assert result.code == 3
    assert "permission" in failed(clamr)["secret.mp4"]
    assert clamr.listed() == ["good.mp4"]


def give_up_reading_everything() -> None:
    """Root reads what it is forbidden to; a process that drops these rights (capabilities(7)) does so no longer."""
    drop, override, search = 24, 1, 2
    for right in (override, search):
        ctypes.CDLL(None).prctl(drop, right, 0, 0, 0)


@pytest.mark.parametrize(("fate", "reason"), [(signal.SIGSTOP, "3 s"), (signal.SIGSEGV, "SIGSEGV")])
def test_decoder_that_hangs_or_crashes_costs_one_video(
    clamr: Clamr, videos: Path, fate: signal.Signals, reason: str
) -> None:
    # Two minutes of pictures, so that the decoder is certainly at work when it meets its fate.
    Clip(fps=4, gop=4).photo("galaxies", 120).write(videos / "fatal.mp4")
    run = clamr.having(time_limit="3").start("index", "--json", str(videos))
    for event in run.events():
        if event["event"] == "progress" and event["path"].endswith("fatal.mp4"):
            # The decoder alone, which is the first to be started: the other video may be encoded meanwhile.
            os.kill(run.workers()[0], fate)
            break
    events = [*run.events()]
    assert run.end().code == 3
    (skipped,) = [event for event in run.seen if event["event"] == "skipped"]
    assert skipped["path"].endswith("fatal.mp4")
    assert reason in skipped["reason"]
    assert events[-1]["event"] == "finished"
    assert set(failed(clamr)) == {"fatal.mp4"}
    assert clamr.listed() == ["good.mp4"]


def test_file_that_disappears_on_the_way_stops_nothing(clamr: Clamr, videos: Path) -> None:
    for number in range(8):
        hostile.small(f"hsl({number * 40}, 60%, 40%)").write(videos / f"part-{number}.mp4")
    run = clamr.start("index", "--json", str(videos))
    run.until("discovered")
    (videos / "part-7.mp4").unlink()
    *_, last = run.events()
    assert run.end().code == 3
    (skipped,) = [event for event in run.seen if event["event"] == "skipped"]
    assert skipped["path"].endswith("part-7.mp4")
    assert "gone" in skipped["reason"]
    assert last["indexed"] == 8


def test_full_disk_is_said_in_one_line_and_room_mends_it(clamr: Clamr, videos: Path) -> None:
    for number in range(12):
        hostile.small(f"hsl({number * 27}, 70%, 45%)").write(videos / f"part-{number}.mp4")
    clamr.db.mkdir()
    disk, index = shlex.quote(str(clamr.db)), shlex.join(map(str, clamr.command("index", str(videos))))
    story = f"""
        mount -t tmpfs -o size=1m tmpfs {disk} || exit 77
        {index}; test $? -eq 2 || exit 1
        mount -o remount,size=100m {disk}
        {index} 2>&1 || exit 1
        {shlex.join(map(str, clamr.command("ls", "--json")))}
    """
    boxed = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", story]
    if shutil.which("unshare") is None:
        pytest.skip("this system cannot give a process a small disk of its own")
    done = subprocess.run(boxed, env=clamr.environment, capture_output=True, check=False, timeout=300)
    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip("this machine lets no process mount a small disk of its own")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert sum(b"free some disk space" in line for line in done.stderr.splitlines()) == 1
    listed = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    assert len(listed) == 13
