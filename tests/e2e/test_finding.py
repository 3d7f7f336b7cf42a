"""Every modality finds its video, at the right time, with the real recognisers and the default encoder."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Shelf
from tests.e2e.library import QUESTIONS, Question

TOLERANCE = 2.0
"""Seconds: frames are taken about every two seconds, and recognised words are a little off."""


def test_every_video_is_indexed(shelf: Shelf) -> None:
    indexed = {Path(event["path"]).name for event in shelf.first.events("indexed")}
    assert indexed == {path.name for path in shelf.videos.iterdir() if path.suffix in (".mp4", ".mkv", ".webm")}


@pytest.fixture(scope="module")
def first_hits(shelf: Shelf) -> dict[tuple[str, str], dict[str, Any]]:
    """The first hit of each question by its query and a modality, and by its query and "" where all count."""
    found = {}
    for modality in ("", *dict.fromkeys(question.modality for question in QUESTIONS)):
        queries = [question.query for question in QUESTIONS if modality in ("", question.modality)]
        only = ("--modality", modality) if modality else ()
        ended = shelf.clamr(
            "search", "--queries", "-", "--json", "--floor", "0", "-n", "1", *only, input="\n".join(queries).encode()
        ).ok()
        found |= {(hit["query"], modality): hit for hit in ended.records}
    return found


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_question_finds_its_video_first(first_hits: dict[tuple[str, str], dict[str, Any]], question: Question) -> None:
    hit = first_hits[question.query, ""]
    assert Path(hit["path"]).name == question.file
    assert hit["rank"] == 1
    assert hit["modality"] == question.modality


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_modality_alone_finds_it_at_its_time(
    first_hits: dict[tuple[str, str], dict[str, Any]], question: Question
) -> None:
    hit = first_hits[question.query, question.modality]
    assert Path(hit["path"]).name == question.file
    assert hit["start"] - TOLERANCE <= question.start <= question.end <= hit["end"] + TOLERANCE
    assert 0 < hit["end"] - hit["start"] <= 60
    assert within(question, hit["at"], hit["at"])
    proofs = [proof for proof in hit["evidence"] if proof["modality"]]
    assert {proof["modality"] for proof in proofs} == {question.modality}
    # A word such as "the" may be most alike anywhere; most words, and the surest, must point to the place.
    inside = [proof for proof in proofs if within(question, proof["start"], proof["end"])]
    assert max(proofs, key=lambda proof: proof["similarity"]) in inside
    assert len(inside) > len(proofs) / 2


def within(question: Question, start: float, end: float) -> bool:
    return question.start - TOLERANCE <= start <= end <= question.end + TOLERANCE


def test_moments_of_a_long_video_are_found_apart(shelf: Shelf) -> None:
    hits = [hit for hit in shelf.clamr.search("coffee", "--moments") if hit["path"].endswith("long.mp4")]
    spans = sorted((hit["start"], hit["end"]) for hit in hits)
    assert len(spans) >= 2
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert min(hits, key=lambda hit: hit["rank"])["start"] == 0.0


def test_subtitles_of_the_owner_win_over_recognition(shelf: Shelf) -> None:
    hits = shelf.clamr.search("fold the dough", "--modality", "speech")
    texts = " ".join(
        proof["text"] for hit in hits for proof in hit["evidence"] if hit["path"].endswith("interview.mkv")
    )
    assert "dough" not in texts.lower()


def test_filters_choose_by_the_sidecars_date(shelf: Shelf) -> None:
    hits = shelf.clamr.search("sea", "--since", "2023-07-14", "--until", "2023-07-14")
    assert [Path(hit["path"]).name for hit in hits] == ["download.mp4"]


def test_explain_names_the_winning_line(shelf: Shelf) -> None:
    question = next(one for one in QUESTIONS if one.file == "rec-1.mp4")
    video = shelf.clamr.search(question.query)[0]["video_id"]
    result = shelf.clamr("explain", video[:8], "--query", question.query, "--json").ok()
    assert b"honeybees" in result.out.lower()
    assert b'"speech"' in result.out


def test_nothing_found_is_exit_code_1(shelf: Shelf) -> None:
    result = shelf.clamr("search", "bees", "--path", "*/no-such-folder/*", "--json")
    assert (result.code, result.out) == (1, b"")
