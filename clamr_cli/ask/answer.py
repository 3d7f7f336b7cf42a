"""A question put to a model: what it is shown shrinks as far as it must, and its answer is checked.

A time that an answer cites and that nothing shown has is invented.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from clamr_cli.ask.prompt import LETTERS, Material, Question, longest_side, prompt_for, smaller
from clamr_cli.llm import AnswerError, ChatModel, ImagesRefused, ImagesTooLarge, readable
from clamr_cli.text import plain

Source: TypeAlias = Literal["frame", "said", "written"]

BLIND: Final = "the model takes no pictures ({}): it answers from what is said and written alone"

SMALLEST: Final = 112
"""Pixels of the longer side of a frame below which little can be recognised."""

TOLERANCE: Final = 1.0
"""Seconds by which a cited time may miss what it cites: times are shown without fractions."""

_TIME: Final = r"(?:\d{1,3}:)?\d{1,3}:[0-5]\d(?:\.\d{1,3})?"
_RANGE: Final = re.compile(rf"(?<![\d:.])({_TIME})(?:\s*(?:-|–|—|to)\s*({_TIME}))?(?![\d:])", re.ASCII)
_BRACKETS: Final = re.compile(r"[\[【]([^\[\]【】\n]{1,200})[\]】]")

_NO_ARTICLE: Final = r"(?![A-Za-z0-9'’])(?!(?<=[AI])\s+(?!(?:because|since|as|due)\b)[a-z])"
"""Pattern behind a letter that stands for a choice, not the rest of a word, nor of a sentence with the word "A"."""

# Bounded: an answer may be made of nothing but stars and blanks.
_LETTER: Final = rf"[\s*_`:=\"'(\[{{]{{0,20}}(?i:(?:option|choice)\s{{1,5}})?[*_`\"'(\[{{]{{0,5}}([A-Z]){_NO_ARTICLE}"
_IS: Final = r"[*_`]{0,5}(?i:\s{1,5}(?:is|would be|must be|should be))?"
_ANSWER: Final = re.compile(rf"(?i:\banswer\b){_IS}{_LETTER}")
_BEGINS_WITH_ANSWER: Final = re.compile(rf"[\W_]*(?i:the\s+)?(?i:(?:right|correct|best)\s+)?{_ANSWER.pattern}")
_OPTION: Final = re.compile(rf"(?i:\b(?:choice|option)\b){_IS}{_LETTER}")
_BOXED: Final = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Z])\b")
_FIRST: Final = re.compile(r"[\s*_`\"'(\[{]*([A-Za-z])(?:[\s*_`\"'.)\]}]*$|[*_`\"']*[).\]:,}])", re.MULTILINE)
_ALONE: Final = re.compile(rf"(?<![A-Za-z0-9'’])([A-Z]){_NO_ARTICLE}")


@dataclass(frozen=True, slots=True)
class Citation:
    """A time that an answer cites.

    Attributes:
        text: as the answer has it.
        start: seconds; ``end`` differs from it where a stretch is cited.
        end: seconds.
        source: what of the material has this time; None where nothing has: the time is invented.
    """

    text: str
    start: float
    end: float
    source: Source | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a question.

    Attributes:
        said: as it came, reasoning included.
        text: of it what is to be read, invented times marked with a question mark.
        choice: the choice it took, from 0; None where it took none, or there were none.
        citations: the times it cites.
        material: what the model was shown in the end.
        notes: what the user should know of how it came to be.
    """

    said: str
    text: str
    choice: int | None
    citations: tuple[Citation, ...]
    material: Material
    notes: tuple[str, ...] = ()

    @property
    def invented(self) -> tuple[Citation, ...]:
        """The times it cites that nothing shown has."""
        return tuple(citation for citation in self.citations if citation.source is None)


