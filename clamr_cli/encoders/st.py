"""Open late-interaction checkpoints through sentence-transformers: ``--encoder st:ID``, ID a folder or hub id.

Such models know pages and passages, not videos: every frame is encoded as a picture and every segment of text as a
passage of its own, with nothing seen in the light of the rest. Needs the extra ``st``.
"""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from clamr_cli.encoders.clamr import hub
from clamr_cli.encoders.rows import Rows
from clamr_cli.errors import MediaError, MissingExtra, ModelError, UsageError
from clamr_cli.types import DIMENSION, TEXT_MODALITIES, EncoderInfo, Modality, Span, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from clamr_cli.types import Document, Frame

VERSION: Final = 1
_READY_MADE: Final = ("HF_ColBERT",)


class StEncoder:
    """A multi-vector encoder of sentence-transformers with 128-dimensional vectors.

    Attributes:
        notes: what the user should know about it, one sentence each.
    """

    def __init__(self, info: EncoderInfo, model: Any) -> None:  # noqa: ANN401 -- a class of an optional package
        self._info = info
        self._model = model
        self._sees = bool(model.supports("image"))
        self.notes = () if self._sees else (f"{info.name} sees no pictures: frames are left out",)

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint; the name holds the checkpoint's."""
        return self._info

    @classmethod
    def describe(cls, *, cache: Path, model: str = "", revision: str = "") -> EncoderInfo:
        """The name and fingerprint of what :meth:`create` would make, without loading the model.

        Raises:
            UsageError: no checkpoint is named.
            ModelError: it cannot be found.
        """
        return _info(model, _files(model, revision), cache)

    @classmethod
    def create(
        cls, *, cache: Path, device: str = "auto", threads: int = 0, model: str = "", revision: str = ""
    ) -> Self:
        """Load a checkpoint.

        Args:
            cache: folder where digests of large files are kept.
            device: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads; 0 leaves the choice to the libraries.
            model: folder or hub id.
            revision: branch, tag or commit on the hub.

        Raises:
            UsageError: no checkpoint is named.
            MissingExtra: sentence-transformers is not installed.
            ModelError: the checkpoint cannot be found or loaded, or is none of this kind.
        """
        files = _files(model, revision)
        _check_complete(files)
        try:
            from sentence_transformers import MultiVectorEncoder
        except ImportError as problem:
            raise MissingExtra(f"the encoder st:{model}", "st") from problem
        import torch

        if threads > 0:
            torch.set_num_threads(threads)
        place = None if device == "auto" else device
        try:
            with _Report() as report:
                loaded = MultiVectorEncoder(str(files.folder), device=place, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as problem:
            raise ModelError(f"{model} cannot be loaded: {_first_line(problem)}", "use another checkpoint") from problem
        if report.missing:
            what = f"{model} lacks {len(report.missing)} tensors, they would be random ({hub.shorten(report.missing)})"
            raise ModelError(what, "use a complete checkpoint")
        width = loaded.get_embedding_dimension()
        if width not in (None, DIMENSION):
            raise ModelError(f"{model} gives vectors of {width} dimensions, not {DIMENSION}", "use another checkpoint")
        return cls(_info(model, files, cache), loaded)

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The vectors of every frame and of every segment of text; each knows which one, none knows its word.

        Raises:
            MediaError: a frame is no picture.
        """
        return [self._document(document) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """The vectors of each query; none knows its word."""
        if not queries:
            return []
        made = self._model.encode_query(list(queries), convert_to_numpy=True, show_progress_bar=False)
        results = []
        for query, vectors in zip(queries, made, strict=True):
            rows = Rows()
            for vector in _unit(vectors):
                rows.add(vector, offsets=(0, len(query)))
            results.append(rows.done())
        return results

    def _document(self, document: Document) -> TokenVectors:
        rows = Rows()
        if self._sees and document.frames:
            pictures = [_picture(frame) for frame in document.frames]
            for number, vectors in enumerate(self._encode(pictures)):
                _add(rows, vectors, Modality.VIDEO, document.frames[number].span, number, 0)
        for modality in TEXT_MODALITIES:
            segments = document.segments(modality)
            kept = [number for number, segment in enumerate(segments) if segment.text.strip()]
            for number, vectors in zip(kept, self._encode([segments[number].text for number in kept]), strict=True):
                _add(rows, vectors, modality, segments[number].span, number, len(segments[number].text))
        return rows.done()

    def _encode(self, inputs: list[Any]) -> Sequence[NDArray[np.float32]]:
        if not inputs:
            return []
        found: Sequence[NDArray[np.float32]] = self._model.encode_document(
            inputs, convert_to_numpy=True, show_progress_bar=False
        )
        return found


class _Report(logging.Handler):
    """Collects the tensors that the library made up while it loaded a model; it only says so in its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.missing: list[str] = []
        self._logger = logging.getLogger("transformers")
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        """Read the rows of a loading report."""
        for line in record.getMessage().splitlines():
            name, separator, rest = line.partition("|")
            # Poolers make sentence vectors, which are never asked for; many checkpoints leave them out.
            if separator and ("MISSING" in rest or "MISMATCH" in rest) and "pooler" not in name:
                self.missing.append(name.strip())

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        self._logger.setLevel(min(self._level or logging.WARNING, logging.WARNING))
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


def _add(
    rows: Rows, vectors: NDArray[np.float32], modality: Modality, span: Span, segment: int, characters: int
) -> None:
    for vector in _unit(vectors):
        rows.add(vector, modality=modality, span=span, segment=segment, offsets=(0, characters))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; those of length 0 stand for padding and are left out."""
    wide = np.asarray(vectors, dtype=np.float32).reshape(-1, DIMENSION)
    lengths = np.linalg.norm(wide, axis=1)
    if not np.isfinite(lengths).all():
        raise ModelError("the model gives no finite numbers", "use another checkpoint")
    return np.asarray(wide[lengths > 0] / lengths[lengths > 0, None], dtype=np.float32)


def _picture(frame: Frame) -> Image.Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(frame.jpeg)).convert("RGB")
    except (OSError, ValueError, SyntaxError) as problem:
        raise MediaError(f"the frame at {frame.time:.2f} s cannot be decoded", "index the video again") from problem


def _files(model: str, revision: str) -> hub.Files:
    if not model:
        raise UsageError("no checkpoint is named", "write --encoder st:ID, ID a folder or hub id")
    return hub.find(model, revision)


def _check_complete(files: hub.Files) -> None:
    """Refuse a plain language model: the library would give it a projection of random numbers."""
    if (files.folder / "modules.json").is_file():
        return
    architectures = [str(name) for name in files.json("config.json").get("architectures") or ()]
    if not any(name in _READY_MADE or name.endswith("ForRetrieval") for name in architectures):
        what = f"{files.name} is no multi-vector checkpoint: its projection would be random numbers"
        raise ModelError(what, "use one made for late interaction")


def _info(model: str, files: hub.Files, cache: Path) -> EncoderInfo:
    return EncoderInfo(f"st:{model}", f"st{VERSION}-{hub.digest(files, cache, whole_folder=True)[:24]}")


def _first_line(problem: BaseException) -> str:
    lines = str(problem).splitlines()
    return lines[0][:200] if lines else type(problem).__name__
