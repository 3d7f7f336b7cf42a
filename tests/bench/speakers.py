"""Measures who speaks when: ``python -m tests.bench.speakers [--real DIR] [--json OUT]``.

Conversations of 2 to 6 speakers are mixed from single voices: turns of 1 to 9 seconds in random order, pauses of 0.1 to
1.2 seconds, levels 6 dB apart, noise 15 to 30 dB below. The voices are those of ``flite`` and of ``espeak-ng`` (Debian
packages of these names) that differ most, and with ``--real`` recordings of one person each (any sound files).

The diarisation error rate is the part of the speech that is missed, made up, or given to another speaker, under the
best mapping of speakers, without 0.25 s around the ends of turns (NIST's collar); nobody speaks at the same time
here. "oracle" gets the true turns and has only to tell voices apart. "library" is over all conversations of a set
together: of pairs of voices of different conversations, how many have one number rightly (precision), and how many
should and have (recall). ``--cost`` compares the processor time of ``clamr index`` with and without ``--speakers``
on one of the conversations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from clamr_cli.config import default_cache
from clamr_cli.extract.asr import speech_stretches
from clamr_cli.extract.voice_encoder import DIMENSIONS, VoiceEncoder
from clamr_cli.extract.voices import find_voices, voices_of
from clamr_cli.index.speakers import Speakers
from clamr_cli.store import Store
from clamr_cli.types import Span, Voices
from clamr_cli.weights import locate

RATE = 16_000
TICK = 0.01
COLLAR = 0.25

FLITE = ("kal16", "awb", "rms", "slt")
ESPEAK = (
    "en-us+Alicia", "en-us+Denis", "en-us+whisper", "en-us+m1", "en-gb+m7", "en-us+f2", "en-gb-scotland+f1",
    "en-us+croak", "en-us+Gene", "en-us+Lee", "en-gb+klatt4", "en-us+Andrea",
)  # fmt: skip

TEXT = """\
The committee met again on Thursday to look at the budget for next year. Nobody expected the answer so soon. We
walked along the river until the lights of the town went out. I see. I have always wanted to learn how to bake bread
at home. The train from the north arrives at half past nine every morning. Are you sure about that? She told me that
the museum would be closed for the winter. There are three ways to solve this problem, and two of them are wrong.
Not really. Please remember to water the plants while we are away. The old lighthouse keeper counted the ships as
they passed. Most of the data was lost when the server failed last night. It is not the length of the road that
matters, but the company. He opened the letter, read it twice, and put it back on the table. That is what I said.
The valley is full of small farms that grow apples, plums and pears for the markets of three cities."""

Turn = tuple[float, float, str]
"""Start and end in seconds, and who speaks."""


@dataclass
class Score:
    """Seconds of speech, and of it what is wrong."""

    speech: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confused: float = 0.0
    counts: list[tuple[int, int]] = field(default_factory=list)  # of speakers, true and found

    def add(self, reference: Sequence[Turn], found: Sequence[Turn], end: float) -> None:
        """Count a recording of so many seconds."""
        names = [sorted({who for _, _, who in turns}) for turns in (reference, found)]
        labels = [_ticks(turns, own, end) for turns, own in zip((reference, found), names, strict=True)]
        counts = np.zeros((len(names[0]), len(names[1])))
        for truth, said in itertools.product(range(len(names[0])), range(len(names[1]))):
            counts[truth, said] = ((labels[0] == truth) & (labels[1] == said)).sum()
        mapped = np.full(len(names[1]) + 1, -2)
        mapped[-1] = -1  # silence
        for truth, said in zip(*linear_sum_assignment(-counts), strict=True):
            mapped[said] = truth
        truth, said = labels[0], mapped[labels[1]]
        counted = np.ones(len(truth), bool)
        for border in (edge for turn in reference for edge in turn[:2]):
            counted[max(0, round((border - COLLAR) / TICK)) : round((border + COLLAR) / TICK)] = False
        truth, said = truth[counted], said[counted]
        self.speech += TICK * (truth >= 0).sum()
        self.missed += TICK * ((truth >= 0) & (said == -1)).sum()
        self.false_alarm += TICK * ((truth < 0) & (said != -1)).sum()
        self.confused += TICK * ((truth >= 0) & (said != -1) & (truth != said)).sum()
        self.counts.append((len(names[0]), len(names[1])))

    def report(self) -> dict[str, Any]:
        """Rates of the speech, and how often the number of speakers is right."""
        wrong = {name: getattr(self, name) / self.speech for name in ("missed", "false_alarm", "confused")}
        off = [found - true for true, found in self.counts]
        return {
            "der": round(sum(wrong.values()), 4),
            **{name: round(value, 4) for name, value in wrong.items()},
            "speakers_right": f"{off.count(0)} of {len(off)}",
            "speakers_off_by": dict(sorted(Counter(off).items())),
        }


def _ticks(turns: Sequence[Turn], names: Sequence[str], end: float) -> np.ndarray:
    labels = np.full(round(end / TICK), -1)
    for start, until, who in turns:
        labels[round(start / TICK) : round(until / TICK)] = names.index(who)
    return labels


def load(path: Path) -> np.ndarray:
    """The sound of a file, mono at 16 kHz."""
    with av.open(str(path)) as source:
        resampler = av.AudioResampler("flt", "mono", RATE)
        frames = [out for frame in source.decode(audio=0) for out in resampler.resample(frame)]
        parts = [frame.to_ndarray()[0] for frame in (*frames, *resampler.resample(None))]
    return np.concatenate(parts).astype(np.float32)


def synthesised() -> dict[str, list[np.ndarray]]:
    """The sentences of each voice of the synthesisers."""
    sentences = [part.strip() for part in TEXT.replace("?", ".").split(".") if part.strip()]
    voices: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder, "speech.wav")
        for name in (*FLITE, *ESPEAK):
            for sentence in sentences:
                command = ["flite", "-voice", name, "-t", sentence, "-o", str(wave)]
                if name in ESPEAK:
                    command = ["espeak-ng", "-v", name, "-w", str(wave), sentence]
                subprocess.run(command, check=True, capture_output=True)
                voices.setdefault(name, []).append(_trimmed(load(wave)))
    return voices


def recorded(folder: Path) -> dict[str, list[np.ndarray]]:
    """Stretches of each recording of a folder, parted at pauses, at most 9 s long."""
    voices: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a"):
            voices[path.name] = pieces(load(path))
    return voices


def pieces(sound: np.ndarray, longest: float = 9.0) -> list[np.ndarray]:
    """The stretches of speech of a recording, at most so many seconds long."""
    stretches = [sound[start:end] for start, end in speech_stretches(sound, 300, 100)]
    parts = [part for one in stretches for part in np.array_split(one, -(-len(one) // round(longest * RATE)))]
    return [_trimmed(part) for part in parts if len(part) > 0.8 * RATE]


def _trimmed(sound: np.ndarray) -> np.ndarray:
    """Sound without the silence around it, at a level of its own."""
    loud = np.flatnonzero(np.abs(sound) > 0.03 * np.abs(sound).max())
    part = sound[loud[0] : loud[-1] + 1]
    return 0.05 * part / np.sqrt(np.mean(np.square(part)))


def converse(
    voices: dict[str, list[np.ndarray]], count: int, turns: int, rng: random.Random
) -> tuple[np.ndarray, list[Turn]]:
    """A conversation of so many speakers, and its turns."""
    names = rng.sample(sorted(voices), count)
    level = {name: 10 ** (rng.uniform(-6, 0) / 20) for name in names}
    parts, reference, at, last = [np.zeros(RATE // 2, np.float32)], [], 0.5, ""
    for number in range(turns):
        # Everybody speaks once before anybody is chosen freely.
        name = names[number] if number < count else rng.choice([other for other in names if other != last])
        said = level[name] * rng.choice(voices[name])
        reference.append((at, at + len(said) / RATE, name))
        pause = np.zeros(round(rng.uniform(0.1, 1.2) * RATE), np.float32)
        parts += [said, pause]
        at += (len(said) + len(pause)) / RATE
        last = name
    sound = np.concatenate(parts)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.05 * 10 ** (-rng.uniform(15, 30) / 20), len(sound))
    return (sound + noise).astype(np.float32), reference


def turns_of(voices: Voices) -> list[Turn]:
    """What was found, in the form of the truth."""
    return [(start, end, str(voice)) for start, end, voice in voices.turns]


def oracle(sound: np.ndarray, reference: Sequence[Turn], encoder: VoiceEncoder) -> Voices:
    """The voices where the turns are known."""
    spans, rows = [], []
    for start, end, _ in reference:
        windows, vectors = encoder.windows(sound[round(start * RATE) : round(end * RATE)])
        spans += [Span(start + span.start, start + span.end) for span in windows]
        rows.append(vectors)
    return voices_of(spans, np.concatenate(rows))


def owners(voices: Voices, reference: Sequence[Turn]) -> Iterator[str]:
    """Who each voice really is: the one whom it shares most time with."""
    for voice in range(len(voices.vectors)):
        shared: Counter[str] = Counter()
        for start, end, own in voices.turns:
            for begin, until, who in reference:
                if own == voice:
                    shared[who] += max(0.0, min(end, until) - max(start, begin))
        yield shared.most_common(1)[0][0]


def library(found: Sequence[tuple[Voices, Sequence[Turn]]]) -> dict[str, Any]:
    """How well the voices of all conversations get the numbers of speakers, one conversation after another."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        with store.writer("bench"):
            speakers = Speakers(store)
            numbered = [speakers.numbered(f"{n:064}", voices) for n, (voices, _) in enumerate(found)]
    marks = [
        (place, who, number)
        for place, (voices, (_, reference)) in enumerate(zip(numbered, found, strict=True))
        for who, number in zip(owners(voices, reference), voices.numbers, strict=True)
    ]
    pairs = [(a, b) for a, b in itertools.combinations(marks, 2) if a[0] != b[0]]
    same = sum(a[1] == b[1] for a, b in pairs)
    joined = sum(a[2] == b[2] for a, b in pairs)
    right = sum(a[1] == b[1] and a[2] == b[2] for a, b in pairs)
    counts = {"speakers": len({who for _, who, _ in marks}), "numbers": len({number for _, _, number in marks})}
    return {**counts, "precision": round(right / max(1, joined), 4), "recall": round(right / max(1, same), 4)}


