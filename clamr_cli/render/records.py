"""Values as plain records for programs: JSON lines, tab-separated lines and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias

from clamr_cli.text import command_line, escape_field, escape_json, escape_terminal
from clamr_cli.types import SHOWN_MODALITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from clamr_cli.events import Event
    from clamr_cli.types import Evidence, Hit

Cell: TypeAlias = str | int | float | None
"""A field of a table for programs."""

APPROXIMATE = "approximate"
"""What stands in that column of hits that are not known to be the best."""

WEAK = "weak"
"""What stands in that column of hits that probably do not answer."""

OFFLINE = "offline"
"""What stands in that column of what cannot be opened now."""

_FORMULA = tuple("=+-@\t\r＝＋－＠")
"""What a cell begins with that spreadsheets compute instead of showing it."""

HIT_COLUMNS = (
    "rank", "score", "video_id", "start", "end", "at", "modality", "title", "path", "words", "approximate",
    "weak", "offline",
)  # fmt: skip
"""Columns of a search's TSV and CSV, in order."""


def json_line(record: Mapping[str, object]) -> bytes:
    """One line of UTF-8 JSON, with its line break."""
    return escape_json(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def tsv_line(cells: Sequence[Cell]) -> bytes:
    """One line of tab-separated UTF-8; tabs, line breaks, backslashes and control characters in fields are escaped."""
    return ("\t".join(escape_field(_text(cell)) for cell in cells) + "\n").encode()


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """CSV with a header, UTF-8; control characters in fields are escaped, so that every record is one line.

    A text that a spreadsheet would take for a formula gets a ' before it, which says there that it is a text.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_spreadsheet_cell(_text(cell)) for cell in row] for row in rows)
    return buffer.getvalue().encode()


def _spreadsheet_cell(cell: str) -> str:
    if cell.startswith(_FORMULA):
        try:
            float(cell)
        except ValueError:
            cell = f"'{cell}"
    return escape_terminal(cell)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def score(value: float) -> float:
    """A score or similarity rounded to four decimals."""
    return round(value, 4)


def seconds(value: float) -> float:
    """A time rounded to milliseconds."""
    return round(value, 3)


def hit_record(hit: Hit) -> dict[str, object]:
    """A hit as the JSON object that ``clamr search --json`` prints."""
    alone = hit.modalities
    return {
        "rank": hit.rank,
        "video_id": hit.video_id,
        "moment_id": hit.moment_id,
        "path": hit.path,
        "title": hit.title,
        "score": score(hit.score),
        "weak": hit.weak,
        "approximate": hit.approximate,
        "offline": hit.offline,
        "start": seconds(hit.span.start),
        "end": seconds(hit.span.end),
        "at": seconds(hit.at),
        "modality": hit.modality,
        "modalities": {name: _rounded(alone.get(name)) for name in SHOWN_MODALITIES},
        "evidence": [evidence_record(evidence) for evidence in hit.evidence],
    }


def partial(coverage: tuple[int, int]) -> dict[str, object]:
    """The fields ``searched`` and ``of`` of a record; empty where all videos can answer."""
    searched, of = coverage
    return {"searched": searched, "of": of} if searched < of else {}


def _rounded(value: float | None) -> float | None:
    return None if value is None else score(value)


def evidence_record(evidence: Evidence) -> dict[str, object]:
    """What matched a query word, as a JSON object."""
    return {
        "query_token": evidence.query_token,
        "modality": evidence.modality,
        "start": seconds(evidence.span.start),
        "end": seconds(evidence.span.end),
        "text": evidence.text,
        "similarity": score(evidence.similarity),
    }


def hit_row(hit: Hit) -> tuple[Cell, ...]:
    """A hit as the fields of :data:`HIT_COLUMNS`; the words that matched are separated by spaces."""
    return (
        hit.rank,
        f"{hit.score:.4f}",
        hit.video_id,
        f"{hit.span.start:.2f}",
        f"{hit.span.end:.2f}",
        f"{hit.at:.2f}",
        hit.modality,
        hit.title,
        hit.path,
        " ".join(matched(hit.evidence)),
        APPROXIMATE if hit.approximate else "",
        WEAK if hit.weak else "",
        OFFLINE if hit.offline else "",
    )


def matched(evidence: Sequence[Evidence]) -> list[str]:
    """The texts that matched, in the order of the query's words, each once; a frame counts by its query word."""
    texts = [found.text.strip() or found.query_token for found in evidence if found.modality is not None]
    return list(dict.fromkeys(text for text in texts if text))


def event_record(event: Event) -> dict[str, object]:
    """An event of an index run as a JSON object; its key ``event`` is the event's name in lower case.

    What grows with the number of files (fields without a repr) is left out.
    """
    record: dict[str, object] = {"event": type(event).__name__.lower()}
    for field in fields(event):
        if not field.repr:
            continue
        value = getattr(event, field.name)
        record[field.name] = round(value, 3) if isinstance(value, float) else value
    return record


def path_lines(paths: Iterable[str], *, null: bool, quoted: bool = False) -> Iterator[bytes]:
    """Paths as the bytes they are, each once, each ended by a line break or a zero byte.

    For a terminal they are ``quoted``, as a shell reads them: a name may hold what a terminal obeys.
    """
    end = b"\0" if null else b"\n"
    for path in dict.fromkeys(paths):
        yield (command_line([path]).encode() if quoted else os.fsencode(path)) + end