def ask(model: ChatModel, question: Question, material: Material, *, seed: int = 0, temperature: float = 0.0) -> Answer:
    """Put a question.

    Where the frames are too large, smaller ones are shown, down to :data:`SMALLEST`, then fewer; where they are too
    many, fewer; where the model takes none, none. ``notes`` of the answer say so.

    Raises:
        AnswerError: there is no answer, or nothing is left to show.
        ModelError: the model cannot answer at all.
    """
    if material.empty:
        raise AnswerError("there is nothing to answer from", "the video has neither picture nor words that were found")
    shown = material
    notes: tuple[str, ...] = ()
    while True:
        try:
            said = model.answer(prompt_for(question, shown, seed=seed, temperature=temperature))
            break
        except ImagesTooLarge as error:
            shown = _less(shown, error)
            size = f"{len(shown.frames)} of up to {longest_side(shown.frames)} pixels"
            notes = (f"the pictures were too much ({error.what}): asked again with {size}",)
        except ImagesRefused as error:
            if not material.lines:
                raise ImagesRefused(f"{error.what}; there are no words to answer from", error.hint) from error
            shown, notes = shown.best(0), (BLIND.format(error.what),)
    text = readable(said)
    if not text:
        raise AnswerError("the answer holds nothing that can be read")
    cited = citations(text, shown)
    choice = choice_of(text, question.choices) if question.choices else None
    return Answer(said, marked(text, cited), choice, cited, shown, notes)


def _less(material: Material, error: ImagesTooLarge) -> Material:
    """Fewer or smaller frames; the error itself where they cannot be less."""
    count, side = len(material.frames), longest_side(material.frames)
    if error.most is not None and error.most < count:
        less = material.best(error.most)
    elif side > SMALLEST:
        less = replace(material, frames=smaller(material.frames, max(SMALLEST, side * 2 // 3)))
    else:
        less = material.best(count // 2)
    if not less.frames:
        raise error
    return less


def choice_of(answer: str, choices: Sequence[str]) -> int | None:
    """The choice that an answer takes, from 0; None where it takes none or cannot be told.

    Looked for, in this order: a boxed letter; the letter of an "answer" that all begins with; the last letter after
    "answer"; a letter that all begins with or consists of; the last one after "option" or "choice"; the one choice
    whose words are there; the one letter that stands alone. So what is said of the other choices misleads nobody.

    Args:
        answer: as :func:`clamr_cli.llm.readable` gives it.
        choices: what could be chosen.
    """
    letters = LETTERS[: len(choices)]
    named = _BOXED.findall(answer)[-1:]
    named += [match[1] for match in [_BEGINS_WITH_ANSWER.match(answer)] if match]
    named += _ANSWER.findall(answer)[-1:]
    named += [match[1].upper() for match in [_FIRST.match(answer)] if match]
    named += _OPTION.findall(answer)[-1:]
    for letter in named:
        if letter in letters:
            return letters.index(letter)
    text = f" {_words(answer)} "
    words = {letter: f" {_words(choice)} " for letter, choice in zip(LETTERS, choices, strict=False)}
    present = {letter: phrase for letter, phrase in words.items() if phrase.strip() and phrase in text}
    # Of choices inside another one, only the longer counts.
    whole = {
        letter
        for letter, phrase in present.items()
        if not any(phrase in other for other in present.values() if other != phrase)
    }
    left = whole or {letter for letter in _ALONE.findall(answer) if letter in letters}
    return letters.index(left.pop()) if len(left) == 1 else None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", plain(text)))


def citations(answer: str, material: Material) -> tuple[Citation, ...]:
    """Citations of an answer in square brackets, in its order, each once.

    A stretch counts as shown where something was shown at its start and at its end.
    """
    cited: dict[str, Citation] = {}
    for bracket in _BRACKETS.finditer(answer):
        for match in _RANGE.finditer(bracket[1]):
            start = _seconds(match[1])
            end = _seconds(match[2]) if match[2] else start
            first, last = _source(start, material), _source(end, material)
            cited.setdefault(match[0], Citation(match[0], start, end, first if last else None))
    return tuple(cited.values())


def marked(answer: str, cited: Sequence[Citation]) -> str:
    """The answer with a question mark after each time that is invented."""
    invented = {citation.text for citation in cited if citation.source is None}

    def mark(bracket: re.Match[str]) -> str:
        inside = _RANGE.sub(lambda match: f"{match[0]}?" if match[0] in invented else match[0], bracket[1])
        return f"{bracket[0][0]}{inside}{bracket[0][-1]}"

    return _BRACKETS.sub(mark, answer) if invented else answer


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def _source(time: float, material: Material) -> Source | None:
    """Everything shown at a time, frames before lines."""
    for frame in material.frames:
        if min(abs(math.floor(frame.time) - time), abs(frame.time - time)) < TOLERANCE:
            return "frame"
    for line in material.lines:
        if line.span.start - TOLERANCE < time < line.span.end + TOLERANCE:
            return line.kind
    return None
