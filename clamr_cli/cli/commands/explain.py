"""``clamr explain``: why a video ranks where it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli import terms
from clamr_cli.cli import options
from clamr_cli.cli.commands.show import print_timeline
from clamr_cli.cli.options import Context, encoder_for, open_indexes
from clamr_cli.cli.output import Form, emit, print_table, safe, table, warn
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.records import EXPLANATION, Column, as_span, fixed, partial_coverage, table_only
from clamr_cli.text import format_time, shorten
from clamr_cli.types import SHOWN_MODALITIES, Evidence, Explanation, Modality, SearchOptions

if TYPE_CHECKING:
    from rich.text import Text

_LONGEST_TEXT: Final = 120


@dataclass(frozen=True, kw_only=True)
class ExplainArguments(options.FormOptions, options.EncoderOptions):
    video: options.VideoArgument
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Explain this query instead of the last search.")
    ] = None
    encoder: options.EncoderOption = None
    device: options.DeviceOption = None


LINE_COLUMNS: Final = (
    Column("kind", "rank, at (where the evidence is strongest), word, share or without.", json=None),
    Column("word", "The query word.", json=None),
    Column("modality", "The modality.", json=None),
    Column("start", "Seconds.", json=None, tsv=fixed(2)),
    Column("end", "Seconds.", json=None, tsv=fixed(2)),
    Column("value", "Score, similarity, or part of the score.", json=None, tsv=fixed(4)),
    Column("text", "The text that matched; of rank the rank and the total; of without the rank.", json=None),
)
"""TSV lines of an explanation."""

_WORDS: Final = (
    table_only("word", lambda word: word.query_token),
    table_only("by", lambda word: word.best.modality if word.best else "-"),
    table_only("time", lambda word: as_span(word.best.span) if word.best else ""),
    table_only("similarity", lambda word: f"{word.best.similarity:.2f}" if word.best else "", right=True),
    table_only("matched", lambda word: _matched(word.best) if word.best else safe("nothing", "dim"), wide=True),
)
_MODALITIES: Final = (
    table_only("modality", lambda row: row["modality"]),
    table_only("share", lambda row: f"{row['share']:.0%}", right=True),
    table_only("alone", lambda row: "-" if row["alone"] is None else f"{row['alone']:.2f}", right=True),
    table_only("rank without it", lambda row: row["rank"], right=True),
)


def explain(context: Context, arguments: ExplainArguments) -> int:
    """Say why a video ranks where it does.

    Per word of the query it shows what matched, when, how much of the score each modality has, and what the rank would
    be without it. Without --query it explains the last search; where there was none, it shows the video's time line.

    Piped, it prints tab-separated lines: kind (rank, at, word, share, without), word, modality, start, end, value,
    text.

    Examples:
        clamr explain 3
        clamr explain holiday --query "red car"
    """
    from clamr_cli.search import explain as find_reasons
    from clamr_cli.search import timeline, video_named

    query = None if arguments.query is None else terms.query(arguments.query, '--query "red car"')
    settings = context.reading_settings(encoder=arguments.encoder, device=arguments.device)
    form = arguments.form
    store = open_indexes(context, settings)
    video_id = video_named(store, arguments.video)
    search_options, like = SearchOptions(), ""
    if query is None:
        search = store.last_search()
        if search is None:
            warn("no --query and no search before: this is the video's time line")
            print_timeline(timeline(store, video_id), form)
            return EXIT_FOUND
        warn(f"explaining the last search: {search.query or f'like {search.like}'}")
        query, search_options, like = search.query, search.options, search.like
        # The encoder of that search, unless another one is asked for.
        settings = context.reading_settings(
            encoder=arguments.encoder or search.encoder or None, device=arguments.device
        )
    encoder = encoder_for(store, settings, arguments.encoder_settings())
    if like == "-":
        raise UsageError("the last search was like a picture from stdin", "search with the name of its file")
    example = options.example(store, encoder, like, search_options.modalities)[0] if like else None
    explanation = find_reasons(store, encoder, video_id, query, search_options, example)
    match form:
        case Form.JSON:
            emit(EXPLANATION, [explanation], form, extra=partial_coverage(store, encoder.info.fingerprint))
        case Form.TABLE:
            _print(explanation)
        case _:
            emit(LINE_COLUMNS, _lines(explanation), form)
    return EXIT_FOUND


def _lines(explanation: Explanation) -> list[dict[str, Any]]:
    hit = explanation.hit
    modality: dict[str, Any] = {"modality": hit.modality}
    lines = [
        {"kind": "rank", **modality, "start": hit.span.start, "end": hit.span.end, "value": hit.score,
         "text": f"{hit.rank}/{explanation.total}"},
        {"kind": "at", **modality, "start": hit.at, "end": hit.at},
    ]  # fmt: skip
    for word in explanation.words:
        best = word.best
        found = {} if best is None else {
            "modality": best.modality, "start": best.span.start, "end": best.span.end, "value": best.similarity,
            "text": best.text,
        }  # fmt: skip
        lines.append({"kind": "word", "word": word.query_token, **found})
    lines += [{"kind": "share", "modality": name, "value": share} for name, share in explanation.shares.items()]
    for what in explanation.what_if:
        lines.append({"kind": "without", "modality": what.modality, "value": what.score, "text": what.rank})
    return lines


def _print(explanation: Explanation) -> None:
    """The moment, what matched each word, and what each modality is worth, for people."""
    hit = explanation.hit
    title = safe(shorten(hit.title or hit.path, _LONGEST_TEXT), "bold", link=hit.path)
    print_table(
        title + safe("  ") + safe(hit.video_id, "dim"),
        safe(
            f"rank {hit.rank} of {explanation.total}, score {hit.score:.2f}, "
            f"moment {as_span(hit.span)}, strongest at {format_time(hit.at)}"
        ),
        safe(""),
        table(_WORDS, explanation.words),
        safe(""),
        table(_MODALITIES, [_modality_row(explanation, modality) for modality in SHOWN_MODALITIES]),
    )


def _modality_row(explanation: Explanation, modality: Modality) -> dict[str, Any]:
    what = next((what for what in explanation.what_if if what.modality == modality), None)
    rank, before = "-", explanation.hit.rank
    if what is not None:
        rank = "not found" if what.rank is None else str(what.rank)
        rank += f" (from {before})" if what.rank not in (None, before) else ""
    share = explanation.shares.get(modality, 0.0)
    return {"modality": modality, "share": share, "alone": explanation.hit.modalities.get(modality), "rank": rank}


def _matched(best: Evidence) -> Text:
    """Matched text in bold, inside its line."""
    line = shorten(best.context, _LONGEST_TEXT)
    # Whole words only: "the" is not what matched in "other".
    match = re.search(rf"(?<!\w){re.escape(best.text)}(?!\w)", line) if best.text else None
    if match is None:
        return safe(best.text, "bold")
    start, end = match.span()
    return safe(line[:start], "dim") + safe(line[start:end], "bold") + safe(line[end:], "dim")
