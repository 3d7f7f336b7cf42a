"""The frames of one long video that answer a question: prepared densely, ranked by MaxSim, chosen without repetition.

``locate`` a video, ``prepare`` it (the last item that it yields is the prepared video), then ``find`` frames in it for
as many questions as there are; ``stills`` gives their stored JPEGs, ``full_size`` those of the file. Where an event
loop runs, ``prepare_async`` takes the place of ``prepare``.
"""

from clamr_cli.frames.export import full_size
from clamr_cli.frames.prepare import load_prepared, locate, prepare, prepare_async, stills
from clamr_cli.frames.rank import Ranking, describe, find, rank, uniform
from clamr_cli.frames.values import DenseOptions, FrameChoice, FrameHit, Prepared, Target, Texts

__all__ = [
    "DenseOptions",
    "FrameChoice",
    "FrameHit",
    "Prepared",
    "Ranking",
    "Target",
    "Texts",
    "describe",
    "find",
    "full_size",
    "load_prepared",
    "locate",
    "prepare",
    "prepare_async",
    "rank",
    "stills",
    "uniform",
]
