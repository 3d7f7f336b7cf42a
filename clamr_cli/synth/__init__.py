"""Synthetic queries, each aimed at one modality: what MultiVENT 2.0++ is made of, from the videos of any index.

A language model is shown one modality of a video (its title for a base query) and ten example queries of that kind,
and writes one query that would help someone find the video (CLaMR, section on MultiVENT 2.0++).
"""

from __future__ import annotations

from clamr_cli.synth.events import GaveUp, Judged, Outcome, Passed, Remark, SynthEvent
from clamr_cli.synth.examples import Examples
from clamr_cli.synth.journal import Journal
from clamr_cli.synth.plan import TARGETS, Job, Target, Wanted, target_name
from clamr_cli.synth.prompts import Asking
from clamr_cli.synth.run import SynthOptions, synthesise

__all__ = [
    "TARGETS",
    "Asking",
    "Examples",
    "GaveUp",
    "Job",
    "Journal",
    "Judged",
    "Outcome",
    "Passed",
    "Remark",
    "SynthEvent",
    "SynthOptions",
    "Target",
    "Wanted",
    "synthesise",
    "target_name",
]
