"""The CLaMR encoder (arXiv 2506.06144, section 3): documents and queries to 128-d token vectors of one space."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from clamr_cli.encoders.clamr import audio, prompt, sources, vision
from clamr_cli.encoders.clamr.options import ClamrOptions, Published, parse_options
from clamr_cli.encoders.clamr.projection import init_projection
from clamr_cli.encoders.clamr.prompt import OMNI_TOKENS, Content, EncoderInput, Limits, Prompter, SpecialTokens
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import EncoderInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from clamr_cli.encoders.clamr.batching import Runner
    from clamr_cli.encoders.clamr.model import Backbone
    from clamr_cli.encoders.clamr.projection import Projection
    from clamr_cli.types import Document, TokenVectors

VERSION: Final = 1
"""Part of every fingerprint; goes up when the same files give other vectors."""


class ClamrEncoder:
    """Encodes with a CLaMR checkpoint: a Qwen2.5-VL base, a LoRA adapter and the 128-row projection.

    Make one with :meth:`create`.

    Attributes:
        notes: what the user should know about this encoder, one sentence each.
    """

    NAME: ClassVar[str] = "clamr"
    PUBLISHED: ClassVar[Published] = Published("Qwen/Qwen2.5-VL-3B-Instruct", "meetdavidwan/clamr")
    KIND: ClassVar[str] = "qwen2_5_vl"
    SPECIAL_TOKENS: ClassVar[SpecialTokens] = SpecialTokens()
    ACCEPTS_AUDIO: ClassVar[bool] = False

    def __init__(
        self, info: EncoderInfo, backbone: Backbone, tokenizer: Tokenizer, options: ClamrOptions, runner: Runner
    ) -> None:
        self._info = info
        self._backbone = backbone
        self._prompter = Prompter(tokenizer, self.SPECIAL_TOKENS)
        self._options = options
        self._runner = runner
        self.notes = tuple(_notes(options, backbone.placement.device.type))

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint; the fingerprint holds digests of base, adapter and projection."""
        return self._info

    @property
    def projection(self) -> Projection:
        """The base of the projection: where it came from, its SHA-256, its weight."""
        return self._backbone.projection

    @property
    def backbone(self) -> Backbone:
        """The model itself, for those who want hidden states or vision embeddings."""
        return self._backbone

    @classmethod
    def describe(cls, *, cache: Path, **settings: object) -> EncoderInfo:
        """The name and fingerprint of what :meth:`create` would make, without loading the model.

        Raises:
            UsageError: an unknown setting or value.
            ModelError: the files are absent.
        """
        options = parse_options(settings, cls.PUBLISHED)
        return cls._info_of(options, *cls._files(options, cache), cache)

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
        options = parse_options(settings, cls.PUBLISHED)
        import torch

        from clamr_cli.encoders.clamr.batching import Runner
        from clamr_cli.encoders.clamr.checkpoint import check_declared, load_backbone
        from clamr_cli.encoders.clamr.model import Placement, pick_device

        if threads > 0:
            torch.set_num_threads(threads)
        placement = Placement.of(options, pick_device(device))
        if options.model != cls.PUBLISHED.model:
            check_declared(sources.find_small(options.model, options.revision), placement)
        base, adapter = cls._files(options, cache)
        backbone = load_backbone(base, adapter, options, placement, cls.KIND)
        if options.compile:
            backbone.compile()
        info = cls._info_of(options, base, adapter, cache)
        return cls(info, backbone, _tokenizer(base), options, Runner(backbone, options.batch_tokens, threads))

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
        if min(limits.ocr, limits.asr, limits.description, limits.combined) < 1:
            raise UsageError("a token limit is below 1", "give positive limits")
        passes: list[tuple[int, Content, EncoderInput]] = []
        for number, document in enumerate(documents):
            content = self._content(document)
            separate = self._options.context == "separate"
            parts = [] if content.empty else content.split() if separate else [content]
            passes.extend((number, part, self._input(part, limits)) for part in parts)
        vectors = self._runner.run([given for _, _, given in passes])
        parts_of: list[list[TokenVectors]] = [[] for _ in documents]
        for (number, part, given), rows in zip(passes, vectors, strict=True):
            parts_of[number].append(prompt.place_tokens(part, given, rows))
        results = [prompt.join(parts) if parts else prompt.no_vectors(exact=self._runner.exact) for parts in parts_of]
        drop = self._options.template_vectors == "drop"
        return [prompt.drop_template(tokens) for tokens in results] if drop else results

    def encode_queries(self, queries: Sequence[str], *, max_query_tokens: int = 64) -> list[TokenVectors]:
        """Encode queries, each cut on the right at ``max_query_tokens``; ``modality_ids`` are 0.

        Raises:
            UsageError: the limit is below 1.
        """
        if max_query_tokens < 1:
            raise UsageError("a token limit is below 1", "give positive limits")
        inputs = [self.prepare_query(query, max_query_tokens) for query in queries]
        vectors = self._runner.run(inputs)
        return [prompt.query_vectors(given.prompt, rows) for given, rows in zip(inputs, vectors, strict=True)]

    def prepare(self, document: object, limits: Limits | None = None) -> EncoderInput:
        """One document as it goes into the model, its frames not decoded yet."""
        return self._input(self._content(document), limits or Limits())

    def prepare_query(self, query: str, limit: int = 64) -> EncoderInput:
        """One query as it goes into the model, cut on the right at ``limit`` tokens."""
        return EncoderInput(self._prompter.query(query, limit))

    def _content(self, document: object) -> Content:
        """The content of a document: audio only for models that accept it, and only where it makes a token."""
        content = prompt.content_of(document)
        usable = self.ACCEPTS_AUDIO and content.sound is not None and audio.token_count(len(content.sound.samples))
        return content if usable else content.without_audio()

    def _input(self, content: Content, limits: Limits) -> EncoderInput:
        """Write the prompt of a content; its frames are only measured."""
        if self._options.context == "separate" and content.tracks:
            (modality, track), *_ = content.tracks.items()
            return EncoderInput(self._prompter.text_alone(modality, track.text, limits.of(modality)))
        samples = audio.cut(content.sound.samples) if content.sound is not None else None
        audio_tokens = 0 if samples is None else audio.token_count(len(samples))
        patch, merge = self._backbone.patch, self._backbone.merge
        grid = vision.grid_of(content.images, patch, merge) if content.images else None
        written = self._prompter.document(content.texts, grid.tokens(merge) if grid else 0, limits, audio_tokens)
        return EncoderInput(written, grid, content.images, samples)

    @classmethod
    def _files(cls, options: ClamrOptions, cache: Path) -> tuple[sources.Files, sources.Files | None]:
        """Base and adapter; the published ones must be installed, others are fetched if they are hub ids."""
        if options.model == cls.PUBLISHED.model and not options.revision:
            base = sources.installed(cls.NAME, "base", options.model, cache)
        else:
            base = sources.find_all(options.model, options.revision)
        if options.adapter == cls.PUBLISHED.adapter and not options.adapter_revision:
            return base, sources.installed(cls.NAME, "adapter", options.adapter, cache)
        return base, sources.find_all(options.adapter, options.adapter_revision) if options.adapter else None

    @classmethod
    def _info_of(
        cls, options: ClamrOptions, base: sources.Files, adapter: sources.Files | None, cache: Path
    ) -> EncoderInfo:
        """The dtype is left out: it rounds the same vectors, it makes no other space. 4 bits do."""
        config = base.json("config.json")
        inner = config.get("thinker_config") or config
        text = inner.get("text_config") or inner
        try:
            hidden, deviation = int(text["hidden_size"]), float(text.get("initializer_range", 0.02))
            drawn = init_projection(options.projection_init, hidden, deviation)
        except (KeyError, TypeError, ValueError) as problem:
            raise ModelError(f"config.json of {base.name} names no hidden_size", "give a Qwen2.5 base") from problem
        projection_part = f"{drawn.source}{drawn.sha256[:12]}"
        parts = [
            f"{cls.NAME}{VERSION}",
            sources.digest(base, cache)[:12],
            sources.digest(adapter, cache)[:12] if adapter else "plain",
            "kept" if any(sources.keeps_projection(files) for files in (base, adapter) if files) else projection_part,
            options.template_vectors,
        ]
        parts += [options.context] * (options.context != "joint") + [options.quantize] * (options.quantize != "none")
        return EncoderInfo(cls.NAME, "-".join(parts))


