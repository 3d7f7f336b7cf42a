"""Chosen frames as a table for people, and as records for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.text import Text

from clamr_cli.render.console import text
from clamr_cli.render.hits import MODALITY_STYLES, clock
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import Cell, evidence_record, matched, score, seconds
from clamr_cli.text import escape_json, shorten
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from clamr_cli.frames import Choice, FrameHit, Prepared
    from clamr_cli.types import Segment

COLUMNS: Final = ("rank", "score", "time", "start", "end", "at", "modality", "words", "speech", "ocr", "file", "clip")
"""Columns of the tab-separated form, in order."""

_LONGEST_CELL: Final = 120

Files = dict[str, str]
"""What was written of a frame: ``file`` and ``clip``, names in the folder of the export."""


def record(hit: FrameHit, files: Mapping[str, str]) -> dict[str, object]:
    """A frame as a JSON object."""
    return {
        "rank": hit.rank,
        "time": seconds(hit.time),
        "start": seconds(hit.span.start),
        "end": seconds(hit.span.end),
        "at": seconds(hit.at),
        "score": score(hit.score),
        "modality": hit.modality,
        "modalities": {name: score(value) for name, value in hit.modalities.items()},
        "words": matched(hit.evidence),
        "evidence": [evidence_record(evidence) for evidence in hit.evidence],
        "speech": [_line(segment) for segment in hit.speech],
        "ocr": [_line(segment) for segment in hit.ocr],
        **files,
    }


def _line(segment: Segment) -> dict[str, object]:
    span = segment.span
    return {"start": seconds(span.start), "end": seconds(span.end), "text": segment.text, "source": segment.source}


def listing(
    prepared: Prepared,
    question: str,
    choice: Choice,
    hits: Sequence[FrameHit],
    files: Mapping[int, Files],
    way: Mapping[str, object],
) -> bytes:
    """The content of ``frames.json``: what was asked of which video, how it was written, and the frames, best first."""
    content = {
        "format": "clamr-frames",
        "version": 1,
        "video_id": prepared.target.video_id,
        "path": prepared.target.path,
        "title": prepared.fields.title,
        "duration": seconds(prepared.media.duration),
        "question": question,
        "select": choice.select,
        "k": choice.k,
        "modalities": list(choice.modalities),
        "encoder": prepared.encoder.name,
        "candidates": len(prepared.candidates),
        **way,
        "frames": [record(hit, files.get(hit.number, {})) for hit in hits],
    }
    return escape_json(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def row(hit: FrameHit, files: Mapping[str, str]) -> tuple[Cell, ...]:
    """A frame as the fields of :data:`COLUMNS`."""
    return (
        hit.rank,
        f"{hit.score:.4f}",
        f"{hit.time:.3f}",
        f"{hit.span.start:.3f}",
        f"{hit.span.end:.3f}",
        f"{hit.at:.3f}",
        hit.modality,
        " ".join(matched(hit.evidence)),
        _joined(hit.speech),
        _joined(hit.ocr),
        files.get("file", ""),
        files.get("clip", ""),
    )


def _joined(segments: Sequence[Segment]) -> str:
    return " ".join(" ".join(segment.text.split()) for segment in segments)


def table(hits: Sequence[FrameHit]) -> Table:
    """Rank, score, time and stretch, winning modality, what matched, and the words around."""
    drawn = empty_table()
    drawn.add_column("#", justify="right", style="dim", no_wrap=True)
    drawn.add_column("score", justify="right", no_wrap=True)
    drawn.add_column("frame", no_wrap=True)
    drawn.add_column("by", no_wrap=True)
    drawn.add_column("matched", overflow="fold", ratio=3)
    drawn.add_column("said and written around", overflow="fold", ratio=4)
    for hit in hits:
        drawn.add_row(
            str(hit.rank),
            f"{hit.score:.2f}",
            Text.assemble(format_time(hit.time), "\n", (clock(hit.span), "dim")),
            text(hit.modality or "-", MODALITY_STYLES.get(hit.modality or "", "")),
            text(shorten(" · ".join(matched(hit.evidence)), _LONGEST_CELL)),
            _words(hit),
        )
    return drawn


def _words(hit: FrameHit) -> Text:
    said = text(shorten(_joined(hit.speech), _LONGEST_CELL), MODALITY_STYLES["speech"] if hit.speech else "")
    seen = text(shorten(_joined(hit.ocr), _LONGEST_CELL), MODALITY_STYLES["ocr"] if hit.ocr else "")
    return Text("\n").join(part for part in (said, seen) if part.plain)
