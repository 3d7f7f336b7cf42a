"""Collections of questions in their published formats."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clamr_cli.errors import UsageError
from clamr_cli.evaluate.questions import LabelledQuestion, locate, read
from clamr_cli.types import Span

MME = {
    "video_id": "001", "duration": "long", "domain": "Knowledge", "videoID": "fFjv93ACGo8",
    "question_id": "001-1", "task_type": "Counting", "question": "How many birds land?",
    "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. As many of each."], "answer": "C",
}  # fmt: skip
MME_QUESTION = LabelledQuestion(
    "001-1", "fFjv93ACGo8", "How many birds land?",
    ("Apples.", "Candles.", "Berries.", "As many of each."), 2, "long", "fFjv93ACGo8.srt",
)  # fmt: skip
LVB = {
    "video_id": "86CxyhFV9MI", "question": "Which subtitles appear?", "candidates": ["one", "two", "three"],
    "correct_choice": 1, "position": [854, 948], "id": "86CxyhFV9MI_0", "video_path": "86CxyhFV9MI.mp4",
    "subtitle_path": "86CxyhFV9MI_en.json", "duration_group": 600, "starting_timestamp_for_subtitles": 12.5,
}  # fmt: skip
QVH = {
    "qid": 7803, "query": "Man in gray top walks in.", "duration": 150, "vid": "RoripwjYFp8_360.0_510.0",
    "relevant_clip_ids": [13, 14], "saliency_scores": [[4, 4, 2], [0, 1, 3]],
    "relevant_windows": [[26, 30], [60.5, 62]],
}  # fmt: skip
OWN = {"id": "x", "video": "talk.mp4", "question": "Who speaks?", "choices": ["Ann", "Bob"], "answer": "b"}


def written(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_video_mme_as_parquet_and_as_json_are_the_same(tmp_path):
    pq.write_table(pa.Table.from_pylist([MME]), tmp_path / "test-00000-of-00001.parquet")
    per_video = {"video_id": "001", "duration": "long", "videoID": "fFjv93ACGo8", "questions": [MME]}
    files = [
        tmp_path / "test-00000-of-00001.parquet",
        written(tmp_path / "flat.json", [MME]),
        written(tmp_path / "nested.json", [per_video]),
    ]
    assert [read(file) for file in files] == [[MME_QUESTION]] * 3


def test_longvideobench(tmp_path):
    (item,) = read(written(tmp_path / "lvb_val.json", [LVB]))
    assert item == LabelledQuestion(
        "86CxyhFV9MI_0", "86CxyhFV9MI.mp4", "Which subtitles appear?", ("one", "two", "three"), 1, "600 s",
        "86CxyhFV9MI_en.json", 12.5, marks=(854, 948),
    )  # fmt: skip
    assert item.has_evidence
    options = {f"option{n}": (*LVB["candidates"], "N/A", "N/A")[n] for n in range(5)}
    numbered = {name: value for name, value in LVB.items() if name != "candidates"} | options
    pq.write_table(pa.Table.from_pylist([numbered]), tmp_path / "validation-00000-of-00001.parquet")
    assert read(tmp_path / "validation-00000-of-00001.parquet") == [item]
    without = {name: value for name, value in LVB.items() if name != "correct_choice"}
    assert read(written(tmp_path / "test.json", [without]))[0].answer is None
    assert read(written(tmp_path / "test.json", [LVB | {"correct_choice": -1}]))[0].answer is None


def test_qvhighlights(tmp_path):
    path = tmp_path / "highlight_val_release.jsonl"
    path.write_text("".join(json.dumps(QVH | {"qid": qid}) + "\n" for qid in (1, 2)))
    first, second = read(path)
    assert (first.id, second.id, first.video) == ("1", "2", "RoripwjYFp8_360.0_510.0")
    assert first.windows == (Span(26.0, 30.0), Span(60.5, 62.0))
    assert first.grades == {13: (4, 4, 2), 14: (0, 1, 3)}
    assert first.choices == ()
    test = {name: value for name, value in QVH.items() if name in ("qid", "query", "duration", "vid")}
    (item,) = read(written(tmp_path / "highlight_test_release.jsonl", test))
    assert (item.video, item.has_evidence) == ("RoripwjYFp8_360.0_510.0", False)


def test_our_own_lines(tmp_path):
    (item,) = read(written(tmp_path / "q.jsonl", OWN | {"windows": [[1, 2]], "group": "long"}))
    windows = (Span(1.0, 2.0),)
    assert item == LabelledQuestion("x", "talk.mp4", "Who speaks?", ("Ann", "Bob"), 1, "long", windows=windows)


def test_letters_before_choices_are_taken_off_only_where_all_have_theirs(tmp_path):
    def choices(*options: str) -> tuple[str, ...]:
        return read(written(tmp_path / "q.json", [OWN | {"choices": options, "answer": None}]))[0].choices

    assert choices("A) one", "(B) two") == ("one", "two")
    assert choices("A. one", "two") == ("A. one", "two")
    assert choices("B. one", "A. two") == ("B. one", "A. two")


def test_the_file_of_a_published_folder_is_found(tmp_path):
    (tmp_path / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist([MME]), tmp_path / "videomme" / "test-00000-of-00001.parquet")
    assert read(locate(tmp_path)) == [MME_QUESTION]
    lvb = written(tmp_path / "lvb_val.json", [LVB])
    assert locate(tmp_path) == lvb
    assert locate(lvb) == lvb
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="cannot tell which file"):
        locate(tmp_path / "empty")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (MME | {"answer": "E"}, "invalid answer 'E': not one of the choices"),
        (MME | {"question": " "}, "matching regex"),
        (MME | {"options": "A. yes"}, "Expected `array`"),
        (LVB | {"correct_choice": 3}, "not one of the candidates"),
        (LVB | {"candidates": None}, "not one of the candidates"),
        (LVB | {"starting_timestamp_for_subtitles": "soon"}, "Expected `float"),
        (QVH | {"relevant_windows": [[5, 4]]}, "invalid window"),
        (QVH | {"relevant_windows": [[1]]}, "length 2"),
        (QVH | {"saliency_scores": []}, "2 clips have 0 grades"),
        ({name: value for name, value in LVB.items() if name != "candidates"}, "cannot detect the format"),
        (OWN | {"windows": [["a", "b"]]}, "Expected `float`"),
        ({"nothing": 1}, "cannot detect the format"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(tmp_path, record, said):
    with pytest.raises(UsageError, match=said) as caught:
        read(written(tmp_path / "q.json", [record]))
    assert "\n" not in str(caught.value)
    assert "q.json" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe\x00",
        b"1 2 3",
        b'["a"]',
        b'{"video": "a"',
        b"{}\n{}\n",
        pytest.param(b"[" * 99_999, id="deep"),
        pytest.param(b"{}\n" + b"[" * 99_999, id="deep line"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read(path)
    with pytest.raises(UsageError):
        read(path.rename(tmp_path / "q.parquet"))


def test_ids_and_names_of_layouts_are_checked(tmp_path):
    with pytest.raises(UsageError, match="two questions have the id 'x'"):
        read(written(tmp_path / "q.json", [OWN, OWN]))
    with pytest.raises(UsageError, match="missing required field `vid`"):
        read(tmp_path / "q.json", "qvhighlights")


def test_a_file_of_results_tells_a_question_by_all_its_fields():
    """Files of earlier runs hold these hashes."""
    assert LabelledQuestion("x", "talk.mp4", "Who speaks?", ("Ann", "Bob"), 1).mark == "a259978d1ff4"
    marked = LabelledQuestion("x", "v", "q", windows=(Span(1.0, 2.5),), marks=(3,), grades={1: (4, 2)}, late=2.0)
    assert marked.mark == "47d68c32350a"
