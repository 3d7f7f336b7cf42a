"""``clamr edit``: correct what is said in a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import (
    Context,
    DeviceOption,
    EncoderOption,
    QuietOption,
    VideoArgument,
    edited,
    open_store,
    searched_encoder,
)
from clamr_cli.cli.output import warn
from clamr_cli.cli.progress import RunView, event_line, follow
from clamr_cli.errors import EXIT_FOUND, MediaError, UsageError
from clamr_cli.events import Event, Indexed, Notice, Progress
from clamr_cli.selection import index_options, settings_for
from clamr_cli.text import plural

if TYPE_CHECKING:
    from clamr_cli.types import Segment


@dataclass(frozen=True, kw_only=True)
class EditArguments:
    video: VideoArgument
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Take the text from this subtitle file.")
    ] = None
    revert: Annotated[bool, typer.Option("--revert", help="Take back all corrections of the video.")] = False
    encoder: EncoderOption = None
    device: DeviceOption = None
    quiet: QuietOption = False


class EditView(RunView[Event]):
    """A correction: a bar while the video is encoded, and what was done."""

    must_be_read = True

    def __init__(self, done: str) -> None:
        self.done = done

    def show(self, event: Event) -> None:
        match event:
            case Progress():
                self.screen.bar("encoding", event.done, event.total or None, due=False)
            case Notice():
                self.screen.line(event_line(event), always=True)
            case Indexed():
                self.screen.line(self.done)

    def interrupted(self) -> str:
        return "interrupted: the text is kept; clamr index with the video's folder does the rest"


def edit(context: Context, arguments: EditArguments) -> int:
    """Correct what is said in a video.

    Its transcript opens in your editor as subtitles; the editor is what VISUAL or EDITOR names. Change the texts or the
    times, or remove what was not said. The video is found by the corrected text at once, and every later index run
    keeps it; --revert takes it back. A damaged transcript is refused with the number of the line, and what you wrote is
    kept in a file.

    Examples:
        clamr edit talk.mp4
        clamr edit 1a2b --from talk.en.srt
        clamr edit 1a2b --revert
    """
    from clamr_cli.extract.subtitles import as_srt, edited_transcript, read_subtitle_file
    from clamr_cli.index import run
    from clamr_cli.index.documents import spoken_segments, stored_transcript
    from clamr_cli.search import video_named

    if arguments.revert and arguments.source is not None:
        raise UsageError("--revert and --from exclude each other", "give one of them")
    settings = context.settings(encoder=arguments.encoder, device=arguments.device)
    store = open_store(settings)
    video = store.video(video_named(store, arguments.video))
    before = spoken_segments(store, video.video_id)
    after: Sequence[Segment] | None
    if arguments.revert:
        if stored_transcript(store, video.content_hash) is None:
            warn("nothing was corrected in this video")
            return EXIT_FOUND
        after = None
    elif arguments.source is not None:
        try:
            after = read_subtitle_file(Path(arguments.source))
        except MediaError as error:
            raise UsageError(error.what, error.hint) from error
    else:
        _, after = edited(
            as_srt(before), f"{video.video_id}.srt", lambda text: edited_transcript(text, before, video.media.duration)
        )
    if after is not None and tuple(after) == before:
        warn("nothing was changed")
        return EXIT_FOUND
    settings = searched_encoder(store, settings)
    options = index_options(settings, settings_for(store, settings.encoder, settings, {}))
    title = video.fields.title or video.video_id
    done = f"took back the corrections of {title}"
    if after is not None:
        done = f"corrected {title}: {plural(len(set(after) - set(before)), 'new line')} of {len(after)}"
    events: Iterator[Event] = run.correct(store, video.video_id, after, options)
    return follow(events, EditView(done), quiet=arguments.quiet)
