"""Examples to what the model reads: prompts and pixels as the encoder makes them, each document once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import torch
from torch.nn.utils.rnn import pad_sequence

from clamr_cli.encoders.clamr import audio, vision
from clamr_cli.encoders.clamr.model import pack
from clamr_cli.train.clamr.model import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.encoders.clamr import ClamrEncoder
    from clamr_cli.encoders.clamr.prompt import ModelInput
    from clamr_cli.train.batch import Batch
    from clamr_cli.train.clamr.pairs import Example

_WORKERS: Final = 8


class Collate:
    """Makes a batch of examples.

    Args:
        encoder: whose prompts are used.
        threads: that decode pictures; 0 for as many as there are processors, eight at most.
    """

    def __init__(self, encoder: ClamrEncoder, threads: int = 0) -> None:
        self._encoder = encoder
        self._factor = encoder.backbone.patch * encoder.backbone.merge
        self._pool = ThreadPoolExecutor(threads or min(_WORKERS, os.cpu_count() or 1), "pictures")

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """One batch; examples of one document share it."""
        documents = {example.pair.moment: example for example in examples}
        places = {moment: place for place, moment in enumerate(documents)}
        works = [self._encoder.prepare(example.document) for example in documents.values()]
        asked = [self._encoder.prepare_query(example.pair.query) for example in examples]
        answers = [torch.tensor(example.pair.answers) for example in examples]
        return {
            "inputs": {"reading": self._reading(works, asked)},
            "targets": torch.tensor([places[example.pair.moment] for example in examples]),
            "query_modalities": torch.tensor([example.pair.modality for example in examples]),
            "document_keys": torch.tensor([example.pair.video for example in documents.values()]),
            "document_ids": torch.tensor([example.pair.document for example in documents.values()]),
            "answers": pad_sequence(answers, batch_first=True, padding_value=-1),
        }

    def _reading(self, works: Sequence[ModelInput], asked: Sequence[ModelInput]) -> Reading:
        pixels = self._pool.map(lambda work: vision.pixels_of(work.images, self._factor), _with_images(works))
        samples = [work.samples for work in works if work.samples is not None]
        labels = [torch.from_numpy(work.prompt.modality_ids.astype("int64")) for work in works]
        return Reading(
            pack([*works, *asked], self._encoder.backbone.rule),
            len(works),
            tuple(pixels),
            tuple(audio.features(one) for one in samples),
            pad_sequence(labels, batch_first=True),
        )


def _with_images(works: Sequence[ModelInput]) -> list[ModelInput]:
    return [work for work in works if work.images]
