"""``clamr search``: the moments that match a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli import terms
from clamr_cli.cli import options
from clamr_cli.cli.options import Context, encoder_for, open_indexes
from clamr_cli.cli.output import Form, emit, print_line, warn, write_paths
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.queries import LabelledQuery, read_batch
from clamr_cli.records import HIT, Column, partial_coverage
from clamr_cli.text import command_line, parse_time, plural
from clamr_cli.types import Encoder, Hit, SearchOptions

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.store import Store

_NAME: Final = re.compile(r"[\w.-]{1,60}")
_OPTIONS: Final = {"also": "--and", "without": "--not", "everything": "--all"}
_NOT_SAVED: Final = frozenset(
    (
        "json", "tsv", "table", "csv", "paths", "null", "ids", "pictures", "sheet", "clips", "export", "force",
        "queries", "save", "saved", "forget", "executor", "address", "workers",
    )
)  # fmt: skip
"""Arguments that say what to do with an answer, or who works on it."""
_OF_ONE: Final = ("image", "like", "paths", "sheet", "clips", "export")
"""Options that are for one query."""
_MOST: Final = 1_000_000_000
"""Results of --all."""


@dataclass(frozen=True, kw_only=True)
class SearchArguments(options.FormOptions, options.ExecutorOptions, options.EncoderOptions):
    query: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="What to look for, or @NAME.", show_default=False)
    ] = None
    also: Annotated[
        list[str] | None,
        typer.Option("--and", metavar="TEXT", help="Must be answered too, by the same moment; repeatable."),
    ] = None
    without: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT", help="Leave out moments that answer this; repeatable."),
    ] = None
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="Look for what is like this picture; - reads one from stdin.")
    ] = None
    like: Annotated[
        str | None,
        typer.Option(metavar="VIDEO[@TIME[-TIME]]", help="Look for what is like this moment or clip."),
    ] = None
    modality: options.ModalityOption = None
    weight: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="Count a modality more or less: speech=2.")
    ] = None
    since: options.SinceOption = None
    until: options.UntilOption = None
    longer: Annotated[
        float | None, typer.Option(metavar="TIME", parser=parse_time, help="Videos of at least 90, 1:30, 2m.")
    ] = None
    shorter: Annotated[
        float | None, typer.Option(metavar="TIME", parser=parse_time, help="Videos of at most that.")
    ] = None
    path: options.PathOption = None
    tag: options.TagOption = None
    speaker: options.SpeakerOption = None
    language: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", parser=terms.language, help="Only videos in it: en, English.")
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="Results (default 10).")] = None
    offset: Annotated[
        int, typer.Option("--offset", metavar="N", min=0, max=_MOST, help="Pass over the first N results.")
    ] = 0
    everything: Annotated[bool, typer.Option("--all", help="All results, compared with everything.")] = False
    moments: Annotated[bool, typer.Option("--moments", help="All good moments, not one of each video.")] = False
    scoring: options.ScoringOption = None
    floor: Annotated[
        float | None,
        typer.Option(metavar="N", parser=options.finite, help="Score per query vector below which hits are weak."),
    ] = None
    verbatim: Annotated[bool, typer.Option("--verbatim", help="Search as written, misspelt words too.")] = False
    encoder: options.EncoderOption = None
    device: options.DeviceOption = None
    exact: Annotated[bool, typer.Option("--exact", help="Compare with everything, however large the library is.")] = (
        False
    )
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="With the approximate index, also add full-text matches.")
    ] = False
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids of the videos too.")] = False
    pictures: Annotated[
        bool | None,
        typer.Option("--pictures/--no-pictures", help="Small pictures beside hits, on terminals that can draw them."),
    ] = None
    sheet: options.SheetOption = None
    clips: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Cut the moments out as clips, as 'clamr cut -o DIR' does.")
    ] = None
    export: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the hits as a list: cut.otio, .edl, .fcpxml; see 'clamr export'."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace the files of --sheet, --clips and --export.")] = False
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="Answer each line of a file, or of - (stdin), in one run.")
    ] = None
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Save the query and its options: 'clamr search @NAME'.")
    ] = None
    saved: Annotated[bool, typer.Option("--saved", help="List the saved searches.")] = False
    forget: Annotated[str | None, typer.Option(metavar="NAME", help="Remove a saved search.")] = None
    csv: options.CsvOption = False
    paths: Annotated[bool, typer.Option("--paths", help="Print only the files' paths, without weak hits.")] = False
    null: Annotated[bool, typer.Option("-0", "--null", help="With --paths: end each with a zero byte.")] = False

    def sheet_file(self) -> Path | None:
        """The file of --sheet, refused before anything is opened where it cannot be written."""
        if self.clips is not None:
            from clamr_cli.cli.commands.cut import check_folder

            check_folder(self.clips)
        if self.export is not None:
            from clamr_cli.cli.commands.export import check_export
            from clamr_cli.edit.export import format_named

            format_named(self.export)
            check_export(self.export, force=self.force)
        if self.sheet is None:
            return None
        from clamr_cli.frames.sheet import check_sheet

        return check_sheet(self.sheet, force=self.force)


SAVED: Final = (
    Column("name", "Name of the saved search, without the @.", style="bold"),
    Column(
        "options", "The query and the options by name; in TSV as on the command line.",
        tsv=lambda values: _as_command(values), table=lambda values: _as_command(values), label="search", wide=True,
    ),
)  # fmt: skip
"""Columns of the saved searches."""


def search(context: Context, arguments: SearchArguments) -> int:
    """Find the moments that match a query, and why.

    A terminal gets a short block for each hit: how sure it is, the title, the file, and the line that answers with its time. Hits that are probably no answer are folded into one line, and what the screen has no room for is left out; the last line says so. With -n all are shown. The ranks are names for other commands: 'clamr open 3', 'clamr explain 3', 'clamr frames 3 "..."'.

    What is in quotation marks must stand in a moment as written: '"climate justice" rally' leaves out moments that do not have the phrase in what is said, on screen or noted. Case and spacing do not matter. The score stays that of the whole query.

    --and takes a further query that the same moment must answer: its score is the lowest of the two, per word. --not leaves out moments in which the words stand, in speech, text on screen or metadata, and those whose score alone would make them a hit that is not weak, had one searched for it. --not '"red car"', in quotation marks, goes by the words alone. Other moments of the same video may still be found.

    --image and --like look for what is like a picture, a moment or a clip, alone or with words; then the two weigh the same. With --and the words must be answered too. 'clamr similar' says what is compared.

    The ranking is exact. Only in a library of more vectors than the setting scan_limit allows per core (20 million), and with an index that 'clamr optimize' made, candidates are looked up instead; results say so, and --exact compares with everything.

    While the index is encoded anew, the vectors that were there go on answering. Where not all videos answer, a line on stderr says so, and each object of --json has "searched" and "of", the numbers of videos.

    Piped, it prints tab-separated lines: rank, score, video id, start, end, best second, modality, title, path, words, and "approximate", "weak" and "offline" (the file is not there now) where it is that.

    A misspelt word is corrected if it is close to a word of the index and in no dictionary; a line on stderr says so, and --verbatim searches as written. Where the query is a single word, moments that have it in what is said, on screen or in the metadata come first; so do those that have most words of a query in another language in one line.

    --executor ray divides the scan among the workers of a Ray cluster (extra 'cluster'), with the same results; see 'clamr help scaling'. They are started for this one command: clamr serve keeps them warm.

    --queries answers many queries in one run: a file of plain lines, of JSON lines with "query", or of CSV with a column "query". Each line of TSV, CSV and JSON begins with query_id and query; a query that finds nothing is named on stderr. --save NAME keeps the query and its options with the index, 'clamr search @NAME' runs it, and options given then count instead; --since 2w stays relative.

    --paths leaves weak hits out, unless --floor 0 is given. On a terminal it quotes names as a shell needs it; piped, they come as they are, and a name with a line break takes two lines: -0 is safe with any name.

    Examples:
        clamr search "red car"
        clamr search '"climate justice" rally' --since 2024 -n 3
        clamr search --image photo.jpg "at night"
        clamr search goal --paths -0 | xargs -0 mpv
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.cli.hits import write_sheet
    from clamr_cli.cli.progress import waiting
    from clamr_cli.search import search as find
    from clamr_cli.store import LastHit

    if arguments.saved or arguments.forget:
        return _manage_saved(context, arguments)
    form, saved_as = arguments.form, arguments.save
    if arguments.null and not arguments.paths:
        raise UsageError("-0/--null requires --paths")
    words = " ".join(arguments.query or ())
    if arguments.image is not None and arguments.like is not None:
        raise UsageError("--image and --like exclude each other", "give one of them")
    given = arguments.like if arguments.image is None else arguments.image
    taken = {"a query": words, "--save": saved_as, **{f"--{name}": getattr(arguments, name) for name in _OF_ONE}}
    if arguments.queries is not None and (others := [name for name, value in taken.items() if value]):
        other = others[0]
        raise UsageError(f"--queries and {other} exclude each other", "give one of them")
    if words.startswith("@") and len(arguments.query or ()) == 1:
        arguments = _with_saved(open_indexes(context, context.reading_settings()), words[1:], arguments)
        words = " ".join(arguments.query or ())
        given = arguments.like if arguments.image is None else arguments.image
    settings = context.reading_settings(
        encoder=arguments.encoder,
        limit=arguments.limit,
        scoring=arguments.scoring,
        device=arguments.device,
    )
    sheet = arguments.sheet_file()
    batch = None if arguments.queries is None else _read_batch(arguments.queries)
    if given is not None and saved_as is not None and given == "-":
        raise UsageError("a picture from stdin cannot be saved", "give the name of its file")
    query = "" if batch or (given is not None and not words) else terms.query(words, 'clamr search "red car"')
    search_options = _search_options(arguments, settings)
    store = open_indexes(context, settings)
    if saved_as is not None:
        _save(store, saved_as, arguments)
    device = settings.device
    with arguments.scan_workers(settings, store) as workers:
        encoder = encoder_for(store, settings, arguments.encoder_settings())
        store.refresh(encoder.info.fingerprint)
        if not arguments.verbatim:
            also, without = (
                tuple(_corrected(store, text) for text in texts)
                for texts in (search_options.also, search_options.without)
            )
            search_options = replace(search_options, also=also, without=without)
        if batch:
            codes: list[int] = []
            header_written = False
            for each in batch:
                text = each.text if arguments.verbatim else _corrected(store, each.text, prefix=f"{each.text}: ")
                with waiting("searching"):
                    hits = find(store, encoder, text, search_options, device=device, workers=workers)
                if not hits:
                    _explain_nothing(store, encoder, text, search_options, prefix=f"{each.text}: ")
                    codes.append(EXIT_NOTHING)
                    continue
                codes.append(_print_hits(store, encoder, text, hits, form, arguments, each, header=not header_written))
                header_written = True
            return min(codes)
        if not arguments.verbatim and query:
            query = _corrected(store, query)
        example, like = None, ""
        with waiting("searching"):
            if given is not None:
                is_picture = arguments.image is not None
                example, like = options.example(store, encoder, given, search_options.modalities, is_picture=is_picture)
            hits = find(store, encoder, query, search_options, device=device, example=example, workers=workers)
    ranks = [LastHit.of(hit) for hit in hits]
    store.remember_search(query, search_options, encoder.info.name, ranks, like)
    if not hits and example is not None:
        warn(f"nothing that the filters leave can be compared with it{_more_later(store)}")
        return EXIT_NOTHING
    if not hits:
        _explain_nothing(store, encoder, query, search_options)
        return EXIT_NOTHING
    if sheet is not None:
        if good := [hit for hit in hits if not hit.weak]:
            write_sheet(sheet, store, query, good)
        else:
            warn(f"{sheet} was not written: all hits are weak")
    code = _print_hits(store, encoder, query, hits, form, arguments)
    if arguments.clips is not None and code == EXIT_FOUND:
        from clamr_cli.cli.commands.cut import write_hits

        code = write_hits(store, hits, arguments.clips, force=arguments.force)
    if arguments.export is not None and code == EXIT_FOUND:
        from clamr_cli.cli.commands.export import export_hits

        code = export_hits(store, hits, Path(arguments.export).expanduser())
    return code


