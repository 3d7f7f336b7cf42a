"""Speakers of the library: voices of its videos by number, and the names that a person gave them.

A recording has voices of its own (:mod:`clamr_cli.extract.voices`). Each is given the number of the speaker of the
library that it is most like, or a new one. Numbers stay, whatever comes later, and so do names; speakers of one name
are one.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.extract.voices import SAME_SPEAKER, cluster
from clamr_cli.index.documents import Recipe, piece_of, speaker_names
from clamr_cli.index.labels import replace_moments
from clamr_cli.types import (
    SPEAKER_SOURCE,
    Encoder,
    FileRecord,
    FileState,
    MomentRecord,
    Segment,
    Span,
    Speaker,
    VoiceModel,
    Voices,
    voice_label,
)

if TYPE_CHECKING:
    from clamr_cli.store import Store

_NEAR: Final = 0.5  # seconds from a turn at which a word still belongs to it
_SHORT_WORD: Final = 0.2  # seconds
_SHORTEST: Final = 0.6  # seconds of a turn inside of a line for which the line is cut


class Speakers:
    """The speakers of an index; the caller is its one writer, where it changes something.

    Voices are compared with those of the same model only.

    Attributes:
        named: those with a name, by number.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.named = store.speakers()
        self._sums: defaultdict[VoiceModel, dict[int, NDArray[np.float64]]] = defaultdict(dict)
        for speaker in self.named.values():
            if speaker.vector:
                self._sums[speaker.model][speaker.number] = _vector(speaker.vector)
        for voices in store.voices().values():
            self._add(voices)

    def label(self, number: int) -> str:
        """The name of a speaker, or what stands for it."""
        return self.named[number].name if number in self.named else voice_label(number)

    def speaker(self, number: int, name: str) -> Speaker:
        """A speaker with this name from now on, and the mean embedding by the model that heard most of it."""
        totals = {model: sums[number] for model, sums in self._sums.items() if number in sums}
        if not totals:
            return Speaker(number, name)
        model = max(totals, key=lambda one: float(np.linalg.norm(totals[one])))
        unit = totals[model] / max(1e-9, float(np.linalg.norm(totals[model])))
        return Speaker(number, name, unit.astype(np.float16).tobytes(), model)

    def numbered(self, content_hash: str, voices: Voices) -> Voices:
        """Voices with their numbers, which are chosen and stored the first time.

        A voice that is like no speaker keeps the name that it had when another model told voices apart.
        """
        if len(voices.numbers) == len(voices.vectors):
            return voices
        new = np.stack([_vector(each) for each in voices.vectors])
        numbers = [0] * len(new)
        sums = self._sums[voices.model]
        known = sorted(sums)
        if known:
            centres = np.stack([sums[number] / np.linalg.norm(sums[number]) for number in known])
            similarities = new @ centres.T
            for voice, (best, value) in enumerate(
                zip(similarities.argmax(axis=1), similarities.max(axis=1), strict=True)
            ):
                numbers[voice] = known[best] if value >= SAME_SPEAKER else 0
        for voice, number in self._names_before(content_hash, voices).items():
            numbers[voice] = numbers[voice] or number
        left = [voice for voice, number in enumerate(numbers) if not number]
        last = self._store.last_speaker()
        for voice, group in zip(left, cluster(new[left].astype(np.float32), SAME_SPEAKER).tolist(), strict=True):
            numbers[voice] = last + 1 + group
        if left:
            self._store.put_last_speaker(max(numbers))
        result = replace(voices, numbers=tuple(numbers))
        self._store.put_voices(content_hash, result)
        self._add(result)
        return result

    def _names_before(self, content_hash: str, voices: Voices) -> dict[int, int]:
        """Numbers of the named speakers of another model, by the voice that speaks when they do."""
        before = self._store.voices_of(content_hash)
        if before is None or before.model == voices.model or not before.numbers:
            return {}
        starts, ends, owners = (np.array(column) for column in zip(*before.turns, strict=True))
        shared = np.zeros((len(voices.vectors), len(before.vectors)))
        for start, end, voice in voices.turns:
            np.add.at(shared[voice], owners, np.maximum(np.minimum(end, ends) - np.maximum(start, starts), 0.0))
        return {
            voice: number
            for old, (voice, number) in enumerate(zip(shared.argmax(axis=0).tolist(), before.numbers, strict=True))
            if number in self.named and shared[voice, old] > 0 and shared[voice].argmax() == old
        }

    def _add(self, voices: Voices) -> None:
        seconds = np.zeros(len(voices.vectors))
        for start, end, voice in voices.turns:
            seconds[voice] += end - start
        for number, vector, weight in zip(voices.numbers, voices.vectors, seconds, strict=False):
            sums = self._sums[voices.model]
            sums[number] = sums.get(number, 0.0) + _vector(vector) * max(weight, 1e-3)

    def attribute(self, segments: Sequence[Segment], voices: Voices) -> list[Segment]:
        """Lines with their speakers; a line in which it changes is cut there, if the times of its words are known.

        Lines whose speaker is known, as from captions, stay as they are.
        """
        turns = [(Span(start, end), self.label(voices.numbers[voice])) for start, end, voice in voices.turns]
        return [part for line in segments for part in ([line] if line.speaker else _attributed(line, turns))]

    def unattributed(self, segments: Sequence[Segment], voices: Voices) -> list[Segment]:
        """Lines without the speakers that :meth:`attribute` gave them."""
        bare = [replace(line, speaker="") for line in segments]
        own = [{part.speaker for part in self.attribute([line], voices)} for line in bare]
        return [plain if line.speaker in ours else line for line, plain, ours in zip(segments, bare, own, strict=True)]


