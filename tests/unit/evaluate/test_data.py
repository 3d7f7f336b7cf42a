"""Collections in the layouts they are published in."""

import json
from collections import Counter
from pathlib import Path

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import data
from clamr_cli.queries import LabelledQuery
from clamr_cli.types import Modality


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


LAYOUTS = {
    "jsonl": ('{"id": "1", "query": "a\u2028dog", "modality": "video", "video": "v1.mp4"}\n', Modality.VIDEO),
    "json": ('[{"id": "1", "query": "a\u2028dog", "modality": "speech", "video": "v1.mp4"}]', Modality.SPEECH),
    "multivent": ('{"train_000001_v1.mp4": {"query": "a\u2028dog", "query_type": "asr"}}', Modality.SPEECH),
    "msrvtt": ("key,vid_key,video_id,sentence\nret0,msr1,v1.mp4,a\u2028dog\n", None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_told_from_the_file(layout: str, tmp_path: Path) -> None:
    text, modality = LAYOUTS[layout]
    path = write(tmp_path, "queries", text)
    (query,) = data.read_queries(path)
    assert (query.text, query.modality, query.relevant) == ("a\u2028dog", modality, {"v1.mp4": 1})
    assert data.read_queries(path, layout) == [query]


MESSY = {
    "quoted header": ('"key","vid_key","video_id","sentence"\nret0,msr1,v1,"a dog, a cat"\n', None),
    "capitals": ("KEY,VID_KEY,VIDEO_ID,SENTENCE\nret0,msr1,v1,a dog\n", None),
    "line numbers": (",key,vid_key,video_id,sentence\n0,ret0,msr1,v1,a dog\n", None),
    "blanks, a byte order mark, other line ends": ("\ufeffQuery_id, query\r\nx_ocr_0, a dog\r\n\r\n", Modality.OCR),
    "topics in capitals": ("<TOP>\n<NUM> Number: ret0\n<TITLE> a dog\n</TOP>\n", None),
    "another split": ('{"val_000001_v1": {"query": "a dog", "query_type": " OCR"}}', Modality.OCR),
    "an id that is none": ('[{"id": null, "query": "a dog", "modality": "Video", "video": "v1"}]', Modality.VIDEO),
}


@pytest.mark.parametrize("case", MESSY)
def test_files_are_read_as_people_save_them(case: str, tmp_path: Path) -> None:
    text, modality = MESSY[case]
    path = tmp_path / "queries"
    path.write_bytes(text.encode())
    (query,) = data.read_queries(path)
    assert query.text.startswith("a dog")
    assert query.modality is modality


def test_judgements_come_from_their_own_file(tmp_path: Path) -> None:
    queries = write(tmp_path, "q.csv", "Query_id,query\nx_english_ocr_0,one\nx_base_1,two\nx_base_2,three\n")
    lines = [("x_english_ocr_0", "v1", 2), ("x_english_ocr_0", "v2", 0), ("x_base_1", "v3", 0)]
    trec = write(tmp_path, "trec", "".join(f"{query}\t0  {doc} {grade}\n" for query, doc, grade in lines))
    records = [json.dumps({"query_id": query, "doc_id": doc, "relevance": grade}) for query, doc, grade in lines]
    for qrels in (trec, write(tmp_path, "qrels.jsonl", "\n".join(records))):
        loaded = data.judged_queries(data.read_queries(queries), qrels)
        assert loaded == [
            LabelledQuery("x_english_ocr_0", "one", Modality.OCR, {"v1": 2}),
            LabelledQuery("x_base_1", "two", None, {}),
        ]


@pytest.mark.parametrize(
    "topics",
    [
        "q_speech_1\ta dog\n\nq2\ta cat",
        "<top>\n<num> Number: q_speech_1\n<title> a\ndog\n</top><top><num>q2<title>a cat</top>",
    ],
)
def test_topics_are_read_as_lines_and_as_elements(topics: str, tmp_path: Path) -> None:
    path = write(tmp_path, "topics", topics)
    qrels = write(tmp_path, "qrels", "q_speech_1 0 v1 1\nq2 0 v2 1\n")
    found = data.judged_queries(data.read_queries(path), qrels)
    assert [(query.id, query.text, query.modality) for query in found] == [
        ("q_speech_1", "a dog", Modality.SPEECH),
        ("q2", "a cat", None),
    ]


def test_the_same_words_for_two_videos_are_one_query_with_two_answers(tmp_path: Path) -> None:
    items = [{"video": video, "query": "a dog", "modality": "video"} for video in ("v1", "v2")]
    items.append({"video": None, "query": "a unicorn", "modality": None})
    one, other = data.read_queries(write(tmp_path, "q.json", json.dumps(items)))
    assert one.relevant == {"v1": 1, "v2": 1}
    assert (other.text, other.relevant) == ("a unicorn", {})


BAD = {
    "empty": "",
    "blank": " \n \n",
    "unknown layout": "what is this",
    "no queries": "[]",
    "no list": '{"queries": []}',
    "no text": '[{"video": "v1", "query": " "}]',
    "no object": '["v1"]',
    "no modality": '[{"video": "v1", "query": "x", "modality": "smell"}]',
    "no name": '[{"video": 1, "query": "x"}]',
    "no grade": '[{"video": "v1", "query": "x", "relevance": 0}]',
    "one id twice": '[{"id": "a", "video": "v1", "query": "x"}, {"id": "a", "video": "v1", "query": "y"}]',
    "broken list": '[{"video": "v1", ',
    "broken line": '{"id": "a", "query": "x", "video": "v1"}\n{"id": \n',
    "no column": "query_id,words\na,b\n",
    "empty field": "Query_id,query\na,\n",
    "id twice": "Query_id,query\na,x\na,y\n",
    "short row": "key,vid_key,video_id,sentence\nret0,msr1\n",
    "no pair": '{"train_000001_v1": {"words": "x"}}',
    "no video": '{"v1": {"query": "x", "query_type": "ocr"}}',
    "topic without text": "a\t \n",
    "topics with one id": "a\tx\na\ty\n",
    "comma that is not quoted": "key,vid_key,video_id,sentence\nret0,msr1,v1,a dog, a cat\n",
    "one pair twice": '{"train_000001_v1": {"query": "x", "query_type": "ocr"}, "train_000001_v1": {"query": "y"}}',
    "id that is no name": '[{"id": [1], "video": "v1", "query": "x"}]',
    "nested list": "[" * 100_000,
    "nested object": '{"a":' * 100_000,
    "nested line": '{"id": "a", "query": "x", "more": ' + "[" * 100_000 + "\n",
    "line without end": "x" * 200_000 + ",y",
    "null byte": "Query_id,query\na,\0x\n",
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_collection_is_refused_by_name(case: str, tmp_path: Path) -> None:
    path = write(tmp_path, "bad.queries", BAD[case])
    if case == "null byte":
        assert data.read_queries(path)[0].text == "\0x"
        return
    with pytest.raises(UsageError, match=r"bad\.queries"):
        data.read_queries(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a 0 v1\n",
        "a 0 v1 high\n",
        '{"query_id": "a"}\n',
        '{"query_id": "a", "doc_id": 3}',
        '{"query_id": ' + "[" * 100_000,
        "b 0 v 1",
    ],
    ids=lambda text: text[:40],
)
def test_judgements_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    queries = write(tmp_path, "q.csv", "Query_id,query\na,x\n")
    with pytest.raises(UsageError, match="judge"):
        data.judged_queries(data.read_queries(queries), write(tmp_path, "judged", text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for path in (tmp_path / "none", tmp_path, tmp_path / "latin"):
        with pytest.raises(UsageError, match="cannot read"):
            data.read_queries(path)


def test_published_collections_are_read_whole(shared: Path) -> None:
    text = shared / "text"
    plus = data.read_queries(text / "clamr_val_queries.json")
    assert Counter(query.modality for query in plus) == {
        Modality.METADATA: 405,
        Modality.SPEECH: 371,
        Modality.OCR: 119,
        Modality.VIDEO: 105,
    }
    assert all(len(next(iter(query.relevant))) == 11 for query in plus)
    assert len(data.read_queries(text / "msrvtt_1kA_test.csv")) == 1000
    queries = data.read_queries(text / "multivent2_q.csv")
    loaded = data.judged_queries(queries, text / "multivent2_qrels.jsonl")
    counts = Counter(query.modality for query in loaded)
    assert counts == {None: 404, Modality.METADATA: 358, Modality.SPEECH: 322, Modality.OCR: 277}
    assert (len(queries) - len(loaded), len({video for query in loaded for video in query.relevant})) == (0, 417)
    assert len(data.read_queries(shared / "videos" / "queries.json")) > 50
