from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamr_cli import encoders
from clamr_cli.encoders.hashed import COLOURS, colours
from clamr_cli.errors import ClamrError, UsageError
from clamr_cli.types import MODALITY_IDS, Document, Encoder, Frame, Modality, Segment, Span, TokenVectors, Word


def jpeg(*names: str, size: int = 64) -> bytes:
    """Stripes of named colours."""
    picture = Image.new("RGB", (size, size * len(names)))
    for number, name in enumerate(names):
        picture.paste(COLOURS[name], (0, number * size, size, (number + 1) * size))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    return buffer.getvalue()


def said(text: str, words: tuple[Word, ...] = ()) -> Document:
    return Document(text, Span(0, 9), speech=(Segment(Span(0, 9), text, words=words),))


def score(query: TokenVectors, document: TokenVectors) -> float:
    return float((query.vectors @ document.vectors.T).max(axis=1).sum())


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return encoders.create("hashed", cache=tmp_path)


def test_ranks_by_shared_words(encoder: Encoder) -> None:
    documents = [said("a dog in the snow"), said("the dog barks"), said("cats at home")]
    encoded = encoder.encode_documents(documents)
    (query,) = encoder.encode_queries(["Dog SNOW"])
    scores = [score(query, document) for document in encoded]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(2.0, abs=1e-5)
    assert scores[2] < 1.0


@pytest.mark.parametrize("name", sorted(COLOURS))
def test_a_colour_finds_its_frame(encoder: Encoder, name: str) -> None:
    frames = [Frame(0, Span(0, 4), jpeg(colour)) for colour in COLOURS]
    (document,) = encoder.encode_documents([Document("d", Span(0, 4), frames=tuple(frames))])
    (query,) = encoder.encode_queries([name])
    assert list(COLOURS)[document.segments[(document.vectors @ query.vectors[0]).argmax()]] == name


def test_large_colours_are_named_largest_first() -> None:
    assert colours(jpeg("blue", "blue", "red")) == ["blue", "red"]


def test_each_vector_knows_where_it_comes_from(encoder: Encoder) -> None:
    words = (Word(0, 5, Span(1.0, 1.5)), Word(6, 11, Span(1.5, 2.0)))
    document = Document(
        "d",
        Span(0, 9),
        frames=(Frame(3, Span(2, 4), jpeg("green")),),
        speech=(Segment(Span(0, 1), "one"), Segment(Span(1, 2), "hello world", words=words)),
        metadata=(Segment(Span(0, 9), "my_clip"),),
    )
    (found,) = encoder.encode_documents([document])
    video, speech, metadata = (MODALITY_IDS[name] for name in (Modality.VIDEO, Modality.SPEECH, Modality.METADATA))
    assert found.modality_ids.tolist() == [video, speech, speech, speech, metadata, metadata]
    assert found.spans.tolist() == [[2, 4], [0, 1], [1, 1.5], [1.5, 2], [0, 9], [0, 9]]
    assert found.segments.tolist() == [0, 0, 1, 1, 0, 0]
    assert found.offsets.tolist() == [[0, 0], [0, 3], [0, 5], [6, 11], [0, 2], [3, 7]]
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-5)


def test_nothing_gives_no_rows_and_an_empty_query_one(encoder: Encoder) -> None:
    (nothing,) = encoder.encode_documents([Document("d", Span(0, 0))])
    (query,) = encoder.encode_queries(["  ?! "])
    assert nothing.vectors.shape == (0, 128)
    assert query.vectors.shape == (1, 128)
    assert query.offsets.tolist() == [[0, 0]]


def test_a_frame_that_is_not_an_image_is_an_error(encoder: Encoder) -> None:
    with pytest.raises(ClamrError, match="not an image"):
        encoder.encode_documents([Document("d", Span(0, 1), frames=(Frame(0, Span(0, 1), b"nonsense"),))])


def test_unknown_names_and_settings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mini, clamr, clamr-omni, hashed"):
        encoders.create("bag-of-words", cache=tmp_path)
    with pytest.raises(UsageError, match="no setting 'depth'"):
        encoders.describe("hashed", cache=tmp_path, depth=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hashed", "mini"])
def test_the_description_is_that_of_the_encoder(tmp_path: Path, name: str) -> None:
    try:
        made = encoders.create(name, cache=tmp_path)
    except ClamrError as error:
        pytest.skip(str(error))
    assert encoders.describe(name, cache=tmp_path) == made.info
