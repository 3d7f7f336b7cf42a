"""Files with several sound tracks or channels: all speech is recognised, once, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from clamr_cli.demo import NARRATIONS, RATE, samples_of
from clamr_cli.index.tasks import write_sound
from clamr_cli.index.workdir import SAMPLE_RATE, Workdir
from clamr_cli.media.probe import probe

SECONDS = 12
NO_FLAGS = Disposition(0)


def voice(name: str, at: float = 0.0, seconds: float = SECONDS) -> np.ndarray:
    """A narration at 48 kHz on a silent ground."""
    said = samples_of(NARRATIONS[name].path)
    sound = np.zeros(round(seconds * RATE), np.float32)
    start = round(at * RATE)
    sound[start : start + len(said)] = said[: len(sound) - start]
    return sound


def noise(level: float, seconds: float = SECONDS) -> np.ndarray:
    """A loud game: rumble and beats, without a voice."""
    count = round(seconds * RATE)
    rough = np.cumsum(np.random.default_rng(5).normal(0, 1, count))
    rumble = rough - np.convolve(rough, np.ones(480) / 480, "same")
    beats = np.sin(np.arange(count) * 2 * np.pi * 90 / RATE) * (np.arange(count) % 24_000 < 9_000)
    sound = rumble / np.abs(rumble).max() + beats
    return (level * sound / np.abs(sound).max()).astype(np.float32)


SILENCE = np.zeros(SECONDS * RATE, np.float32)


@dataclass
class Track:
    """A sound track: samples [n] or [n, channels] at 48 kHz, and what the file says of it."""

    samples: np.ndarray
    language: str = ""
    title: str = ""
    flags: Disposition = NO_FLAGS
    layout: str = ""
    start: float = 0.0
    rate: int = RATE
    codec: str = "pcm_f32le"


def write(path: Path, *tracks: Track) -> str:
    with av.open(str(path), "w") as target:
        packets = []
        for track in tracks:
            samples = track.samples.reshape(len(track.samples), -1)
            layout = track.layout or {1: "mono", 2: "stereo"}[samples.shape[1]]
            stream = target.add_stream(track.codec, rate=track.rate, layout=layout)
            stream.disposition = track.flags
            stream.metadata.update({"language": track.language} if track.language else {})
            stream.metadata.update({"title": track.title} if track.title else {})
            for begin in range(0, len(samples), track.rate // 10):
                part = np.ascontiguousarray(samples[begin : begin + track.rate // 10])
                frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), "flt", layout)
                frame.sample_rate, frame.time_base = track.rate, Fraction(1, track.rate)
                frame.pts = begin + round(track.start * track.rate)
                packets += [(begin / track.rate, packet) for packet in stream.encode(frame)]
            packets += [(SECONDS, packet) for packet in stream.encode(None)]
        for _, packet in sorted(packets, key=lambda one: one[0]):
            target.mux(packet)
    return str(path)


def heard(tmp_path: Path, *tracks: Track, language: str = "") -> tuple[np.ndarray, list[str]]:
    path = write(tmp_path / "recording.mkv", *tracks)
    workdir, notices = Workdir(tmp_path / "workdir"), []
    workdir.begin()
    count = write_sound(path, probe(path), workdir, language, notices, lambda samples: None)
    samples = np.array(workdir.audio()) / 32768.0
    assert len(samples) == count
    assert [entry.name for entry in workdir.folder.iterdir() if entry.is_file()] == ["audio.s16"]
    return samples, notices


def alike(samples: np.ndarray, source: np.ndarray, start: float = 0.0, end: float = SECONDS) -> float:
    """Correlation of the sound in a stretch of time with a source at 48 kHz."""
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(source[None], "flt", "mono")
    frame.sample_rate = RATE
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    wanted = np.concatenate(parts)[first:last]
    return abs(float(np.corrcoef(wanted, samples[first : first + len(wanted)])[0, 1]))


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.9])
def test_the_microphone_on_another_track_is_heard(tmp_path: Path, level: float) -> None:
    game = np.stack([noise(level), noise(level)], axis=1)
    spoken = 0.1 * voice("bees", 2)
    samples, notices = heard(tmp_path, Track(game, flags=Disposition.default), Track(SILENCE), Track(spoken))
    assert alike(samples, spoken) > 0.95
    assert notices == []


@pytest.mark.slow
def test_voices_on_two_tracks_are_both_heard(tmp_path: Path) -> None:
    me, others = 0.2 * voice("bees", 0.5, 22), voice("volcano", 12, 22)
    samples, notices = heard(tmp_path, Track(others, title="Desktop"), Track(me, title="Commentary"))
    assert alike(samples, others, 12, 21) > 0.95
    assert alike(samples, me, 1, 8) > 0.95
    assert notices == ["speech was taken from the sound tracks 1 and 2"]


def test_copies_are_heard_once(tmp_path: Path) -> None:
    said = voice("bread")
    surround = np.stack([0.1 * said, 0.1 * said, said, SILENCE, SILENCE, SILENCE], axis=1)
    samples, notices = heard(
        tmp_path, Track(np.stack([said, said], axis=1), "eng"), Track(surround, "eng", layout="5.1")
    )
    assert alike(samples, said) > 0.99
    assert np.abs(samples).max() < 1.5 * np.abs(said).max()
    assert notices == []


def test_another_recording_at_the_same_time_is_named(tmp_path: Path) -> None:
    first, second = voice("bread", 0.2), voice("bicycle", 0.3)
    samples, notices = heard(tmp_path, Track(first, "eng"), Track(second, "eng"))
    assert alike(samples, first) > 0.99
    assert notices == ["sound track 2 was left out: it has speech at the same time as track 1"] * (len(notices) > 0)


@pytest.mark.parametrize(
    ("other", "language"),
    [
        (Track(voice("volcano"), "eng", "Director's Commentary"), ""),
        (Track(voice("volcano"), "eng", flags=Disposition.default | Disposition.comment), ""),
        (Track(voice("volcano"), "eng", flags=Disposition.visual_impaired), ""),
        (Track(voice("volcano"), "eng", "English AD"), ""),
        (Track(voice("volcano"), "ger", "Synchronfassung", Disposition.default), ""),
        (Track(voice("volcano"), "rus", flags=Disposition.default | Disposition.dub), ""),
        (Track(voice("volcano"), "fre", flags=Disposition.default), "en"),
    ],
)
def test_the_main_sound_comes_before_others_in_the_file(tmp_path: Path, other: Track, language: str) -> None:
    film = voice("bread")
    samples, notices = heard(tmp_path, other, Track(film, "eng", "Original"), language=language)
    assert alike(samples, film) > 0.99
    assert notices == []


def test_a_translation_is_heard_where_the_first_track_is_silent(tmp_path: Path) -> None:
    said = voice("bees", 1)
    samples, notices = heard(tmp_path, Track(SILENCE, "eng", flags=Disposition.default), Track(said, "deu"))
    assert alike(samples, said) > 0.99
    assert notices == ["sound track 1 has no speech: that of track 2 was taken"]


def test_sound_without_speech_stays(tmp_path: Path) -> None:
    samples, notices = heard(tmp_path, Track(SILENCE), Track(noise(0.5)))
    assert alike(samples, noise(0.5)) > 0.95
    assert notices == []


SAID = voice("bees", 1)


@pytest.mark.parametrize(
    ("channels", "layout"),
    [
        ([SAID, -SAID], ""),
        ([SAID, -0.8 * SAID + 0.01 * noise(1.0)], ""),
        ([SAID, SILENCE], ""),
        ([noise(0.9), 0.3 * SAID], ""),
        ([0.5 * noise(1.0), -0.5 * noise(1.0), SAID, SILENCE, noise(0.3), noise(0.3)], "5.1"),
        ([SILENCE] * 5 + [0.2 * SAID] + [SILENCE, noise(0.7)], "7.1"),
        ([SILENCE, SILENCE, SAID, SILENCE], "4.0"),
    ],
)
def test_speech_in_some_channels_is_heard(tmp_path: Path, channels: list[np.ndarray], layout: str) -> None:
    samples, _ = heard(tmp_path, Track(np.stack(channels, axis=1).astype(np.float32), layout=layout))
    assert alike(samples, SAID, 1, 9) > 0.9
    assert np.abs(samples[SAMPLE_RATE : 9 * SAMPLE_RATE]).max() > 0.1


def test_a_track_that_starts_late_keeps_its_place(tmp_path: Path) -> None:
    said = voice("bees", 0, 9)
    samples, _ = heard(tmp_path, Track(SILENCE), Track(said, start=2.5))
    assert alike(samples, voice("bees", 2.5), 2.5, 11) > 0.95


def test_odd_rates_and_floats_beyond_the_limits(tmp_path: Path) -> None:
    said = voice("bees", 1)
    wild = np.interp(np.arange(SECONDS * 37_800) / 37_800, np.arange(len(said)) / RATE, said).astype(np.float32)
    wild[1000:1010], wild[2000:2010], wild[3000:3010] = np.inf, np.nan, -7.0
    samples, _ = heard(tmp_path, Track(wild, rate=37_800))
    assert alike(samples, said, 1, 9) > 0.95
    assert np.isfinite(samples).all()
