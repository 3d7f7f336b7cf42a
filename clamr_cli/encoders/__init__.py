"""Encoders by name: a literal table, imported when asked for.

Each entry names ``module:Class``. A class keeps to this, beside being a :class:`clamr_cli.types.Encoder`:

- ``create(cls, *, cache: Path, device: str, threads: int, **settings)`` is a class method that makes a ready encoder;
- ``describe(cls, *, cache: Path, **settings)`` is a class method: the :class:`EncoderInfo` of the encoder that
  ``create`` would make, without loading weights or heavy libraries: an up-to-date index is recognised by it;
- its module imports without torch and transformers; they are imported when there is something to encode with them.

Settings that a class does not name as keyword parameters are a :class:`UsageError` that lists the ones it knows. All
encoders have ``pool`` beside their own: N vectors of a document become about one (:mod:`clamr_cli.encoders.pooling`).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.errors import UsageError
from clamr_cli.text import Place
from clamr_cli.types import (
    DIMENSION,
    MODALITY_IDS,
    NO_MODALITY,
    Document,
    Encoder,
    EncoderInfo,
    Modality,
    Span,
    TokenVectors,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLE: Final[Mapping[str, str]] = {
    "mini": "clamr_cli.encoders.mini.encoder:MiniEncoder",
    "clamr": "clamr_cli.encoders.clamr:ClamrEncoder",
    "clamr-omni": "clamr_cli.encoders.clamr:ClamrOmniEncoder",
    "hashed": "clamr_cli.encoders.hashed:HashedEncoder",
    "gemma": "clamr_cli.encoders.gemma:GemmaEncoder",
    "gemma-omni": "clamr_cli.encoders.gemma:GemmaSoundEncoder",
    "st": "clamr_cli.encoders.st:StEncoder",
}
"""Encoder name -> "module:Class". ``st`` is one class for many checkpoints: ``st:ID`` is ``st`` with ``model`` ID."""

DEFAULT: Final = "mini"
"""The encoder that needs no download beyond the offline packages."""

MULTILINGUAL: Final = "use-multilingual"
"""The weights with which that encoder reads further languages."""

AUTO: Final = "auto"
"""In the settings instead of a name: see :func:`best`."""

FAST_THREADS: Final = 8
"""CPU threads from which ``gemma`` is taken on a machine without a GPU; not measured with its published weights."""

_NO_TIME: Final = Span(0.0, 0.0)


def create(name: str, *, cache: Path, device: str = "auto", threads: int = 0, **settings: object) -> Encoder:
    """Make the encoder of that name.

    Args:
        name: a key of :data:`TABLE`.
        cache: folder where downloaded or joined weights lie.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; 0 leaves the choice to the libraries.
        settings: the encoder's own settings.

    Raises:
        UsageError: unknown name or setting.
        ModelError: the encoder's weights are absent or damaged.
    """
    factory, settings, pool = _resolved(name, "create", settings)
    encoder: Encoder = factory(cache=cache, device=device, threads=threads, **settings)
    if pool == 1:
        return encoder
    from clamr_cli.encoders.pooling import PooledEncoder

    return PooledEncoder(encoder, pool)


def describe(name: str, *, cache: Path, **settings: object) -> EncoderInfo:
    """The name and fingerprint of what :func:`create` would make, without loading weights.

    Raises:
        UsageError: unknown name or setting.
    """
    factory, settings, pool = _resolved(name, "describe", settings)
    info: EncoderInfo = factory(cache=cache, **settings)
    if pool == 1:
        return info
    from clamr_cli.encoders.pooling import pooled_info

    return pooled_info(info, pool)


def accepts_audio(name: str) -> bool:
    """Whether the encoder of that name takes the sound itself (:attr:`clamr_cli.types.Document.audio`).

    Raises:
        UsageError: unknown name.
    """
    return bool(getattr(_encoder_class(name), "ACCEPTS_AUDIO", False))


def best(cache: Path, *, installed: bool = True) -> tuple[str, str]:
    """The best encoder that this machine has speed for, and why: of those whose weights are here, or of all.

    The paper's encoder takes a CUDA device, ``gemma`` any GPU or a CPU of 8 threads.
    """
    from clamr_cli import weights
    from clamr_cli.kernel import usable_threads

    names = [name for name in ("clamr", "gemma") if not installed or weights.status(name, cache).installed]
    if not names:
        return DEFAULT, "no larger encoder is installed"
    from clamr_cli.devices import choose_device

    device, threads = choose_device("auto"), usable_threads()
    if device == "cuda" and "clamr" in names:
        return "clamr", "this machine has a CUDA device"
    if "gemma" in names and (device != "cpu" or threads >= FAST_THREADS):
        return "gemma", "this machine has a GPU" if device != "cpu" else f"this machine has {threads} CPU threads"
    return DEFAULT, "this machine is too slow for a larger encoder"


@dataclass(frozen=True, slots=True)
class _EarlierEncoder:
    """An encoder under the fingerprint of an earlier version."""

    encoder: Encoder
    info: EncoderInfo

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        return self.encoder.encode_documents(documents)

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        return self.encoder.encode_queries(queries)


def for_earlier(encoder: Encoder, fingerprint: str) -> Encoder:
    """The encoder, to search the vectors that an earlier version of it made (see :attr:`EncoderInfo.earlier`).

    An encoder whose queries have to differ then has a method of this name.
    """
    info = encoder.info
    encoder = encoder.for_earlier() if hasattr(encoder, "for_earlier") else encoder
    return _EarlierEncoder(encoder, replace(info, fingerprint=fingerprint, floors=encoder.info.floors, earlier=()))


def _encoder_class(name: str) -> Any:  # noqa: ANN401 -- a class known only by its name in the table
    if name not in TABLE:
        raise UsageError(f"invalid encoder {name!r}", f"use one of {', '.join(TABLE)}")
    module, _, attribute = TABLE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _resolved(name: str, method: str, settings: dict[str, object]) -> tuple[Any, dict[str, object], int]:
    """A class method of the encoder of that name, its own settings, and how many vectors become one.

    Raises:
        UsageError: unknown name or setting.
    """
    kind, _, model = name.partition(":")
    if model and kind in TABLE:
        name, settings = kind, {"model": model, **settings}
    factory = getattr(_encoder_class(name), method)
    pool = settings.pop("pool", 1)
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
        raise UsageError(f"{pool!r} vectors cannot be pooled to one", "give a whole number, 2 or more: --pool 2")
    parameters = inspect.signature(factory).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        known = sorted({parameter.name for parameter in parameters} - {"cache", "device", "threads"})
        unknown = sorted(set(settings) - set(known))
        if unknown:
            hint = f"it knows {', '.join(known)}" if known else "it has no settings"
            raise UsageError(f"encoder {name!r} has no setting {', '.join(map(repr, unknown))}", hint)
    return factory, settings, pool


class Rows:
    """Collects vectors and where each comes from, then gives them as one :class:`TokenVectors`.

    Attributes:
        vectors: those that were added, in order.
        spans: start and end in seconds of what each stands for.
    """

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.float32]] = []
        self.spans: list[tuple[float, float]] = []
        self._origins: list[tuple[int, int, tuple[int, int], int]] = []

    def add(
        self,
        vector: NDArray[np.float32],
        *,
        modality: Modality | None = None,
        place: Place | None = None,
        span: Span = _NO_TIME,
        segment: int = -1,
        offsets: tuple[int, int] = (0, 0),
        number: int = -1,
    ) -> None:
        """Add one row; the arguments are those of :class:`TokenVectors`, ``number`` is the tokenizer's id.

        A ``place`` in a text track gives the span, the segment and the offsets.
        """
        if place is not None:
            span, segment, offsets = place.span, place.segment, (place.start, place.end)
        modality_id = NO_MODALITY if modality is None else MODALITY_IDS[modality]
        self.vectors.append(vector)
        self.spans.append((span.start, span.end))
        self._origins.append((modality_id, segment, offsets, number))

    def done(self, vectors: NDArray[np.float32] | None = None) -> TokenVectors:
        """All rows in the order they were added; ``vectors``, [n, 128], take the place of those that were added."""
        import numpy as np  # completions read the table above without it

        modalities, segments, offsets, numbers = zip(*self._origins, strict=True) if self._origins else ((),) * 4
        rows = np.array(self.vectors, dtype=np.float32) if vectors is None else vectors
        return TokenVectors(
            vectors=rows.reshape(len(modalities), DIMENSION),
            modality_ids=np.array(modalities, dtype=np.uint8),
            spans=np.array(self.spans, dtype=np.float32).reshape(-1, 2),
            segments=np.array(segments, dtype=np.int32),
            offsets=np.array(offsets, dtype=np.int32).reshape(-1, 2),
            input_ids=np.array(numbers, dtype=np.int32),
        )
