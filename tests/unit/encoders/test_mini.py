from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from clamr_cli import encoders, weights
from clamr_cli.encoders.mini.encoder import MiniEncoder
from clamr_cli.encoders.mini.networks import TENSORS, Bert, Heads
from clamr_cli.encoders.mini.passages import LONGEST_PASSAGE, PassageTokenizer, lexical_vectors
from clamr_cli.errors import ClamrError, ModelError
from clamr_cli.types import MODALITY_IDS, Document, Encoder, Frame, Modality, Segment, Span, TokenVectors, Word
from tests.unit.encoders.test_hashed import jpeg, score


def located(name: str, cache: Path) -> Path:
    try:
        return weights.locate(name, cache)
    except ClamrError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def text_model(cache: Path) -> Path:
    return located("minilm-l6", cache)


@pytest.fixture(scope="module")
def encoder(cache: Path, text_model: Path) -> Encoder:
    located("efficientnet-lite2", cache)
    encoder = encoders.create("mini", cache=cache)
    assert isinstance(encoder, MiniEncoder)
    return encoder.for_earlier()  # the multilingual text model has tests of its own


@pytest.fixture(scope="module")
def tokenizer(text_model: Path) -> PassageTokenizer:
    return PassageTokenizer.load(text_model / "tokenizer.json")


def lines(*texts: str) -> tuple[Segment, ...]:
    return tuple(Segment(Span(number, number + 1), text) for number, text in enumerate(texts))


def only(rows: TokenVectors, modality: Modality) -> np.ndarray:
    return rows.modality_ids == MODALITY_IDS[modality]


def photo(name: str) -> bytes:
    import io

    data = pytest.importorskip("skimage.data")
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(getattr(data, name)()).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.slow
def test_the_text_model_is_that_of_transformers(text_model: Path, tokenizer: PassageTokenizer) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.BertModel.from_pretrained(str(text_model)).eval()
    texts = ["a red lift", "Words of any length, 13013 of them: e.g. café. " * 5, ""]
    ids = [tokenizer.query(text).ids for text in texts]
    for sequence, ours in zip(ids, Bert.load(text_model / "model.safetensors").encode(ids), strict=True):
        with torch.inference_mode():
            theirs = reference(torch.tensor([sequence])).last_hidden_state[0].numpy()
        assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.slow
def test_the_image_model_knows_what_it_was_trained_on(cache: Path, shared: Path) -> None:
    from clamr_cli.encoders.mini.vision import ImageModel

    file = next(located("efficientnet-lite2", cache).glob("*.pth"))
    classes = sorted((shared / "train/imagenet_sample").glob("*.jpg"))
    asked = range(0, len(classes), 25)
    features = ImageModel(file, device="cpu", threads=0).features([classes[number].read_bytes() for number in asked])
    right = features.probabilities[:, 0].argmax(axis=1) == np.array(asked)
    assert right.mean() > 0.75


@pytest.mark.slow
def test_the_statistics_of_stages_are_of_the_whole_and_of_its_regions(cache: Path) -> None:
    import io

    from PIL import Image

    from clamr_cli.encoders.mini.vision import PLAIN_INPUTS, ImageModel

    pixels = np.full((330, 330, 3), 90, np.uint8)
    pixels[:110, 220:] = np.random.default_rng(0).integers(0, 255, (110, 110, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    file = next(located("efficientnet-lite2", cache).glob("*.pth"))
    model = ImageModel(file, device="cpu", threads=0)
    both = model.features([photo("coffee"), buffer.getvalue()]).inputs
    (noisy,) = model.features([buffer.getvalue()]).inputs
    np.testing.assert_allclose(both[1], noisy, atol=1e-3)
    for found in both:
        first = slice(PLAIN_INPUTS, PLAIN_INPUTS + 16), slice(PLAIN_INPUTS + 16, PLAIN_INPUTS + 32)
        means, deviations = found[:, first[0]], found[:, first[1]]
        # The regions of the first stage's maps overlap by a few pixels of 165.
        np.testing.assert_allclose(means[1:].mean(axis=0), means[0], atol=0.05 * np.abs(means).max())
        squares = means**2 + deviations**2
        np.testing.assert_allclose(squares[1:].mean(axis=0), squares[0], atol=0.05 * squares.max())
        assert deviations.min() >= 0
    # The third region is the upper right one.
    spread = noisy[1:, first[1]].mean(axis=1)
    assert spread.argmax() == 2
    assert spread[2] > 5 * spread[6]


@pytest.mark.slow
def test_a_query_needs_no_torch(cache: Path, text_model: Path) -> None:
    located("efficientnet-lite2", cache)
    code = (
        "import sys, pathlib; from clamr_cli import encoders;"
        f"e = encoders.create('mini', cache=pathlib.Path({str(cache)!r}));"
        "e.encode_queries(['a dog']); print(sorted({'torch', 'transformers', 'PIL'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("a cup of coffee", Modality.VIDEO),
        ("the president promised lower taxes", Modality.SPEECH),
        ("asset 13013", Modality.METADATA),
        ("Reconnaissance vocale", Modality.OCR),
    ],
)
def test_the_query_picks_the_modality(encoder: Encoder, query: str, wanted: Modality) -> None:
    document = Document(
        "d",
        Span(0, 9),
        frames=(Frame(0, Span(0, 9), photo("coffee")),),
        speech=lines("Today the president said that taxes will fall.", "Then he left for the airport."),
        ocr=lines("Reconnaissance vocale", "Projets"),
        metadata=lines("NASA asset 13013"),
    )
    other = Document(
        "o",
        Span(0, 9),
        frames=(Frame(0, Span(0, 9), photo("astronaut")),),
        speech=lines("We planted tomatoes in the garden.", "They need a lot of water in July."),
        ocr=lines("Exit 24", "Gare centrale"),
        metadata=lines("Holiday clip 20931"),
    )
    right, wrong = encoder.encode_documents([document, other])
    (asked,) = encoder.encode_queries([query])
    assert score(asked, right) > score(asked, wrong)
    by_modality = {
        name: (asked.vectors @ right.vectors[only(right, name)].T).max(axis=1).sum()
        for name in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA)
    }
    assert max(by_modality, key=by_modality.__getitem__) == wanted


