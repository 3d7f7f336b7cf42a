"""``clamr cut``: stretches of videos as clips, or joined in one video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli import options
from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import emit, warn
from clamr_cli.cli.progress import RunView, follow
from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED, EXIT_PARTIAL, StoreError, UsageError
from clamr_cli.records import Column, as_span, seconds_column, table_only
from clamr_cli.text import format_time, parse_time, plural

if TYPE_CHECKING:
    from clamr_cli.edit.cut import Clip, Cutting, Supercut
    from clamr_cli.edit.selections import Bounds, Selection
    from clamr_cli.store import Store
    from clamr_cli.types import Hit, Span


CLIP: Final = (
    Column("file", "The file that was written.", style="bold", wide=True),
    Column(
        "rank", "Rank of the hit; 0 where a stretch was named by its times.", lambda clip: clip.selection.rank,
        table=None,
    ),
    Column("title", "Title of the video.", lambda clip: clip.selection.label, wide=True),
    Column("path", "The file that it was cut out of.", lambda clip: clip.selection.path, table=None),
    seconds_column("start", "Where it was to begin, in seconds of that file.", lambda clip: clip.asked.start, 3),
    seconds_column("end", "Where it was to end.", lambda clip: clip.asked.end, 3),
    seconds_column("begins", "Where it begins.", lambda clip: clip.span.start, 3),
    seconds_column("ends", "Where it ends.", lambda clip: clip.span.end, 3),
    table_only("time", lambda clip: as_span(clip.asked)),
    table_only("early", lambda clip: f"{max(0.0, clip.asked.start - clip.span.start):.1f} s", right=True),
    Column("text", "The line that answers; empty for a frame.", lambda clip: clip.selection.text, table=None),
)  # fmt: skip
"""A clip that was cut, or a part of a joined video."""


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """The stretches of videos that a command works on."""

    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT",
            help="Ranks of the last search (1 3-5; all without any), JSON lines of a search, or VIDEO@1:02-1:30.",
            show_default=False,
        ),
    ] = None
    line: Annotated[bool, typer.Option("--line", help="Of hits, the line that answers, not the moment.")] = False
    pad: Annotated[
        float | None, typer.Option(metavar="TIME", parser=parse_time, help="So much more before and after.")
    ] = None
    as_given: Annotated[
        bool, typer.Option("--as-given", help="Keep the times as they are, also where they cut a word.")
    ] = False
    tag: options.TagOption = None

    @property
    def bounds(self) -> Bounds:
        return "line" if self.line else "moment"

    def select(self, context: Context) -> tuple[list[Selection], list[str]]:
        """The selections, and a line for each video that is not there."""
        from clamr_cli.edit.cut import Probe
        from clamr_cli.edit.selections import read_selections

        store: Store | None = None
        try:
            store = open_store(context.settings())
        except StoreError as error:
            # Files can be named without an index.
            if not error.what.startswith("no index at") or not all("@" in word for word in self.what or [""]):
                raise
        probe = Probe()
        try:
            selections, failures = read_selections(store, self.what or (), probe, bounds=self.bounds)
        finally:
            probe.stop()
        if not selections:
            raise UsageError(*_first(failures))
        if self.tag and store is not None:
            from clamr_cli.search.search import select
            from clamr_cli.types import Filters

            tagged = select(store, Filters(tags=tuple(self.tag)))
            selections = [one for one in selections if one.video_id in tagged]
        if self.tag and (store is None or not selections):
            raise UsageError(f"none of them has the tag {' and '.join(self.tag)}", "clamr tag lists them")
        return selections, failures


@dataclass(frozen=True, kw_only=True)
class CutArguments(SelectionOptions, options.FormOptions):
    out: Annotated[
        Path | None, typer.Option("--out", "--output", "-o", metavar="DIR", help="Write a clip of each there.")
    ] = None
    join: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all of them as one video, with its .srt and a contact sheet."),
    ] = None
    exact: Annotated[
        bool, typer.Option("--exact", help="Encode anew, to the frame, instead of copying from the keyframe before.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False
    quiet: options.QuietOption = False

    def check(self) -> None:
        """Refuse places that cannot be written to, before anything is opened."""
        if self.out is None and self.join is None:
            raise UsageError(
                "no place to write to was named", "give a folder with -o DIR, or a file with --join FILE.mp4"
            )
        if self.out is not None:
            check_folder(self.out)
        if self.join is not None:
            from clamr_cli.edit.cut import check_target

            check_target(self.join.expanduser(), force=self.force)


def check_folder(folder: Path) -> None:
    """Refuse what is no folder."""
    if os.path.lexists(folder.expanduser()) and not folder.expanduser().is_dir():
        raise UsageError(f"{folder} is no folder", "name another place for the clips")


def cut(context: Context, arguments: CutArguments) -> int:
    """Cut hits out as clips, or join them in one video.

    Without a name it takes the hits of the last search that are not weak. A stretch is the moment of a hit, with --line the line that answers, or what VIDEO@START-END says. No bound lies inside a word: it moves to the end of the word, or to the next pause where the times of words are unknown.

    Clips are copied from the keyframe before on, which is fast and loses nothing, and begins a little early: the output says how much. --exact encodes anew, H.264 and AAC, to the frame. All sound tracks, text subtitles and the rotation come along. A clip that cannot be cut is a line on stderr; the others go on.

    --join writes one video of all: copied where the sources have the same codec, size and rate, else encoded to the size and the rate of most of them, with black bars. Beside it lie its subtitles (.srt) and a contact sheet (.jpg).

    Piped, it prints tab-separated lines: file, rank, title, path, start and end as asked, start and end in the clip.

    Examples:
        clamr cut 1 3-5 -o clips --pad 0.5
        clamr cut --line --join best.mp4
        clamr cut talk.mp4@1:02-1:30 -o clips --exact
        clamr search "red car" --json | clamr cut - -o clips
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.edit.cut import join

    form = arguments.form
    arguments.check()
    selections, failures = arguments.select(context)
    for line in failures:
        warn(f"left out: {line}", always=True)
    pad, as_given = arguments.pad or 0.0, arguments.as_given
    code = EXIT_PARTIAL if failures else EXIT_FOUND
    if arguments.out is not None:
        clips = ClipView(arguments.out, exact=arguments.exact)
        written = clips.write(selections, pad=pad, as_given=as_given, force=arguments.force, quiet=arguments.quiet)
        emit(CLIP, [clip for clip in clips.clips if not clip.error], form)
        code = max(code, written)
    if arguments.join is not None and code != EXIT_INTERRUPTED:
        from clamr_cli.edit.selections import snapped

        view = JoinView()
        spans = [snapped(one, pad, as_given=as_given) for one in selections]
        target = arguments.join.expanduser()
        events = join(selections, spans, target, exact=arguments.exact, force=arguments.force)
        code = max(code, follow(events, view, quiet=arguments.quiet))
        if view.result is not None:
            emit(CLIP, list(view.parts(selections, spans)), form)
            view.summarize(spans)
    return code


