"""``clamr index``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.index_progress import IndexView
from clamr_cli.cli.options import EncoderOptions
from clamr_cli.cli.progress import follow
from clamr_cli.cli.recognising import AsrModel, Device, Language, Ocr, OcrLanguages, chosen, wanted
from clamr_cli.cli.signals import interruptible
from clamr_cli.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.index.run import IndexOptions
    from clamr_cli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(EncoderOptions):
    """Options of ``clamr index``."""

    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="Files, folders or globs.", show_default=False)
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="GLOB", help="Leave out what matches; repeatable.")
    ] = None
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="NAME", help="Encode with this; without targets, re-encode all there is."),
    ] = None
    language: Language = None
    asr_model: AsrModel = None
    ocr: Ocr = None
    ocr_lang: OcrLanguages = None
    no_speech: Annotated[bool, typer.Option("--no-speech", help="Recognise no speech (subtitles are still read).")] = (
        False
    )
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text.")] = False
    window: Annotated[
        str | None, typer.Option("--window", metavar="TIME", help="Longest moment: 60, 90s or 1:30 (default 60).")
    ] = None
    pool: Annotated[
        int | None,
        typer.Option("--pool", metavar="N", help="Keep one vector for about N that are alike: smaller, less exact."),
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget what is missing at once; without targets, in the whole index.")
    ] = False
    device: Device = None
    json: Annotated[bool, typer.Option("--json", help="Print what happens as JSON lines.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed or is offline.")] = False


def run(before: Context, flags: Flags) -> int:
    """Make videos searchable, or bring the index up to date.

    New and changed videos are read, moved ones noticed. A file that is missing from a folder that still holds others
    leaves the index; what was extracted of it is kept for 30 days. Where a folder is empty, unreadable or not there, or
    more than half of the files of a target are missing at once, a disk may be away: the videos stay, marked as offline,
    until the files are back or --prune (or clamr rm) forgets them.

    It can be interrupted at any time; the same command goes on where it stopped.
    """
    # Before anything heavy is imported: some libraries swallow an interruption that meets them while they are.
    with interruptible() as told:
        return _run(before, flags, told)


def _run(before: Context, flags: Flags, told: Sequence[int]) -> int:
    from clamr_cli.cli.runtime import quiet_libraries, settings_for

    settings = settings_of(before, flags)
    everything = not flags.targets and not flags.encoder and not flags.retry_failed
    if everything and not flags.prune:
        raise UsageError("nothing to index", "name files or folders: clamr index DIR")
    store, targets = _opened(settings, flags)
    quiet_libraries()
    from clamr_cli.index.run import index, prune

    if everything:
        return follow(prune(store), IndexView(), quiet=flags.quiet, json=flags.json, received=told)
    own = flags.encoder_settings() if flags.pool is None else {**flags.encoder_settings(), "pool": flags.pool}
    options = options_of(settings, flags, settings_for(store, settings.encoder, settings, own))
    events = index(store, targets, options)
    return follow(events, IndexView(), quiet=flags.quiet, json=flags.json, received=told)


def _opened(settings: Settings, flags: Flags) -> tuple[Store, list[str]]:
    """The index, and the targets.

    Raises:
        UsageError: a target does not exist, and there is no index that knows it. It is told before an index is made.
    """
    from clamr_cli.cli.runtime import open_store
    from clamr_cli.media.walk import expand_targets

    targets = flags.targets or []
    try:
        return open_store(settings, create=bool(expand_targets(targets))), targets
    except UsageError as misspelled:
        try:
            store = open_store(settings)
        except StoreError:
            raise misspelled from None
    from clamr_cli.index.scan import resolve_targets

    resolve_targets(targets, {file.path: file for file in store.files()}, prune=flags.prune)
    return store, targets


def settings_of(before: Context, flags: Flags) -> Settings:
    """The settings with what the flags say on top.

    Raises:
        UsageError: a value that cannot be used.
    """
    from clamr_cli.timeline import parse_time

    return before.settings(
        exclude=flags.exclude or None,
        **wanted(flags),
        window=None if flags.window is None else parse_time(flags.window),
    )


def options_of(settings: Settings, flags: Flags, encoder_settings: Mapping[str, object]) -> IndexOptions:
    """The options of the run that settings and flags ask for."""
    made = chosen(settings, encoder_settings)
    return replace(
        made, exclude=settings.exclude, window=settings.window, retry_failed=flags.retry_failed, prune=flags.prune
    )
