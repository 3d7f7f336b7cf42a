"""Subtitles, media and reports of an evaluation."""

import json
from pathlib import Path

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.qa import Strategy, report, spread
from clamr_cli.evaluate.questions import (
    LabelledQuestion,
    QuestionMedia,
    cached_subtitles,
    find_media,
    read_subtitles,
)
from clamr_cli.extract.subtitles import read_subtitle_file
from clamr_cli.frames import FrameHit
from clamr_cli.types import FileRecord, FileState, Frame, Span


def record(item: str, strategy: str = "uniform", outcome: str = "answered", **more) -> dict:
    return {"id": item, "strategy": strategy, "group": "", "outcome": outcome, "times": [1.0], **more}


# --- media ------------------------------------------------------------------------------------------------------------


def known(path: str, video: str) -> FileRecord:
    return FileRecord(path, "/", video, 1, 1, FileState.INDEXED)


def test_videos_are_found_in_folders_by_path_and_in_the_index(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "subtitle").mkdir()
    for name in ("data/one.mp4", "data/RoripwjYFp8_360.0_510.0.mkv", "subtitle/one.srt"):
        (tmp_path / "set" / name).write_bytes(b"x")
    names = ("one", "RoripwjYFp8_360.0_510.0", str(tmp_path / "set/data/one.mp4"), "away", "1a2b3c4d5e6f", "no", "\0")
    items = [LabelledQuestion(name, name, "q", subtitles=f"{name}.srt") for name in names]
    files = [known("/v/away.mp4", "aaaaaaaaaaaa"), known("/v/other.mp4", "1a2b3c4d5e6f")]
    found, missing = find_media(items, files, [tmp_path / "set"], [tmp_path / "set"])
    data = tmp_path / "set" / "data"
    assert {name: media.video for name, media in found.items()} == {
        "one": str(data / "one.mp4"),
        "RoripwjYFp8_360.0_510.0": str(data / "RoripwjYFp8_360.0_510.0.mkv"),
        names[2]: names[2],
        "away": "aaaaaaaaaaaa",
        "1a2b3c4d5e6f": "1a2b3c4d5e6f",
    }
    assert missing == ["no", "\0"]
    assert found["one"].subtitles == tmp_path / "set" / "subtitle" / "one.srt"
    assert found["away"].subtitles is None


def test_subtitles_are_written_on_the_clock_of_the_video(tmp_path):
    video, subtitles = tmp_path / "v.mp4", tmp_path / "v_en.json"
    video.write_bytes(b"video")
    cues = [
        {"start": "00:00:05.000", "end": "00:00:09.000", "line": "before"},
        {"start": "00:00:11,500", "end": "00:00:13.000", "line": "<i>hello</i>\nyou"},
        {"start": "00:01:00.000", "end": "00:01:02.000", "line": "later"},
    ]
    subtitles.write_text(json.dumps(cues))
    place = QuestionMedia(str(video), subtitles, 10.0)
    path = cached_subtitles(place, tmp_path / "cache")
    stamp = Path(path).stat().st_mtime_ns
    assert cached_subtitles(place, tmp_path / "cache") == path
    assert Path(path).stat().st_mtime_ns == stamp
    lines = [(one.span, one.text) for one in read_subtitle_file(Path(path))]
    assert lines == [(Span(1.5, 3.0), "hello you"), (Span(50.0, 52.0), "later")]
    assert cached_subtitles(QuestionMedia(str(video)), tmp_path / "cache") == ""
    assert cached_subtitles(QuestionMedia(str(video), subtitles, 0.0), tmp_path / "cache") != path


def test_ends_that_are_not_known_last_until_the_next_line(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"timestamp": [1.0, None], "text": "a"}, {"timestamp": [3.0, None], "text": "b"}]))
    assert [(one.span, one.text) for one in read_subtitles(path)] == [
        (Span(1.0, 3.0), "a"),
        (Span(3.0, 5.0), "b"),
    ]


def test_lines_without_text_or_with_plain_numbers_are_read_and_no_lines_are_none(tmp_path):
    path = tmp_path / "s.json"
    cues = [{"start": 1, "end": 2.5, "line": None}, {"start": "0:03", "end": None, "line": "b"}]
    path.write_text(json.dumps(cues))
    assert [(one.span, one.text) for one in read_subtitles(path)] == [(Span(3.0, 5.0), "b")]
    path.write_text("[]")
    assert read_subtitles(path) == []
    written = cached_subtitles(QuestionMedia("v.mp4", path), tmp_path / "cache")
    assert Path(written).read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]x",
        '[{"start": "now"}]',
        '[{"timestamp": 3, "text": "a"}]',
        "[1]",
        '[{"start": null, "end": 2, "line": "a"}]',
        '[{"timestamp": [1, Infinity], "text": "a"}]',
        '[{"timestamp": [NaN, 2], "text": "a"}]',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_subtitles_that_cannot_be_read_are_told(tmp_path, content):
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(MediaError, match=r"s\.json"):
        read_subtitles(path)


