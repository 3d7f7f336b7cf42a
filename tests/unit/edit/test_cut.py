"""``clamr cut``: the stretches that are named, their bounds, the names of files, and what happens on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from clamr_cli.edit.cut import file_name
from clamr_cli.edit.selections import Selection, read_selections, snapped
from clamr_cli.errors import UsageError
from clamr_cli.media.probe import probe
from clamr_cli.store import Store
from clamr_cli.types import Span
from tests.unit.cli.conftest import Clamr
from tests.unit.edit.conftest import TALK, TITLE, WALK, said
from tests.unit.media import numbered


@pytest.fixture
def search(clamr: Clamr, shelf: Path) -> list[dict]:
    """The hits of a search for what is in both videos."""
    ended = clamr("--db", str(shelf / "index"), "search", "garden", "--json", "--moments", "--floor", "0")
    return [json.loads(line) for line in ended.out.splitlines()]


def test_ranks_json_lines_and_times_name_stretches(search: list[dict], shelf: Path, tmp_path: Path):
    store = Store.open(shelf / "index")
    by_rank, _ = read_selections(store, ["1-2"], probe)
    (tmp_path / "hits.jsonl").write_text("\n".join(map(json.dumps, search[:2])))
    by_line, _ = read_selections(store, [str(tmp_path / "hits.jsonl")], probe)
    assert by_rank == by_line
    assert {one.video_id for one in by_rank} <= {TALK, WALK}
    assert [one.span.start for one in by_rank] == [hit["start"] for hit in search[:2]]
    (named,), _ = read_selections(store, ["walk@0:01-0:02.5"], probe)
    assert (named.video_id, named.span, named.title) == (WALK, Span(1.0, 2.5), "")
    (unknown,), _ = read_selections(None, [f"{shelf / 'talk.mp4'}@1-99"], probe)
    assert (unknown.video_id, unknown.span) == ("", Span(1.0, pytest.approx(8.0, abs=0.1)))


def test_lines_are_shorter_than_moments(search: list[dict], shelf: Path):
    selections, _ = read_selections(
        Store.open(shelf / "index"), [json.dumps(hit) for hit in search], probe, bounds="line"
    )
    spans = {one.text: one.span for one in selections if one.text}
    assert spans["welcome to the garden"] == Span(0.4, 2.4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["99"], "no rank 99"),
        (["3-1"], "invalid ranks"),
        (["talk"], "no stretch"),
        (["talk@2-1"], "ends before"),
        (["{}"], "no line of"),
        (["{nonsense"], "no JSON line"),
        ([json.dumps({"video_id": TALK, "start": 5, "end": 2})], "goes from 5 to 2"),
    ],
)
def test_what_names_nothing_is_refused(search: list[dict], shelf: Path, words: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        read_selections(Store.open(shelf / "index"), words, probe)


def test_videos_that_are_not_there_are_left_out(shelf: Path):
    selections, failures = read_selections(
        Store.open(shelf / "index"), ["nobody@1-2", "talk@99-100", "walk@1-2"], probe
    )
    assert [one.video_id for one in selections] == [WALK]
    assert "nobody" in failures[0]
    assert "is over before 99 s" in failures[1]


def test_no_bound_lies_inside_a_word():
    media = probe_of()
    words = said("one two three four", 10.0, 1.0)
    plain = said("words without times", 20.0, 1.0, words=False)

    def bounds(start: float, end: float, **more: object) -> tuple[float, float]:
        span = snapped(Selection("", media, Span(start, end), speech=(words, plain)), **more)
        return span.start, span.end

    assert bounds(11.5, 12.5) == (11.0, 12.9)
    assert bounds(11.95, 12.95) == (11.95, 12.95)
    assert bounds(11.5, 12.5, as_given=True) == (11.5, 12.5)
    assert bounds(15.0, 21.0) == (15.0, 23.0)
    assert bounds(23.5, 30.0, pad=1.0) == (23.0, 31.0)
    assert bounds(22.0, 25.0) == (20.0, 25.0)
    assert bounds(0.5, 99.5, pad=2.0) == (0.0, 100.0)


def probe_of():
    from tests.unit.store.samples import video

    return video(duration=100.0).media


@pytest.mark.parametrize(
    ("title", "name"),
    [
        (TITLE, "Talk a b x1b[31m 00-00-01.500.mp4"),
        ("", "clip 00-00-01.500.mp4"),
        ("../../etc", "etc 00-00-01.500.mp4"),
        ("CON", "clip CON 00-00-01.500.mp4"),
        ("-rf .", "rf 00-00-01.500.mp4"),
        ("日" * 90, "日" * 26 + " 00-00-01.500.mp4"),
        ("a\u202egpj.exe\udcff", "a u202egpj.exe xff 00-00-01.500.mp4"),
    ],
)
def test_names_are_safe_everywhere(title: str, name: str):
    assert file_name(title, Span(1.5, 2), ".mp4") == name


def test_clips_are_written_and_told(clamr: Clamr, search: list[dict], shelf: Path, tmp_path: Path):
    db, out = str(shelf / "index"), tmp_path / "clips"
    ended = clamr("--db", db, "cut", "talk@3-4", "walk@1.2-2.5", "gone@1-2", "-o", str(out), "--exact", "--json")
    assert ended.code == 3
    assert "left out: gone: " in ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert sorted(os.listdir(out)) == sorted(os.path.basename(record["file"]) for record in records)
    assert [os.path.basename(record["file"]) for record in records] == [
        "Talk a b x1b[31m 00-00-03.000.mp4",
        "walk & run #1 00-00-01.000.mp4",
    ]
    for record, rate in zip(records, (30000 / 1001, 25), strict=True):
        frames = numbered.frames(record["file"])
        assert abs(frames[0][1] / rate - record["begins"]) <= 1 / rate
        assert abs((frames[-1][1] + 1) / rate - record["ends"]) <= 1 / rate
    again = clamr("--db", db, "cut", "talk@3-4", "walk@3-4", "-o", str(out), "--exact", "--json")
    assert again.code == 3
    assert "is there already; --force replaces it" in again.err
    assert len(again.out.splitlines()) == 1
    assert clamr("--db", db, "cut", "talk@3-4", "-o", str(out), "--exact", "--force").code == 0


def test_a_supercut_has_subtitles_and_a_sheet(clamr: Clamr, search: list[dict], shelf: Path, tmp_path: Path):
    db, target = str(shelf / "index"), tmp_path / "best.mp4"
    ended = clamr("--db", db, "cut", "talk@0.4-2.4", "walk@1-3", "--join", str(target), "--json")
    assert ended.code == 0, ended.err
    assert "2 parts, 0:04 (encoded: the sources differ in their size)" in ended.err
    assert sorted(os.listdir(tmp_path)) == ["best.jpg", "best.mp4", "best.srt"]
    assert "welcome to the garden" in (tmp_path / "best.srt").read_text()
    assert "00:00:02,002 --> 00:00:04,002\na walk in the garden" in (tmp_path / "best.srt").read_text()
    assert clamr("--db", db, "cut", "talk@1-2", "--join", str(target)).code == 2
    assert clamr("--db", db, "cut", "talk@1-2", "--join", str(tmp_path / "best.gif")).code == 2


def test_a_search_cuts_its_hits_in_one_go(clamr: Clamr, shelf: Path, tmp_path: Path):
    out = tmp_path / "clips"
    ended = clamr("--db", str(shelf / "index"), "search", "tomatoes", "--floor", "0", "--clips", str(out), "-n", "1")
    assert ended.code == 0, ended.err
    assert os.listdir(out) == ["Talk a b x1b[31m 00-00-00.000.mp4"]
    assert "wrote 1 clip to" in ended.err


def test_a_damaged_video_costs_one_line(clamr: Clamr, tmp_path: Path):
    good = numbered.write(tmp_path / "good.mp4", seconds=2)
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    words = [f"{tmp_path / 'bad.mp4'}@0-1", f"{good}@0-1"]
    ended = clamr("--db", str(tmp_path / "none"), "cut", *words, "-o", str(tmp_path / "out"))
    assert ended.code == 3
    assert "bad.mp4: this is not a media file" in ended.err
    assert len(ended.out.splitlines()) == 1
    assert clamr("--db", str(tmp_path / "none"), "cut", "1", "-o", str(tmp_path / "out")).code == 2
    assert clamr("--db", str(tmp_path / "none"), "cut", words[1]).code == 2
