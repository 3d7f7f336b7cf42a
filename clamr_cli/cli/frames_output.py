"""Chosen frames as a table for people, and as records for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.text import Text

from clamr_cli.cli.commands.search import evidence_record, matched_texts
from clamr_cli.cli.output import STYLES, as_span, empty_table, rounded, safe
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
        "time": rounded(3)(hit.time),
        "start": rounded(3)(hit.span.start),
        "end": rounded(3)(hit.span.end),
        "at": rounded(3)(hit.at),
        "score": rounded(4)(hit.score),
        "modality": hit.modality,
        "modalities": {name: rounded(4)(value) for name, value in hit.modalities.items()},
        "words": matched_texts(hit.evidence),
        "evidence": [evidence_record(evidence) for evidence in hit.evidence],
        "speech": [_line(segment) for segment in hit.speech],
        "ocr": [_line(segment) for segment in hit.ocr],
        **files,
    }


def _line(segment: Segment) -> dict[str, object]:
    span = segment.span
    return {
        "start": rounded(3)(span.start),
        "end": rounded(3)(span.end),
        "text": segment.text,
        "source": segment.source,
    }


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
        "duration": rounded(3)(prepared.media.duration),
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


def row(hit: FrameHit, files: Mapping[str, str]) -> tuple[object, ...]:
    """A frame as the fields of :data:`COLUMNS`."""
    return (
        hit.rank,
        f"{hit.score:.4f}",
        f"{hit.time:.3f}",
        f"{hit.span.start:.3f}",
        f"{hit.span.end:.3f}",
        f"{hit.at:.3f}",
        hit.modality,
        " ".join(matched_texts(hit.evidence)),
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
            Text.assemble(format_time(hit.time), "\n", (as_span(hit.span), "dim")),
            safe(hit.modality or "-", STYLES.get(hit.modality or "", "")),
            safe(shorten(" · ".join(matched_texts(hit.evidence)), _LONGEST_CELL)),
            _words(hit),
        )
    return drawn


def _words(hit: FrameHit) -> Text:
    said = safe(shorten(_joined(hit.speech), _LONGEST_CELL), STYLES["speech"] if hit.speech else "")
    seen = safe(shorten(_joined(hit.ocr), _LONGEST_CELL), STYLES["ocr"] if hit.ocr else "")
    return Text("\n").join(part for part in (said, seen) if part.plain)
