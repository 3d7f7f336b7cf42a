"""Hits for tests, one of them with everything hostile in it."""

import os

from clamr_cli.types import Evidence, Hit, Modality, Span

PLAIN = Hit(
    rank=1,
    video_id="3f9a1c2b",
    moment_id="3f9a1c2b#0",
    path="/videos/lagos.mp4",
    title="Protest in Lagos",
    score=2.71828182,
    span=Span(723.0, 761.0),
    at=741.25,
    modality=Modality.SPEECH,
    modalities={Modality.SPEECH: 2.7, Modality.VIDEO: 0.123456},
    evidence=(
        Evidence("protest", Modality.SPEECH, Span(740.0, 741.5), "protests", 0.98765),
        Evidence("lagos", Modality.VIDEO, Span(723.0, 730.0), "", 0.5),
    ),
)
HOSTILE = Hit(
    rank=2,
    video_id="77aa00ff",
    moment_id="77aa00ff#3",
    path=os.fsdecode(b"/videos/caf\xe9\n[red]\x1b]8;;evil\x07.mp4"),
    title="[bold]x\x1b[2J\u202egnp.exe\ttab",
    score=1.0,
    span=Span(0.0, 60.0),
    at=0.0,
    modality=None,
    modalities={},
    evidence=(Evidence("word", Modality.OCR, Span(1.0, 2.0), "\x1b[31mline\nbreak", 0.25),),
)
