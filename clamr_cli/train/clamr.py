"""The recipes clamr and clamr-omni: train an adapter for ``clamr index`` on labelled queries and an index.

The paper's recipe (arXiv 2506.06144): LoRA on the language model of a Qwen2.5 and on the projection.

A judgement names a video; the model is trained on moments. Of a video with several moments, the positive is the one
that the index's own search ranks first for the query, in the modality of the query if the video has it. It is chosen
once, before training. No other moment of an answering video is ever a negative of the query.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import shlex
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from clamr_cli import encoders
from clamr_cli.devices import choose_device
from clamr_cli.encoders.clamr import ClamrEncoder, ClamrOmniEncoder
from clamr_cli.encoders.clamr.checkpoint import PROJECTION, Adapter, linear_shapes, load_adapter, renamed
from clamr_cli.encoders.clamr.encoder import NO_ADAPTER
from clamr_cli.encoders.clamr.model import MAX_THREADS, Backbone
from clamr_cli.encoders.clamr.prompt import EncoderInput
from clamr_cli.encoders.hub import shorten
from clamr_cli.errors import MediaError, ModelError, UsageError
from clamr_cli.evaluate.data import read_queries, resolve
from clamr_cli.index.documents import documents_of, indexed_videos
from clamr_cli.queries import LabelledQuery
from clamr_cli.search import search
from clamr_cli.store import Store
from clamr_cli.train.loop import LateInteractionTrainer, train
from clamr_cli.train.losses import Batch, Encoded
from clamr_cli.train.run import (
    Evaluated,
    RecipeOptions,
    Trained,
    TrainEvent,
    TrainNote,
    TrainOptions,
    TrainStep,
    start_run,
)
from clamr_cli.types import (
    DIMENSION,
    MODALITY_IDS,
    NO_MODALITY,
    Document,
    Encoder,
    Filters,
    MomentRecord,
    SearchOptions,
)

TARGETS: Final = "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"
"""The published pattern of the layers that have an adapter."""

_WEIGHTS_FILE: Final = "adapter_model.safetensors"
_NAME: Final = "default"
_PREFIX: Final = "base_model.model."
_LAST_STEPS: Final = 20  # steps whose mean loss is reported at the end
_CHANGEABLE: Final = ("resume", "device", "save_every")  # options that may differ when a run is resumed


class LoraOptions(NamedTuple):
    """A low-rank adapter: rank, alpha (its scale times the rank) and dropout; the defaults are the paper's."""

    rank: int = 128
    alpha: float = 128
    dropout: float = 0.1


class Pair(NamedTuple):
    """A query and the moment that answers it.

    ``modality`` is the id of the modality that the query aims at, 0 for none; ``video`` the number of the moment's
    video, ``document`` the number of the moment, ``answers`` the numbers of all videos that answer the query.
    """

    query: str
    modality: int
    moment: str
    video: int
    document: int
    answers: tuple[int, ...]


def run(options: RecipeOptions, kind: type[ClamrEncoder] = ClamrEncoder) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-VL.

    Raises:
        UsageError: options or queries that cannot be used.
        ModelError: the base or the starting adapter cannot be used, or training fails.
    """
    queries, store = options.queries, options.store
    if options.data is not None:
        raise UsageError("this recipe is trained on the documents of an index", "leave --data out and give QUERIES")
    if options.backbone:
        raise UsageError("this recipe takes no --backbone", "use --recipe mini")
    if queries is None or store is None:
        raise UsageError("this recipe needs labelled queries", "clamr train QUERIES.jsonl --recipe clamr")
    if options.adapter and options.lora_rank is not None:
        raise UsageError("the adapter to start from has a rank already", "leave out --lora-rank or --adapter")
    if options.four_bit and not choose_device(options.device).startswith("cuda"):
        raise UsageError("training in 4 bits needs a CUDA device", "leave --4bit out")
    documents = IndexedDocuments(store)
    encoder_of_index = functools.cache(
        lambda: index_encoder(store, cache=options.cache, device=options.device, threads=options.threads)
    )
    data, notes = read_pairs(queries, store, documents, encoder_of_index)
    if len({pair.video for pair in data.pairs}) < 2:
        raise UsageError("all queries have the same answer", "give queries about several videos: others are negatives")
    dev = None
    if options.dev is not None:
        dev, dev_notes = read_pairs(options.dev, store, documents, encoder_of_index)
        dev, notes = dev.shuffled(options.seed), notes + dev_notes
    training = options.training(TrainOptions(bf16=options.bf16 or options.four_bit))
    base = options.model or kind.BASE
    settings = {
        "recipe": kind.NAME,
        "model": _absolute(base),
        "adapter": _absolute(options.adapter),
        "projection_init": options.projection_init,
        "lora_rank": options.lora_rank,
        "4bit": options.four_bit,
        "queries": hashlib.sha256(queries.read_bytes()).hexdigest(),
    }
    settings |= {name: value for name, value in asdict(training).items() if name not in _CHANGEABLE}
    start_run(options.out, settings, resume=options.resume, result=_WEIGHTS_FILE)
    encoder, model = create_model(options, kind)
    trainer = LateInteractionTrainer(model, training, options.out, data, Collator(encoder, options.threads), dev=dev)
    if training.batch * trainer.args.world_size < 2:
        raise UsageError("a batch of one pair has no negatives", "use a larger --batch")
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    notes.append(f"{len(data)} pairs, {trained:,} numbers to train")
    yield from (TrainNote(note) for note in notes if trainer.is_world_process_zero())
    losses: list[float] = []
    metrics: dict[str, float] = {}
    for event in train(trainer):
        if isinstance(event, TrainStep):
            losses.append(event.loss)
            metrics["loss"] = sum(losses[-_LAST_STEPS:]) / len(losses[-_LAST_STEPS:])
        elif isinstance(event, Evaluated):
            metrics["dev_loss"] = event.loss
        yield event
    if trainer.is_world_process_zero():
        model.save(options.out, base)
        command = ["clamr", "index", "--encoder", kind.NAME, "--model", base, "--adapter", str(options.out)]
        yield TrainNote(f"use it: {shlex.join(command)}")
        yield Trained(options.out, {"steps": trainer.state.global_step, **metrics})
    trainer.accelerator.end_training()


def run_omni(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-Omni, on frames and texts: indexes keep no sound. Raises like :func:`run`."""
    return run(options, ClamrOmniEncoder)


