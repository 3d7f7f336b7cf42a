"""``clamr synth``: search queries for the indexed videos, written by a language model."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from clamr_cli import locations
from clamr_cli.cli import options
from clamr_cli.cli.options import ConcurrencyOption, Context, DeviceOption, LlmOptions, TemperatureOption, open_store
from clamr_cli.cli.output import warn, write
from clamr_cli.cli.progress import LlmRunView, Screen, follow, interruptible
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, EXIT_PARTIAL, UsageError
from clamr_cli.records import json_line
from clamr_cli.text import plural
from clamr_cli.types import FileRecord

if TYPE_CHECKING:
    from clamr_cli.store import Store
    from clamr_cli.synth import QuerySettled
    from clamr_cli.synth.prompts import SynthOptions

_NOTHING: Final = "nothing to write queries from: of what was asked for, the videos have nothing that a model is shown"


@dataclass(frozen=True, kw_only=True)
class SynthArguments(LlmOptions):
    folder: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Only the indexed videos in this folder, or this one.", show_default=False),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            metavar="FILE",
            parser=options.out_file,
            help="Add to this JSONL file; without, print.",
        ),
    ] = None
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", "-m", metavar="NAME", help="Only base, video, speech, ocr, metadata; repeatable."),
    ] = None
    per_modality: Annotated[int, typer.Option(metavar="N", help="Queries of each kind per video.", min=1)] = 1
    examples: Annotated[Path | None, typer.Option(metavar="FILE", help="Example queries, JSONL; else clamr's own.")] = (
        None
    )
    shots: Annotated[int, typer.Option(metavar="N", help="Examples in a prompt at most.", min=0)] = 10
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed: the same gives the same queries.")] = 0
    max_frames: Annotated[int, typer.Option(metavar="N", help="Frames in a prompt at most.", min=1)] = 10
    vision: Annotated[Literal["auto", "yes", "no"], typer.Option(help="Show frames: auto if the model takes them.")] = (
        "auto"
    )
    temperature: TemperatureOption = 0.0
    concurrency: ConcurrencyOption = 4
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="The first N videos.", min=1)] = None
    device: DeviceOption = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the prompts as JSON lines; ask no model.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed, and the sum.")] = False

    def options(self) -> SynthOptions:
        """The options of the run."""
        from clamr_cli.synth.prompts import TARGETS, SynthOptions, target_name

        by_name = {target_name(target): target for target in TARGETS}
        names = [part for name in self.modality or () for part in name.split(",")]
        if invalid := [name for name in names if name.strip().lower() not in by_name]:
            raise UsageError(f"invalid kind of query: {invalid[0]!r}", f"use {', '.join(by_name)}")
        return SynthOptions(
            targets=tuple(dict.fromkeys(by_name[name.strip().lower()] for name in names)) or TARGETS,
            each=self.per_modality,
            seed=self.seed,
            frames=self.max_frames,
            shots=self.shots,
            temperature=self.temperature,
            vision=self.vision,
        )


def synth(context: Context, arguments: SynthArguments) -> int:
    """Write search queries for the indexed videos.

    A language model writes them. For each video a base query from its title and one query per modality it has: what
    is shown, said, written on screen and in the metadata. They are JSON lines with the id of the video that answers,
    for training and evaluation. It can be interrupted at any time; the same command with the same --out goes on where
    it stopped.

    Examples:
        clamr synth --model ~/models/vlm -o queries.jsonl
    """
    from clamr_cli.synth import SynthRun, planned_prompts, query_journals
    from clamr_cli.synth.prompts import read_examples, shipped_examples

    settings, synth_options = context.settings(device=arguments.device), arguments.options()
    examples = read_examples(arguments.examples) if arguments.examples else shipped_examples()
    if arguments.model is None and not arguments.dry_run:
        hint = "name one: --model FOLDER, or --base-url URL --model NAME; --dry-run shows the prompts without"
        raise UsageError("no model to write queries with", hint)
    arguments.check_llm()
    store = open_store(settings)
    videos = _videos(store, arguments.folder)[: arguments.limit]
    if not videos:
        return EXIT_NOTHING
    if arguments.dry_run:
        prompts = 0
        for prompt in planned_prompts(store, videos, examples, synth_options):
            write([json_line(prompt)])
            prompts += 1
        if not prompts:
            warn(_NOTHING)
        return EXIT_FOUND if prompts else EXIT_NOTHING
    written, rejected = journals = query_journals(arguments.out)
    with interruptible() as received, written, rejected:
        with Screen(quiet=arguments.quiet) as screen:
            screen.bar("loading the model", 0, None, due=False)
            model = arguments.load_model(settings, image_hint="show fewer --max-frames", workers=arguments.concurrency)
        view = SynthView(len(videos), arguments.out)
        try:
            events = SynthRun(store, model, examples, synth_options, journals).events(videos)
            if code := follow(events, view, quiet=arguments.quiet, received=received):
                return code
        finally:
            model.close()
    if view.settled:
        view.print_summary()
        return EXIT_PARTIAL if view.outcomes["failed"] else EXIT_FOUND
    warn("nothing was left to write" if written.records or rejected.records else _NOTHING)
    return EXIT_FOUND if written.records or rejected.records else EXIT_NOTHING


def _videos(store: Store, folder: str | None) -> list[FileRecord]:
    """The videos to write queries for; says so if there are none, or if some of the folder are not indexed."""
    from clamr_cli.index.documents import indexed_videos
    from clamr_cli.media.walk import VideoFile, discover
    from clamr_cli.types import FileState

    if folder is None:
        videos = indexed_videos(store)
        if not videos:
            warn("the index holds no videos; index some with: clamr index DIR")
        return videos
    root = locations.absolute(folder)
    indexed = [file for file in store.files() if file.state is FileState.INDEXED]
    inside: dict[str, FileRecord] = {}
    for file in indexed:
        if file.path == root or file.path.startswith(os.path.join(root, "")):
            inside.setdefault(file.video_id, file)
    paths: set[str] = set()
    # What was indexed can be used though its disk is not there now.
    if locations.lexists(root) or not inside:
        paths = {found.path for found in discover([root]) if isinstance(found, VideoFile)}
    if missing := len(paths - {file.path for file in indexed}):
        verb, them = ("is", "it") if missing == 1 else ("are", "them")
        command = f"clamr index {shlex.quote(root)}"
        warn(f"{plural(missing, 'video')} there {verb} not indexed; index {them} with: {command}")
    elif not inside:
        warn(f"there are no videos in {root}")
    return [inside[video_id] for video_id in sorted(inside)]


class SynthView(LlmRunView):
    """Shows a run; queries go to stdout where no file was named, all else to stderr."""

    interval = 5.0

    def __init__(self, videos: int, out: Path | None) -> None:
        super().__init__(videos, out)
        self.outcomes: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._asked_twice = 0
        # A bar and queries on one terminal would overwrite each other.
        self.bars = out is not None or not sys.stdout.isatty()

    @property
    def settled(self) -> int:
        """The number of queries that were asked for, whatever their end."""
        return self.outcomes.total() - self.outcomes["unseen"]

    def settle(self, event: QuerySettled) -> None:
        self.outcomes[event.outcome] += 1
        self._asked_twice += event.attempts > 1
        if event.outcome == "dropped":
            self._dropped[event.reason] += 1
        elif event.outcome == "failed":
            self.screen.line(f"failed {event.query.id}: {event.reason}", always=True)
        elif event.outcome == "written" and self._out is None:
            write([json_line(event.record)])

    def results(self) -> str:
        count = self.outcomes["written"]
        return "1 query" if count == 1 else f"{count} queries"

    def interrupted(self) -> str:
        return f"interrupted: {self.results()} written; {self.how_to_go_on()}"

    def print_summary(self) -> None:
        """The run in one line, and why queries were dropped, the commonest reason first."""
        counts = [f"{self.outcomes[name]} {name}" for name in ("dropped", "failed") if self.outcomes[name]]
        where = f"; why is in {self._out}.rejected" if self._out and counts else ""
        warn(", ".join([f"{self.results()} written", *counts]) + where)
        for reason, count in self._dropped.most_common():
            warn(f"dropped {count}: {reason}")
        if self._asked_twice:
            warn(f"asked twice: {self._asked_twice}")
