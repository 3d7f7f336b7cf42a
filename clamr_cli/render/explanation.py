"""Why a video ranks where it does, for people and for programs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.text import Text

from clamr_cli.render.console import ByWidth, linked, text
from clamr_cli.render.hits import MODALITY_STYLES, clock
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import Cell, evidence_record, hit_record, score
from clamr_cli.text import shorten
from clamr_cli.timeline import format_time
from clamr_cli.types import SHOWN_MODALITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.table import Table

    from clamr_cli.types import Evidence, Explanation, Modality, WhatIf

_LONGEST_TEXT = 120


def record(explanation: Explanation) -> dict[str, object]:
    """An explanation as a JSON object: the hit's keys, and ``query, total, words, shares, what_if``."""
    return {
        "query": explanation.query,
        "total": explanation.total,
        **hit_record(explanation.hit),
        "words": [
            {
                "query_token": word.query_token,
                "best": None if word.best is None else evidence_record(word.best),
                "by_modality": {name: evidence_record(found) for name, found in word.by_modality.items()},
            }
            for word in explanation.words
        ],
        "shares": {name: round(share, 4) for name, share in explanation.shares.items()},
        "what_if": [
            {"without": what.modality, "score": None if what.score is None else score(what.score), "rank": what.rank}
            for what in explanation.what_if
        ],
    }


def rows(explanation: Explanation) -> Iterator[tuple[Cell, ...]]:
    """Fields for tab-separated output: kind, query word, modality, start, end, value, text.

    Kinds: ``rank`` (value: score, text: rank/total), ``at`` (start and end: where the evidence is strongest), ``word``
    (value: similarity), ``share`` (value: part of the score), ``without`` (value: score, text: rank).
    """
    hit = explanation.hit
    place = f"{hit.rank}/{explanation.total}"
    yield ("rank", None, hit.modality, f"{hit.span.start:.2f}", f"{hit.span.end:.2f}", f"{hit.score:.4f}", place)
    yield ("at", None, hit.modality, f"{hit.at:.2f}", f"{hit.at:.2f}", None, None)
    for word in explanation.words:
        yield ("word", word.query_token, *_best_cells(word.best))
    for modality, share in explanation.shares.items():
        yield ("share", None, modality, None, None, f"{share:.4f}", None)
    for what in explanation.what_if:
        value = None if what.score is None else f"{what.score:.4f}"
        yield ("without", None, what.modality, None, None, value, what.rank)


def _best_cells(best: Evidence | None) -> tuple[Cell, ...]:
    if best is None:
        return (None, None, None, None, None)
    return (best.modality, f"{best.span.start:.2f}", f"{best.span.end:.2f}", f"{best.similarity:.4f}", best.text)


def drawn(explanation: Explanation) -> Iterator[RenderableType]:
    """An explanation for people: the place, what matched each word, and what each modality is worth."""
    hit = explanation.hit
    yield Text.assemble(
        linked(shorten(hit.title or hit.path, _LONGEST_TEXT), hit.path), "  ", text(hit.video_id, "dim")
    )
    yield text(
        f"rank {hit.rank} of {explanation.total}, score {hit.score:.2f}, "
        f"moment {clock(hit.span)}, strongest at {format_time(hit.at)}"
    )
    yield Text()
    yield ByWidth(_words(explanation), _narrow_words(explanation))
    yield Text()
    yield _modalities(explanation)


def _words(explanation: Explanation) -> Table:
    table = empty_table()
    table.add_column("word", overflow="fold", max_width=20)
    table.add_column("by", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("similarity", justify="right", no_wrap=True)
    table.add_column("matched", overflow="fold")
    for word in explanation.words:
        best = word.best
        if best is None:
            table.add_row(text(word.query_token), "-", "", "", text("nothing", "dim"))
        else:
            table.add_row(
                text(word.query_token),
                _label(best.modality),
                clock(best.span),
                f"{best.similarity:.2f}",
                _matched(best),
            )
    return table


def _narrow_words(explanation: Explanation) -> Text:
    """A word, what it was matched by, and in the next line what that is."""
    found = []
    for word in explanation.words:
        best = word.best
        place = f"  {clock(best.span)}  {best.similarity:.2f}\n" if best else "  "
        label = _label(best.modality) if best else ""
        found.append(
            Text.assemble(text(word.query_token, "bold"), "  ", label, place, _matched(best) if best else "nothing")
        )
    return Text("\n").join(found)


def _matched(best: Evidence) -> Text:
    """What matched, in bold, inside the line that it is from."""
    line = shorten(best.context, _LONGEST_TEXT)
    # Whole words only: "the" is not what matched in "other".
    found = re.search(rf"(?<!\w){re.escape(best.text)}(?!\w)", line) if best.text else None
    if found is None:
        return text(best.text, "bold")
    start, end = found.span()
    return Text.assemble(text(line[:start], "dim"), text(line[start:end], "bold"), text(line[end:], "dim"))


def _modalities(explanation: Explanation) -> Table:
    table = empty_table()
    table.add_column("modality", no_wrap=True)
    for name in ("share", "alone", "rank without it"):
        table.add_column(name, justify="right", no_wrap=True)
    what_if = {what.modality: what for what in explanation.what_if}
    for modality in SHOWN_MODALITIES:
        alone = explanation.hit.modalities.get(modality)
        table.add_row(
            _label(modality),
            f"{explanation.shares.get(modality, 0.0):.0%}",
            "-" if alone is None else f"{alone:.2f}",
            _rank(what_if.get(modality), explanation),
        )
    return table


def _rank(what: WhatIf | None, explanation: Explanation) -> str:
    if what is None:
        return "-"
    if what.rank is None:
        return "not found"
    before = explanation.hit.rank
    return str(what.rank) if what.rank == before else f"{what.rank} (from {before})"


def _label(modality: Modality | None) -> Text:
    return text(modality or "-", MODALITY_STYLES.get(modality or "", ""))
