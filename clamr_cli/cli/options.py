"""Options that several commands have, the parsers of their values, and what they lead to: settings, index, encoder.

A command's arguments are the fields of a dataclass; it inherits the groups of options below.
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import typer

from clamr_cli import selection
from clamr_cli.cli.output import Form, warn
from clamr_cli.errors import UsageError
from clamr_cli.selection import index_options, settings_for
from clamr_cli.terms import language, split_place
from clamr_cli.text import format_time, parse_time
from clamr_cli.types import Device, Encoder, Frame, FrameSelection, Modality, OcrEngine, RayOptions, Scoring, Span

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.frames import DenseOptions
    from clamr_cli.llm import ChatModel
    from clamr_cli.search.search import Example
    from clamr_cli.search.workers import Workers
    from clamr_cli.store import Store

Checked = TypeVar("Checked")

encoder_for = partial(selection.encoder_for, note=warn)
searched_encoder = partial(selection.searched_encoder, note=warn)
choose_encoder = partial(selection.choose_encoder, note=warn)

# The index and the encoders are imported when they are needed: the help of a command needs neither.

DeviceOption: TypeAlias = Annotated[Device | None, typer.Option("--device", help="Where models run.")]
EncoderOption: TypeAlias = Annotated[
    str | None, typer.Option("--encoder", metavar="NAME", help="Use the vectors of this one.")
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
EventsOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")]
ModalityOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--modality", "-m", metavar="NAME", help="Only video, speech, ocr or metadata; repeatable."),
]
PathOption: TypeAlias = Annotated[
    str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path matches.")
]
ScoringOption: TypeAlias = Annotated[Scoring | None, typer.Option("--scoring", help="token-max is the default.")]
SinceOption: TypeAlias = Annotated[
    str | None, typer.Option("--since", metavar="DATE", help="Dated 2024-05-17, 2024-05, 2w (ago), yesterday or later.")
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option("--until", metavar="DATE", help='Dated then or earlier: "last summer".')
]
TagOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="Only videos with this tag of yours; repeatable.")
]
SpeakerOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--speaker", metavar="NAME", help="Only where this one speaks, by name or number; repeatable."),
]
CsvOption: TypeAlias = Annotated[
    bool, typer.Option("--csv", help="Print CSV with a header; texts like =1+1 get a ' before.")
]
SelectOption: TypeAlias = Annotated[
    FrameSelection, typer.Option("--select", help="How to choose frames; windows: best of N equal parts.")
]
SheetOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--sheet", metavar="FILE", help="Write a contact sheet (.png, .jpg, .webp or .html)."),
]
VideoArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="VIDEO", help="A rank of the last search, an id, part of a title, or a file.")
]
BootstrapOption: TypeAlias = Annotated[
    int, typer.Option("--bootstrap", metavar="N", help="Resamples of intervals and tests; 0 for none.", min=0)
]
TimeoutOption: TypeAlias = Annotated[
    float, typer.Option("--timeout", metavar="S", help="Seconds for an answer.", min=0.1)
]
TemperatureOption: TypeAlias = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is the most probable answer.", min=0.0)
]
ConcurrencyOption: TypeAlias = Annotated[
    int, typer.Option("--concurrency", metavar="N", help="Questions to the endpoint at once.", min=1)
]


@dataclass(frozen=True, slots=True)
class Context:
    """Context of a command beside its own arguments: the options of the program, and the whole program."""

    db: Sequence[str] = ()
    config: str | None = None
    program: Any = None
    quiet: bool = False
    verbose: bool = False
    color: str | None = None

    def settings(self, **options: object) -> Settings:
        """The settings of this run; options of the command line that are None were not given.

        Raises:
            UsageError: a value cannot be used, or several indexes were given.
        """
        if len(self.db) > 1:
            raise UsageError("this command uses one index", "give --db once; search, ls, show and open read several")
        return self.reading_settings(**options)

    def reading_settings(self, **options: object) -> Settings:
        """The settings of a command that reads several indexes as one (:func:`open_indexes`): with the first of them.

        Raises:
            UsageError: a value cannot be used.
        """
        from clamr_cli.config import load

        return load({"db": next(iter(self.db), None), **options}, config=self.config)


# Groups are without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The options that every command with output has."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False
    tsv: Annotated[bool, typer.Option("--tsv", help="Print tab-separated lines even on a terminal.")] = False
    table: Annotated[bool, typer.Option("--table", help="Print a table even into a pipe.")] = False

    @property
    def form(self) -> Form:
        """The form asked for; by default a table on a terminal and tab-separated lines elsewhere."""
        forms = [form for form in Form if getattr(self, form.value, False)]
        if len(forms) > 1:
            raise UsageError(f"--{forms[0]} and --{forms[1]} exclude each other", "choose one")
        return forms[0] if forms else Form.TABLE if sys.stdout.isatty() else Form.TSV


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Settings of the CLaMR encoders; what is not given stays at the encoder's own default."""

    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Base model: a folder or hub id.")] = None
    adapter: Annotated[
        str | None, typer.Option(metavar="MODEL", help="LoRA adapter: a folder or hub id; none for none.")
    ] = None
    revision: Annotated[str | None, typer.Option(metavar="REV", help="Revision of the base model.")] = None
    adapter_revision: Annotated[str | None, typer.Option(metavar="REV", help="Revision of the adapter.")] = None
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="auto, bfloat16, float16 or float32.")] = None
    projection_init: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw of the projection: float16 (default) or float32.")
    ] = None
    template_vectors: Annotated[str | None, typer.Option(metavar="WHAT", help="keep (default) or drop.")] = None
    quantize: Annotated[str | None, typer.Option(metavar="HOW", help="none (default) or 4bit.")] = None

    def encoder_settings(self) -> dict[str, object]:
        """The settings that were given, by the names the encoder has for them."""
        given = {field.name: getattr(self, field.name) for field in fields(EncoderOptions)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """The options of commands that can work on a Ray cluster."""

    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Work on this machine, or on the workers of a Ray cluster.")
    ] = "local"
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The Ray cluster: auto (default), an address, or local.")
    ] = None
    workers: Annotated[int | None, typer.Option(metavar="N", help="Workers of the cluster (default: one a node).")] = (
        None
    )

    def ray_options(self, settings: Settings, **more: object) -> RayOptions | None:
        """The cluster that was asked for, ``more`` of it by further options; None for this machine.

        Raises:
            UsageError: options of a cluster without one, or a value that cannot be used.
        """
        given = {"address": self.address, "workers": self.workers, **more}
        if self.executor == "ray":
            return settings.ray_options(**given)
        if named := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"--{named[0].replace('_', '-')} requires --executor ray", "add it, or leave both out")
        return None

    def scan_workers(self, settings: Settings, store: Store) -> AbstractContextManager[Workers | None]:
        """Workers that scan the index until the end of the block, None for this machine; they start meanwhile.

        Raises:
            MissingExtra, UsageError: there is no such cluster.
        """
        if (cluster := self.ray_options(settings)) is None:
            return nullcontext()
        from clamr_cli.config import state_folder
        from clamr_cli.search.workers import RayWorkers

        return closing(RayWorkers(cluster, store, state_folder()))


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """The options that every command which prepares videos has."""

    no_speech: Annotated[bool, typer.Option("--no-speech", help="Recognise no speech (subtitles are still read).")] = (
        False
    )
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text.")] = False
    encoder: Annotated[str | None, typer.Option(metavar="NAME", help="Encode with this one.")] = None
    language: Annotated[
        str | None,
        typer.Option(metavar="LANGUAGE", parser=language, help="Prefer tracks in, and expect, this language."),
    ] = None
    asr_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Speech model: see 'clamr models', or a folder.")
    ] = None
    ocr: Annotated[OcrEngine | None, typer.Option(help="Reads on-screen text.")] = None
    ocr_lang: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Languages of on-screen text; repeatable, or with commas.")
    ] = None
    device: DeviceOption = None

    def extraction_settings(self) -> dict[str, object]:
        """The settings of extraction that were given."""
        given = {
            "language": self.language,
            "asr_model": self.asr_model,
            "ocr": self.ocr,
            "ocr_languages": self.ocr_lang or None,
            "speech": False if self.no_speech else None,
            "text": False if self.no_ocr else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def settings(self, context: Context, **more: object) -> Settings:
        """The settings with these options on top of ``more``."""
        return context.settings(**{**more, **self.extraction_settings()}, encoder=self.encoder, device=self.device)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(ExtractionOptions):
    """The options of preparing a video for questions. Its encoder keeps the settings that it has already."""

    interval: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=parse_time, help="Take a frame about every 2 seconds, or as often."),
    ] = None
    no_speech: Annotated[
        bool, typer.Option("--no-speech", "--no-asr", help="Recognise no speech (what is known still counts).")
    ] = False
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text (what is known still counts).")] = (
        False
    )
    quiet: QuietOption = False

    def dense_options(self, store: Store, settings: Settings) -> DenseOptions:
        """The options of the preparation by the settings, and those of the encoder where a command has them."""
        from clamr_cli.frames import DenseOptions

        given = self.encoder_settings() if isinstance(self, EncoderOptions) else {}
        settings = choose_encoder(store, settings)
        own = settings_for(store, settings.encoder, settings, given)
        return DenseOptions(index_options(settings, own), 2.0 if self.interval is None else self.interval)


