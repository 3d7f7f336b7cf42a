"""The beginning of commands about one video: its name, the options of preparing it, and the preparation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.extraction_options import ExtractionOptions, index_options
from clamr_cli.cli.index_progress import PrepareView
from clamr_cli.cli.options import QuietOption, names_file
from clamr_cli.cli.progress import follow
from clamr_cli.cli.runtime import Context, create_encoder, open_store, settings_for
from clamr_cli.errors import MediaError, StoreError, UsageError
from clamr_cli.text import parse_time
from clamr_cli.types import Encoder

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.frames import DenseOptions, Prepared
    from clamr_cli.store import Store


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(ExtractionOptions):
    """The options of preparing a video for questions. Its encoder keeps the settings that it has already."""

    interval: Annotated[
        float | None,
        typer.Option(
            "--interval", metavar="TIME", parser=parse_time, help="Take a frame about every 2 seconds, or as often."
        ),
    ] = None
    no_speech: Annotated[
        bool, typer.Option("--no-speech", "--no-asr", help="Recognise no speech (what is known still counts).")
    ] = False
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text (what is known still counts).")] = (
        False
    )
    quiet: QuietOption = False

    def dense_options(self, store: Store, settings: Settings) -> DenseOptions:
        """The options of the preparation by the settings."""
        from clamr_cli.frames import DenseOptions

        own = settings_for(store, settings.encoder, settings, self.encoder_settings())
        return DenseOptions(index_options(settings, own), 2.0 if self.interval is None else self.interval)

    def encoder_settings(self) -> dict[str, object]:
        """The encoder's own settings that were given, where a command inherits EncoderOptions too."""
        return {}


@dataclass(frozen=True, slots=True)
class VideoSession:
    """An open index, the settings of this run, and a prepared video."""

    store: Store
    settings: Settings
    options: DenseOptions
    prepared: Prepared

    def encoder(self) -> Encoder:
        """The encoder for questions about the video: the one it was prepared with.

        Raises:
            ModelError: its weights are absent or damaged.
        """
        return create_encoder(self.options.index.encoder, self.settings, self.options.index.encoder_settings)


def prepare_video(context: Context, arguments: PrepareOptions, video: str) -> VideoSession:
    """Find a video by path or id and prepare it, showing on stderr how far that is.

    Raises:
        UsageError: there is no such video, or an option cannot be used.
        typer.Exit: it was interrupted.
        MediaError: the file cannot be used.
        ModelError, StoreError: it cannot go on.
    """
    from clamr_cli.frames import locate, prepare

    settings = arguments.settings(context)
    is_there = "\0" not in video and os.path.lexists(video)
    try:
        store = open_store(settings)
    except StoreError as error:
        if not error.what.startswith("no index at"):
            raise
        # Whatever is prepared is kept in an index; without one, a video can be named by its path only.
        if names_file(video) and not is_there:
            raise UsageError(f"there is no file {video}", "check the path") from None
        store = open_store(settings, create=is_there)
    options, view = arguments.dense_options(store, settings), PrepareView()
    try:
        target = locate(store, video)
        video = target.path or target.video_id
        code = follow(prepare(store, target, options), view, quiet=arguments.quiet)
    except MediaError as error:
        # With its name, and with a hint that is about no index run.
        hint = "name a video" if "--exclude" in error.hint else error.hint.replace("index again", "try again")
        raise type(error)(f"{video}: {error.what}", hint) from error
    if code:
        raise typer.Exit(code)
    return VideoSession(store, settings, options, view.prepared)
