"""The CLaMR encoder (arXiv 2506.06144, section 3): documents and queries to 128-d token vectors of one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

import numpy as np
from tokenizers import Tokenizer

from clamr_cli.encoders.clamr import hub, media, prompt
from clamr_cli.encoders.clamr.options import ClamrOptions, parse_options
from clamr_cli.encoders.clamr.projection import Projection, init_projection
from clamr_cli.encoders.clamr.prompt import Content, EncoderInput, Limits, Prompter
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import DIMENSION, NO_MODALITY, Document, EncoderInfo, TokenVectors

if TYPE_CHECKING:
    from clamr_cli.encoders.clamr.model import Backbone
    from clamr_cli.types import FloatArray

VERSION: Final = 1
"""Part of every fingerprint; goes up when the same files give other vectors."""

_COLUMNS: Final = tuple(field.name for field in fields(TokenVectors))


class ClamrEncoder:
    """Encodes with a CLaMR checkpoint: a Qwen2.5-VL base, a LoRA adapter and the 128-row projection.

    Make one with :meth:`create`.

    Attributes:
        info: name and fingerprint; the fingerprint holds digests of base, adapter and projection.
        backbone: the model itself, for those who want hidden states or vision embeddings.
        notes: what the user should know about this encoder, one sentence each.
    """

    NAME: ClassVar[str] = "clamr"
    BASE: ClassVar[str] = "Qwen/Qwen2.5-VL-3B-Instruct"
    ADAPTER: ClassVar[str] = "meetdavidwan/clamr"
    KIND: ClassVar[str] = "qwen2_5_vl"
    SPECIAL_TOKENS: ClassVar[tuple[Sequence[str], ...]] = (prompt.VIDEO_TOKENS,)
    ACCEPTS_AUDIO: ClassVar[bool] = False

    def __init__(
        self, info: EncoderInfo, backbone: Backbone, tokenizer: Tokenizer, options: ClamrOptions, threads: int = 0
    ) -> None:
        self.info, self.backbone = info, backbone
        self._prompter = Prompter(tokenizer, *self.SPECIAL_TOKENS)
        self._options, self._threads = options, threads
        notes = []
        if not options.adapter:
            notes.append(f"{options.model} is used without an adapter: its vectors mean little before it is trained")
        if backbone.placement.device.type == "cpu" and options.model == ClamrEncoder.BASE:
            notes.append("there is no GPU: every moment takes a minute or more; --encoder mini takes seconds")
        self.notes = tuple(notes)

    @property
    def projection(self) -> Projection:
        """The base of the projection: where it came from, its SHA-256, its weight."""
        return self.backbone.projection

    @classmethod
    def describe(cls, *, cache: Path, **settings: object) -> EncoderInfo:
        """The name and fingerprint of what :meth:`create` would make, without loading the model.

        Raises:
            UsageError: an unknown setting or value.
            ModelError: the files are absent.
        """
        options = parse_options(settings, cls.BASE, cls.ADAPTER)
        return cls._info(options, *cls._files(options, cache), cache)

    @classmethod
    def create(cls, *, cache: Path, device: str = "auto", threads: int = 0, **settings: object) -> Self:
        """Load the model.

        Args:
            cache: folder where digests of large files are kept.
            device: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads; 0 leaves the choice to the libraries.
            settings: see :class:`ClamrOptions`.

        Raises:
            UsageError: an unknown setting or value.
            ModelError: files are absent, damaged, incomplete or too large for the machine.
            MissingExtra: 4 bits were asked for without bitsandbytes.
        """
        options = parse_options(settings, cls.BASE, cls.ADAPTER)
        import torch

        from clamr_cli.encoders.clamr.checkpoint import check_memory, load_backbone
        from clamr_cli.encoders.clamr.model import Placement

        if threads > 0:
            torch.set_num_threads(threads)
        placement = Placement.of(options, device)
        if options.model != cls.BASE:
            # Before gigabytes of it are fetched.
            small = hub.find(options.model, options.revision, configuration_only=True)
            check_memory(small.name, [(small.declared_elements(), 1)], placement)
        base, adapter = cls._files(options, cache)
        backbone = load_backbone(base, adapter, options, placement, cls.KIND)
        if options.compile:
            backbone.compile()
        path = base.folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{base.name} lacks tokenizer.json", "give a folder or hub id of a complete model")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        # The binding raises bare exceptions for every kind of damage.
        except Exception as error:
            raise ModelError(f"tokenizer.json of {base.name} is damaged", "download the model again") from error
        return cls(cls._info(options, base, adapter, cache), backbone, tokenizer, options, threads)

    @classmethod
    def find(cls, part: Literal["base", "adapter"], name: str, revision: str, cache: Path) -> hub.Files:
        """The files of a base or adapter; the published ones must be installed, others are fetched if they are hub ids.

        Raises:
            ModelError: they are absent.
        """
        if name == {"base": cls.BASE, "adapter": cls.ADAPTER}[part] and not revision:
            return hub.find_installed(cls.NAME, part, name, cache)
        return hub.find(name, revision)

    @classmethod
    def _files(cls, options: ClamrOptions, cache: Path) -> tuple[hub.Files, hub.Files | None]:
        base = cls.find("base", options.model, options.revision, cache)
        if not options.adapter:
            return base, None
        return base, cls.find("adapter", options.adapter, options.adapter_revision, cache)

    @classmethod
    def _info(cls, options: ClamrOptions, base: hub.Files, adapter: hub.Files | None, cache: Path) -> EncoderInfo:
        """The dtype is left out: it rounds the same vectors, it makes no other space. 4 bits do."""
        config = base.json("config.json")
        inner = config.get("thinker_config") or config
        text = inner.get("text_config") or inner
        try:
            hidden, deviation = int(text["hidden_size"]), float(text.get("initializer_range", 0.02))
            draw = init_projection(options.projection_init, hidden, deviation)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"config.json of {base.name} names no hidden_size", "give a Qwen2.5 base") from error
        stored = any(files.hold_projection() for files in (base, adapter) if files)
        parts = [
            f"{cls.NAME}{VERSION}",
            hub.digest(base, cache)[:12],
            hub.digest(adapter, cache)[:12] if adapter else "plain",
            "kept" if stored else f"{draw.source}{draw.sha256[:12]}",
            options.template_vectors,
        ]
        parts += [options.context] * (options.context != "joint") + [options.quantize] * (options.quantize != "none")
        return EncoderInfo(cls.NAME, "-".join(parts))

    def encode_documents(
        self,
        documents: Sequence[Document | Mapping[str, object] | object],
        *,
        max_ocr_tokens: int = 512,
        max_asr_tokens: int = 512,
        max_description_tokens: int = 512,
        max_combined_tokens: int = 2048,
    ) -> list[TokenVectors]:
        """Encode documents: moments, or mappings or objects with ``frames``, ``ocr``, ``asr`` and ``description``.

        Args:
            documents: ``frames`` are PIL images (ten at most) or None, the texts strings or None.
            max_ocr_tokens: tokens of the text on screen at most, its name in the prompt included.
            max_asr_tokens: tokens of the speech at most, likewise.
            max_description_tokens: tokens of the description at most, likewise.
            max_combined_tokens: tokens of a whole document at most; what is over is cut at the end.

        Returns:
            One per document, in order: float32 vectors from a float32 model, else float16. Zero rows without content.

        Raises:
            UsageError: a document has fields of another type, or a limit leaves no room for its frames.
            MediaError: a frame is damaged.
            ModelError: the device has too little memory for a single document.
        """
        limits = Limits(max_ocr_tokens, max_asr_tokens, max_description_tokens, max_combined_tokens)
        if min(limits) < 1:
            raise UsageError("a token limit is below 1", "give positive limits")
        parts: list[list[EncoderInput]] = [self._inputs(document, limits) for document in documents]
        tokens = iter(self._encode([part for inputs in parts for part in inputs]))
        exact = self.backbone.placement.dtype.itemsize == 4
        empty: FloatArray = np.zeros((0, DIMENSION), np.float32) if exact else np.zeros((0, DIMENSION), np.float16)
        nothing = self.prepare_query("", limit=0).with_vectors(empty)
        results = []
        for inputs in parts:
            passes = [next(tokens) for _ in inputs] or [nothing]
            columns = {name: np.concatenate([getattr(part, name) for part in passes]) for name in _COLUMNS}
            if self._options.template_vectors == "drop":
                rows = columns["modality_ids"] != NO_MODALITY
                columns = {name: column[rows] for name, column in columns.items()}
            results.append(TokenVectors(**columns))
        return results

    def encode_queries(self, queries: Sequence[str], *, max_query_tokens: int = 64) -> list[TokenVectors]:
        """Encode queries, each cut on the right at ``max_query_tokens``; ``modality_ids`` are 0.

        Raises:
            UsageError: the limit is below 1.
        """
        if max_query_tokens < 1:
            raise UsageError("a token limit is below 1", "give positive limits")
        return self._encode([self.prepare_query(query, max_query_tokens) for query in queries])

    def prepare(self, document: object, limits: Limits | None = None) -> EncoderInput:
        """One document as it goes into the model, its frames not decoded yet."""
        return self._prompter.document(self._content(document), limits or Limits())

    def prepare_query(self, query: str, limit: int = 64) -> EncoderInput:
        """One query as it goes into the model, cut on the right at ``limit`` tokens."""
        return self._prompter.query(query, limit)

    def _content(self, document: object) -> Content:
        """The content of a document: sound only for models that take it, and only where it makes a token."""
        content = Content.of(document)
        usable = self.ACCEPTS_AUDIO and content.sound is not None and media.audio_tokens(len(content.sound.samples))
        return content if usable else replace(content, sound=None)

    def _inputs(self, document: object, limits: Limits) -> list[EncoderInput]:
        """The passes through the model that a document needs; none without content."""
        content = self._content(document)
        parts = content.split()
        if self._options.context == "joint":
            return [self._prompter.document(content, limits)] if parts else []
        return [
            self._prompter.text_alone(part, limits) if part.tracks else self._prompter.document(part, limits)
            for part in parts
        ]

    def _encode(self, inputs: Sequence[EncoderInput]) -> list[TokenVectors]:
        from clamr_cli.encoders.clamr.batching import encode

        vectors = encode(self.backbone, inputs, self._options.batch_tokens, self._threads)
        return [item.with_vectors(rows) for item, rows in zip(inputs, vectors, strict=True)]


class ClamrOmniEncoder(ClamrEncoder):
    """The sibling for sound: Qwen2.5-Omni, with raw audio (30 seconds at most) as a fifth modality.

    Audio stands between the video and the texts. Documents carry it as :class:`clamr_cli.types.Sound`, or in mappings
    as ``audio``, mono samples at 16 kHz (int16, or float32 in [-1, 1]). No values of the published code are known for
    this model, so unlike its sibling it is tested only against the library's own forward pass.
    """

    NAME = "clamr-omni"
    BASE = "Qwen/Qwen2.5-Omni-3B"
    ADAPTER = "meetdavidwan/clamr_msrvtt"
    KIND = "qwen2_5_omni"
    SPECIAL_TOKENS = (prompt.OMNI_VIDEO_TOKENS, prompt.OMNI_AUDIO_TOKENS)
    ACCEPTS_AUDIO = True
