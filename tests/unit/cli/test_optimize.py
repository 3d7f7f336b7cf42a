"""``clamr optimize``: what it frees and builds, and that searches say the same before and after."""

import json
from pathlib import Path

import pytest

from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr


def _record(clamr: Clamr, db: Path, *more: str) -> dict[str, object]:
    ended = clamr("--db", str(db), "optimize", "--json", *more)
    assert ended.code == 0
    found: dict[str, object] = json.loads(ended.out)
    return found


@pytest.mark.slow
def test_it_packs_all_vectors_and_changes_no_answer(clamr: Clamr, db: Path) -> None:
    before = clamr("--db", str(db), "search", "crowd", "--json")
    vectors = sum(use.vectors for use in Store.open(db).encoders())
    record = _record(clamr, db)
    assert (record["packed"], record["parts"], record["approximate_index"]) == (vectors, 1, False)
    (use,) = Store.open(db).encoders()
    assert Store.open(db).snapshot(use.info.fingerprint).uncovered_rows == 0
    assert clamr("--db", str(db), "search", "crowd", "--json").out == before.out


@pytest.mark.slow
def test_it_frees_what_killed_writers_left_and_says_how_much(clamr: Clamr, db: Path) -> None:
    _record(clamr, db)
    (db / "vectors.lance" / ".tmp-left").write_bytes(bytes(3_000_000))
    (db / ".tmp-1-last-search.json").write_bytes(bytes(1000))
    (folder,) = (db / "scan").iterdir()
    (folder / "part-00.bin").write_bytes(bytes(1_000_000))
    (folder / ".tmp-1-part-00.bin").write_bytes(bytes(1_000_000))
    ended = clamr("--db", str(db), "optimize")
    assert b"freed\t5.0 MB\n" in ended.out
    assert not list(db.rglob(".tmp*"))
    assert clamr("--db", str(db), "optimize", "--table").code == 0


@pytest.mark.slow
def test_an_approximate_index_is_built_when_asked_for_and_its_answers_say_so(clamr: Clamr, db: Path) -> None:
    exact = clamr("--db", str(db), "search", "crowd")
    assert _record(clamr, db, "--approximate")["approximate_index"] is True
    assert clamr("--db", str(db), "search", "crowd").out == exact.out
    config = db.with_name("config.toml")
    config.write_text("scan_limit = 1\n")
    few = ("--db", str(db), "--config", str(config), "search", "crowd")
    rows = clamr(*few)
    assert all(b"\tapproximate\t" in line for line in rows.out.splitlines())
    assert "\napproximate: candidates came from an index" in rows.err
    assert all(json.loads(line)["approximate"] for line in clamr(*few, "--json").out.splitlines())
    table = clamr(*few, "--csv").out.splitlines()
    assert table[0].endswith(b",approximate,weak,offline")
    assert all(b",approximate," in line for line in table[1:])
    assert "approximate: candidates" in clamr(*few, "--table").err
    assert clamr(*few, "--exact").out == exact.out
    assert clamr(*few, "--hybrid").out == rows.out


@pytest.mark.slow
def test_another_writer_is_named(clamr: Clamr, db: Path) -> None:
    with Store.open(db).writer("somebody else"):
        ended = clamr("--db", str(db), "optimize")
    assert ended.code == 2
    assert "somebody else" in ended.err
