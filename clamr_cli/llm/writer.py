"""The seam between what is asked and who answers: prompts, the Protocol of who writes answers, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from clamr_cli.errors import EXIT_PARTIAL, ClamrError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame in a prompt: its JPEG bytes."""

    jpeg: bytes = field(repr=False)


Part = str | Picture


def characters(text: str) -> str:
    """Text that can be written as UTF-8: a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a chat: who speaks, and its texts and pictures in order.

    Texts may come from arguments and file names that are no UTF-8; what of them is no character is replaced.
    """

    role: Literal["system", "user"]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        parts = tuple(characters(part) if isinstance(part, str) else part for part in self.parts)
        object.__setattr__(self, "parts", parts)

    @property
    def text(self) -> str:
        """Its texts, a line break between."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its pictures."""
        return tuple(part for part in self.parts if isinstance(part, Picture))


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a writer.

    Attributes:
        messages: the chat so far, the system's message first.
        seed: of the answer's sampling, below 2**31.
        temperature: 0 takes the most probable word each time.
    """

    messages: tuple[Message, ...]
    seed: int
    temperature: float = 0.0

    @property
    def pictures(self) -> int:
        """How many pictures it shows."""
        return sum(len(message.pictures) for message in self.messages)


class AnswerError(ClamrError):
    """A prompt got no usable answer; it is recorded and the run goes on."""

    exit_code: ClassVar[int] = EXIT_PARTIAL


class PicturesRefused(AnswerError):
    """The model does not look at pictures."""


class PicturesTooMuch(AnswerError):
    """The pictures are too many or too large for whoever answers; the same prompt with less of them may do.

    Args:
        what: what happened.
        hint: what to do about it.
        most: how many pictures would be taken, where that was said.
    """

    def __init__(self, what: str, hint: str = "", most: int | None = None) -> None:
        super().__init__(what, hint)
        self.most = most

    def __reduce__(self) -> tuple[type[PicturesTooMuch], tuple[str, str, int | None]]:  # type: ignore[override]
        return type(self), (self.what, self.hint, self.most)


class Writer(Protocol):
    """Answers prompts. Where ``workers`` is above 1, :meth:`write` may be called from as many threads at once."""

    @property
    def name(self) -> str:
        """The model, as it is written beside each query."""
        ...

    @property
    def sees(self) -> bool | None:
        """Whether it takes pictures; None while nobody knows."""
        ...

    @property
    def workers(self) -> int:
        """How many prompts it can work on at once."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of it; grows during a run."""
        ...

    def write(self, prompt: Prompt) -> str:
        """The answer, as the model gave it, never empty.

        Raises:
            AnswerError: there is none; the next prompt may have one.
            ModelError: there will be none to any prompt.
        """
        ...

    def close(self) -> None:
        """Stop waiting for answers and give up what is held; may be called from another thread."""
        ...