def _absolute(name: str) -> str:
    """The absolute path of a folder, so that it is the same in any working directory; a hub id as it is."""
    folder = Path(os.path.expanduser(name))
    return str(folder.resolve()) if name and folder.is_dir() else name


class IndexedDocuments:
    """The documents of an index by moment; those of the videos used last stay in memory."""

    def __init__(self, store: Store, cached_videos: int = 32) -> None:
        self.files = indexed_videos(store)
        self._store, self._cached_videos = store, cached_videos
        self._by_video = {record.video_id: record for record in self.files}
        self._cache: OrderedDict[str, dict[str, Document]] = OrderedDict()

    def __getitem__(self, moment: str) -> Document:
        """The document of a moment; a UsageError where the frames of its video are no longer stored."""
        video = moment.partition("#")[0]
        if video not in self._cache:
            record = self._by_video[video]
            try:
                documents = documents_of(self._store, record)[1]
            except MediaError as error:
                raise UsageError(f"{record.path}: {error.what}", error.hint) from error
            self._cache[video] = {document.id: document for document in documents}
            if len(self._cache) > self._cached_videos:
                self._cache.popitem(last=False)
        self._cache.move_to_end(video)
        return self._cache[video][moment]


class Pairs(Dataset[tuple[Pair, Document]]):
    """Pairs with their documents, as a data set."""

    def __init__(self, pairs: Sequence[Pair], documents: IndexedDocuments) -> None:
        self.pairs = tuple(pairs)
        self._documents = documents

    def shuffled(self, seed: int) -> Pairs:
        """The same pairs in another order.

        In most files the queries of one video are next to each other. In that order, the batches of an evaluation have
        few other videos, and a loss without negatives has no meaning.
        """
        return Pairs(random.Random(seed).sample(self.pairs, len(self.pairs)), self._documents)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Pair, Document]:
        return self.pairs[index], self._documents[self.pairs[index].moment]


def best_moment(
    store: Store, encoder: Encoder, query: LabelledQuery, video: str, moments: Sequence[MomentRecord]
) -> str:
    """The id of the moment of a video that answers a query best, of these moments."""
    filters = Filters(videos=(video,))
    candidates = {moment.moment_id for moment in moments}
    for modalities in ((query.modality,) if query.modality else (), ()):
        options = SearchOptions(modalities=modalities, limit=len(moments), moments=True, filters=filters)
        for hit in search(store, encoder, query.text, options):
            if hit.moment_id in candidates:
                return hit.moment_id
    return moments[0].moment_id


def index_encoder(store: Store, *, cache: Path, device: str, threads: int) -> Encoder:
    """An encoder that the index has vectors of, the lightest if there are several.

    Raises:
        UsageError: it has no vectors.
    """
    order = list(encoders.TABLE)
    names = [use.info.name for use in store.encoders()]
    if not names:
        raise UsageError("the index has no vectors", "finish indexing first: clamr index DIR")
    name = min(names, key=lambda name: (order.index(name.partition(":")[0]), name))
    return encoders.create(name, cache=cache, device=device, threads=threads, **store.encoder_settings(name))


