"""``clamr synth``."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli.writing import WriterFlags, writer_of
from clamr_cli.errors import (
    EXIT_FOUND,
    EXIT_INTERRUPTED,
    EXIT_NOTHING,
    EXIT_PARTIAL,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.store import Store
    from clamr_cli.synth import Examples, SynthOptions, Target
    from clamr_cli.types import FileRecord


_NOTHING: Final = "nothing to write queries from: of what was asked for, the videos have nothing that a model is shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(WriterFlags):
    """Options of ``clamr synth``."""

    folder: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Only the indexed videos in this folder, or this one.", show_default=False),
    ] = None
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Add to this JSONL file; without, print.")
    ] = None
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", "-m", metavar="NAME", help="Only base, video, speech, ocr, metadata; repeatable."),
    ] = None
    per_modality: Annotated[int, typer.Option(metavar="N", help="Queries of each kind per video.", min=1)] = 1
    examples: Annotated[
        str | None, typer.Option("--examples", metavar="FILE", help="Example queries, JSONL; else clamr's own.")
    ] = None
    shots: Annotated[int, typer.Option(metavar="N", help="Examples in a prompt at most.", min=0)] = 10
    seed: Annotated[int, typer.Option(metavar="N", help="Of all draws: the same gives the same queries.")] = 0
    max_frames: Annotated[int, typer.Option(metavar="N", help="Frames in a prompt at most.", min=1)] = 10
    vision: Annotated[
        str, typer.Option(metavar="HOW", help="Show frames: auto (if the model takes them), yes, no.")
    ] = "auto"
    temperature: Annotated[float, typer.Option(metavar="T", help="0 is the most probable answer.", min=0.0)] = 0.0
    concurrency: Annotated[int, typer.Option(metavar="N", help="Questions to the endpoint at once.", min=1)] = 4
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="The first N videos.", min=1)] = None
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the prompts as JSON lines; ask nobody.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed, and the sum.")] = False


def run(before: Context, flags: Flags) -> int:
    """Write search queries for the indexed videos.

    A language model writes them. For each video a base query from its title and one query per modality it has: what
    is seen, said, written on screen and noted. They are JSON lines with the id of the video that answers, for
    training and evaluation. It can be interrupted at any time; the same command with the same --out goes on where
    it stopped.
    """
    from clamr_cli.cli.runtime import open_store, quiet_libraries

    settings = before.settings(device=flags.device)
    options, examples = _options(flags), _examples(flags)
    _check(flags)
    quiet_libraries()
    store = open_store(settings)
    records = _chosen(store, flags)
    if not records:
        return EXIT_NOTHING
    if flags.dry_run:
        return _show_prompts(store, records, examples, options)
    return _follow(store, records, flags, settings, examples)


def _check(flags: Flags) -> None:
    """Fail before anything is opened or loaded."""
    if flags.model is None and not flags.dry_run:
        hint = "name one: --model FOLDER, or --base-url URL --model NAME; --dry-run shows the prompts without"
        raise UsageError("no model to write queries with", hint)
    flags.check_writer()
    if flags.out and (Path(flags.out).is_dir() or not Path(flags.out).absolute().parent.is_dir()):
        raise UsageError(f"{flags.out} cannot be written", "name a file in a folder that is there")


def _options(flags: Flags) -> SynthOptions:
    from clamr_cli.synth import TARGETS, Asking, SynthOptions, Wanted

    if not math.isfinite(flags.temperature):
        raise UsageError(f"invalid --temperature: {flags.temperature}", "give a finite one")
    if flags.vision not in ("auto", "yes", "no"):
        raise UsageError(f"--vision {flags.vision} is unknown", "use auto, yes or no")
    targets = tuple(dict.fromkeys(_target(part) for name in flags.modality or () for part in name.split(",")))
    return SynthOptions(
        Wanted(targets or TARGETS, flags.per_modality, flags.seed, flags.max_frames),
        Asking(flags.seed, flags.shots, flags.temperature),
        flags.vision,  # type: ignore[arg-type]
    )


def _target(name: str) -> Target:
    from clamr_cli.synth import TARGETS, target_name

    for target in TARGETS:
        if name.strip().lower() == target_name(target):
            return target
    raise UsageError(f"there is no kind of query {name!r}", f"use {', '.join(map(target_name, TARGETS))}")


def _examples(flags: Flags) -> Examples:
    from clamr_cli.synth import Examples

    return Examples.read(Path(flags.examples)) if flags.examples else Examples.shipped()


def _chosen(store: Store, flags: Flags) -> list[FileRecord]:
    """The videos to write queries for; says so where there are none, or where some of the folder are not indexed."""
    from clamr_cli.cli.output import warn
    from clamr_cli.index.documents import indexed_videos

    if flags.folder is None:
        records = indexed_videos(store)
        if not records:
            warn("the index holds no videos; index some with: clamr index DIR")
    else:
        records = _inside(store, os.path.abspath(os.path.expanduser(flags.folder)))
    return records[: flags.limit]


def _inside(store: Store, place: str) -> list[FileRecord]:
    from clamr_cli.cli.output import warn
    from clamr_cli.media.walk import Found, discover
    from clamr_cli.types import FileState

    indexed = [file for file in store.files() if file.state is FileState.INDEXED]
    known = {file.path for file in indexed}
    # What was indexed can be written of though its disk is not there now.
    walk = discover([place]) if os.path.lexists(place) or not _below(indexed, place) else iter(())
    missing = sum(isinstance(one, Found) and one.path not in known for one in walk)
    if missing:
        told = "1 video there is" if missing == 1 else f"{missing} videos there are"
        warn(f"{told} not indexed; index {'it' if missing == 1 else 'them'} with: clamr index {_quoted(place)}")
    found = _below(indexed, place)
    if not found and not missing:
        warn(f"there are no videos in {place}")
    return found


def _below(files: Sequence[FileRecord], place: str) -> list[FileRecord]:
    """One file of each video in a folder (or the file itself), by video-id."""
    first: dict[str, FileRecord] = {}
    for file in files:
        if file.path == place or file.path.startswith(os.path.join(place, "")):
            first.setdefault(file.video_id, file)
    return [first[identity] for identity in sorted(first)]


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)


def _show_prompts(store: Store, records: Sequence[FileRecord], examples: Examples, options: SynthOptions) -> int:
    from clamr_cli.cli.output import warn, write
    from clamr_cli.render.records import json_line
    from clamr_cli.synth.run import planned

    shown = 0
    for record in planned(store, records, examples, options):
        write([json_line(record)])
        shown += 1
    if not shown:
        warn(_NOTHING)
    return EXIT_FOUND if shown else EXIT_NOTHING


def _follow(store: Store, records: Sequence[FileRecord], flags: Flags, settings: Settings, examples: Examples) -> int:
    """Run, and say what happens; an interruption keeps what is written and says how to go on."""
    from clamr_cli.cli.output import warn
    from clamr_cli.cli.signals import interruptible
    from clamr_cli.cli.synth_talk import Talk
    from clamr_cli.synth import Journal, synthesise

    out = Path(flags.out) if flags.out else None
    with interruptible(), Journal(out) as journal:
        writer = writer_of(flags, settings, image_hint="show fewer --max-frames", workers=flags.concurrency)
        events = synthesise(store, records, writer, examples, _options(flags), journal)
        talk = Talk(len(records), out, quiet=flags.quiet)
        try:
            with talk:
                for event in events:
                    talk.show(event)
        except KeyboardInterrupt:
            how = "run the same command again to go on" if out else "with --out FILE a run can go on later"
            warn(f"interrupted: {talk.written} written; {how}")
            return EXIT_INTERRUPTED
        finally:
            writer.close()
            _close(events)
        if talk.settled:
            talk.summary()
            return EXIT_PARTIAL if talk.failed else EXIT_FOUND
        if journal.kept or journal.dropped:
            warn("nothing was left to write")
            return EXIT_FOUND
    warn(_NOTHING)
    return EXIT_NOTHING


def _close(events: Iterator[Any]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        events.close()  # type: ignore[attr-defined]
