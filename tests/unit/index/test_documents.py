import itertools

import numpy as np

from clamr_cli.index.documents import (
    Shot,
    document_of,
    frames_of,
    moment_of,
    share_out,
    split_video,
    with_sound,
)
from clamr_cli.types import Document, Frame, Segment, Span, Word


def shot(time: float, start: float, end: float, number: int) -> Shot:
    return Shot(Frame(time, Span(start, end), b"jpeg"), number)


def spoken(start: float, end: float, text: str, words: tuple[Word, ...] = ()) -> Segment:
    return Segment(Span(start, end), text, "whisper", words=words)


def test_a_short_video_is_one_document():
    shots = (shot(0, 0, 20, 0), shot(20, 20, 42, 1))
    speech, ocr, metadata = [spoken(1, 3, "hello")], [Segment(Span(5, 9), "TITLE")], [Segment(Span(0, 42), "holiday")]
    [document] = split_video("abc", 42.0, shots, speech, ocr, metadata, window=60)
    assert document.id == "abc#0"
    assert document.span == Span(0, 42)
    assert [frame.time for frame in document.frames] == [0, 20]
    assert [[*document.speech], [*document.ocr], [*document.metadata]] == [speech, ocr, metadata]


def test_a_long_video_gives_windows_and_nothing_said_is_lost():
    speech = tuple(spoken(t, t + 4, f"line {t}") for t in range(0, 300, 5))
    metadata = [Segment(Span(0, 300), "talk")]
    made = split_video("abc", 300.0, speech=speech, metadata=metadata, window=60)
    assert len(made) >= 5
    assert all(document.span.duration <= 60 for document in made)
    assert [s.text for document in made for s in document.speech] == [s.text for s in speech]
    assert all(document.metadata[0].text == "talk" for document in made)


def test_text_that_stays_on_screen_is_in_every_window_with_its_own_time():
    made = split_video("abc", 120.0, ocr=[Segment(Span(10, 110), "LIVE")], window=60)
    assert next(document.ocr[0].span.start for document in made) == 10
    assert made[-1].ocr[0].span.end == 110
    assert all(d.span.start <= d.ocr[0].span.start <= d.ocr[0].span.end <= d.span.end for d in made)


def test_every_shot_gives_a_frame_before_one_gives_two():
    shots = [shot(t, t, t + 1, 0) for t in range(20)]
    shots += [shot(20, 20, 22, 1), shot(22, 22, 24, 2)]
    shots += [shot(t, t, t + 1, 3) for t in range(24, 40)]
    frames = frames_of(shots, Span(0, 40))
    assert len(frames) == 10
    assert {20, 22} <= {frame.time for frame in frames}


def test_the_longest_shots_win_where_there_are_more_than_frames():
    shots = [shot(t, t, t + 1, number) for number, t in enumerate(range(12))]
    shots.append(shot(12, 12, 17, 12))
    frames = frames_of(shots, Span(0, 17))
    assert len(frames) == 10
    assert 12 in [frame.time for frame in frames]


def test_frame_spans_tile_the_window():
    shots = [shot(t, t, t + 2, t // 6) for t in range(0, 60, 2)]
    frames = frames_of(shots, Span(4, 50))
    assert frames[0].span.start == 4
    assert frames[-1].span.end == 50
    assert all(a.span.end == b.span.start for a, b in itertools.pairwise(frames))


def test_a_still_picture_is_seen_in_every_window():
    made = split_video("abc", 150.0, [shot(0, 0, 150, 0)], window=60)
    assert all(len(document.frames) == 1 for document in made)
    assert all(document.frames[0].span == document.span for document in made)


def test_a_sentence_across_a_border_is_split_between_words():
    words = (Word(0, 3, Span(58, 59)), Word(4, 7, Span(59, 60)), Word(8, 13, Span(60.5, 61)))
    first, second = share_out([spoken(58, 61, "one two three", words)], [Span(0, 60), Span(60, 100)])
    assert [(s.text, s.span) for s in first] == [("one two", Span(58, 60))]
    assert [(s.text, s.span, s.words[0].start) for s in second] == [("three", Span(60.5, 61), 0)]


def test_what_lies_past_the_end_is_kept():
    [only] = share_out([spoken(120, 125, "late")], [Span(0, 100)])
    assert only[0].text == "late"


def test_an_encoder_that_takes_audio_gets_the_first_half_minute_of_each_moment():
    sound = np.arange(65 * 16000).astype(np.int16)
    documents = [Document("v#0", Span(0, 40)), Document("v#1", Span(40, 68)), Document("v#2", Span(68, 70))]
    first, second, silent = with_sound(documents, sound)
    assert (first.audio.span, len(first.audio.samples)) == (Span(0, 30), 30 * 16000)
    assert second.audio.samples[0] == sound[40 * 16000]
    assert len(second.audio.samples) == 25 * 16000
    assert silent.audio is None


def test_a_stored_moment_becomes_its_document_again():
    frame = Frame(12.5, Span(10, 20), b"jpeg")
    made = Document("v#1", Span(10, 20), (frame,), (Segment(Span(11, 12), "hi"),), (), (Segment(Span(10, 20), "t"),))
    moment = moment_of(made, "v")
    assert document_of(moment, {12.5: Frame(12.5, Span(0, 99), b"jpeg")}) == made
    assert document_of(moment, {}).frames == ()
