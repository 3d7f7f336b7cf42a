"""A question put to a model: what it is shown shrinks as far as it must, and what it says is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clamr_cli.ask import pictures
from clamr_cli.ask.answers import choice_of
from clamr_cli.ask.citations import Citation, citations, marked
from clamr_cli.ask.prompts import prompt_for
from clamr_cli.llm import AnswerError, ImagesRefused, ImagesTooLarge, readable

if TYPE_CHECKING:
    from clamr_cli.ask.material import Material
    from clamr_cli.ask.prompts import Question
    from clamr_cli.llm import ChatModel

BLIND: Final = "the model takes no pictures ({}): it answers from what is said and written alone"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of a question.

    Attributes:
        said: as it came, thoughts included.
        text: of it what is to be read, invented times marked with a question mark.
        choice: the choice it took, from 0; None where it took none, or there were none.
        citations: the times it cites.
        material: what it was shown in the end.
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

    Where the pictures are too large, smaller ones are shown, down to :data:`pictures.SMALLEST`, then fewer; where they
    are too many, fewer; where the model takes none, none. ``notes`` of the answer say so.

    Raises:
        AnswerError: there is no answer, or nothing is left to show.
        ModelError: the model cannot answer at all.
    """
    if material.empty:
        raise AnswerError("there is nothing to answer from", "the video has neither picture nor words that were found")
    shown, note = material, ""
    while True:
        try:
            said = model.answer(prompt_for(question, shown, seed=seed, temperature=temperature))
        except ImagesTooLarge as trouble:
            shown, note = _less(shown, trouble)
        except ImagesRefused as trouble:
            if not material.lines:
                raise ImagesRefused(f"{trouble.what}; there are no words to answer from", trouble.hint) from trouble
            shown, note = shown.best(0), BLIND.format(trouble.what)
        else:
            return _answer(said, question, shown, note)


def _less(material: Material, trouble: ImagesTooLarge) -> tuple[Material, str]:
    """Less to look at, and how much it is; the trouble itself where it cannot be less: it shrinks at each call."""
    count, side = len(material.shots), pictures.longest_side(material)
    if trouble.most is not None and trouble.most < count:
        less = material.best(trouble.most)
    elif side > pictures.SMALLEST:
        less = pictures.smaller(material, max(pictures.SMALLEST, side * 2 // 3))
    else:
        less = material.best(count // 2)
    if less.empty or not less.shots:
        raise trouble
    told = f"{len(less.shots)} of up to {pictures.longest_side(less)} pixels"
    return less, f"the pictures were too much ({trouble.what}): asked again with {told}"


def _answer(said: str, question: Question, shown: Material, note: str) -> Answer:
    text = readable(said)
    if not text:
        raise AnswerError("the answer holds nothing that can be read")
    cited = citations(text, shown)
    choice = choice_of(text, question.choices) if question.choices else None
    return Answer(said, marked(text, cited), choice, cited, shown, (note,) if note else ())
