"""Hits on a terminal, screen by screen; names of videos that a search gives."""

import io
import os
import pty
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clamr_cli.cli.hits import ask_terminal, excerpt, print_hits, write_sheet
from clamr_cli.errors import UsageError
from clamr_cli.search import video_named
from clamr_cli.store import LastHit, Store
from clamr_cli.types import (
    FileRecord,
    FileState,
    Hit,
    Level,
    Line,
    Modality,
    SearchOptions,
    Span,
    VideoFields,
    VideoRecord,
)
from tests.unit.cli.conftest import Clamr
from tests.unit.cli.hits import HOSTILE
from tests.unit.cli.small_index import BEES, LAGOS, SALE, media
from tests.unit.cli.test_golden import compare

QUERY = "the opposition party"
SPOKEN = (
    "and then he said that no party in opposition has ever governed here without the support of the farmers, "
    "which is why the vote was put off until the spring"
)
TITLES = (
    "Question time", "The opposition", "A long evening in the house of representatives with all speeches of the party",
    "Election night", "日本の野党と国会の長い夜の記録", "Street interviews", "The farmers' vote", "Holiday",
    "Cat", "Garden",
)  # fmt: skip
DRAWN = [(60, 24), (80, 24), (120, 40), (200, 50)]


def stretch(text: str, word: str) -> tuple[int, int]:
    return text.index(word), text.index(word) + len(word)


def hit(rank: int, level: Level = Level.STRONG) -> Hit:
    """A hit with a spoken line and, every third time, a frame."""
    spoken = Line(
        Modality.SPEECH, 35.0 + rank, SPOKEN, ("opposition", "party"),
        (stretch(SPOKEN, "party"), stretch(SPOKEN, "opposition")), 0.8,
    )  # fmt: skip
    shown = Line(Modality.VIDEO, 2.0, "", ("party",), (), 0.5)
    return Hit(
        rank=rank, video_id=f"{rank:012x}", moment_id=f"{rank:012x}#0", path=f"/videos/2024/clip-{rank}.mp4",
        title=TITLES[rank - 1], score=1.0, span=Span(30.0, 90.0), at=35.0, modality=Modality.SPEECH, modalities={},
        evidence=(), level=level, lines=(spoken, shown) if rank % 3 else (shown,),
    )  # fmt: skip


