"""``clamr index``: make videos searchable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import EncoderOptions, EventsOption, ExtractionOptions
from clamr_cli.cli.progress import IndexView, follow, interruptible
from clamr_cli.cli.runtime import Context, choose_encoder, index_options, open_store, settings_for
from clamr_cli.errors import StoreError, UsageError
from clamr_cli.text import parse_time

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.store import Store


@dataclass(frozen=True, kw_only=True)
class IndexArguments(ExtractionOptions, EncoderOptions):
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="Files, folders or globs.", show_default=False)
    ] = None
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Leave out what matches; repeatable.")] = (
        None
    )
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encode with this; without targets, re-encode all there is.")
    ] = None
    window: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=parse_time, help="Longest moment: 60, 90s or 1:30 (default 60)."),
    ] = None
    pool: Annotated[
        int | None, typer.Option(metavar="N", help="Keep one vector for about N that are alike: smaller, less exact.")
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget what is missing at once; without targets, in the whole index.")
    ] = False
    json: EventsOption = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what failed or is offline.")] = False


def index(context: Context, arguments: IndexArguments) -> int:
    """Make videos searchable, or bring the index up to date.

    New and changed videos are read, moved ones noticed. A file that is missing from a folder that still holds others
    leaves the index; what was extracted of it is kept for 30 days. Where a folder is empty, unreadable or not there, or
    more than half of the files of a target are missing at once, a disk may be away: the videos stay, marked as offline,
    until the files are back or --prune (or clamr rm) forgets them.

    It can be interrupted at any time; the same command goes on where it stopped.

    Examples:
        clamr index ~/Videos
        clamr index ~/Videos --language fr --no-ocr
        find . -name "*.mkv" -print0 | clamr index -
    """
    # Before anything heavy is imported: some libraries swallow an interruption that meets them while they are.
    with interruptible() as received:
        settings = arguments.settings(context, exclude=arguments.exclude or None, window=arguments.window)
        prunes_all = not arguments.targets and not arguments.encoder and not arguments.retry_failed
        if prunes_all and not arguments.prune:
            raise UsageError("nothing to index", "name files or folders: clamr index DIR")
        store = _open(settings, arguments)
        from clamr_cli.index import run

        if prunes_all:
            events = run.prune(store)
        else:
            settings = choose_encoder(store, settings)
            given = {**arguments.encoder_settings(), **({} if arguments.pool is None else {"pool": arguments.pool})}
            options = index_options(settings, settings_for(store, settings.encoder, settings, given))
            options = replace(options, retry_failed=arguments.retry_failed, prune=arguments.prune)
            events = run.index(store, arguments.targets or [], options)
        return follow(
            events, IndexView(verbose=context.verbose), quiet=arguments.quiet, json=arguments.json, received=received
        )


def _open(settings: Settings, arguments: IndexArguments) -> Store:
    """Open the index, or make one; not before a misspelled target that no index knows is refused."""
    from clamr_cli.index.scan import resolve_targets
    from clamr_cli.media.walk import expand_targets

    targets = arguments.targets or []
    try:
        return open_store(settings, create=bool(expand_targets(targets)))
    except UsageError as misspelled:
        try:
            store = open_store(settings)
        except StoreError:
            raise misspelled from None
    resolve_targets(targets, {file.path: file for file in store.files()}, prune=arguments.prune)
    return store