def read_pairs(
    path: Path, store: Store, documents: IndexedDocuments, encoder: Callable[[], Encoder]
) -> tuple[Pairs, list[str]]:
    """The pairs of a file of labelled queries, in its order, and a sentence on each kind of queries left out.

    ``encoder`` makes one to search with; it is called where videos have several moments to choose from.

    Raises:
        UsageError: the file cannot be read, or no query of it has an answer in the index.
    """
    try:
        queries = read_queries(path)
    except UsageError as error:
        if "--format" in error.hint:  # clamr train has no such option
            raise UsageError(error.what, "give labelled queries as clamr synth writes them") from error
        raise
    video_of, unknown = resolve([name for query in queries for name in query.relevant], documents.files)
    video_numbers = {record.video_id: number for number, record in enumerate(documents.files)}
    # Moments without any content have nothing to encode.
    moments: dict[str, list[MomentRecord]] = {video: [] for video in video_of.values()}
    for moment in store.moments(sorted(moments)) if moments else ():
        if moment.frame_times or moment.speech or moment.ocr or moment.metadata:
            moments[moment.video_id].append(moment)
    moment_numbers: dict[str, int] = {}
    pairs: list[Pair] = []
    for query in queries:
        videos = sorted({video_of[name] for name in query.relevant if name in video_of})
        modality = NO_MODALITY if query.modality is None else MODALITY_IDS[query.modality]
        answers = tuple(video_numbers[video] for video in videos)
        for video in videos:
            if moments[video]:
                best = moments[video][0].moment_id
                if len(moments[video]) > 1:
                    best = best_moment(store, encoder(), query, video, moments[video])
                number = moment_numbers.setdefault(best, len(moment_numbers))
                pairs.append(Pair(query.text, modality, best, video_numbers[video], number, answers))
    if not pairs:
        raise UsageError(f"no query of {path.name} has an answer in the index", "index its videos first: clamr index")
    notes = []
    if unknown:
        count, first = len(unknown), unknown[0]
        notes.append(f"{path.name}: {count} answers are not in the index and left out, the first is {first}")
    if unanswered := sum(not query.relevant for query in queries):
        notes.append(f"{path.name}: {unanswered} queries without an answer are left out")
    if empty := sum(not contents for contents in moments.values()):
        notes.append(f"{path.name}: {empty} videos without any content are left out")
    return Pairs(pairs, documents), notes


def create_model(options: RecipeOptions, kind: type[ClamrEncoder]) -> tuple[ClamrEncoder, TrainableEncoder]:
    """The base model as an encoder without an adapter, and the model to train that shares its weights.

    The starting adapter is a folder, a hub id, or the published one that ``clamr models`` installed.
    """
    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        # Of several processes, each uses the GPU of its own number.
        torch.cuda.set_device(torch.distributed.get_node_local_rank(fallback_rank=0))
    settings: dict[str, object] = {"model": options.model or kind.BASE, "adapter": NO_ADAPTER}
    settings["dtype"] = "bfloat16" if options.bf16 or options.four_bit else "float32"
    settings["quantize"] = "4bit" if options.four_bit else "none"
    if options.projection_init:
        settings["projection_init"] = options.projection_init
    encoder = kind.create(cache=options.cache, device=options.device, threads=options.threads, **settings)
    start = None
    if options.adapter and options.adapter != NO_ADAPTER:
        files = kind.find("adapter", options.adapter, "", options.cache)
        start = load_adapter(files, linear_shapes(encoder.backbone.model, encoder.backbone.weight.shape[1]))
    # The weights of a fresh adapter are random.
    torch.manual_seed(options.seed)
    rank = options.lora_rank or LoraOptions().rank
    model = TrainableEncoder(encoder.backbone, LoraOptions(rank, rank), start)
    if options.checkpointing:
        model.enable_checkpointing()
    return encoder, model


class Collator:
    """Builds batches from examples with the prompts of an encoder; ``threads`` decode images, 0 for a default."""

    def __init__(self, encoder: ClamrEncoder, threads: int = 0) -> None:
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(threads or min(MAX_THREADS, os.cpu_count() or 1), "images")

    def __call__(self, examples: Sequence[tuple[Pair, Document]]) -> Batch:
        """One batch; a document of several examples is in it once."""
        by_moment = {pair.moment: (pair, document) for pair, document in examples}
        positions = {moment: position for position, moment in enumerate(by_moment)}
        documents = [self._encoder.prepare(document) for _, document in by_moment.values()]
        queries = [self._encoder.prepare_query(pair.query) for pair, _ in examples]
        answers = [torch.tensor(pair.answers) for pair, _ in examples]
        return {
            "inputs": {"documents": list(self._pool.map(EncoderInput.decoded, documents)), "queries": queries},
            "targets": torch.tensor([positions[pair.moment] for pair, _ in examples]),
            "query_modalities": torch.tensor([pair.modality for pair, _ in examples]),
            "document_keys": torch.tensor([pair.video for pair, _ in by_moment.values()]),
            "document_ids": torch.tensor([pair.document for pair, _ in by_moment.values()]),
            "answers": pad_sequence(answers, batch_first=True, padding_value=-1),
        }