def _corrected(store: Store, query: str, *, prefix: str = "") -> str:
    """A query with its misspelt words corrected, which a line on stderr says."""
    from clamr_cli.search import correct

    query, corrections = correct(store, query)
    if corrections:
        warn(f"{prefix}showing results for {', '.join(corrections.values())}; --verbatim searches as written")
    return query


def _read_batch(source: str) -> list[LabelledQuery]:
    """The queries of a file, each of which can be searched for."""
    queries = read_batch(source)
    for each in queries:
        try:
            terms.query(each.text, '"red car"')
        except UsageError as error:
            raise UsageError(f"query {each.id} of {source}: {error.what}", error.hint) from None
    return queries


def _query_columns(query: LabelledQuery) -> tuple[Column, ...]:
    """The columns before those of a hit that say which of several queries it answers."""
    return (
        Column("query_id", "Id of the query.", lambda _: query.id, table=None),
        Column("query", "The query.", lambda _: query.text, table=None),
    )


def _save(store: Store, name: str, arguments: SearchArguments) -> None:
    """Save a query and its options under a name."""
    if not _NAME.fullmatch(name.removeprefix("@")):
        raise UsageError(f"invalid --save: {name!r}", "give letters, digits, - and _")
    name, searches = name.removeprefix("@"), store.saved_searches()
    replaced = " (it replaces another one)" if name in searches else ""
    store.save_searches({**searches, name: _given(arguments)})
    warn(f"saved: clamr search @{name}{replaced}")


