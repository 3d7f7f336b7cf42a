"""A tiny random EmbeddingGemma 2 goes the whole way: what is stored is encoded anew, searched, explained and framed."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Shelf
from tests.unit.encoders.tiny_gemma import write_checkpoint


def test_an_index_is_encoded_anew_searched_and_explained(small: Shelf, tmp_path: Path) -> None:
    model = f"--model={write_checkpoint(tmp_path / 'gemma')}"
    run = small.clamr.index("--encoder", "gemma", model).ok()
    assert len(run.events("indexed")) == 2
    hits = small.clamr.search("a cat on a sofa", "--encoder", "gemma")
    assert sorted(Path(hit["path"]).name for hit in hits) == ["bees.mp4", "card.mp4"]
    assert all(hit["modalities"]["video"] is not None for hit in hits)
    explained = small.clamr("explain", hits[0]["video_id"], "--json").ok().records[0]
    assert [word["query_token"] for word in explained["words"]] == ["a cat on a sofa"]
    # By random weights each frame may be weak, which is the exit code 1.
    framed = small.clamr("frames", str(small.videos / "bees.mp4"), "a cat", "--encoder", "gemma", "--json")
    assert framed.code in (0, 1)
    assert [frame["rank"] for frame in framed.records] == [1, 2, 3]
    keeps = small.clamr.having(encoder="auto")
    assert keeps.search("a cat on a sofa")
    assert keeps.index(str(small.videos)).ok().events("indexed") == []
