"""``clamr index``: make videos searchable."""

from __future__ import annotations

import contextlib
import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from clamr_cli import locations
from clamr_cli.cli.options import (
    Context,
    EncoderOptions,
    EventsOption,
    ExecutorOptions,
    ExtractionOptions,
    choose_encoder,
    open_store,
)
from clamr_cli.cli.output import warn
from clamr_cli.cli.progress import IndexView, follow, interruptible
from clamr_cli.config import plain_value, state_folder, value_text
from clamr_cli.errors import StoreError, UsageError
from clamr_cli.files import write_atomically
from clamr_cli.selection import index_options, settings_for
from clamr_cli.text import parse_time
from clamr_cli.types import RayOptions, VoiceModel

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.index.executors.ray import RayExecutor
    from clamr_cli.index.pipeline import IndexOptions
    from clamr_cli.store import Store

_PACES: Final = "paces.json"
_Pace = Annotated[float, msgspec.Meta(gt=0.0)]


@dataclass(frozen=True, kw_only=True)
class IndexArguments(ExecutorOptions, ExtractionOptions, EncoderOptions):
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET", help="Files, folders, globs; s3://BUCKET/PREFIX, https://HOST/FILE.", show_default=False
        ),
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
    speakers: Annotated[
        bool | None, typer.Option("--speakers/--no-speakers", help="Tell speakers apart by their voices.")
    ] = None
    voice_model: Annotated[
        VoiceModel | None,
        typer.Option(metavar="NAME", help="Model that tells voices apart: see 'clamr help speakers'."),
    ] = None
    pool: Annotated[
        int | None, typer.Option(metavar="N", help="Keep one vector for about N that are alike: smaller, less exact.")
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget what is missing at once; without targets, in the whole index.")
    ] = False
    shard: Annotated[
        str | None, typer.Option(metavar="N/OF", help="Only this part of the files: 3/16 in the third of 16 jobs.")
    ] = None
    gpus_per_worker: Annotated[
        float | None, typer.Option(metavar="X", help="GPUs of each worker; 0.25 lets four share one.")
    ] = None
    reset: Annotated[bool, typer.Option("--reset", help="Forget the settings remembered for these folders.")] = False
    json: EventsOption = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what failed or is offline.")] = False


def index(context: Context, arguments: IndexArguments) -> int:
    """Make videos searchable, or bring the index up to date.

    New and changed videos are read, moved ones noticed. A file that is missing from a folder that still holds others
    leaves the index; what was extracted of it is kept for 30 days. Where a folder is empty, unreadable or not there, or
    more than half of the files of a target are missing at once, a disk may be away: the videos stay, marked as offline,
    until the files are back or --prune (or clamr rm) forgets them.

    Without targets it renews all folders that were named before. What is given for a folder (--language, --asr-model,
    --ocr, --ocr-lang, --no-speech, --no-ocr, --speakers, --voice-model, --window, --exclude) is remembered for it until
    --reset.

    It can be interrupted at any time; the same command goes on where it stopped.

    --executor ray works on the machines of a Ray cluster (extra 'cluster'); see 'clamr help scaling'. --shard divides the files by their paths among the jobs of an array, each with an index of its own: 'clamr merge' puts these together, and 'clamr search' with several --db searches them as one.

    Examples:
        clamr index ~/Videos
        clamr index ~/Videos/france --language fr --no-ocr
        clamr index s3://bucket/archive
        clamr index
        find . -name "*.mkv" -print0 | clamr index -
    """  # noqa: E501 -- a paragraph of help is a line
    # Before anything heavy is imported: some libraries swallow an interruption that meets them while they are.
    with interruptible() as received:
        given = {**arguments.extraction_settings(), "exclude": arguments.exclude or None, "window": arguments.window}
        given |= {"speakers": arguments.speakers, "voice_model": arguments.voice_model}
        given = {name: value for name, value in given.items() if value is not None}
        settings = arguments.settings(context, **given)
        bare = not arguments.targets and not arguments.encoder and not arguments.retry_failed
        if bare and arguments.prune:
            from clamr_cli.index import run

            events = run.prune(open_store(settings))
        else:
            store = _open(settings, arguments)
            from clamr_cli.index import run

            settings, targets, options = plan(context, arguments, settings, store, given)
            cluster = arguments.ray_options(settings, gpus_per_worker=arguments.gpus_per_worker)
            options, executor = on_cluster(cluster, options)
            events = run.index(store, targets, options, executor)
        kind = " ".join((settings.encoder, settings.asr_model, settings.ocr, settings.device))
        paces = _read_paces()
        view = IndexView(verbose=context.verbose, paces=paces.get(kind))
        code = follow(events, view, quiet=arguments.quiet, json=arguments.json, received=received)
        if measured := view.estimate.measured():
            # A courtesy to the next run: failing to write it is no error.
            with contextlib.suppress(OSError):
                paces[kind] = {**paces.get(kind, {}), **measured}
                write_atomically(state_folder() / _PACES, json.dumps(paces).encode(), sync=False)
        return code


