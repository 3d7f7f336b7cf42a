"""Open late-interaction checkpoints through sentence-transformers: ``--encoder st:ID``, ID a folder or hub id.

Such models know pages and passages, not videos: every frame is encoded as a picture and every segment of text as a
passage of its own, whatever the rest of the document holds. Needs the extra ``st``.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clamr_cli.encoders import Rows, hub
from clamr_cli.errors import MediaError, MissingExtra, ModelError, UsageError, first_line
from clamr_cli.types import DIMENSION, TEXT_MODALITIES, Document, EncoderInfo, Modality, TokenVectors

VERSION: Final = 1
_OTHER: Final = "use another checkpoint"


class StEncoder:
    """A multi-vector encoder of sentence-transformers with 128-dimensional vectors.

    Attributes:
        info: name and fingerprint; the name holds the checkpoint's.
        notes: what the user should know about it, one sentence each.
    """

    def __init__(self, info: EncoderInfo, model: Any) -> None:  # noqa: ANN401 -- a class of an optional package
        self.info, self._model = info, model
        self._takes_images = bool(model.supports("image"))
        self.notes = () if self._takes_images else (f"{info.name} sees no pictures: frames are left out",)

    @classmethod
    def describe(cls, *, cache: Path, model: str = "", revision: str = "") -> EncoderInfo:
        """The name and fingerprint of what :meth:`create` would make, without loading the model.

        Raises:
            UsageError: no checkpoint is named.
            ModelError: it cannot be found.
        """
        return _describe(_find(model, revision), cache)

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
        files = _find(model, revision)
        if not (files.folder / "modules.json").is_file():
            architectures = [str(name) for name in files.json("config.json").get("architectures") or ()]
            if not any(name == "HF_ColBERT" or name.endswith("ForRetrieval") for name in architectures):
                # The library would give a plain language model a projection of random numbers.
                what = f"invalid multi-vector checkpoint {files.name}: its projection would be random numbers"
                raise ModelError(what, "use one made for late interaction")
        try:
            from sentence_transformers import MultiVectorEncoder
        except ImportError as error:
            raise MissingExtra(f"the encoder st:{model}", "st") from error
        import torch

        if threads > 0:
            torch.set_num_threads(threads)
        place = None if device == "auto" else device
        try:
            with _random_tensors() as missing:
                loaded = MultiVectorEncoder(str(files.folder), device=place, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            reason = first_line(error)
            raise ModelError(f"{model} cannot be loaded: {reason}", _OTHER) from error
        if missing:
            what = f"{model} lacks {len(missing)} tensors, they would be random ({hub.shorten(missing)})"
            raise ModelError(what, "use a complete checkpoint")
        width = loaded.get_embedding_dimension()
        if width not in (None, DIMENSION):
            raise ModelError(f"{model} gives vectors of {width} dimensions, not {DIMENSION}", _OTHER)
        return cls(_describe(files, cache), loaded)

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The vectors of every frame and of every segment of text; each knows which one, none knows its word.

        Raises:
            MediaError: a frame is no picture.
        """
        return [self._encode_document(document) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """The vectors of each query; none knows its word."""
        results = []
        for query, vectors in zip(queries, self._encode("encode_query", list(queries)), strict=True):
            rows = Rows()
            for vector in vectors:
                rows.add(vector, offsets=(0, len(query)))
            results.append(rows.done())
        return results

    def _encode_document(self, document: Document) -> TokenVectors:
        rows, images = Rows(), []
        for frame in document.frames if self._takes_images else ():
            try:
                images.append(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                what = f"the frame at {frame.time:.2f} s cannot be decoded"
                raise MediaError(what, "index the video again") from error
        for number, vectors in enumerate(self._encode("encode_document", images)):
            for vector in vectors:
                rows.add(vector, modality=Modality.VIDEO, span=document.frames[number].span, segment=number)
        for modality in TEXT_MODALITIES:
            segments = [(n, part) for n, part in enumerate(document.segments(modality)) if part.text.strip()]
            encoded = self._encode("encode_document", [segment.text for _, segment in segments])
            for (number, segment), vectors in zip(segments, encoded, strict=True):
                for vector in vectors:
                    offsets = (0, len(segment.text))
                    rows.add(vector, modality=modality, span=segment.span, segment=number, offsets=offsets)
        return rows.done()

    def _encode(self, method: str, inputs: list[Any]) -> list[NDArray[np.float32]]:
        """Rows of length 1 for each input; those of length 0 stand for padding and are left out."""
        if not inputs:
            return []
        results = []
        for vectors in getattr(self._model, method)(inputs, convert_to_numpy=True, show_progress_bar=False):
            rows = np.asarray(vectors, dtype=np.float32).reshape(-1, DIMENSION)
            lengths = np.linalg.norm(rows, axis=1)
            if not np.isfinite(lengths).all():
                raise ModelError("the model gives no finite numbers", _OTHER)
            results.append(np.asarray(rows[lengths > 0] / lengths[lengths > 0, None], dtype=np.float32))
        return results


@contextlib.contextmanager
def _random_tensors() -> Iterator[list[str]]:
    """Collects the tensors that the library made up while it loaded a model; it only says so in its log."""
    missing: list[str] = []

    def read(record: logging.LogRecord) -> bool:
        for line in record.getMessage().splitlines():
            name, separator, rest = line.partition("|")
            # Poolers make sentence vectors, which are never asked for; many checkpoints leave them out.
            if separator and ("MISSING" in rest or "MISMATCH" in rest) and "pooler" not in name:
                missing.append(name.strip())
        return False

    handler, logger = logging.Handler(logging.WARNING), logging.getLogger("transformers")
    handler.addFilter(read)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.WARNING, logging.WARNING))
    try:
        yield missing
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _find(model: str, revision: str) -> hub.Files:
    if not model:
        raise UsageError("no checkpoint is named", "write --encoder st:ID, ID a folder or hub id")
    return hub.find(model, revision)


def _describe(files: hub.Files, cache: Path) -> EncoderInfo:
    return EncoderInfo(f"st:{files.name}", f"st{VERSION}-{hub.digest(files, cache, whole_folder=True)[:24]}")