TEN = [hit(n + 1) for n in range(10)]
MIXED = [*TEN[:3], replace(HOSTILE, rank=4, video_id=TEN[3].video_id), *TEN[4:7]]
MIXED[3] = replace(MIXED[3], lines=(Line(Modality.OCR, 1.0, HOSTILE.evidence[0].text, ("party",), ((5, 9),), 0.9),))
MIXED += [replace(weak, level=Level.WEAK) for weak in TEN[7:]]
MIXED[2] = replace(MIXED[2], level=Level.FAIR)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An index that knows the videos of the hits."""
    result = Store.open(tmp_path_factory.mktemp("ten"), create=True)
    with result.writer("tests"):
        for one in TEN:
            fields = VideoFields(one.title, "", "2024-05-17" if one.rank % 2 else "")
            result.put_video(VideoRecord(one.video_id, one.video_id * 5, media(1000.0 * one.rank), fields, ""), ())
        result.finish()
    return result


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Draws hits on a terminal of its own, without colours; returns its lines."""

    def draw(size: tuple[int, int], store: Store, hits: list[Hit], *, term: str = "dumb", **how: bool) -> list[str]:
        for name, value in (("COLUMNS", str(size[0])), ("LINES", str(size[1])), ("TERM", term)):
            monkeypatch.setenv(name, value)
        ours, theirs = pty.openpty()
        parts: list[bytes] = []

        def read() -> None:
            while b"\4" not in b"".join(parts[-1:]):
                parts.append(os.read(ours, 65536))

        reader = threading.Thread(target=read)
        reader.start()
        with os.fdopen(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            print_hits(store, QUERY, hits, **how)
            terminal.write("\4")
            terminal.flush()
            reader.join()
        os.close(ours)
        return b"".join(parts).decode().replace("\r\n", "\n").rpartition("\4")[0].splitlines()

    return draw


@pytest.mark.parametrize("size", DRAWN)
def test_a_screen_shows_what_it_did_before(size: tuple[int, int], store: Store, screen) -> None:
    lines = screen(size, store, MIXED)
    compare(f"hits.{size[0]}x{size[1]}", "".join(f"{line.rstrip()}\n" for line in lines).encode())


@pytest.mark.parametrize("size", [*DRAWN, (40, 12), (20, 6)])
def test_the_first_hit_stays_on_the_screen(size: tuple[int, int], store: Store, screen) -> None:
    lines = screen(size, store, TEN)
    # The prompt takes a row too.
    assert len(lines) < size[1]
    assert lines[0].startswith(" 1 strong")
    assert any("0:36" in line for line in lines[:3])


def test_hits_that_a_low_screen_leaves_out_are_counted_and_shown_on_demand(store: Store, screen) -> None:
    lines = screen((80, 12), store, TEN)
    shown = [line for line in lines if " strong " in line]
    assert lines[-1] == f"{10 - len(shown)} more: -n 10 shows them"
    everything = screen((80, 12), store, MIXED, everything=True)
    assert [line.split()[0] for line in everything if line[:2].strip().isdigit()] == [str(n + 1) for n in range(10)]
    assert not any("more:" in line or "weak hit" in line for line in everything)


def test_the_nearest_are_shown_where_all_are_weak(store: Store, screen) -> None:
    lines = screen((80, 24), store, [replace(one, level=Level.WEAK) for one in TEN])
    assert [line.split()[0] for line in lines if " weak   " in line] == ["1", "2", "3"]
    assert lines[-1].startswith("7 weak hits: -n 10 shows them (4 Election night")


def test_ids_are_shown_on_demand_only(store: Store, screen) -> None:
    for ids in (False, True):
        text = "\n".join(screen((120, 40), store, TEN, ids=ids))
        assert all((one.video_id in text) == ids for one in TEN[:5])


def test_nothing_of_a_video_is_an_escape_or_markup(store: Store, screen) -> None:
    for size in DRAWN:
        text = "\n".join(screen(size, store, MIXED))
        assert not set("\x1b\x07\u202e\r") & set(text)
        assert "[bold]x\\x1b[2J" in text
        assert "\\x1b[31mline" in text


def test_a_terminal_with_colours_gets_marks_and_links_to_files(store: Store, screen, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = "\n".join(screen((120, 40), store, MIXED, term="xterm-256color"))
    assert "\x1b[1;31mparty\x1b[0m" in text
    assert "file:///videos/2024/clip-1.mp4\x1b\\" in text
    assert "file:///videos/caf%E9%0A%5Bred%5D%1B%5D8%3B%3Bevil%07.mp4" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text


def test_a_title_that_stands_on_screen_is_the_line_at_which_the_hit_is_opened(store: Store, screen) -> None:
    written = Line(Modality.OCR, 3.0, TITLES[0], ("time",), (), 0.9)
    one = replace(TEN[0], lines=(written, *TEN[0].lines, Line(Modality.METADATA, 0.0, TITLES[0], timed=False)))
    lines = screen((80, 24), store, [one])
    assert one.opened_at == 3.0
    assert lines[1].strip() == f"0:03 on screen  {TITLES[0]}"
    assert not any("metadata" in line for line in lines)


def test_a_sheet_that_is_not_written_is_told(db: Path, tmp_path: Path, clamr: Clamr) -> None:
    sheet = tmp_path / "sheet.html"
    ended = clamr("--db", str(db), "search", "zebra", "--verbatim", "--sheet", str(sheet))
    assert ended.code == 1
    assert not sheet.exists()
    assert "sheet.html was not written: all hits are weak" in ended.err


def test_an_excerpt_has_what_matched() -> None:
    text = "word " * 100 + "a party in opposition" + " word" * 100
    stretches = [stretch(text, "party"), stretch(text, "opposition")]
    for width in (30, 60, 90):
        part, inside = excerpt(text, stretches, width)
        assert len(part) <= width
        assert [part[start:end] for start, end in inside] == ["party", "opposition"]
    assert excerpt("short", [(0, 5)], 30) == ("short", [(0, 5)])


def test_a_sheet_of_hits_escapes_what_videos_say(store: Store, tmp_path: Path) -> None:
    hits = [replace(one, title=f"<script>{one.title}") for one in MIXED[:4]]
    write_sheet(tmp_path / "sheet.html", store, "<b>", hits)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert not set("\x1b\x07\u202e") & set(page)
    assert "<script" not in page
    assert page.count("<figure") == 4
    assert "<mark>opposition</mark>" in page
    assert "file:///videos/2024/clip-1.mp4#t=36.0" in page
    write_sheet(tmp_path / "sheet.png", store, QUERY, hits)
    assert Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())).format == "PNG"