class TrainableEncoder(nn.Module):
    """A backbone whose language model and projection have adapters from peft; everything else is frozen.

    Module names are those of the published checkpoints (``model.layers...``, ``custom_text_proj``), so that the
    published target pattern fits and the encoder reads a saved adapter by name. The projection's base is saved with the
    adapter; the published one lacks it.

    The backbone is loaded without an adapter. The projection's base, rank and alpha are those of the starting adapter
    if there is one.

    Raises:
        ModelError: the starting adapter changes other layers than are trained.
    """

    def __init__(self, backbone: Backbone, lora: LoraOptions, start: Adapter | None = None) -> None:
        super().__init__()
        self._backbone = backbone
        self.model = backbone.model.language_model
        self.visual = backbone.model.visual
        if hasattr(backbone.model, "audio_tower"):
            self.audio_tower = backbone.model.audio_tower
        weight, bias = backbone.weight, backbone.bias
        if start is not None:
            weight = weight if start.projection_weight is None else start.projection_weight
            bias = bias if start.projection_bias is None else start.projection_bias
            rank = next(iter(start.pairs.values()))[0].shape[0]
            lora = LoraOptions(rank, start.scale * rank)
        self.custom_text_proj = nn.Linear(weight.shape[1], DIMENSION, device=backbone.placement.device)
        self.custom_text_proj.load_state_dict({"weight": weight, "bias": bias})
        self.custom_text_proj.requires_grad_(False)
        self.is_loaded_in_4bit = backbone.placement.four_bit
        self.adapter_config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=TARGETS,
            bias="none",
            init_lora_weights="gaussian",
        )
        inject_adapter_in_model(self.adapter_config, self, _NAME)
        for parameter in self.parameters():
            if parameter.requires_grad:
                # Steps of 1e-5 are lost in half precision.
                parameter.data = parameter.data.float()
        if start is None:
            return
        layers = {renamed(name): module for name, module in self.named_modules() if hasattr(module, "lora_A")}
        if other := shorten(layers.keys() ^ start.pairs.keys()):
            what = f"the adapter to start from changes other layers than are trained ({other})"
            raise ModelError(what, "start from a CLaMR adapter, or leave --adapter out")
        for name, layer in layers.items():
            for half, tensor in zip((layer.lora_A, layer.lora_B), start.pairs[name], strict=True):
                half[_NAME].weight.data.copy_(tensor)

    def forward(self, documents: Sequence[EncoderInput], queries: Sequence[EncoderInput]) -> Encoded:
        """Unit vectors of documents and queries, their media decoded."""
        hidden = self._backbone.hidden([*documents, *queries])
        with torch.autocast(hidden.device.type, enabled=False):
            vectors = nn.functional.normalize(self.custom_text_proj(hidden.float()), dim=-1)
        lengths = [len(item) for item in (*documents, *queries)]
        parts = torch.split(vectors, lengths)
        padded, masks = [], []
        for rows in (slice(len(documents)), slice(len(documents), None)):
            padded.append(pad_sequence(list(parts[rows]), batch_first=True))
            counts = torch.tensor(lengths[rows], device=hidden.device)
            masks.append(torch.arange(padded[-1].shape[1], device=hidden.device) < counts[:, None])
        ids = [torch.from_numpy(item.modality_ids.astype("int64")) for item in documents]
        modality_ids = pad_sequence(ids, batch_first=True).to(hidden.device)
        return Encoded(padded[1], masks[1], padded[0], masks[0], modality_ids)

    def enable_checkpointing(self) -> None:
        """Compute activations inside the layers of the language model again on the backward pass, to save memory."""
        # The older name goes with version 6 of transformers.
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next(method for name in names if (method := getattr(self.model, name, None)))
        enable({"use_reentrant": False})

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter in the published layout, with the projection's base; ``base`` is the base model's name."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            _PREFIX + name.replace(f".{_NAME}.", "."): value.detach().float().cpu().contiguous()
            for name, value in self.state_dict().items()
            if "lora_" in name or name.startswith(f"{PROJECTION}.base_layer.")
        }
        self.adapter_config.base_model_name_or_path = base
        self.adapter_config.save_pretrained(str(folder))
        # Written last and renamed: a folder that has this file is complete.
        temporary = folder / f"{_WEIGHTS_FILE}.new"
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.replace(folder / _WEIGHTS_FILE)
