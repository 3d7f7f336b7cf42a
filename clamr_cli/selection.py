"""Selection by settings: of the encoder that searches an index, and of the options of index runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from clamr_cli.errors import ClamrError
from clamr_cli.types import Encoder

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.index.pipeline import IndexOptions
    from clamr_cli.store import Store

Note: TypeAlias = Callable[[str], None]
"""Gets a line for people about the selection."""


def _ignore(_: str) -> None:
    """Drop a note."""


def encoder_for(store: Store, settings: Settings, own: Mapping[str, object], note: Note = _ignore) -> Encoder:
    """The encoder to search with: the one that was asked for, or the one whose vectors answer from most videos.

    While the index is encoded anew, the vectors that were there go on answering. ``note`` is told where not all videos
    answer.
    """
    from clamr_cli.encoders import for_earlier

    settings = searched_encoder(store, settings, note)
    name = settings.encoder
    encoder = create_encoder(name, settings, settings_for(store, name, settings, own))
    searched, of = store.coverage(encoder.info.fingerprint)
    for fingerprint in encoder.info.earlier if searched < of else ():
        before, _ = store.coverage(fingerprint)
        if before > searched:
            rest = "" if before == of else f", from {before} of {of} videos"
            note(
                f"answers from vectors of an earlier version of {name}{rest}: clamr index --encoder {name} renews them"
            )
            return for_earlier(encoder, fingerprint)
    if searched < of and store.has_vectors(encoder.info.fingerprint):
        note(f"answers from {searched} of {of} videos: clamr index --encoder {name} finishes")
    return encoder


def searched_encoder(store: Store, settings: Settings, note: Note = _ignore) -> Settings:
    """Settings with the name of the encoder to search with; see :func:`encoder_for`."""
    settings = choose_encoder(store, settings, note)
    if "encoder" in settings.given:
        return settings
    return replace(settings, encoder=_most_complete(store, settings.encoder, note))


def choose_encoder(store: Store, settings: Settings, note: Note = _ignore) -> Settings:
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
        note(f"using the encoder {name}: {reason}")
    return replace(settings, encoder=name)


def _most_complete(store: Store, default: str, note: Note) -> str:
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
            note(f"using the encoder {name}: the index has vectors of no other")
            return name
        return default
    note(
        f"using the encoder {name}, which answers from {counts[name]} of {of} videos; {default} does from "
        f"{counts[default]}: clamr index --encoder {default} finishes"
    )
    return name


def settings_for(store: Store, name: str, settings: Settings, own: Mapping[str, object]) -> Mapping[str, object]:
    """An encoder's own settings: the configuration's, the command line's on top; else those it was last used with."""
    return {**settings.encoder_settings(name), **own} or store.encoder_settings(name)


def create_encoder(name: str, settings: Settings, own: Mapping[str, object] | None = None) -> Encoder:
    """Make the encoder of that name, with its own settings, by default those of the configuration file."""
    from clamr_cli.encoders import create

    own = settings.encoder_settings(name) if own is None else own
    if _keeping:
        return _keeping[0].take(name, settings, own)
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
        speakers=settings.speakers,
        voice_model=settings.voice_model,
        time_limit=settings.time_limit,
        threads=threads,
    )


@dataclass
class Kept:
    """An index and an encoder that this process keeps for the commands that it runs one after another.

    Attributes:
        settings: with the index and the name of the encoder.
        own: settings of the encoder.
        encoder: made with them.
        store: the index, open, where it is a folder; what it read once is not read again until the index changes.
        refused: a command needed another index or encoder, and ended without an answer.
    """

    settings: Settings
    own: Mapping[str, object]
    encoder: Encoder
    store: Store | None = None
    refused: bool = False

    def index(self, db: str, open_index: Callable[[], Store]) -> Store:
        """The index, opened anew where another one lies in its place; another place is refused."""
        kept = self.settings.db
        if db != kept and os.path.realpath(db) != os.path.realpath(kept):
            self._refuse()
        if self.store is None or self.store.uri != os.path.abspath(db) or not self.store.is_in_place():
            self.store = open_index()
        return self.store

    def take(self, name: str, settings: Settings, own: Mapping[str, object]) -> Encoder:
        """The encoder, where it is as a command wants it."""
        if not self._is_like(name, settings, own):
            self._refuse()
        return self.encoder

    def is_current(self, store: Store, settings: Settings, own: Mapping[str, object]) -> bool:
        """Whether the index is still searched with this encoder, by settings and the encoder's own ones."""
        settings = searched_encoder(store, settings)
        return self._is_like(settings.encoder, settings, settings_for(store, settings.encoder, settings, own))

    def _is_like(self, name: str, settings: Settings, own: Mapping[str, object]) -> bool:
        def key(name: str, settings: Settings, own: Mapping[str, object]) -> object:
            return name, settings.cache, settings.device, settings.threads, dict(own)

        return key(name, settings, own) == key(self.settings.encoder, self.settings, self.own)

    def _refuse(self) -> None:
        self.refused = True
        raise ClamrError("another index or encoder is kept")


_keeping: list[Kept] = []


def keep(kept: Kept | None) -> None:
    """Use an index and an encoder for all that this process does from here on; None for whatever is asked for."""
    _keeping[:] = [] if kept is None else [kept]


def kept() -> Kept | None:
    """The choice that this process keeps."""
    return _keeping[0] if _keeping else None