def selections_of(store: Store, hits: Sequence[Hit]) -> tuple[list[Selection], list[str]]:
    """The selections of hits that are not weak; a line on stderr for each video that is not there."""
    from clamr_cli.edit.cut import Probe
    from clamr_cli.edit.selections import of_hits

    probe = Probe()
    try:
        selections, failures = of_hits(store, hits, probe)
    finally:
        probe.stop()
    for line in failures:
        warn(f"left out: {line}", always=True)
    return selections, failures


def write_hits(store: Store, hits: Sequence[Hit], folder: Path, *, force: bool) -> int:
    """Cut the hits that are not weak out as clips; returns the exit code."""
    selections, failures = selections_of(store, hits)
    code = ClipView(folder, exact=False).write(selections, force=force) if selections else EXIT_FOUND
    return max(code, EXIT_PARTIAL) if failures else code


def _first(failures: Sequence[str]) -> tuple[str, str]:
    what, _, hint = failures[0].rpartition(": ") if failures else ("nothing was named", "", "")
    return what or hint, hint if what else "give ranks of the last search, or VIDEO@1:02-1:30"


class _View(RunView["Clip | Cutting | Supercut"]):
    """View of cutting: how many seconds are done."""

    text = ""

    def settle(self, event: Any) -> None:  # noqa: ANN401
        """Take a result into account."""

    def show(self, event: Clip | Cutting | Supercut) -> None:
        from clamr_cli.edit.cut import Cutting

        if not isinstance(event, Cutting):
            self.settle(event)
            return
        done = f"{format_time(event.done)} of {format_time(event.total)}"
        self.screen.bar(f"{self.text}: {done}", event.done, event.total)