def test_text_vectors_know_their_words_and_times(encoder: Encoder) -> None:
    words = (Word(0, 5, Span(1.0, 1.5)), Word(6, 11, Span(1.5, 2.0)))
    segments = (Segment(Span(0, 1), "First line."), Segment(Span(1, 2), "hello world", words=words))
    (rows,) = encoder.encode_documents([Document("d", Span(0, 2), speech=segments)])
    texts = [
        segments[segment].text[start:end]
        for segment, (start, end) in zip(rows.segments.tolist(), rows.offsets.tolist(), strict=True)
    ]
    assert texts == ["First", "line", "hello", "world", "First line"]
    assert rows.spans.tolist() == [[0, 1], [0, 1], [1, 1.5], [1.5, 2], [0, 2]]
    assert (rows.input_ids >= 0).tolist() == [True, True, True, True, False]


@pytest.mark.slow
def test_frame_vectors_know_their_frame(encoder: Encoder) -> None:
    frames = tuple(Frame(number, Span(number, number + 1), jpeg("red", size=40 + number)) for number in range(3))
    (rows,) = encoder.encode_documents([Document("d", Span(0, 3), frames=frames)])
    assert rows.segments.tolist() == sorted(rows.segments.tolist())
    assert set(rows.segments.tolist()) == {0, 1, 2}
    assert (rows.spans[:, 0] == rows.segments).all()
    assert only(rows, Modality.VIDEO).all()


@pytest.mark.slow
def test_all_vectors_are_of_unit_length_and_the_same_again(encoder: Encoder) -> None:
    document = Document("d", Span(0, 3), (Frame(0, Span(0, 3), photo("coffee")),), speech=lines("東京 タワー 😀 x" * 9))
    one, two = encoder.encode_documents([document, document])
    assert np.allclose(np.linalg.norm(one.vectors, axis=1), 1.0, atol=1e-4)
    assert np.array_equal(one.vectors, two.vectors)


def test_documents_keep_their_order_and_empty_ones_give_no_rows(encoder: Encoder) -> None:
    documents = [
        Document("a", Span(0, 1), metadata=lines("short")),
        Document("b", Span(0, 1)),
        Document("c", Span(0, 1), ocr=lines("", " ?! ", "a longer line of text than the others")),
    ]
    assert [len(rows) for rows in encoder.encode_documents(documents)] == [2, 0, 9]


@pytest.mark.parametrize("query", ["", "   ", "?!", "😀", "a\x00b", "\udcff", "word " * 5000, "x" * 5000])
def test_any_query_has_vectors(encoder: Encoder, query: str) -> None:
    (rows,) = encoder.encode_queries([query])
    assert 1 <= len(rows) <= LONGEST_PASSAGE + 10
    assert np.isfinite(rows.vectors).all()
    assert (rows.modality_ids == 0).all()


def test_query_words_have_their_offsets(encoder: Encoder) -> None:
    query = "Café at 01:00:38"
    (rows,) = encoder.encode_queries([query])
    found = [query[start:end] for start, end in rows.offsets.tolist() if end]
    assert found == ["Café", "at", "01", "00", "38"]


@pytest.mark.slow
def test_long_texts_are_cut_at_the_budget(tokenizer: PassageTokenizer) -> None:
    passages = tokenizer.passages(["many words without any end " * 2000, "never read"], across=False, limit=512)
    assert sum(len(passage.ids) - 2 for passage in passages) == 512
    assert max(len(passage.ids) for passage in passages) <= LONGEST_PASSAGE + 2


def test_speech_is_read_across_segments_and_lines_on_screen_are_not(tokenizer: PassageTokenizer) -> None:
    texts = ["so we went", "to the lake.", "It was cold."]
    assert len(tokenizer.passages(texts, across=True, limit=512)) == 1
    assert len(tokenizer.passages(texts, across=False, limit=512)) == 3