@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """The chat model that answers, and how to ask an endpoint."""

    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Folder, GGUF file or hub id; with --base-url its name.")
    ] = None
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="Ask this OpenAI-compatible endpoint.")] = None
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the endpoint's key.")
    ] = None
    api_key_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File whose first line is the endpoint's key.")
    ] = None
    timeout: TimeoutOption = 60.0
    retries: Annotated[int, typer.Option(metavar="N", help="Times to ask again after trouble.", min=0)] = 4

    def check_llm(self) -> None:
        """Refuse options that cannot be used, before anything is opened or loaded; a model need not be named."""
        named = [name for name in ("api_key_env", "api_key_file") if getattr(self, name)]
        if named and not self.base_url:
            raise UsageError(f"--{named[0].replace('_', '-')} requires --base-url", "name the endpoint")
        if len(named) == 2:
            raise UsageError("--api-key-env and --api-key-file exclude each other", "give one of them")
        for name in ("timeout", "temperature"):
            if not math.isfinite(value := getattr(self, name, 0.0)):
                raise UsageError(f"invalid --{name}: {value}", "give a finite one")

    def check_model(self) -> None:
        """Check that the model exists, before long work is done for it."""
        if self.base_url is not None:
            from clamr_cli.llm.client import endpoint_url

            endpoint_url(self.base_url)
        elif self.model is not None:
            from clamr_cli.llm.local import find_model

            find_model(self.model)

    def load_model(self, settings: Settings, *, image_hint: str, workers: int = 1) -> ChatModel:
        """The named model, ready to be asked; ``image_hint`` says what to do where pictures are too many."""
        model = self.model or ""
        if self.base_url is None:
            from clamr_cli.llm.local import LocalModel

            return LocalModel(model, device=settings.device, threads=settings.threads, image_hint=image_hint)
        from clamr_cli import config
        from clamr_cli.llm.client import EndpointModel, sends_key_unencrypted

        key = ""
        if self.api_key_env:
            key = config.secret(self.api_key_env)
        elif self.api_key_file:
            try:
                lines = Path(self.api_key_file).expanduser().read_text("utf-8").strip().splitlines()
                key = lines[0].strip()
            except (OSError, UnicodeDecodeError, IndexError) as error:
                hint = "give a file whose first line is the key"
                raise UsageError(f"{self.api_key_file} holds no key", hint) from error
        # It must be able to stand in a header.
        if key and not (key.isascii() and key.isprintable()):
            source = self.api_key_env or self.api_key_file
            raise UsageError(f"{source} holds no key", "a key has no control characters or letters like é")
        if sends_key_unencrypted(self.base_url, key):
            warn(
                "warning: the key goes over the network unencrypted: use https, or a tunnel that ends on this machine",
                always=True,
            )
        return EndpointModel(
            self.base_url,
            model,
            key=key,
            timeout=self.timeout,
            retries=self.retries,
            workers=workers,
            image_hint=image_hint,
        )