def _given(arguments: SearchArguments) -> dict[str, Any]:
    """The query and the options of searching that were given, by name."""
    values = {field.name: (getattr(arguments, field.name), field.default) for field in fields(SearchArguments)}
    return {
        name: value
        for name, (value, default) in values.items()
        if name not in _NOT_SAVED and value != default and value != []
    }


def _with_saved(store: Store, name: str, arguments: SearchArguments) -> SearchArguments:
    """The arguments of a saved search, those of the command line on top."""
    values = _saved(store.saved_searches(), name, f"; '\"@{name}\"' looks for the text itself")
    names = {field.name for field in fields(SearchArguments)} - _NOT_SAVED
    given = {key: value for key, value in _given(arguments).items() if key != "query"}
    return replace(arguments, **{key: value for key, value in {**values, **given}.items() if key in names})


def _saved(searches: Mapping[str, dict[str, Any]], name: str, more: str = "") -> dict[str, Any]:
    """A saved search by its name."""
    if name not in searches:
        saved = ", ".join(f"@{each}" for each in sorted(searches)) or "none"
        raise UsageError(f"no search is saved as @{name}", f"saved are: {saved}{more}")
    return searches[name]


def _manage_saved(context: Context, arguments: SearchArguments) -> int:
    """List the saved searches, or remove one."""
    if arguments.query or (arguments.saved and arguments.forget):
        raise UsageError("--saved and --forget stand alone", "leave out the query and other options")
    store = open_indexes(context, context.reading_settings())
    searches = store.saved_searches()
    if arguments.forget:
        name = arguments.forget.removeprefix("@")
        _saved(searches, name)
        store.save_searches({each: values for each, values in searches.items() if each != name})
        warn(f"removed @{name}")
        return EXIT_FOUND
    if not searches:
        warn("no search is saved: clamr search QUERY --save NAME")
        return EXIT_NOTHING
    rows = [{"name": name, "options": dict(sorted(values.items()))} for name, values in sorted(searches.items())]
    emit(SAVED, rows, arguments.form)
    return EXIT_FOUND


