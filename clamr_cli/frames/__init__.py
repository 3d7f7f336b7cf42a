"""The frames of one long video that answer a question: prepared densely, ranked by MaxSim, chosen without repetition.

``locate`` a video, ``prepare`` it (the last item that it yields is the prepared video), then ``find`` frames in it for
as many questions as there are; ``stills`` gives their stored JPEGs, ``full_size`` those of the file.
"""

from clamr_cli.frames.export import full_size
from clamr_cli.frames.prepare import prepare
from clamr_cli.frames.ranking import Ranking, describe, find, rank, uniform
from clamr_cli.frames.stored import stills
from clamr_cli.frames.target import locate
from clamr_cli.frames.values import Choice, DenseOptions, FrameHit, Prepared, Target, Texts

__all__ = [
    "Choice",
    "DenseOptions",
    "FrameHit",
    "Prepared",
    "Ranking",
    "Target",
    "Texts",
    "describe",
    "find",
    "full_size",
    "locate",
    "prepare",
    "rank",
    "stills",
    "uniform",
]