def stdin() -> list[str]:
    """The lines of stdin, or its parts between zero bytes where it has some: ``-`` stands for them."""
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    parts = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(part) for part in parts if part.strip()]


def edited(text: str, name: str, check: Callable[[str], Checked]) -> tuple[str, Checked]:
    """A text as the user's editor leaves it, and what ``check`` makes of it; ``name`` is the file the editor shows.

    The editor is what VISUAL or EDITOR names, else the first of nano, vim, vi and notepad that is there. Whatever goes
    wrong, the file keeps what was written, and the message names it.

    Raises:
        UsageError: there is no editor, it failed, or ``check`` refused the text.
    """
    import shutil

    from clamr_cli.config import external

    words = shlex.split(external("VISUAL") or external("EDITOR"))
    words = words or [found for found in map(shutil.which, ("nano", "vim", "vi", "notepad")) if found][:1]
    if not words:
        raise UsageError("no editor is known", "name yours: export EDITOR=nano")
    path = Path(tempfile.mkdtemp(prefix="clamr-")) / name
    path.write_text(text, "utf-8")
    try:
        code = subprocess.run([*words, str(path)], check=False).returncode
        if code:
            raise UsageError(f"the editor {words[0]} ended with {code}", "nothing was changed")
        result = path.read_text("utf-8-sig")
        checked = check(result)
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UsageError(f"the editor {words[0]} left no text ({reason})", f"the text is in {path}") from error
    except UsageError as error:
        raise UsageError(error.what, f"{error.hint}; the text is in {path}") from error
    shutil.rmtree(path.parent, ignore_errors=True)
    return result, checked


