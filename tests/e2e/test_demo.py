"""The demonstration does the main job, shows what it runs, and what it shows can be run again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from clamr_cli.demo import CLIPS, QUESTIONS
from tests.e2e.harness import Clamr, Result


@pytest.fixture(scope="module")
def clamr(cache: Path, offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Clamr:
    # What the README installs is enough for it.
    return Clamr(tmp_path_factory.mktemp("demo") / "index", cache, python=str(offline))


@pytest.fixture(scope="module")
def shown(clamr: Clamr) -> Result:
    return clamr("demo", "--dir", str(clamr.db.parent)).ok()


def commands(shown: Result) -> list[list[str]]:
    """The commands it showed on its own index, without the word clamr."""
    return [shlex.split(line[2:])[1:] for line in shown.out.decode().splitlines() if line.startswith("$ clamr --db ")]


def test_it_indexes_searches_by_every_modality_and_explains(shown: Result) -> None:
    ran = [command[2] for command in commands(shown)]
    assert ran[:6] == ["index", *["search"] * len(QUESTIONS), "explain"]


@pytest.mark.parametrize("modality", QUESTIONS)
def test_what_it_searches_for_comes_first(shown: Result, clamr: Clamr, modality: str) -> None:
    clip, fact = next((clip, fact) for clip in CLIPS for fact in clip.facts if fact.modality == modality)
    (command,) = [one for one in commands(shown) if one[2] == "search" and one[3] == fact.query]
    assert command[1] == str(clamr.db)
    first = clamr(*command[2:], "--json").ok().records[0]
    assert Path(first["path"]).name == clip.name
    assert first["modality"] == modality
    assert str(clamr.db.parent / "clips" / clip.name) in shown.out.decode()


def test_moments_of_the_long_clip_are_found_at_their_time(shown: Result, clamr: Clamr) -> None:
    clip = CLIPS[-1]
    for fact in clip.facts:
        hit = clamr.search(fact.query, "--modality", fact.modality)[0]
        assert Path(hit["path"]).name == clip.name
        assert fact.span.start - 2.0 <= hit["at"] <= fact.span.end + 2.0


def test_its_index_is_complete(shown: Result, clamr: Clamr) -> None:
    again = clamr.index(str(clamr.db.parent / "clips")).ok()
    assert again.events("indexed") == []
    assert again.events("finished")[0]["unchanged"] == len(CLIPS)