def test_spelling_knows_equal_and_like_words() -> None:
    words = ["Dedicatoria", "dedicatoria", "dedicatorias", "13013"]
    vectors = lexical_vectors(words, 48)
    near = vectors @ vectors.T
    assert near[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert near[1, 2] > 0.3 > near[1, 3]
    sea, to_the_sea, oven = lexical_vectors(["ים", "לים", "תנור"], 48)
    assert sea @ to_the_sea > 0.3 > abs(sea @ oven)


OTHER_SCRIPTS = {
    "雪だるまを庭で作った": ["雪だるま", "庭"],
    "蝶が花に止まっている": ["蝶", "花"],
    "우체국에서 편지를 보냈다": ["우체국", "편지"],
    "호랑이가 동물원에서 잔다": ["호랑이", "동물원"],
    "他们在医院等医生": ["医院", "医生"],
    "นกกระจอกบินอยู่บนหลังคา": ["นกกระจอก", "หลังคา"],
    "ปลาว่ายน้ำในสระ": ["ปลา", "สระ"],
    "नदी में नाव चल रही है": ["नदी", "नाव"],
    "وصلت الطائرة إلى المطار": ["طائرة", "مطار"],
    "בשוק מוכרים תפוזים ולימונים": ["תפוזים", "שוק"],
    "на озере плавали лебеди": ["озеро", "лебеди"],
    "ქალაქში ახალი ხიდი ააშენეს": ["ქალაქი", "ხიდი"],
    "በገበያ ሙዝ ገዛን": ["ሙዝ", "በገበያ"],
    "we won the cup🏆 last night": ["🏆"],
    "Wi-Fi를 켜는 방법": ["Wi-Fi", "방법"],
    "浮世絵 exhibition in the old museum": ["浮世絵 exhibition", "museum"],
    "a butterfly sits on a flower": ["butterfly"],
    "they wait for the doctor in the hospital": ["doctor"],
}


def test_words_of_any_script_find_the_line_they_stand_in(encoder: Encoder) -> None:
    documents = encoder.encode_documents([Document(text, Span(0, 1), speech=lines(text)) for text in OTHER_SCRIPTS])
    asked = [(query, number) for number, queries in enumerate(OTHER_SCRIPTS.values()) for query in queries]
    answers = encoder.encode_queries([query for query, _ in asked])
    wrong = {}
    for (query, number), rows in zip(asked, answers, strict=True):
        scores = [(rows.vectors @ document.vectors.T).max(axis=1).sum() for document in documents]
        if int(np.argmax(scores)) != number:
            wrong[query] = list(OTHER_SCRIPTS)[int(np.argmax(scores))]
    assert not wrong


def test_unknown_words_change_nothing_of_the_known_ones_beside_them(encoder: Encoder) -> None:
    alone, beside = encoder.encode_queries(["festival", "桜 festival"])
    np.testing.assert_allclose(alone.vectors[0], beside.vectors[1], atol=1e-6)
    plain, mixed = encoder.encode_documents(
        [Document(text, Span(0, 1), speech=lines(text)) for text in ("street food market", "street food ตลาด market")]
    )
    known = np.isin(np.arange(len(mixed)), [2, 3, 4, 5], invert=True)
    np.testing.assert_allclose(mixed.vectors[known], plain.vectors, atol=1e-6)


@pytest.mark.parametrize("query", ["桜", "김치찌개", "ฝนตก", "снег", "🐶", "𝔖𝔫𝔬𝔴"])
def test_a_query_of_unknown_words_has_no_vector_of_the_whole(encoder: Encoder, query: str) -> None:
    (rows,) = encoder.encode_queries([query])
    assert (rows.offsets[:, 1] > 0).all()


def test_one_word_is_spelled_alike_in_any_normal_form() -> None:
    words = ["김치", "ぎょうざ", "йога", "καφές", "می‌خواهم"]
    forms = [[unicodedata.normalize(form, word) for word in words] for form in ("NFC", "NFD")]
    np.testing.assert_array_equal(lexical_vectors(forms[0], 48), lexical_vectors(forms[1], 48))
    np.testing.assert_array_equal(
        lexical_vectors(["ラー", "ﾗｰ", "メ"], 48), lexical_vectors(["らー", "らー", "め"], 48)
    )


def test_vectors_of_the_versions_before_go_on_answering(cache: Path) -> None:
    info = encoders.describe("mini", cache=cache)
    assert {"26b6ee9c53f5b513", "3b3d165b391471b7", "22f1d88a560906a1"} < set(info.earlier)
    assert info.fingerprint not in info.earlier


def test_weights_without_a_tensor_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"query\.word\.weight"):
        Heads({name: np.zeros((1, 1), np.float32) for name in TENSORS if name != "query.word.weight"})


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"\x08" + bytes(20))
    for load in (Bert.load, Heads.load):
        with pytest.raises(ModelError, match="cannot read"):
            load(damaged)
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        PassageTokenizer.load(damaged)