@pytest.fixture
def searched(db: Path) -> Store:
    """The small index after a search."""
    store = Store.open(db)
    store.remember_search("crowd", SearchOptions(), "hashed", [LastHit(1, SALE, 40.0), LastHit(2, BEES, 10.0)])
    return store


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("1", SALE), ("2", BEES), (LAGOS, LAGOS), (LAGOS[:4], LAGOS), ("/videos/nature/bees.mkv", BEES),
        ("/videos/copy of lagos.mp4", LAGOS), ("bees.mkv", BEES), ("BEES", BEES), ("protest", LAGOS), ("gpj", SALE),
        ("copy of", LAGOS),
    ],
)  # fmt: skip
def test_a_video_is_named_by_rank_id_path_or_title(name: str, video: str, searched: Store) -> None:
    assert video_named(searched, name) == video


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("9", "the last search had the ranks 1 to 2"), ("zebra", "no video of the index"), ("", "no video"),
        ("1a", "2 videos"), ("s", "in the names of 3 videos"),
    ],
)  # fmt: skip
def test_a_name_of_no_video_or_of_several_is_refused(name: str, message: str, searched: Store) -> None:
    with pytest.raises(UsageError) as error:
        video_named(searched, name)
    assert message in f"{error.value}: {error.value.hint}"


def test_a_rank_is_opened_where_its_answer_is(db: Path, tmp_path: Path, clamr: Clamr) -> None:
    store, path = Store.open(db), tmp_path / "clip.mp4"
    path.write_bytes(b"")
    with store.writer("tests"):
        store.put_files([FileRecord(str(path), str(tmp_path), LAGOS, 0, 1, FileState.INDEXED)])
        store.finish()
    store.remember_search("crowd", SearchOptions(), "hashed", [LastHit(1, LAGOS, 13.5)])
    command = ("--db", str(db), "open", "--print", "--player", "mpv")
    assert b"--start=13.5 " in clamr(*command, "1").out
    assert b"--start=7" in clamr(*command, "1@7").out
    assert b"--start" not in clamr(*command, "protest").out


def test_ranks_are_those_of_the_last_search(db: Path, clamr: Clamr) -> None:
    assert clamr("--db", str(db), "search", "crowd").code == 0
    for rank, video in (("1", LAGOS), ("2", BEES)):
        assert video.encode() in clamr("--db", str(db), "show", rank, "--json").out
        assert video.encode() in clamr("--db", str(db), "explain", rank, "--json").out


@pytest.mark.parametrize("answers", [[b"\x1b[?63;1;4;22c"], [b"\x1b_Gi=1;OK\x1b\\", b"\x1b[?62;c"]])
def test_a_slow_terminal_is_waited_for_and_nothing_is_left_for_the_prompt(answers):
    ours, theirs = pty.openpty()

    def answer_late() -> None:
        os.read(ours, 100)
        for answer in answers:
            time.sleep(0.03)
            os.write(ours, answer)

    terminal = threading.Thread(target=answer_late)
    terminal.start()
    said = ask_terminal(theirs, theirs)
    terminal.join()
    assert said == b"".join(answers)
    assert not select.select([theirs], [], [], 0)[0]
    os.close(ours)
    os.close(theirs)
