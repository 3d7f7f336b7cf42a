import pytest

from clamr_cli.text import TextTrack, inflections, plain
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it\u2019s", "it's"),
        ("it\u02bcs", "IT'S"),
        ("rock \u2018n\u2019 roll", "rock 'n' roll"),
        ("5\u2032", "5'"),
        ("\u201eWort\u201c", '"Wort"'),
        ("\u00ab\u202fmot\u00a0\u00bb", '"mot"'),
        ("\uff02x\uff02", '"x"'),
        ("well\u2011known", "well-known"),
        ("yes \u2014 no", "yes--no"),
        ("yes\u2014no", "yes \u2013 no"),
        ("\u22125", "-5"),
        ("wait\u2026", "wait..."),
        ("wait . . .", "wait..."),
        ("quoi\u202f?", "quoi?"),
        ("Don\u00adau\u200bdampf", "donaudampf"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufb01nal", "final"),
        ("\uff21\uff22\uff11", "ab1"),
        ("\uff76\uff9e", "\u30ac"),
        ("STRASSE", "stra\u00dfe"),
        ("STRA\u1e9eE", "strasse"),
        ("\u0130zmir", "izmir"),
        ("KIZ", "k\u0131z"),
        ("\u0152uvre", "oeuvre"),
        ("a\u00a0b\u3000c\n d", "a b c d"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3"),
        ("\u2764\ufe0f", "\u2764"),
        ("\u200ea\u202eb", "ab"),
        ("\u0435\u0449\u0435", "\u0415\u0449\u0451"),
        ("\u0643\u0650\u062a\u064e\u0627\u0628", "\u0643\u0640\u062a\u0627\u0628"),
        ("\u0623\u062d\u0645\u062f", "\u0627\u062d\u0645\u062f"),
        ("\u06a9\u06cc", "\u0643\u064a"),
        ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("\u0663\u0664 \u06f3 \u0969", "34 3 3"),
    ],
)
def test_what_reads_the_same_is_the_same(one: str, other: str) -> None:
    assert plain(one) == plain(other)
    assert plain(plain(one)) == plain(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("don't", "dont"),
        ("re-sign", "resign"),
        ("resume", "r\u00e9sum\u00e9"),
        ("a b", "ab"),
        ("well known", "well-known"),
        ("1.5", "15"),
        ("\u043c\u043e\u0439", "\u043c\u043e\u0438"),
        ("\u30ac", "\u30ab"),
    ],
)
def test_what_reads_differently_stays_different(one: str, other: str) -> None:
    assert plain(one) != plain(other)


def test_names_keep_their_case() -> None:
    assert plain("Cafe\u0301\u2019S", case=True) == "Caf\u00e9'S"


@pytest.mark.parametrize(
    ("word", "forms", "others"),
    [
        ("dance", {"dances", "danced", "dancing"}, {"dank", "dan"}),
        ("running", {"run", "runs"}, {"rune", "ruin"}),
        ("cities", {"city"}, {"cite"}),
        ("stopped", {"stop", "stops", "stopping"}, {"top"}),
        ("bus", {"buses"}, {"bu"}),
        ("größe", {"größe"}, {"große"}),
    ],
)
def test_inflections_are_forms_of_the_word(word, forms, others):
    assert forms | {word} <= inflections(word)
    assert not others & inflections(word)