def _as_command(values: Mapping[str, Any]) -> str:
    """A saved search as the words after ``clamr search``."""
    words = [str(word) for word in values.get("query") or ()]
    for name, value in values.items():
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        for each in () if name == "query" else value if isinstance(value, list) else [value]:
            words += [option] if each is True else [option, f"{each:g}" if isinstance(each, float) else str(each)]
    return command_line(words)


def _search_options(arguments: SearchArguments, settings: Settings) -> SearchOptions:
    """The options of a search, from the command line and the settings."""
    if arguments.everything and arguments.limit is not None:
        raise UsageError("--all and --limit exclude each other", "give one of them")
    return terms.search_options(
        also=arguments.also,
        without=arguments.without,
        modality=arguments.modality,
        weight=arguments.weight,
        scoring=settings.scoring,
        limit=_MOST if arguments.everything else settings.limit,
        offset=arguments.offset,
        moments=arguments.moments,
        floor=arguments.floor,
        exact=arguments.exact or arguments.everything,
        hybrid=arguments.hybrid,
        scan_limit=settings.scan_limit,
        since_day=arguments.since,
        until_day=arguments.until,
        longer=arguments.longer,
        shorter=arguments.shorter,
        path=arguments.path,
        tags=arguments.tag,
        speakers=arguments.speaker,
        language_code=arguments.language,
    )