def measure(
    voices: dict[str, list[np.ndarray]], conversations: int, turns: int, encoder: VoiceEncoder
) -> dict[str, Any]:
    """Figures of a set of voices."""
    full, known, found = Score(), Score(), []
    spent = seconds = 0.0
    for number in range(conversations):
        rng = random.Random(number)
        sound, reference = converse(voices, 2 + number % min(5, len(voices) - 1), turns, rng)
        samples = (32_767 * np.clip(sound, -1, 1)).astype(np.int16)
        began = time.process_time()
        result = find_voices(samples, encoder)
        spent, seconds = spent + time.process_time() - began, seconds + len(sound) / RATE
        full.add(reference, turns_of(result), len(sound) / RATE)
        known.add(reference, turns_of(oracle(sound, reference, encoder)), len(sound) / RATE)
        found.append((result, reference))
    return {
        "voices": len(voices),
        "conversations": conversations,
        "seconds": round(seconds),
        "full": full.report(),
        "oracle_turns": known.report(),
        "library": library(found),
        "cpu_seconds_per_minute": round(60 * spent / seconds, 2),
    }


def cost(sound: np.ndarray) -> dict[str, float]:
    """Processor seconds of an index run on a video with this sound, without and with speakers."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "talk.mp4")
        with av.open(str(video), "w") as target:
            picture, track = target.add_stream("h264", rate=1), target.add_stream("aac", rate=RATE, layout="mono")
            picture.width, picture.height = 320, 180
            for second in range(len(sound) // RATE):
                frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), second % 200, np.uint8))
                target.mux(picture.encode(frame))
            chunk = av.AudioFrame.from_ndarray(sound[None], "flt", "mono")
            chunk.sample_rate = RATE
            fifo = av.AudioFifo()
            fifo.write(chunk)
            while (part := fifo.read(1024, partial=True)) is not None:
                target.mux(track.encode(part))
            for stream in (picture, track):
                target.mux(stream.encode(None))
        for option in ("--no-speakers", "--speakers"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [
                sys.executable,
                "-m",
                "clamr_cli",
                "--db",
                f"{folder}/{option}",
                "index",
                str(video),
                option,
                "-q",
            ]
            subprocess.run(command, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            result[option] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    result["percent"] = round(100 * (result["--speakers"] / result["--no-speakers"] - 1), 1)
    return result


def main() -> None:
    """Measures everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="DIR", help="recordings of one person each")
    parser.add_argument("--conversations", type=int, default=10, metavar="N", help="of each set of voices; 0 for none")
    parser.add_argument("--turns", type=int, default=24, metavar="N", help="in each conversation")
    parser.add_argument("--cost", action="store_true", help="index with and without speakers, too")
    parser.add_argument("--model", choices=DIMENSIONS, default="campplus", help="that tells voices apart")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to a file too")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = VoiceEncoder(locate(options.model, options.cache), options.model, 1)
    made = synthesised()
    sets = {"flite": {name: made[name] for name in FLITE}, "flite and espeak-ng": made}
    if options.real:
        sets["recordings"] = recorded(options.real)
    result: dict[str, Any] = {
        name: measure(voices, options.conversations, options.turns, encoder)
        for name, voices in sets.items()
        if options.conversations
    }
    if options.cost:
        result["index_cpu_seconds"] = cost(converse(made, 4, options.turns, random.Random(1))[0])
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