class ClipView(_View):
    """Clips in a folder."""

    text = "cutting"

    def __init__(self, folder: Path, *, exact: bool) -> None:
        self.folder, self._exact = folder.expanduser(), exact
        self.clips: list[Clip] = []

    def write(
        self,
        selections: Sequence[Selection],
        *,
        pad: float = 0.0,
        as_given: bool = False,
        force: bool = False,
        quiet: bool = False,
    ) -> int:
        """Write the clips, say what came of it, and return the exit code."""
        from clamr_cli.edit.cut import cut as cut_clips
        from clamr_cli.edit.selections import snapped

        spans = [snapped(one, pad, as_given=as_given) for one in selections]
        code = follow(cut_clips(selections, spans, self.folder, exact=self._exact, force=force), self, quiet=quiet)
        written = [clip for clip in self.clips if not clip.error]
        early = max((clip.asked.start - clip.span.start for clip in written if clip.span), default=0.0)
        how = "exact" if self._exact else "copied"
        if early >= 0.05 and not self._exact:
            how += f", from the keyframe before on: up to {early:.1f} s early; --exact cuts to the frame"
        if written:
            warn(f"wrote {plural(len(written), 'clip')} to {self.folder} ({how})")
        return code

    def settle(self, event: Clip) -> None:
        self.clips.append(event)
        if event.error:
            place = f"{event.selection.label} at {format_time(event.asked.start)}"
            self.screen.line(f"no clip of {place}: {event.error}", always=True)

    def interrupted(self) -> str:
        return f"interrupted: {plural(sum(not clip.error for clip in self.clips), 'clip')} written"

    @property
    def exit_code(self) -> int:
        return EXIT_PARTIAL if any(clip.error for clip in self.clips) else EXIT_FOUND


class JoinView(_View):
    """One video of several stretches."""

    text = "joining"

    def __init__(self) -> None:
        self.result: Supercut | None = None

    def settle(self, event: Supercut) -> None:
        self.result = event

    def interrupted(self) -> str:
        return "interrupted: nothing was written"

    def parts(self, selections: Sequence[Selection], spans: Sequence[Span]) -> Iterator[Clip]:
        """The parts as clips of their own."""
        from clamr_cli.edit.cut import Clip

        assert self.result is not None
        for one, asked, part in zip(selections, spans, self.result.joined.parts, strict=True):
            yield Clip(one, asked, part.source, self.result.file)

    def summarize(self, spans: Sequence[Span]) -> None:
        """Say what was written, and how."""
        assert self.result is not None
        joined = self.result.joined
        length = format_time(joined.parts[-1].target.end)
        parts = zip(spans, joined.parts, strict=True)
        early = max((asked.start - part.source.start for asked, part in parts), default=0.0)
        how = f"encoded: {joined.encoded_because}" if joined.encoded_because else "copied"
        if early >= 0.05 and not joined.encoded_because:
            how += f", parts begin at a keyframe up to {early:.1f} s early; --exact cuts to the frame"
        beside = ", ".join(filter(None, (self.result.srt, self.result.sheet)))
        warn(f"wrote {self.result.file}: {plural(len(joined.parts), 'part')}, {length} ({how}); beside it {beside}")