def open_store(settings: Settings, *, create: bool = False) -> Store:
    """Open the index of the settings, with libraries quiet from here on."""
    from clamr_cli.config import state_folder
    from clamr_cli.selection import kept
    from clamr_cli.store import Store

    quiet_libraries()

    def open_index() -> Store:
        return Store.open(settings.db, create=create, lock_dir=state_folder())

    keeping = kept()
    store = open_index() if keeping is None else keeping.index(settings.db, open_index)
    if lost := store.tables_behind():
        warn(
            f"the newest version of {' and '.join(lost)} in the index cannot be read; what was written before is used: "
            "clamr index DIR repairs it",
            always=True,
        )
    return store


def open_indexes(context: Context, settings: Settings) -> Store:
    """Open the index of the settings, or all that --db named, to be read as one."""
    if len(context.db) < 2:
        return open_store(settings)
    from clamr_cli.config import convert
    from clamr_cli.store import StoreUnion

    stores = [open_store(replace(settings, db=str(convert("db", db, "--db")))) for db in context.db]
    # One that was named twice would be compared with twice.
    return StoreUnion(list({os.path.realpath(store.uri): store for store in reversed(stores)}.values())[::-1])


def quiet_libraries() -> None:
    """Keep what libraries log or warn of off the terminal, unless unexpected errors are being looked into."""
    import logging

    from clamr_cli.config import debugging

    if debugging():
        return
    warnings.simplefilter("ignore")
    if not sys.warnoptions:
        # Python hands these on to the processes that it starts, multiprocessing's own helper among them.
        sys.warnoptions.append("ignore")
    # Without a handler, Python's last resort prints warnings to stderr.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())


def example(
    store: Store,
    encoder: Encoder,
    like: str,
    modalities: Sequence[Modality] = (),
    *,
    itself: bool = False,
    is_picture: bool = False,
) -> tuple[Example, str]:
    """The example that a name stands for, and its name from any folder.

    ``VIDEO``, ``VIDEO@TIME`` and ``VIDEO@TIME-TIME`` are of the index, or a file that it does not have, of which some
    frames are decoded. A rank of the last search is the moment at the second that was shown. The file of a picture, or
    ``-`` for one on stdin, is that picture; ``is_picture`` allows nothing else.
    """
    from clamr_cli.search import last_hit, picture_example, stored_example, video_named
    from clamr_cli.search.search import file_named

    name, span = (like, None) if is_picture else split_place(like)
    is_file = os.path.isfile(name) and file_named(store.files(), name) is None
    if is_picture or name == "-" or is_file:
        from clamr_cli.media.pictures import begins_as_picture, read_clip, read_picture

        shown = os.path.basename(name) if name != "-" else "the picture"
        if is_picture or name == "-" or begins_as_picture(name):
            frames, names = [Frame(0.0, Span(0.0, 0.0), read_picture(name))], [shown]
        else:
            frames = read_clip(name, span)
            names = [f"{shown} at {format_time(frame.time)}" for frame in frames]
        return picture_example(encoder, frames, names), like if name == "-" else os.path.abspath(like)
    video_id, hit = video_named(store, name), last_hit(store, name)
    if span is None and hit is not None:
        span = Span(hit.at, hit.at)
    example = stored_example(store, encoder.info, video_id, span, modalities, itself=itself)
    return example, video_id if span is None else f"{video_id}@{span.start:.3f}-{span.end:.3f}"


def finite(text: str) -> float:
    """A finite number; for ``typer.Option(parser=finite)``."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"invalid number: {text!r}", "give a finite number, such as 0.35")
    return number


def out_file(text: str) -> Path:
    """A file to write, in a folder that exists; for ``typer.Option(parser=out_file)``."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{text} cannot be written", "name a file in a folder that exists")
    return path
