"""The choice that an answer takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from clamr_cli.ask.prompts import LETTERS
from clamr_cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_ARTICLE: Final = r"(?![A-Za-z0-9'’])(?!(?<=[AI])\s+(?!(?:because|since|as|due)\b)[a-z])"
"""What follows a letter that is a letter: neither the rest of a word, nor that of a sentence with the word "A"."""

# Bounded: what a model says may be made of nothing but stars and blanks.
_LETTER: Final = rf"[\s*_`:=\"'(\[{{]{{0,20}}(?i:(?:option|choice)\s{{1,5}})?[*_`\"'(\[{{]{{0,5}}([A-Z]){_NO_ARTICLE}"
_IS: Final = r"[*_`]{0,5}(?i:\s{1,5}(?:is|would be|must be|should be))?"
_ANSWER: Final = re.compile(rf"(?i:\banswer\b){_IS}{_LETTER}")
_OPTION: Final = re.compile(rf"(?i:\b(?:choice|option)\b){_IS}{_LETTER}")
_BEGINNING: Final = re.compile(r"[\W_]*(?i:the\s+)?(?i:(?:right|correct|best)\s+)?")
"""What may stand before the word "answer" where an answer begins with it."""

_BOXED: Final = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Z])\b")
_FIRST: Final = re.compile(r"[\s*_`\"'(\[{]*([A-Za-z])(?:[\s*_`\"'.)\]}]*$|[*_`\"']*[).\]:,}])", re.MULTILINE)
_ALONE: Final = re.compile(rf"(?<![A-Za-z0-9'’])([A-Z]){_NO_ARTICLE}")


def choice_of(answer: str, choices: Sequence[str]) -> int | None:
    """Which of the choices an answer takes, from 0; None where it takes none or cannot be told.

    Looked for, in this order: a boxed letter; the letter of an "answer" that all begins with; the last letter after
    "answer"; a letter that all begins with or consists of; the last one after "option" or "choice"; the one choice
    whose words are there; the one letter that stands alone. So what is said of the other choices misleads nobody.

    Args:
        answer: as :func:`clamr_cli.llm.readable` gives it.
        choices: what could be chosen.
    """
    letters = LETTERS[: len(choices)]
    said = [*_found(_BOXED, answer)[-1:], *_begun(_ANSWER, answer), *_found(_ANSWER, answer)[-1:]]
    said += [letter.upper() for letter in _begun(_FIRST, answer)] + _found(_OPTION, answer)[-1:]
    for letter in said:
        if letter in letters:
            return letters.index(letter)
    found = _worded(answer, choices) or {letter for letter in _found(_ALONE, answer) if letter in letters}
    return letters.index(found.pop()) if len(found) == 1 else None


def _begun(pattern: re.Pattern[str], answer: str) -> list[str]:
    """What the pattern finds at the beginning."""
    before = _BEGINNING.match(answer) if pattern is _ANSWER else None
    match = pattern.match(answer, before.end() if before else 0)
    return [match[1]] if match else []


def _found(pattern: re.Pattern[str], answer: str) -> list[str]:
    return [match[1] for match in pattern.finditer(answer)]


def _worded(answer: str, choices: Sequence[str]) -> set[str]:
    """The letters of the choices whose words stand in the answer; of those inside another, only the longer one."""
    text = f" {_words(answer)} "
    words = {letter: f" {_words(choice)} " for letter, choice in zip(LETTERS, choices, strict=False)}
    there = {letter: one for letter, one in words.items() if one.strip() and one in text}
    return {
        letter for letter, one in there.items() if not any(one in other for other in there.values() if other != one)
    }


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", plain(text)))