class ClamrOmniEncoder(ClamrEncoder):
    """The sibling that listens: Qwen2.5-Omni, with raw audio (30 seconds at most) as a fifth modality.

    Audio stands between the video and the texts. Documents carry it as :class:`clamr_cli.types.Sound`, or in mappings
    as ``audio``, mono samples at 16 kHz (int16, or float32 in [-1, 1]). No values of the published code are known for
    this model, so unlike its sibling it is tested only against the library's own forward pass.
    """

    NAME = "clamr-omni"
    PUBLISHED = Published("Qwen/Qwen2.5-Omni-3B", "meetdavidwan/clamr_msrvtt")
    KIND = "qwen2_5_omni"
    SPECIAL_TOKENS = OMNI_TOKENS
    ACCEPTS_AUDIO = True


def _tokenizer(base: sources.Files) -> Tokenizer:
    """The tokenizer of a base.

    Raises:
        ModelError: tokenizer.json is absent or damaged.
    """
    from tokenizers import Tokenizer

    path = base.folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{base.name} has no tokenizer.json", "give a folder or hub id of a complete model")
    try:
        return Tokenizer.from_file(str(path))
    # The binding raises bare exceptions for every kind of damage.
    except Exception as problem:
        raise ModelError(f"tokenizer.json of {base.name} is damaged", "download the model again") from problem


def _notes(options: ClamrOptions, device: str) -> Iterator[str]:
    if not options.adapter:
        yield f"{options.model} is used without an adapter: its vectors mean little before it is trained"
    if device == "cpu" and options.model == ClamrEncoder.PUBLISHED.model:
        yield "there is no GPU: every moment takes a minute or more; --encoder mini takes seconds"
