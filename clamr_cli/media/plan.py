"""Which packets of a video must be decoded so that no stretch stays unseen: pure, one pass, little looked ahead.

Keyframes can be decoded alone, at a hundredth of the cost of all frames. Where they lie close they are enough; where
they lie far apart the frames between them are decoded in sequence, up to the last one that is wanted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

Item = TypeVar("Item")

DENSE: Final = 0.1
"""Seconds between packets below which a frame is on screen too briefly to matter by itself."""

MOST_AHEAD: Final = 256 * 2**20
"""Bytes of packets held while looking ahead; only absurd bit rates reach it."""


_ROUNDING: Final = 0.002


@dataclass(frozen=True, slots=True)
class Mark(Generic[Item]):
    """A packet as the plan sees it: presentation time in seconds, keyframe or not, size in bytes, and the packet."""

    time: float
    key: bool
    size: int
    item: Item


@dataclass(frozen=True, slots=True)
class Alone(Generic[Item]):
    """Decode the first of these packets by itself; the others follow it up to the next keyframe."""

    group: tuple[Mark[Item], ...]


@dataclass(frozen=True, slots=True)
class InTurn(Generic[Item]):
    """Decode this packet in sequence. ``first`` begins a run; a ``dense`` one may be left out if no other needs it."""

    mark: Mark[Item]
    first: bool
    dense: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The run is over: take what the decoder still holds, up to ``until`` seconds."""

    until: float


Step = Alone[Item] | InTurn[Item] | Stop


@dataclass(slots=True)
class Plan(Generic[Item]):
    """Makes decoding steps of a stream of packets.

    Attributes:
        interval: seconds wanted between sampled frames.
        longest_gap: seconds between keyframes up to which the keyframes alone are enough, at least ``interval``.
        trust_keys: False where keyframes cannot be decoded alone; everything is then decoded in sequence.
    """

    interval: float
    longest_gap: float
    trust_keys: bool = True
    _ahead: deque[Mark[Item]] = field(default_factory=deque)
    _keys: deque[float] = field(default_factory=deque)
    _bytes: int = 0

    def steps(self, marks: Iterable[Mark[Item]]) -> Iterator[Step[Item]]:
        """The steps for packets in decoding order. Memory: the packets of ``longest_gap`` seconds."""
        source = iter(marks)
        last = float("-inf")
        while self._fill(source):
            here = self._ahead[0]
            following = self._next_key(source, here.time + self.longest_gap) if here.key and self.trust_keys else None
            if following is None:
                last = yield from self._run(source)
            else:
                group = self._take_group()
                # The latest keyframe within the interval stands for those before it.
                if following > last + self.interval + _ROUNDING:
                    yield Alone(group)
                    last = here.time

    def _run(self, source: Iterator[Mark[Item]]) -> Generator[Step[Item], None, float]:
        """From here in sequence until the next keyframe is near enough; returns the last wanted time."""
        start = furthest = before = self._ahead[0].time
        first = True
        while self._fill(source):
            mark = self._take()
            after = self._ahead[0].time if self._fill(source) else float("inf")
            yield InTurn(mark, first, dense=max(abs(mark.time - before), abs(after - mark.time)) < DENSE)
            first, before = False, mark.time
            furthest = max(furthest, mark.time)
            wanted = start + (furthest - start) // self.interval * self.interval
            if self.trust_keys and self._next_key(source, wanted + self.longest_gap, skip_first=False) is not None:
                # Packets come in decoding order: a frame that is shown earlier may still lie ahead.
                rest = tuple(takewhile(lambda ahead: not ahead.key, self._ahead))
                if all(ahead.time > wanted for ahead in rest):
                    for _ in rest:
                        self._take()
                    yield Stop(wanted)
                    return wanted
        yield Stop(float("inf"))
        return furthest

    def _next_key(self, source: Iterator[Mark[Item]], until: float, *, skip_first: bool = True) -> float | None:
        """The time of the next keyframe if it comes by ``until``; the one at hand may be skipped."""
        wanted = 2 if skip_first else 1
        while len(self._keys) < wanted:
            if self._ahead and (self._ahead[-1].time > until or self._bytes > MOST_AHEAD):
                return None
            if not self._read(source):
                return None
        time = self._keys[wanted - 1]
        return time if time <= until else None

    def _fill(self, source: Iterator[Mark[Item]]) -> bool:
        return bool(self._ahead) or self._read(source)

    def _read(self, source: Iterator[Mark[Item]]) -> bool:
        mark = next(source, None)
        if mark is None:
            return False
        self._ahead.append(mark)
        self._bytes += mark.size
        if mark.key:
            self._keys.append(mark.time)
        return True

    def _take(self) -> Mark[Item]:
        mark = self._ahead.popleft()
        self._bytes -= mark.size
        if mark.key:
            self._keys.popleft()
        return mark

    def _take_group(self) -> tuple[Mark[Item], ...]:
        group = [self._take()]
        while self._ahead and not self._ahead[0].key:
            group.append(self._take())
        return tuple(group)