# --- strategies and evidence ------------------------------------------------------------------------------------------


def test_strategies_by_name():
    assert [strategy.silent for strategy in Strategy] == [*list(Strategy)[:4], *list(Strategy)[:4]]
    assert [strategy.subtitles for strategy in Strategy] == [False] * 4 + [True] * 4
    assert [len(strategy.modalities) for strategy in Strategy] == [0, 0, 1, 2, 0, 0, 1, 2]


def test_every_beginning_of_sampled_frames_is_spread_over_the_video():
    hits = [FrameHit(n + 1, n, Frame(float(n), Span(n, n + 1), b""), float(n)) for n in range(8)]
    assert [hit.number for hit in spread(hits)] == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(hit.number for hit in spread(hits[:5])) == [0, 1, 2, 3, 4]
    assert spread([]) == []


def test_annotated_frames_are_counted_at_the_rate_of_the_file():
    item = LabelledQuestion("a", "v", "q", marks=(50, 100))
    assert item.evidence(25.0) == (Span(2.0, 2.0), Span(4.0, 4.0))
    assert item.evidence(0.0) == ()
    assert LabelledQuestion("a", "v", "q", windows=(Span(1, 2),)).evidence(25.0) == (Span(1, 2),)


# --- reports ----------------------------------------------------------------------------------------------------------

QUESTIONS = [LabelledQuestion(f"q{n}", "v", "q", ("a", "b"), 0, "short" if n < 4 else "long") for n in range(8)]
TWO = [Strategy.UNIFORM, Strategy.CLAMR]


def answered(strategy: str, right: set[int], failed: frozenset[int] = frozenset()) -> list[dict]:
    return [
        record(
            item.id, strategy, "failed" if number in failed else "answered", right=0, choice=int(number not in right),
            shown=4, group=item.group,
        )
        for number, item in enumerate(QUESTIONS)
    ]  # fmt: skip


def test_accuracy_by_class_of_length():
    records = answered("uniform", {0, 1, 4}) + answered("clamr", {0, 1, 2, 3, 4, 5}, frozenset({7}))
    found = report(records, QUESTIONS, TWO, Sampling(500, 0))
    assert found.groups == ("all", "short", "long")
    uniform, clamr = found.rows
    assert {group: (share.count, share.mean) for group, share in uniform.accuracy.items()} == {
        "all": (8, 3 / 8), "short": (4, 2 / 4), "long": (4, 1 / 4),
    }  # fmt: skip
    assert {group: (share.count, share.mean) for group, share in clamr.accuracy.items()} == {
        "all": (7, 6 / 7), "short": (4, 1.0), "long": (3, 2 / 3),
    }  # fmt: skip
    assert (uniform.failed, clamr.failed, uniform.p) == (0, 1, None)
    assert 0 < clamr.p < 1
    assert 0 <= uniform.accuracy["all"].low <= 3 / 8 <= uniform.accuracy["all"].high <= 1
    assert found == report(reversed(records), QUESTIONS, TWO, Sampling(500, 0))


def test_an_unclear_answer_is_a_wrong_one_and_an_unknown_right_one_does_not_count():
    records = [record("q0", right=0, choice=None, shown=2), record("q1", right=None, choice=1, shown=2)]
    (row,) = report(records, QUESTIONS, TWO[:1], Sampling(0)).rows
    assert (row.unclear, row.accuracy["all"].count, row.accuracy["all"].mean) == (1, 1, 0.0)
    assert row.accuracy["all"].low is None


def test_measures_of_the_choice_are_means_over_what_is_known():
    records = [
        record("q0", "clamr", "selected", covered=1.0, inside=0.5, mAP=0.25),
        record("q1", "clamr", "selected", covered=0.0, inside=0.0),
        record("q2", "clamr", "selected"),
        record("stranger", "clamr", "selected", covered=1.0),
    ]
    found = report(records, QUESTIONS, TWO, Sampling())
    assert found.measures == ("recall", "precision", "mAP")
    assert found.rows[1].selection == {"recall": 0.5, "precision": 0.25, "mAP": 0.25}
    assert (found.rows[1].evidence, found.rows[1].accuracy) == (2, {})
    assert found.rows[0].selection == {}
