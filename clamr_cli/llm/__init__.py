"""Chat models: any OpenAI-compatible endpoint, or a transformers model on this machine; prompts answered in order."""

from __future__ import annotations

import queue
import re
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeVar

from clamr_cli.errors import EXIT_PARTIAL, ClamrError

T = TypeVar("T")
R = TypeVar("R")

LONGEST_ANSWER: Final = 20_000
"""Characters of an answer that are read."""

_AHEAD: Final = 3
"""Items in work or waiting, as a multiple of the workers: a slow item holds up the next ones, not the threads."""

_REASONING_START: Final = re.compile(r"<(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_REASONING_END: Final = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_CHAT_MARK: Final = re.compile(
    r"<\|[^<>|]{0,40}\|>|</?s>|<(?:end|start)_of_turn>|</?(?:answer|material)>", re.IGNORECASE
)
_UNPRINTABLE: Final = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
_JOINERS: Final = "\u200c\u200d"
"""Invisible, but scripts and emoji need them."""


def utf8(text: str) -> str:
    """A text that can be written as UTF-8: a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a model.

    Texts may come from arguments and file names that are not UTF-8; invalid characters are replaced.

    Attributes:
        system: the instructions; empty for none.
        user: the user's message: texts, and pictures as JPEG bytes, in order.
        seed: of the answer's sampling, below 2**31.
        temperature: 0 takes the most probable token each time.
    """

    system: str
    user: tuple[str | bytes, ...] = field(repr=False)
    seed: int
    temperature: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "system", utf8(self.system))
        object.__setattr__(self, "user", tuple(utf8(part) if isinstance(part, str) else part for part in self.user))

    @property
    def text(self) -> str:
        """The texts of the user's message, a line break between."""
        return "\n".join(part for part in self.user if isinstance(part, str))

    @property
    def has_images(self) -> bool:
        return any(isinstance(part, bytes) for part in self.user)

    def describe(self) -> list[dict[str, object]]:
        """The messages as people can read them: pictures as their size in bytes."""
        user = [f"[JPEG, {len(part)} bytes]" if isinstance(part, bytes) else part for part in self.user]
        return [{"role": "system", "content": [self.system]}, {"role": "user", "content": user}]


class AnswerError(ClamrError):
    """A prompt got no usable answer; it is recorded and the run goes on."""

    exit_code: ClassVar[int] = EXIT_PARTIAL


class ImagesRefused(AnswerError):
    """The model does not take pictures."""


class ImagesTooLarge(AnswerError):
    """The pictures are too many or too large; the same prompt with fewer or smaller ones may do.

    ``most`` is how many would be accepted, where the model says so.
    """

    most: int | None = None


class ChatModel(Protocol):
    """Answers prompts. Where ``workers`` is above 1, :meth:`answer` may be called from that many threads at once.

    Attributes:
        name: the model, as results name it.
        supports_images: None while it is not known.
        workers: prompts it can work on at once.
        notes: what the user should know of it; grows during a run.
    """

    name: str
    supports_images: bool | None
    workers: int
    notes: list[str]

    def answer(self, prompt: Prompt) -> str:
        """The answer as the model gave it, never empty.

        Raises:
            AnswerError: this prompt has none; the next one may have.
            ModelError: the model cannot answer at all.
        """
        ...

    def close(self) -> None:
        """Stop waiting for answers and free what is held; may be called from another thread."""
        ...


def without_reasoning(answer: str) -> str:
    """The text after the last block of reasoning, or before the first where nothing follows.

    A chat template may open the block itself, so that only its end is in the answer.
    """
    blocks = _REASONING_END.split(answer)
    after = _REASONING_START.split(blocks[-1], maxsplit=1)[0]
    if len(blocks) == 1 or any(map(str.isalnum, after)):
        return after
    before, *rest = _REASONING_START.split(answer, maxsplit=1)
    return _REASONING_END.split(before)[-1] if rest else ""


def readable(answer: str) -> str:
    """An answer for people, in Unicode's normal form C: no reasoning, chat markup or control characters."""
    lines = []
    for line in _CHAT_MARK.sub(" ", without_reasoning(answer)[:LONGEST_ANSWER]).splitlines():
        characters = unicodedata.normalize("NFC", line)
        printable = (" " if unicodedata.category(c) in _UNPRINTABLE and c not in _JOINERS else c for c in characters)
        lines.append("".join(printable).rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def map_ordered(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[tuple[T, R]]:
    """Yield each item with the function's result, in the order of the items.

    With one worker the calling thread does everything. Items are drawn in the calling thread, only a little ahead. The
    threads are daemons, unlike those of ThreadPoolExecutor: an interrupted run does not wait for work that hangs.

    Raises:
        BaseException: what the function raised, in place of its result.
    """
    if workers <= 1:
        yield from ((item, function(item)) for item in items)
        return
    tasks: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            item, future = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(item))
                except BaseException as error:
                    future.set_exception(error)

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    pending: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            pending.append((item, Future()))
            tasks.put(pending[-1])
            while pending and (len(pending) >= workers * _AHEAD or pending[0][1].done()):
                first, future = pending.popleft()
                yield first, future.result()
        for item, future in pending:
            yield item, future.result()
    finally:
        for _, future in pending:
            future.cancel()
        for _ in range(workers):
            tasks.put(None)
