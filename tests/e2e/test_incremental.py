"""Changes between two index runs are noticed, and nothing is done twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clamr_cli import encoders
from clamr_cli.store import Store
from clamr_cli.types import EncoderInfo
from tests.clips import Clip
from tests.e2e.conftest import Shelf
from tests.e2e.harness import Result


def worked_stages(result: Result) -> set[str]:
    """The stages that any video of a run spent time in, beyond telling which video it is."""
    return {record["stage"] for record in result.events("progress") if record["checkpoint"] < record["total"]}


def test_second_run_does_nothing(small: Shelf) -> None:
    again = small.clamr.index(str(small.videos)).ok()
    assert again.events("indexed") == []
    assert again.events("progress") == []
    assert again.events("discovered")[0]["unchanged"] == 2
    assert again.events("finished")[0]["unchanged"] == 2


def test_renamed_file_is_noticed_and_costs_nothing(small: Shelf) -> None:
    (small.videos / "deeper").mkdir()
    (small.videos / "bees.mp4").rename(small.videos / "deeper" / "apiary.mp4")
    moved = small.clamr.index(str(small.videos)).ok()
    event = moved.events("moved")[0]
    assert (Path(event["before"]).name, Path(event["path"]).name) == ("bees.mp4", "apiary.mp4")
    assert not worked_stages(moved) & {"decode", "speech", "ocr"}
    assert moved.events("removed") == []
    assert small.clamr.listed() == ["apiary.mp4", "card.mp4"]
    assert Path(small.clamr.search("honeybees")[0]["path"]).name == "apiary.mp4"


def test_changed_file_is_read_again(small: Shelf) -> None:
    Clip().text(("Gallery of", "broken kites"), 4).write(small.videos / "card.mp4")
    changed = small.clamr.index(str(small.videos)).ok()
    assert [Path(event["path"]).name for event in changed.events("indexed")] == ["card.mp4"]
    assert small.clamr.listed() == ["bees.mp4", "card.mp4"]
    assert Path(small.clamr.search("broken kites", "--modality", "ocr")[0]["path"]).name == "card.mp4"
    hits = small.clamr.search("lost umbrellas", "--floor", "0")
    assert hits, "weak hits are accepted"
    assert not {proof["text"].lower() for hit in hits for proof in hit["evidence"]} & {"lost", "umbrellas"}


def test_touched_file_costs_nothing(small: Shelf) -> None:
    os.utime(small.videos / "bees.mp4")
    touched = small.clamr.index(str(small.videos)).ok()
    assert not worked_stages(touched)
    assert small.clamr.listed() == ["bees.mp4", "card.mp4"]


def test_deleted_file_leaves_the_index(small: Shelf) -> None:
    (small.videos / "card.mp4").unlink()
    swept = small.clamr.index(str(small.videos)).ok()
    assert [Path(event["path"]).name for event in swept.events("removed")] == ["card.mp4"]
    assert small.clamr.listed() == ["bees.mp4"]
    assert small.clamr.search("lost umbrellas", "--modality", "ocr") == []


def test_new_sidecar_is_read_without_decoding_again(small: Shelf) -> None:
    (small.videos / "card.description").write_text("Opened by the mayor in a thunderstorm.", encoding="utf-8")
    result = small.clamr.index(str(small.videos)).ok()
    (event,) = result.events("indexed")
    assert Path(event["path"]).name == "card.mp4"
    assert {"decode", "ocr"} <= set(event["reused"])
    assert Path(small.clamr.search("mayor thunderstorm")[0]["path"]).name == "card.mp4"


@pytest.mark.parametrize("files_at_hand", [True, False])
def test_other_encoder_reuses_all_that_was_extracted(small: Shelf, files_at_hand: bool) -> None:
    if not files_at_hand:
        small.videos.rename(small.videos.with_name("away"))
    result = small.clamr("index", "--encoder", "mini", "--json").ok()
    events = result.events("indexed")
    assert len(events) == 2
    assert all({"decode", "speech", "ocr"} <= set(event["reused"]) for event in events)
    assert all(set(event["seconds"]) <= {"encode"} for event in events)
    assert worked_stages(result) <= {"encode"}
    assert Path(small.clamr.search("umbrella museum", "--encoder", "mini")[0]["path"]).name == "card.mp4"
    assert Path(small.clamr.search("lost umbrellas", "--encoder", "hashed")[0]["path"]).name == "card.mp4"


def test_vectors_of_an_earlier_version_answer_until_they_are_renewed(small: Shelf) -> None:
    small.clamr("index", "--encoder", "mini").ok()
    now = encoders.describe("mini", cache=small.clamr.cache)
    asked = ("search", "umbrella museum", "--encoder", "mini", "--json")
    before = small.clamr(*asked).ok()
    store = Store.open(str(small.clamr.db))
    rows = dict(store.scan_vectors(now.fingerprint))
    with store.writer("test"):
        store.put_vectors(EncoderInfo(now.name, now.earlier[0]), rows)
        store.delete_vectors(now.fingerprint)
        store.put_vectors(now, dict(list(rows.items())[:1]))
    after = small.clamr(*asked).ok()
    assert after.records == before.records
    assert b"vectors of an earlier version of mini: clamr index --encoder mini renews them" in after.err
    assert len(small.clamr("index", str(small.videos), "--encoder", "mini", "--json").ok().events("indexed")) == 1
    assert {use.info.fingerprint for use in Store.open(str(small.clamr.db)).encoders()} >= {now.fingerprint}
    assert now.earlier[0] not in {use.info.fingerprint for use in Store.open(str(small.clamr.db)).encoders()}
    renewed = small.clamr(*asked).ok()
    assert renewed.records == before.records
    assert b"earlier version" not in renewed.err
