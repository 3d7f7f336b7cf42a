from clamr_cli.text import TextTrack
from clamr_cli.types import Segment, Span, Word


def segment(text: str, start: float, end: float, words: tuple[Word, ...] = ()) -> Segment:
    return Segment(Span(start, end), text, words=words)


def test_join_keeps_every_segment_findable():
    track = TextTrack.join([segment("hello there", 0, 2), segment("world", 2, 3)])
    assert track.text == "hello there\nworld"
    place = track.locate(12, 17)
    assert place is not None
    assert (place.segment, place.start, place.end, place.span) == (1, 0, 5, Span(2, 3))


def test_word_times_narrow_the_span():
    words = (Word(0, 5, Span(0.0, 0.4)), Word(6, 11, Span(0.5, 1.0)))
    track = TextTrack.join([segment("hello there", 0, 2, words)])
    place = track.locate(6, 9)
    assert place is not None
    assert place.span == Span(0.5, 1.0)


def test_a_stretch_across_segments_is_cut_at_the_first():
    track = TextTrack.join([segment("ab", 0, 1), segment("cd", 1, 2)])
    place = track.locate(1, 5)
    assert place is not None
    assert (place.segment, place.start, place.end) == (0, 1, 2)


def test_a_stretch_that_begins_in_a_separator_belongs_to_what_follows():
    track = TextTrack.join([segment("ab", 0, 1), segment("cd", 1, 2)])
    place = track.locate(2, 4)
    assert place is not None
    assert (place.segment, place.start, place.end) == (1, 0, 1)


def test_nothing_is_nowhere():
    track = TextTrack.join([segment("ab", 0, 1), segment("cd", 1, 2)])
    assert track.locate(1, 1) is None
    assert track.locate(2, 3) is None
    assert track.locate(9, 12) is None
    assert TextTrack.join([]).locate(0, 1) is None
