"""What becomes of a text: pieces that people ask with, and the mistakes of recognition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def fragment(chance: random.Random, text: str, least: int, most: int) -> str:
    """Some consecutive words."""
    words = text.split()
    size = min(len(words), chance.randint(least, most))
    start = chance.randint(0, len(words) - size)
    return " ".join(words[start : start + size])


def keywords(chance: random.Random, text: str) -> str:
    """The longest few words in their order, as people type them."""
    words = text.split()
    longest = sorted(range(len(words)), key=lambda place: -len(words[place]))[: chance.randint(2, 4)]
    return " ".join(words[place] for place in sorted(longest))


def misread(chance: random.Random, text: str) -> str:
    """The text with a few wrong letters, as recognition gives it."""
    return "".join(
        chance.choice(_LETTERS) if letter.isalnum() and chance.random() < 0.03 else letter for letter in text
    )


def misheard(chance: random.Random, text: str) -> str:
    """The text as speech recognition may give it: no capitals, no marks, a word missing here and there."""
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    return " ".join(word for word in words if word and chance.random() > 0.06)


def asked(chance: random.Random, text: str, *more: str) -> tuple[str, ...]:
    """Queries for a text: pieces of it, and what else is known to ask for it."""
    return (fragment(chance, text, 2, 7), keywords(chance, text), fragment(chance, text, 2, 4), *more)
