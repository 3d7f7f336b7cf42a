"""The CLaMR encoder (arXiv 2506.06144, section 3): documents and queries to 128-d token vectors of one space."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from clamr_cli.encoders.clamr import audio, packing, sources
from clamr_cli.encoders.clamr import documents as docs
from clamr_cli.encoders.clamr import frames as pictures
from clamr_cli.encoders.clamr.options import ClamrOptions, Published, parse_options
from clamr_cli.encoders.clamr.projection import draw
from clamr_cli.encoders.clamr.prompt import OMNI_MARKS, Limits, Marks, Prompter
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import EncoderInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from clamr_cli.encoders.clamr.backbone import Backbone
    from clamr_cli.encoders.clamr.documents import Source
    from clamr_cli.encoders.clamr.packing import Job
    from clamr_cli.encoders.clamr.projection import Projection
    from clamr_cli.encoders.clamr.runner import Runner
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
    MARKS: ClassVar[Marks] = Marks()

    def __init__(
        self, info: EncoderInfo, backbone: Backbone, tokenizer: Tokenizer, options: ClamrOptions, runner: Runner
    ) -> None:
        self._info = info
        self._backbone = backbone
        self._prompter = Prompter(tokenizer, self.MARKS)
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

        from clamr_cli.encoders.clamr.backbone import Placement
        from clamr_cli.encoders.clamr.loading import check_declared, load_backbone
        from clamr_cli.encoders.clamr.memory import pick_device
        from clamr_cli.encoders.clamr.runner import Runner

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
        pieces: list[tuple[int, Source, packing.Work]] = []
        for number, document in enumerate(documents):
            pieces.extend((number, part, self._work(part, limits)) for part in self._parts(self._source(document)))
        vectors = self._runner.run([work for _, _, work in pieces])
        placed: list[list[TokenVectors]] = [[] for _ in documents]
        for (number, part, work), found in zip(pieces, vectors, strict=True):
            placed[number].append(docs.place_tokens(part, work.job.prompt, work.job.grid, found))
        return [self._finished(parts) for parts in placed]

    def encode_queries(self, queries: Sequence[str], *, max_query_tokens: int = 64) -> list[TokenVectors]:
        """Encode queries, each cut on the right at ``max_query_tokens``; ``modality_ids`` are 0.

        Raises:
            UsageError: the limit is below 1.
        """
        if max_query_tokens < 1:
            raise UsageError("a token limit is below 1", "give positive limits")
        prompts = [self._prompter.query(query, max_query_tokens) for query in queries]
        vectors = self._runner.run([packing.Work(packing.Job(prompt)) for prompt in prompts])
        return [docs.query_vectors(prompt, found) for prompt, found in zip(prompts, vectors, strict=True)]

    def prepare(self, document: object, limits: Limits | None = None) -> Job:
        """The prompt and grid of one document, as they go into the model."""
        return self.work(document, limits).job

    def work(self, document: object, limits: Limits | None = None) -> packing.Work:
        """One document as it goes into the model, its pictures not decoded yet."""
        return self._work(self._source(document), limits or Limits())

    def query_work(self, query: str, limit: int = 64) -> packing.Work:
        """One query as it goes into the model, cut on the right at ``limit`` tokens."""
        return packing.Work(packing.Job(self._prompter.query(query, limit)))

    def _source(self, document: object) -> Source:
        """What is encoded of a document: audio only by models that listen."""
        source = docs.source_of(document)
        heard = self.MARKS.audio and source.sound is not None and audio.token_count(len(source.sound.samples))
        return source if heard else docs.silent(source)

    def _parts(self, source: Source) -> list[Source]:
        """What is encoded in one pass each: the whole document, or its modalities one by one."""
        if source.empty:
            return []
        return [source] if self._options.context == "joint" else docs.split(source)

    def _work(self, source: Source, limits: Limits) -> packing.Work:
        """Write the prompt of a source; its frames are only measured."""
        if self._options.context == "separate" and source.tracks:
            (modality, track), *_ = source.tracks.items()
            return packing.Work(packing.Job(self._prompter.text_alone(modality, track.text, limits.of(modality))))
        samples = audio.cut(source.sound.samples) if source.sound is not None else None
        heard = 0 if samples is None else audio.token_count(len(samples))
        grid = pictures.grid_of(source.images, self._backbone.patch, self._backbone.merge) if source.images else None
        tokens = grid.tokens(self._backbone.merge) if grid else 0
        prompt = self._prompter.document(source.texts, tokens, limits, heard)
        return packing.Work(packing.Job(prompt, grid), source.images, samples)

    def _finished(self, parts: list[TokenVectors]) -> TokenVectors:
        if not parts:
            return docs.no_vectors(exact=self._runner.exact)
        joined = docs.join(parts)
        return docs.drop_template(joined) if self._options.template_vectors == "drop" else joined

    @classmethod
    def _files(cls, options: ClamrOptions, cache: Path) -> tuple[sources.Files, sources.Files | None]:
        """Base and adapter; the published ones are only looked for, others are fetched where they are hub ids."""
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
            drawn = draw(options.draw, int(text["hidden_size"]), float(text.get("initializer_range", 0.02)))
        except (KeyError, TypeError, ValueError) as problem:
            raise ModelError(f"config.json of {base.name} names no hidden_size", "give a Qwen2.5 base") from problem
        drawn_mark = f"{drawn.source}{drawn.sha256[:12]}"
        marks = [
            f"{cls.NAME}{VERSION}",
            sources.digest(base, cache)[:12],
            sources.digest(adapter, cache)[:12] if adapter else "plain",
            "kept" if any(sources.keeps_projection(files) for files in (base, adapter) if files) else drawn_mark,
            options.template_vectors,
        ]
        marks += [options.context] * (options.context != "joint") + [options.quantize] * (options.quantize != "none")
        return EncoderInfo(cls.NAME, "-".join(marks))


class ClamrOmniEncoder(ClamrEncoder):
    """The sibling that listens: Qwen2.5-Omni, with raw audio (30 seconds at most) as a fifth modality.

    Audio stands between the video and the texts. Documents carry it as :class:`clamr_cli.types.Sound`, or in mappings
    as ``audio``, mono samples at 16 kHz (int16, or float32 in [-1, 1]). No values of the published code are known for
    this model, so unlike its sibling it is tested only against the library's own forward pass.
    """

    NAME = "clamr-omni"
    PUBLISHED = Published("Qwen/Qwen2.5-Omni-3B", "meetdavidwan/clamr_msrvtt")
    KIND = "qwen2_5_omni"
    MARKS = OMNI_MARKS
    HEARS = True


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
