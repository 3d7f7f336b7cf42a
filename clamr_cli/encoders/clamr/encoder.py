"""The CLaMR encoder (arXiv 2506.06144, section 3): documents and queries to 128-d token vectors of one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self, get_args, get_type_hints

import msgspec
import numpy as np
from tokenizers import Tokenizer

from clamr_cli.devices import choose_device
from clamr_cli.encoders import hub
from clamr_cli.encoders.clamr import prompt
from clamr_cli.encoders.clamr.projection import Projection, ProjectionInit, init_projection, is_stored
from clamr_cli.encoders.clamr.prompt import Content, EncoderInput, Limits, Prompter
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import DIMENSION, NO_MODALITY, Document, EncoderInfo, TokenVectors

if TYPE_CHECKING:
    from clamr_cli.encoders.clamr.model import Backbone
    from clamr_cli.types import FloatArray

VERSION: Final = 1  # part of every fingerprint; goes up when the same files give other vectors
NO_ADAPTER: Final = "none"
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "dtype": {
        "bf16": "bfloat16",
        "fp16": "float16",
        "fp32": "float32",
        **{f"torch.{name}": name for name in ("bfloat16", "float16", "float32")},
    },
    "projection_init": {
        **dict.fromkeys(("float16-legacy", "float16_legacy", "fp16", "fp16_legacy"), "float16"),
        "fp32": "float32",
    },
}
_COLUMNS: Final = tuple(field.name for field in fields(TokenVectors))


class ClamrOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a CLaMR encoder."""

    model: str = ""  # the base: a hub id, or a folder of a complete model; empty for the published one
    # Likewise the LoRA adapter; empty for the published one where the base is, "none" for the plain base.
    adapter: str = ""
    revision: str = ""  # branch, tag or commit on the hub
    adapter_revision: str = ""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"  # bfloat16 on a CUDA device, else float32
    projection_init: ProjectionInit = "float16"  # draw of the projection's base; unused where the files hold it
    template_vectors: Literal["keep", "drop"] = "keep"  # those of template tokens are kept as published
    # All modalities in one pass as published, or each alone: the paper's comparison without contextualisation.
    context: Literal["joint", "separate"] = "joint"
    quantize: Literal["none", "4bit"] = "none"  # linear layers as NF4; needs bitsandbytes and CUDA
    batch_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0  # of a forward pass, 0 for a default by device
    compile: bool = False  # the layers, with torch.compile; pays off over many documents


def parse_options(settings: Mapping[str, object], published_base: str, published_adapter: str) -> ClamrOptions:
    """Check settings and fill in the published base and adapter; "none" becomes an empty adapter.

    ``None`` means the default; a ``dtype`` or a path may be any object whose text is one.

    Raises:
        UsageError: an unknown setting or value.
    """
    values = {
        name: value if isinstance(value, bool) else _ALIASES.get(name, {}).get(str(value), str(value))
        for name, value in settings.items()
        if value is not None
    }
    types = get_type_hints(ClamrOptions)
    if unknown := sorted(set(values) - set(types)):
        raise UsageError(f"invalid settings of the encoder: {', '.join(map(repr, unknown))}", f"use {', '.join(types)}")
    try:
        options = msgspec.convert(values, ClamrOptions, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rstrip("`").rpartition("$.")[2]
        choices = ("true", "false") if types[name] is bool else get_args(types[name])
        hint = f"use {', '.join(choices)}" if choices else "use a whole number, 0 or more"
        raise UsageError(f"invalid {name}: {values[name]!r}", hint) from error
    model = options.model or published_base
    adapter = options.adapter or (published_adapter if model == published_base else NO_ADAPTER)
    return msgspec.structs.replace(options, model=model, adapter="" if adapter == NO_ADAPTER else adapter)


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
        hint = f"leave --device out to use the CPU, {hub.WAY_OUT}"
        place = torch.device(choose_device(device, automatic=("cuda",), hint=hint))
        default = torch.bfloat16 if place.type == "cuda" else torch.float32
        dtype = default if options.dtype == "auto" else getattr(torch, options.dtype)
        placement = Placement(place, dtype, options.quantize == "4bit")
        if options.model != cls.BASE:
            # Before gigabytes of it are fetched.
            small = hub.find(options.model, options.revision, configuration_only=True)
            check_memory(small.name, [(small.declared_elements(), 1)], placement)
        base, adapter = cls._files(options, cache)
        backbone = load_backbone(base, adapter, options.projection_init, placement, cls.KIND)
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
        parts = [
            f"{cls.NAME}{VERSION}",
            hub.digest(base, cache)[:12],
            hub.digest(adapter, cache)[:12] if adapter else "plain",
            "kept" if any(is_stored(files) for files in (base, adapter) if files) else draw.source + draw.sha256[:12],
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
        passes: list[list[EncoderInput]] = []
        for document in documents:
            content = self._content(document)
            parts = content.split()
            if parts and self._options.context == "joint":
                passes.append([self._prompter.document(content, limits)])
            else:
                passes.append([self._prompter.alone(part, limits) for part in parts])
        tokens = iter(self._encode([item for inputs in passes for item in inputs]))
        exact = self.backbone.placement.dtype.itemsize == 4
        empty: FloatArray = np.zeros((0, DIMENSION), np.float32) if exact else np.zeros((0, DIMENSION), np.float16)
        nothing = self.prepare_query("", limit=0).with_vectors(empty)
        results = []
        for inputs in passes:
            encoded = [next(tokens) for _ in inputs] or [nothing]
            columns = {name: np.concatenate([getattr(part, name) for part in encoded]) for name in _COLUMNS}
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
        usable = self.ACCEPTS_AUDIO and content.sound is not None and prompt.audio_tokens(len(content.sound.samples))
        return content if usable else replace(content, sound=None)

    def _encode(self, inputs: Sequence[EncoderInput]) -> list[TokenVectors]:
        from clamr_cli.encoders.clamr.model import encode

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
