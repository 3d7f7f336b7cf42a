"""The words that belong to a frame, and cut segments put together again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.frames.values import Surroundings, Texts, Track
from clamr_cli.index.documents import joined
from clamr_cli.types import Frame, Segment, Span, Word


def said(start: float, end: float, text: str) -> Segment:
    return Segment(Span(start, end), text, "subtitle")


def heard(start: float, *words: str) -> Segment:
    """A sentence of one word a second."""
    text = " ".join(words)
    places = []
    at = 0
    for number, word in enumerate(words):
        places.append(Word(at, at + len(word), Span(start + number, start + number + 0.9)))
        at += len(word) + 1
    return Segment(Span(start, start + len(words)), text, "whisper", words=tuple(places))


def test_words_in_reach_are_taken_of_a_long_stretch():
    words = [f"w{number}" for number in range(24)]
    around = Surroundings(Texts(speech=(heard(0.0, *words),)), 2.0)
    (piece,) = around.of(Span(4.0, 6.0)).speech
    assert piece.text == "w2 w3 w4 w5 w6 w7"
    assert piece.text[piece.words[0].start : piece.words[0].end] == "w2"
    assert piece.span == Span(2.0, 7.9)


def test_a_sentence_in_reach_is_taken_whole():
    sentence = heard(7.0, "the", "volcano", "woke", "up")
    around = Surroundings(Texts(speech=(sentence,)), 2.0)
    assert around.of(Span(4.0, 6.0)).speech == (sentence,)
    assert around.of(Span(2.0, 4.0)).speech == ()


def test_subtitles_are_taken_whole_and_text_only_while_it_stands_there():
    texts = Texts(
        speech=(said(0, 5, "before"), said(8, 12, "within"), said(30, 40, "later")),
        ocr=(Segment(Span(9, 60), "Platform 9", "easyocr"), Segment(Span(0, 9.5), "gone", "easyocr")),
        chapters=(Segment(Span(0, 20), "Departure", "chapter"),),
    )
    near = Surroundings(texts, 3.0).of(Span(10, 12))
    assert [segment.text for segment in near.speech] == ["within"]
    assert [(segment.text, segment.span) for segment in near.ocr] == [("Platform 9", Span(10, 12))]
    document = Surroundings(texts, 3.0).document("ab", 7, Frame(10.5, Span(10, 12), b"jpeg"))
    assert (document.id, document.frames[0].time, document.metadata[0].text) == ("ab#7", 10.5, "Departure")
    assert ([*document.speech], [*document.ocr]) == ([*near.speech], [*near.ocr])


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0, 30)), max_size=20), st.tuples(st.floats(0, 90), st.floats(0, 20))
)
def test_looking_up_by_time_misses_nothing(spans, wanted):
    segments = [said(start, start + length, str(number)) for number, (start, length) in enumerate(spans)]
    span = Span(wanted[0], wanted[0] + wanted[1])
    assert set(Track(segments).within(span)) == {one for one in segments if one.span.overlaps(span)}


def test_what_moments_cut_is_whole_again():
    cut = [
        Segment(Span(10, 60), "Platform 9", "easyocr"),
        Segment(Span(60, 75), "Platform 9", "easyocr"),
        Segment(Span(90, 95), "Platform 9", "easyocr"),
        said(5, 6, "hello"),
    ]
    assert [(one.text, one.span) for one in joined(cut)] == [
        ("hello", Span(5, 6)),
        ("Platform 9", Span(10, 75)),
        ("Platform 9", Span(90, 95)),
    ]