def _explain_nothing(
    store: Store, encoder: Encoder, query: str, search_options: SearchOptions, *, prefix: str = ""
) -> None:
    """Say why nothing was found."""
    from clamr_cli.search import why_nothing

    if store.catalog():
        reason = why_nothing(store, encoder, query, search_options)
        warn(f"{prefix}nothing found{': ' * bool(reason)}{reason}{_more_later(store)}")
    elif store.is_being_written():
        warn("nothing is indexed yet; clamr index is running")
    else:
        warn("nothing is indexed yet: clamr index DIR")


def _print_hits(
    store: Store,
    encoder: Encoder,
    query: str,
    hits: list[Hit],
    form: Form,
    arguments: SearchArguments,
    one_of: LabelledQuery | None = None,
    *,
    header: bool = True,
) -> int:
    """Print the hits of a query and what there is to say of all of them; returns the exit code."""
    from clamr_cli.cli.hits import print_hits

    if form is Form.PATHS:
        # What a weak hit names is probably no answer, and a program that gets paths cannot tell.
        write_paths([hit.path for hit in hits if not hit.weak], null=arguments.null)
    else:
        coverage = partial_coverage(store, encoder.info.fingerprint)
        if form is Form.TABLE:
            if one_of is not None:
                print_line(query if one_of.id == one_of.text else f"{one_of.id}  {query}")
            everything = arguments.limit is not None or arguments.everything or one_of is not None
            print_hits(store, query, hits, ids=arguments.ids, pictures=arguments.pictures, everything=everything)
        else:
            columns = HIT if one_of is None else (*_query_columns(one_of), *HIT)
            emit(columns, hits, form, extra=coverage, header=header)
    if hits[0].approximate:
        warn("approximate: candidates came from an index; --exact compares with everything")
    weak = sum(hit.weak for hit in hits)
    if weak == len(hits):
        prefix = "" if one_of is None else f"{one_of.text}: "
        hint = f"probably nothing here answers the query (--floor 0 accepts them){_more_later(store)}"
        warn(f"{prefix}only weak hits: {hint}")
        return EXIT_NOTHING
    if form is Form.PATHS and weak:
        warn(f"{plural(weak, 'weak hit')} left out (--floor 0 accepts them){_more_later(store)}")
    return EXIT_FOUND


def _more_later(store: Store) -> str:
    """Says that more videos may be found later; empty where nobody writes to the index."""
    return "; clamr index is running, more videos may follow" if store.is_being_written() else ""
