"""``clamr search``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.encoding import EncoderFlags
from clamr_cli.cli.output import Form, FormFlags
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.cli.declare import Globals
    from clamr_cli.config import Settings
    from clamr_cli.store import Store
    from clamr_cli.types import Filters, Hit, SearchOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormFlags, EncoderFlags):
    """Options of ``clamr search``."""

    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)]
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", "-m", metavar="NAME", help="Only video, speech, ocr or metadata; repeatable."),
    ] = None
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="NAME=N", help="Count a modality more or less: speech=2.")
    ] = None
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Dated 2024-05-17, 2024-05 or later.")
    ] = None
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Dated then or earlier.")] = None
    longer: Annotated[str | None, typer.Option("--longer", metavar="TIME", help="Videos of at least 90, 1:30, 2m.")] = (
        None
    )
    shorter: Annotated[str | None, typer.Option("--shorter", metavar="TIME", help="Videos of at most that.")] = None
    path: Annotated[str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path matches.")] = None
    language: Annotated[str | None, typer.Option("--language", metavar="CODE", help="Only videos in it, e.g. en.")] = (
        None
    )
    limit: Annotated[str | None, typer.Option("--limit", "-n", metavar="N", help="Results (default 10).")] = None
    moments: Annotated[bool, typer.Option("--moments", help="All good moments, not one of each video.")] = False
    scoring: Annotated[
        str | None, typer.Option("--scoring", metavar="NAME", help="token-max (default) or modality-max.")
    ] = None
    floor: Annotated[
        float | None, typer.Option("--floor", metavar="N", help="Score per query vector below which hits are weak.")
    ] = None
    encoder: Annotated[str | None, typer.Option("--encoder", metavar="NAME", help="Use the vectors of this one.")] = (
        None
    )
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None
    exact: Annotated[bool, typer.Option("--exact", help="Compare with everything, however large the library is.")] = (
        False
    )
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Where candidates must do: also those that hold words of the query.")
    ] = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header; texts like =1+1 get a ' before.")] = False
    paths: Annotated[bool, typer.Option("--paths", help="Print only the files' paths, without weak hits.")] = False
    null: Annotated[bool, typer.Option("-0", "--null", help="With --paths: end each with a zero byte.")] = False


def run(before: Globals, flags: Flags) -> int:
    """Find the moments that match a query, and why.

    What is in quotation marks must stand in a moment as written: '"climate justice" rally' leaves out moments that do not have the phrase in what is said, on screen or noted. Case and spacing do not matter. The score stays that of the whole query.

    The ranking is exact. Only in a library of more vectors than the setting scan_limit allows a core (20 million), and with an index that 'clamr optimize' made, candidates are looked up instead; results say so, and --exact compares with everything.

    While the index is encoded anew, the vectors that were there go on answering. Where not all videos answer, a line on stderr says so, and each object of --json has "searched" and "of", the numbers of videos.

    Piped, it prints tab-separated lines: rank, score, video id, start, end, best second, modality, title, path, words, and "approximate", "weak" and "offline" (the file is not there now) where it is that.

    --paths leaves weak hits out, unless --floor 0 is given. On a terminal it quotes names as a shell needs it; piped, they come as they are, and a name with a line break takes two lines: -0 is safe with any name.
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.cli import output
    from clamr_cli.cli.session import encoder_for, open_store, quiet_libraries
    from clamr_cli.render.text import plural
    from clamr_cli.search import search

    settings, options, form, query = _asked(before, flags)
    quiet_libraries()
    store = open_store(settings)
    encoder = encoder_for(store, settings, flags.encoder_settings())
    store.refresh(encoder.info.fingerprint)
    hits = search(store, encoder, query, options, device=settings.device)
    store.remember_search(query, options, encoder.info.name)
    if not hits:
        output.say(nothing_found(store))
        return EXIT_NOTHING
    if form is Form.TABLE:
        from clamr_cli.render.hits import drawn

        output.draw(drawn(hits))
    else:
        output.write(_lines(hits, form, null=flags.null, coverage=store.coverage(encoder.info.fingerprint)))
    if hits[0].approximate:
        from clamr_cli.render.hits import APPROXIMATE

        output.say(APPROXIMATE)
    if all(hit.weak for hit in hits):
        output.say(f"only weak hits: probably nothing here answers the query (--floor 0 accepts them){_growing(store)}")
        return EXIT_NOTHING
    weak = sum(hit.weak for hit in hits)
    if form is Form.PATHS and weak:
        output.say(f"{plural(weak, 'weak hit')} left out (--floor 0 accepts them){_growing(store)}")
    return EXIT_FOUND


def _asked(before: Globals, flags: Flags) -> tuple[Settings, SearchOptions, Form, str]:
    """What the flags ask for; all of it is checked before anything is opened."""
    from clamr_cli.cli import output, parse
    from clamr_cli.types import SearchOptions

    settings = before.settings(encoder=flags.encoder, limit=flags.limit, scoring=flags.scoring, device=flags.device)
    query = parse.query(" ".join(flags.query), 'clamr search "red car"')
    if flags.null and not flags.paths:
        raise UsageError("-0 ends paths", "give it with --paths")
    options = SearchOptions(
        modalities=parse.modalities(flags.modality or ()),
        weights=parse.weights(flags.weight or ()),
        scoring=settings.scoring,
        limit=settings.limit,
        moments=flags.moments,
        floor=parse.floor(flags.floor),
        exact=flags.exact,
        hybrid=flags.hybrid,
        scan_limit=settings.scan_limit,
        filters=_filters(flags),
    )
    return settings, options, output.form(flags), query


def _filters(flags: Flags) -> Filters:
    from clamr_cli.cli import parse
    from clamr_cli.timeline import parse_time
    from clamr_cli.types import Filters

    return Filters(
        since=parse.day(flags.since),
        until=parse.day(flags.until),
        longer=None if flags.longer is None else parse_time(flags.longer),
        shorter=None if flags.shorter is None else parse_time(flags.shorter),
        path=flags.path,
        language=flags.language or None,
    )


def nothing_found(store: Store) -> str:
    """The likely reason for an empty answer."""
    if store.catalog():
        return f"nothing found{_growing(store)}"
    if store.is_being_written():
        return "nothing is indexed yet; clamr index is running"
    return "nothing is indexed yet: clamr index DIR"


def _growing(store: Store) -> str:
    """That more videos may be found later; empty where nobody writes to the index."""
    return "; clamr index is running, more videos may follow" if store.is_being_written() else ""


def _lines(hits: Sequence[Hit], form: Form, *, null: bool, coverage: tuple[int, int]) -> Iterator[bytes]:
    from clamr_cli.render import records

    match form:
        case Form.JSON:
            part = records.partial(coverage)
            yield from (records.json_line(records.hit_record(hit) | part) for hit in hits)
        case Form.CSV:
            yield records.csv_lines(records.HIT_COLUMNS, map(records.hit_row, hits))
        case Form.PATHS:
            # What a weak hit names is probably no answer, and a program that gets paths cannot tell.
            paths = [hit.path for hit in hits if not hit.weak]
            quoted = not null and sys.stdout is not None and sys.stdout.isatty()
            yield from records.path_lines(paths, null=null, quoted=quoted)
        case _:
            yield from (records.tsv_line(records.hit_row(hit)) for hit in hits)