def _vector(stored: bytes) -> NDArray[np.float64]:
    return np.frombuffer(stored, np.float16).astype(np.float64)


def _attributed(line: Segment, turns: Sequence[tuple[Span, str]]) -> list[Segment]:
    near = [turn for turn in turns if turn[0].start - _NEAR < line.span.end and line.span.start < turn[0].end + _NEAR]
    if len({label for _, label in near}) < 2 or not line.words:
        heard: defaultdict[str, float] = defaultdict(float)
        for span, label in near:
            heard[label] += min(span.end, line.span.end) - max(span.start, line.span.start)
        return [replace(line, speaker=max(heard, key=lambda label: heard[label], default=""))]

    def speaker_at(span: Span) -> str:
        # After a pause a recogniser lets words begin too early; where they end is surer.
        time = max((span.start + span.end) / 2, span.end - _SHORT_WORD)
        return min(near, key=lambda turn: max(turn[0].start - time, time - turn[0].end))[1]

    runs = [(label, list(words)) for label, words in itertools.groupby(line.words, lambda word: speaker_at(word.span))]
    while len(runs) > 1:
        lengths = [words[-1].span.end - words[0].span.start for _, words in runs]
        shortest = min(range(len(runs)), key=lambda place: lengths[place])
        if lengths[shortest] >= _SHORTEST:
            break
        beside = [place for place in (shortest - 1, shortest + 1) if 0 <= place < len(runs)]
        runs[shortest] = (runs[max(beside, key=lambda place: lengths[place])][0], runs[shortest][1])
        joined = itertools.groupby(runs, lambda run: run[0])
        runs = [(label, [word for _, words in group for word in words]) for label, group in joined]
    if len(runs) == 1:
        return [replace(line, speaker=runs[0][0])]
    return [replace(piece_of(line, words), speaker=label) for label, words in runs]


def tells_speakers(file: FileRecord) -> bool:
    """Whether a file is indexed, and its voices were told apart when it was."""
    recipe = Recipe.parse(file.recipe)
    return file.state is FileState.INDEXED and recipe is not None and bool(recipe.speakers)


def name_speakers(store: Store, encoders: Mapping[str, Encoder], numbers: Collection[int], name: str) -> Iterator[str]:
    """Name speakers, or take their name where it is empty; yields the id of each video that changed.

    Args:
        store: the index, opened for writing by nobody else.
        encoders: by fingerprint. The vectors of others lack the name until the next index run with them.
        numbers: of the speakers.
        name: theirs from now on.

    Raises:
        IndexLocked: somebody else writes to the index.
        StoreError: it cannot be read or written.
    """
    with store.writer("clamr speakers"):
        before, after = Speakers(store), Speakers(store)
        for number in numbers:
            after.named.pop(number, None)
            if name:
                after.named[number] = after.speaker(number, name)
        voices = {one: own for one, own in store.voices().items() if set(own.numbers) & set(numbers)}
        files = [file for file in store.files(sorted(voices)) if tells_speakers(file)]
        voices = {one: voices[one] for one in dict.fromkeys(file.video_id for file in files)}
        # Until all is written, the files count as changed: the next run of their folders does the rest.
        store.put_files([replace(file, sidecars="") for file in files])
        store.put_speakers(after.named.values())
        store.sync()
        for video_id, own in voices.items():

            def renamed(moment: MomentRecord, own: Voices = own) -> MomentRecord:
                speech = tuple(after.attribute(before.unattributed(moment.speech, own), own))
                metadata = [part for part in moment.metadata if part.source != SPEAKER_SOURCE]
                return replace(moment, speech=speech, metadata=(*metadata, *speaker_names(speech)))

            replace_moments(store, encoders, video_id, renamed)
            yield video_id
        store.put_files(files)
        store.finish()
        store.pack_all()