def plan(
    context: Context,
    arguments: IndexArguments,
    settings: Settings,
    store: Store,
    given: Mapping[str, object],
    *,
    quiet: bool = False,
) -> tuple[Settings, list[str], IndexOptions]:
    """The settings with the encoder's name, the targets and the options of an index run.

    Says which remembered settings are used, unless ``quiet``.
    """
    bare = not arguments.targets and not arguments.encoder and not arguments.retry_failed
    targets = arguments.targets or (known_targets(store) if bare else [])
    settings = choose_encoder(store, settings)
    own = {**arguments.encoder_settings(), **({} if arguments.pool is None else {"pool": arguments.pool})}
    own = dict(settings_for(store, settings.encoder, settings, own))
    places, remembered = _places(store, targets, given, reset=arguments.reset, quiet=quiet)
    folders = {
        path: replace(
            index_options(replace(context.settings(**values, device=arguments.device), encoder=settings.encoder), own),
            retry_failed=arguments.retry_failed,
        )
        for path, values in places.items()
    }
    options = replace(
        index_options(settings, own),
        retry_failed=arguments.retry_failed,
        prune=arguments.prune,
        shard=None if arguments.shard is None else _shard(arguments.shard),
        folders=folders,
        remembered=remembered if targets else None,
    )
    return settings, targets, options


def on_cluster(cluster: RayOptions | None, options: IndexOptions) -> tuple[IndexOptions, RayExecutor | None]:
    """The options of a run with work for all workers of a cluster, and these; None for this machine's own processes."""
    if cluster is None:
        return options, None
    from clamr_cli.index.executors.ray import RayExecutor

    executor = RayExecutor(cluster, options.cache, options.with_threads().threads)
    return replace(options, jobs=options.jobs * executor.count), executor


def _shard(text: str) -> tuple[int, int]:
    """The number of a part from 1, and how many there are."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(
            f"invalid --shard: {text!r}", "give a part and the number of parts, such as 3/16; parts count from 1"
        )
    return number, count


def _read_paces() -> dict[str, dict[str, float]]:
    """The paces of the stages that earlier runs measured on this machine, by what they ran with."""
    try:
        return msgspec.json.decode((state_folder() / _PACES).read_bytes(), type=dict[str, dict[str, _Pace]])
    except (OSError, msgspec.MsgspecError):
        return {}


def known_targets(store: Store) -> list[str]:
    """The folders, files and globs that earlier runs were given, without those inside of others."""
    from clamr_cli.index.scan import known_folders
    from clamr_cli.media.walk import ancestors, is_below

    known = known_folders(store)
    if not known:
        raise UsageError("nothing to index", "name files or folders: clamr index DIR")
    files = [file.path for file in store.files()]
    return [
        path
        for path in known
        if not any(parent in known for parent in ancestors(path))
        and (locations.lexists(path) or glob.has_magic(path) or any(is_below(file, path) for file in files))
    ]


def _places(
    store: Store, targets: Sequence[str], given: Mapping[str, object], *, reset: bool, quiet: bool
) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """The settings of this run by path, and what the index is to remember; says which of them it remembered.

    What was given now holds for the targets and is remembered for them; a folder inside of one keeps its own settings.
    """
    from clamr_cli.index.scan import known_folders
    from clamr_cli.media.walk import ancestors

    known = known_folders(store)
    remembered = dict(known)
    places = {path: dict(values) for path, values in known.items()}
    for target in targets:
        path = locations.absolute(target)
        parent = next((known[place] for place in (path, *ancestors(path)) if place in known), {})
        before = {} if reset else {name: value for name, value in parent.items() if name not in given}
        if before and not quiet:
            values = ", ".join(f"{name} {value_text(value)}" for name, value in before.items())
            warn(f"{path}: {values} (remembered; --reset forgets)")
        if reset or given or path in known or not any(place in known for place in ancestors(path)):
            remembered[path] = {**before, **{name: plain_value(value) for name, value in given.items()}}
        # A folder that is gone may have brackets in its name too.
        for place in [path] if locations.lexists(path) else sorted(glob.glob(path, recursive=True)) or [path]:
            places[place] = {**before, **given}
    return places, remembered


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
