"""An answer about a video, as people read it and as a record for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clamr_cli.ask import LETTERS
from clamr_cli.cli.output import json_line, rounded
from clamr_cli.text import command_line, escape_terminal
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clamr_cli.ask import Answer, Citation, Question
    from clamr_cli.frames import FrameHit


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and what it is about.

    Attributes:
        answer: what the model made of the question.
        question: what was asked.
        video_id, path: of the video; the path is empty where no file is at hand.
        opened: what ``clamr open`` finds the video by.
        model: who answered.
        hits: the frames that were chosen, best first.
        notes: what the writer had to say.
    """

    answer: Answer
    question: Question
    video_id: str
    path: str
    opened: str
    model: str
    hits: tuple[FrameHit, ...]
    notes: tuple[str, ...] = ()


def lines(told: Told) -> Iterator[bytes]:
    """The choice where there were some, the answer, and a command for each time that it cites."""
    answer, choices = told.answer, told.question.choices
    if answer.choice is not None:
        yield _line(f"{LETTERS[answer.choice]}. {choices[answer.choice]}")
    yield from map(_line, answer.text.split("\n"))
    shown = [citation for citation in answer.citations if citation.source is not None]
    if shown:
        yield _line("")
    yield from (_line(opening(told, citation)) for citation in shown)


def opening(told: Told, citation: Citation) -> str:
    """The command that opens the video at a cited time."""
    return command_line(["clamr", "open", f"{told.opened}@{format_time(citation.start)}"])


def answer_line(told: Told) -> bytes:
    """All of it as one JSON object."""
    answer, question = told.answer, told.question
    return json_line(
        {
            "video_id": told.video_id,
            "path": told.path,
            "question": question.text,
            "choices": list(question.choices),
            "answer": answer.text,
            "choice": None if answer.choice is None else LETTERS[answer.choice],
            "citations": [_citation(told, citation) for citation in answer.citations],
            "model": told.model,
            "frames": _frames(told),
            "lines": [
                {
                    "start": rounded(3)(line.span.start),
                    "end": rounded(3)(line.span.end),
                    "kind": line.kind,
                    "text": line.text,
                }
                for line in answer.material.lines
            ],
            "notes": [*told.notes, *answer.notes],
        }
    )


def _frames(told: Told) -> list[dict[str, object]]:
    """The frames that the model was shown in the end, in the order of time."""
    hits = sorted(told.hits[: len(told.answer.material.frames)], key=lambda hit: hit.time)
    return [{"time": rounded(3)(hit.time), "score": rounded(4)(hit.score), "modality": hit.modality} for hit in hits]


def _citation(told: Told, citation: Citation) -> dict[str, object]:
    return {
        "text": citation.text,
        "start": rounded(3)(citation.start),
        "end": rounded(3)(citation.end),
        "source": citation.source,
        "open": None if citation.source is None else opening(told, citation),
    }


def _line(text: str) -> bytes:
    return f"{escape_terminal(text)}\n".encode()
