"""The frames of one long video that answer a question: prepared densely, ranked by MaxSim, chosen without repetition.

``locate`` a video, ``prepare`` it (the last item that it yields is the prepared video), then ``find`` frames in it for
as many questions as there are; ``pictures`` gives them as JPEG.
"""

from clamr_cli.frames.pictures import Picture, pictures
from clamr_cli.frames.prepare import prepare
from clamr_cli.frames.ranking import Ranking, describe, find, rank, uniform
from clamr_cli.frames.stored import stills
from clamr_cli.frames.target import locate
from clamr_cli.frames.values import Candidate, Choice, DenseOptions, FrameHit, Prepared, Strategy, Target, Texts

__all__ = [
    "Candidate",
    "Choice",
    "DenseOptions",
    "FrameHit",
    "Picture",
    "Prepared",
    "Ranking",
    "Strategy",
    "Target",
    "Texts",
    "describe",
    "find",
    "locate",
    "pictures",
    "prepare",
    "rank",
    "stills",
    "uniform",
]
