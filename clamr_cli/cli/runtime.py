"""Shared start of most commands: the settings, an open index, an encoder, quiet libraries."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clamr_cli.cli.output import warn
from clamr_cli.errors import UsageError
from clamr_cli.types import Encoder

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.index.pipeline import IndexOptions
    from clamr_cli.store import Store

Checked = TypeVar("Checked")

# The index and the encoders are imported when they are needed: the help of a command needs neither.


@dataclass(frozen=True, slots=True)
class Context:
    """Context of a command beside its own arguments: the options of the program, and the whole program."""

    db: str | None = None
    config: str | None = None
    program: Any = None
    quiet: bool = False
    verbose: bool = False
    color: str | None = None

    def settings(self, **options: object) -> Settings:
        """The settings of this run; options of the command line that are None were not given."""
        from clamr_cli.config import load

        return load({"db": self.db, **options}, config=self.config)


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
    from clamr_cli.store import Store

    quiet_libraries()
    store = Store.open(settings.db, create=create, lock_dir=state_folder())
    if lost := store.tables_behind():
        warn(
            f"the newest version of {' and '.join(lost)} in the index cannot be read; what was written before is used: "
            "clamr index DIR repairs it",
            always=True,
        )
    return store


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


def encoder_for(store: Store, settings: Settings, own: Mapping[str, object]) -> Encoder:
    """The encoder to search with: the one that was asked for, or the one whose vectors answer from most videos.

    While the index is encoded anew, the vectors that were there go on answering. Says so where not all videos answer.
    """
    from clamr_cli.encoders import for_earlier

    settings = searched_encoder(store, settings)
    name = settings.encoder
    encoder = create_encoder(name, settings, settings_for(store, name, settings, own))
    searched, of = store.coverage(encoder.info.fingerprint)
    for fingerprint in encoder.info.earlier if searched < of else ():
        before, _ = store.coverage(fingerprint)
        if before > searched:
            rest = "" if before == of else f", from {before} of {of} videos"
            warn(
                f"answers from vectors of an earlier version of {name}{rest}: clamr index --encoder {name} renews them"
            )
            return for_earlier(encoder, fingerprint)
    if searched < of and store.has_vectors(encoder.info.fingerprint):
        warn(f"answers from {searched} of {of} videos: clamr index --encoder {name} finishes")
    return encoder


def searched_encoder(store: Store, settings: Settings) -> Settings:
    """Settings with the name of the encoder to search with; see :func:`encoder_for`."""
    settings = choose_encoder(store, settings)
    if "encoder" in settings.given:
        return settings
    return replace(settings, encoder=_most_complete(store, settings.encoder))


def choose_encoder(store: Store, settings: Settings) -> Settings:
    """Settings with a name instead of "auto" as the encoder.

    An index keeps the encoder that answers from most of its videos. Else it is the best that this machine has weights
    and speed for, which is said.
    """
    from clamr_cli.encoders import AUTO, best

    if settings.encoder != AUTO:
        return settings
    uses = [(store.coverage(use.info.fingerprint)[0], use.info.name) for use in store.encoders()]
    name = max(uses)[1] if uses else ""
    if not name:
        name, reason = best(settings.cache)
        warn(f"using the encoder {name}: {reason}")
    return replace(settings, encoder=name)


def _most_complete(store: Store, default: str) -> str:
    """The encoder whose vectors answer from most videos, the default one where none answers from more."""
    counts: dict[str, int] = {}
    of = 0
    for use in store.encoders():
        searched, of = store.coverage(use.info.fingerprint)
        counts[use.info.name] = max(searched, counts.get(use.info.name, 0))
    name = max(counts, key=lambda name: (counts[name], name == default), default=default)
    if name == default:
        return default
    if default not in counts:
        if len(counts) == 1:
            warn(f"using the encoder {name}: the index has vectors of no other")
            return name
        return default
    warn(
        f"using the encoder {name}, which answers from {counts[name]} of {of} videos; {default} does from "
        f"{counts[default]}: clamr index --encoder {default} finishes"
    )
    return name


def partial_coverage(store: Store, fingerprint: str) -> dict[str, object]:
    """The keys ``searched`` and ``of`` of JSON objects; empty where all videos have vectors of the encoder."""
    searched, of = store.coverage(fingerprint)
    return {"searched": searched, "of": of} if searched < of else {}


def settings_for(store: Store, name: str, settings: Settings, own: Mapping[str, object]) -> Mapping[str, object]:
    """An encoder's own settings: the configuration's, the command line's on top; else those it was last used with."""
    return {**settings.encoder_settings(name), **own} or store.encoder_settings(name)


def create_encoder(name: str, settings: Settings, own: Mapping[str, object] | None = None) -> Encoder:
    """Make the encoder of that name, with its own settings, by default those of the configuration file."""
    from clamr_cli.encoders import create

    own = settings.encoder_settings(name) if own is None else own
    return create(name, cache=settings.cache, device=settings.device, threads=settings.threads, **own)


def index_options(settings: Settings, encoder_settings: Mapping[str, object]) -> IndexOptions:
    """The options of an index run by the settings, with the encoder's own settings."""
    from clamr_cli.extract.options import AsrOptions, OcrOptions
    from clamr_cli.index.pipeline import IndexOptions

    language, device, threads = settings.language, settings.device, settings.threads
    return IndexOptions(
        cache=settings.cache,
        encoder=settings.encoder,
        encoder_settings=encoder_settings,
        device=device,
        exclude=settings.exclude,
        window=settings.window,
        language=language,
        asr=AsrOptions(settings.asr_model, language=language, device=device, threads=threads),
        ocr=OcrOptions(settings.ocr, settings.ocr_languages, device=device, threads=threads),
        speech=settings.speech,
        text=settings.text,
        time_limit=settings.time_limit,
        threads=threads,
    )
