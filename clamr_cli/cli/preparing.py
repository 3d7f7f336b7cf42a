"""What commands about one video begin with: its name, how to prepare it, and the wait until that is done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.index_progress import PrepareView
from clamr_cli.cli.options import EncoderOptions, names_file
from clamr_cli.cli.progress import follow
from clamr_cli.cli.recognising import AsrModel, Device, Language, Ocr, OcrLanguages, chosen, wanted
from clamr_cli.errors import MediaError, StoreError, UsageError

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.frames import DenseOptions, Prepared, Target
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder


# Without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class PreparingFlags:
    """How to prepare a video for questions, with an encoder whose own settings are those it has already."""

    interval: Annotated[
        str | None, typer.Option("--interval", metavar="TIME", help="Take a frame about every 2 seconds, or as often.")
    ] = None
    no_speech: Annotated[
        bool, typer.Option("--no-speech", "--no-asr", help="Recognise no speech (what is known still counts).")
    ] = False
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text (what is known still counts).")] = (
        False
    )
    encoder: Annotated[str | None, typer.Option("--encoder", metavar="NAME", help="Encode with this one.")] = None
    language: Language = None
    asr_model: AsrModel = None
    ocr: Ocr = None
    ocr_lang: OcrLanguages = None
    device: Device = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False

    def encoder_settings(self) -> dict[str, object]:
        """The encoder's own settings that were given."""
        return {}


@dataclass(frozen=True, kw_only=True)
class PrepareFlags(EncoderOptions, PreparingFlags):
    """How to prepare a video for questions, the encoder's own settings among it."""


@dataclass(frozen=True, slots=True)
class Session:
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
        from clamr_cli.cli.runtime import create_encoder

        return create_encoder(self.options.index.encoder, self.settings, self.options.index.encoder_settings)


def prepared_for(before: Context, flags: PreparingFlags, video: str) -> Session:
    """Find a video by path or id and prepare it, showing on stderr how far that is.

    Raises:
        UsageError: there is no such video, or an option cannot be used.
        typer.Exit: it was interrupted.
        MediaError: the file cannot be used.
        ModelError, StoreError: it cannot go on.
    """
    from clamr_cli.cli.runtime import open_store, quiet_libraries
    from clamr_cli.frames import locate

    settings = settings_of(before, flags)
    interval = _interval(flags)
    quiet_libraries()
    try:
        store = open_store(settings)
    except StoreError as error:
        if not error.what.startswith("no index at"):
            raise
        # Whatever is prepared is kept in an index; without one, a video can be named by its path only.
        if names_file(video) and not _is_there(video):
            raise UsageError(f"there is no file {video}", "check the path") from None
        store = open_store(settings, create=_is_there(video))
    try:
        target = locate(store, video)
    except MediaError as error:
        raise _of_one_video(error, video) from error
    options = options_of(store, settings, flags, interval)
    return Session(store, settings, options, _wait(store, target, options, quiet=flags.quiet))


def _is_there(video: str) -> bool:
    return "\0" not in video and os.path.lexists(video)


def _interval(flags: PreparingFlags) -> float:
    from clamr_cli.timeline import parse_time

    return 2.0 if flags.interval is None else parse_time(flags.interval)


def settings_of(before: Context, flags: PreparingFlags) -> Settings:
    """The settings with what the flags say on top.

    Raises:
        UsageError: a value that cannot be used.
    """
    return before.settings(**wanted(flags))


def options_of(store: Store, settings: Settings, flags: PreparingFlags, interval: float) -> DenseOptions:
    """How to prepare, by the settings."""
    from clamr_cli.cli.runtime import settings_for
    from clamr_cli.frames import DenseOptions

    own = settings_for(store, settings.encoder, settings, flags.encoder_settings())
    return DenseOptions(chosen(settings, own), interval)


def _wait(store: Store, target: Target, options: DenseOptions, *, quiet: bool) -> Prepared:
    from clamr_cli.frames import prepare

    view = PrepareView()
    try:
        code = follow(prepare(store, target, options), view, quiet=quiet)
    except MediaError as error:
        raise _of_one_video(error, target.path or target.video_id) from error
    if code:
        raise typer.Exit(code)
    return view.prepared


def _of_one_video(error: MediaError, video: str) -> MediaError:
    """What is wrong with a video, with its name, and with a hint that is about no index run."""
    hint = "name a video" if "--exclude" in error.hint else error.hint.replace("index again", "try again")
    return type(error)(f"{video}: {error.what}", hint)
