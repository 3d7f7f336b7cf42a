"""``clamr explain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import EncoderOptions, FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context
    from clamr_cli.store import LastSearch
    from clamr_cli.types import Explanation, Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions, EncoderOptions):
    """Options of ``clamr explain``."""

    video: Annotated[str, typer.Argument(metavar="ID", help="A video's id, or the beginning of it.")]
    query: Annotated[
        str | None, typer.Option("--query", metavar="TEXT", help="Explain this query instead of the last search.")
    ] = None
    encoder: Annotated[str | None, typer.Option("--encoder", metavar="NAME", help="Use the vectors of this one.")] = (
        None
    )
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None


def run(before: Context, flags: Flags) -> int:
    """Say why a video ranks where it does.

    Per word of the query it shows what matched, when, how much of the score each modality has, and what the rank would
    be without it. Without --query it explains the last search; where there was none, it shows the video's time line.

    Piped, it prints tab-separated lines: kind (rank, at, word, share, without), word, modality, start, end, value,
    text.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.runtime import encoder_for, open_store, quiet_libraries
    from clamr_cli.search import explain, timeline

    asked = _asked(flags.query)
    settings = before.settings(encoder=flags.encoder, device=flags.device)
    form = flags.form
    quiet_libraries()
    store = open_store(settings)
    video_id = store.resolve(flags.video)
    search = asked or store.last_search()
    if search is None:
        output.warn("no --query and no search before: this is the video's time line")
        show_timeline(timeline(store, video_id), form)
        return EXIT_FOUND
    if asked is None:
        output.warn(f"explaining the last search: {search.query}")
        # The encoder of that search, unless another one is asked for.
        settings = before.settings(encoder=flags.encoder or search.encoder or None, device=flags.device)
    encoder = encoder_for(store, settings, flags.encoder_settings())
    found = explain(store, encoder, video_id, search.query, search.options)
    _show(found, form, store.coverage(encoder.info.fingerprint))
    return EXIT_FOUND


def _asked(query: str | None) -> LastSearch | None:
    """A search for the query of the command line, with the options that a search has by default."""
    from clamr_cli.cli import options
    from clamr_cli.store import LastSearch
    from clamr_cli.types import SearchOptions

    if query is None:
        return None
    return LastSearch(options.query(query, '--query "red car"'), SearchOptions())


def _show(explanation: Explanation, form: Form, coverage: tuple[int, int]) -> None:
    from clamr_cli.cli import output
    from clamr_cli.render import explanation as why
    from clamr_cli.render.records import json_line, partial, tsv_line

    match form:
        case Form.JSON:
            output.write([json_line(why.record(explanation) | partial(coverage))])
        case Form.TABLE:
            output.print_table(*why.drawn(explanation))
        case _:
            output.write(tsv_line(row) for row in why.rows(explanation))


def show_timeline(line: Timeline, form: Form) -> None:
    """Print what the index knows of a video along its time."""
    from clamr_cli.cli import output
    from clamr_cli.render import details, timeline
    from clamr_cli.render.records import json_line, tsv_line

    match form:
        case Form.JSON:
            output.write([json_line(timeline.record(line))])
        case Form.TABLE:
            output.print_table(details.table(line), *timeline.drawn(line))
        case _:
            output.write(tsv_line(row) for row in timeline.rows(line))
