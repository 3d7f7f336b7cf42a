from __future__ import annotations

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.train.clamr import IndexedDocuments, index_encoder, read_pairs
from tests.unit.train.clamr import shelf


def read(bench, tmp_path, *records):
    path = shelf.write_queries(tmp_path / "queries.jsonl", list(records))

    def encoder():
        return index_encoder(bench.store, cache=bench.root / "cache", device="cpu", threads=1)

    return read_pairs(path, bench.store, IndexedDocuments(bench.store), encoder)


def line(text: str, video: str | None, modality: str | None = None, name: str = "q") -> dict[str, object]:
    return {"id": name, "query": text, "modality": modality, "video": video}


def test_the_positive_is_the_moment_that_search_finds_best(bench, tmp_path):
    pairs, _ = read(
        bench, tmp_path, line("chef cooks soup", "2.mp4", "speech"), line("bees dance", "2.mp4", "speech", "r")
    )
    assert [pair.moment for pair in pairs.pairs] == [f"{shelf.video_id(2)}#1", f"{shelf.video_id(2)}#0"]
    assert pairs[0][1].speech[0].text == "the chef cooks a soup"


def test_a_modality_that_no_moment_has_leaves_the_others_to_choose(bench, tmp_path):
    pairs, _ = read(bench, tmp_path, line("chef cooks soup", "2.mp4", "audio"))
    assert pairs.pairs[0].moment == f"{shelf.video_id(2)}#1"


def test_every_answer_is_a_positive_and_none_a_negative(bench, tmp_path):
    pairs, _ = read(bench, tmp_path, line("boat", "0.mp4"), line("boat", "3.mp4"), line("boat", "nowhere.mp4"))
    assert [pair.moment for pair in pairs.pairs] == [f"{shelf.video_id(0)}#0", f"{shelf.video_id(3)}#0"]
    assert {pair.answers for pair in pairs.pairs} == {(0, 3)}


def test_what_is_left_out_is_said(bench, tmp_path):
    _, notes = read(
        bench, tmp_path, line("boat", "0.mp4"), line("ship", "gone.mp4", name="r"), line("no", None, name="s")
    )
    assert any("gone.mp4" in note for note in notes)
    assert any("1 queries without an answer" in note for note in notes)


def test_queries_without_any_answer_here_are_refused(bench, tmp_path):
    with pytest.raises(UsageError, match="has an answer in the index"):
        read(bench, tmp_path, line("boat", "gone.mp4"))


def test_a_file_of_another_kind_is_refused_without_options_that_are_not_there(bench, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("milk, bread\n")
    with pytest.raises(UsageError, match=r"notes\.txt") as refused:
        read_pairs(path, bench.store, IndexedDocuments(bench.store), None)
    assert "--format" not in str(refused.value)


def test_documents_are_read_again_after_they_left_the_cache(bench):
    found = IndexedDocuments(bench.store, cached_videos=1)
    first = found[f"{shelf.video_id(0)}#0"]
    assert found[f"{shelf.video_id(1)}#0"].speech[0].text == shelf.SAID[1]
    assert found[f"{shelf.video_id(0)}#0"] == first
    assert first.frames[0].jpeg.startswith(b"\xff\xd8")
