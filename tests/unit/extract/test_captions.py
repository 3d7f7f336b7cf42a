"""Captions stand for the speech by language, marks and content, for files and tracks alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clamr_cli.extract.sidecars import (
    Captions,
    choose,
    examined,
    is_log,
    marks_of,
    on_video,
    passed_over,
    track_captions,
)
from clamr_cli.types import Segment, Span, SubtitleTrack


def lines(*texts: str, seconds: float = 2.0, source: str = "subtitle") -> list[Segment]:
    return [Segment(Span(number * 3.0, number * 3.0 + seconds), text, source) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("part", "language", "marks"),
    [
        (".hi", "hi", set()),
        (".es.hi", "es", {"impaired"}),
        (".hi.forced.de", "de", {"impaired", "forced"}),
        (".Deutsch (Forced)", "de", {"forced"}),
        ("_fre", "fr", set()),
        ("[ita][cc]", "it", {"impaired"}),
        (".3_Português", "pt", set()),
        (".Portugue\u0302s", "pt", set()),
        (".Brazilian Portuguese", "pt", set()),
        (".Chinese (Simplified)", "zh", set()),
        (".Українська", "uk", set()),
        (".nl-orig", "nl", {"original"}),
        (".sv.auto", "sv", {"machine"}),
        (".Signs & Songs", "", {"forced"}),
        (".2160p.WEB-DL.x265.jp", "ja", set()),
        (".commentary.en", "en", {"commentary"}),
        (".de-en", "de", {"machine"}),
        (".de-AT", "de", set()),
        (".spa-LA", "es", set()),
        (".spa_LA", "es", set()),
    ],
)
def test_names_say_language_and_marks(part: str, language: str, marks: set[str]) -> None:
    found, code, _ = marks_of(part)
    assert (found - {"plain"}, code) == (marks, language)


def test_a_word_that_says_nothing_known_is_noted() -> None:
    assert marks_of(".Restored.en")[2]
    assert not marks_of(".1080p.default.en")[2]


def test_the_spoken_language_wins_over_the_order_of_names() -> None:
    files = [Captions(f"a.{code}.vtt", language=code, content="speech") for code in ("bg", "da", "ko", "pt")]
    assert choose(files, "ko").speech == files[2]
    assert choose(files, "sw", audible=False).beside == files[0]
    assert choose(files, "sw", sure=True) == choose(files, "sw", sure=True, audible=False)
    assert choose(files, "sw", sure=True).speech is None


@pytest.mark.slow
def test_what_is_said_by_name_or_unknown_is_asked_of_the_sound_only_where_it_matters() -> None:
    named, unnamed = Captions("a.fi.srt", language="fi"), Captions("a.srt")
    assert choose([named]).detect
    assert not choose([named], "fi").detect
    assert choose([named], "et").detect
    assert not choose([named], "et", sure=True).detect
    assert not choose([named], audible=False).detect
    assert not choose([unnamed]).detect
    foreign = replace(unnamed, content="speech", sample="Σήμερα μιλάμε για φάρους και πλοία")
    assert choose([foreign]).detect
    assert not choose([foreign], "el").detect
    assert choose([foreign], "en", sure=True).speech is None
    assert not choose([named, unnamed]).detect
    assert choose([named, unnamed]).speech == unnamed
    assert choose([named, unnamed], "fi").speech == named
    assert not choose([]).detect


def test_related_languages_and_other_tags_of_one_serve() -> None:
    assert choose([Captions("a.nn.srt", language="nn")], "no", sure=True).speech is not None
    assert choose([Captions("a.de.srt", language="de")], "nl", sure=True).speech is None


def test_forced_lines_stand_beside_and_never_for_the_speech() -> None:
    forced, whole = Captions("a.fr.forced.srt", language="fr", forced=True), Captions("a.fr.srt", language="fr")
    assert choose([forced], "fr").speech is None
    assert choose([forced], "fr").beside == forced
    assert choose([forced], audible=False).beside == forced
    assert choose([forced, whole], "fr").speech == whole
    assert "a part only" in passed_over([forced, whole], choose([forced, whole], "fr"), "fr")[0]


def test_a_notice_names_captions_kept_beside_though_they_were_read_again() -> None:
    track = SubtitleTrack(2, "subrip", "de")
    choice = choose([track_captions(track)], "en")
    assert passed_over([track_captions(track)], choice, "en")[0].endswith("kept beside the speech")


def test_commentary_is_never_taken() -> None:
    commentary = Captions("a.en.commentary.srt", language="en", commentary=True)
    choice = choose([commentary], "en")
    assert (choice.speech, choice.beside) == (None, None)
    assert "commentary" in passed_over([commentary], choice, "en")[0]


@pytest.mark.parametrize(
    ("title", "flags", "forced"),
    [
        ("Signs & Songs", {}, True),
        ("English (Forced)", {}, True),
        ("Foreign parts only", {}, True),
        ("", {"forced": True}, True),
        ("Full subtitles", {}, False),
        ("Dialogue", {}, False),
    ],
)
def test_tracks_are_read_by_flags_and_titles(title: str, flags: dict[str, bool], forced: bool) -> None:
    captions = track_captions(SubtitleTrack(3, "ass", "en", title, **flags))
    assert captions.forced is forced
    assert (choose([captions], "en").speech is None) is forced


def test_of_equals_files_go_before_tracks_and_whole_before_machine() -> None:
    track = track_captions(SubtitleTrack(2, "subrip", "en"))
    machine = Captions("a.en.auto.vtt", language="en", machine=True)
    assert choose([track, Captions("a.en.srt", language="en")], "en").speech.name == "a.en.srt"  # type: ignore[union-attr]
    assert choose([machine, track], "en").speech == track


def test_few_lines_over_a_long_video_are_a_part() -> None:
    captions = examined(Captions("a.srt"), lines("Halt!", "Wer da?", "Gut."))
    assert choose([captions], duration=30.0).speech == captions
    assert choose([captions], duration=5400.0).speech is None
    assert choose([captions], duration=5400.0).beside == captions


def test_lines_that_are_clearly_in_another_language_are_not_the_speech() -> None:
    english = examined(Captions("a.srt"), lines("Where is the lighthouse that burned down?", "Over there, my friend."))
    german = examined(Captions("a.srt"), lines("Wo ist der Leuchtturm, der abgebrannt ist?", "Dort drüben."))
    japanese = examined(Captions("a.srt"), lines("灯台はどこですか"))
    short = examined(Captions("a.srt"), lines("Ja!", "Halt!"))
    assert choose([german], "en", sure=True).speech is None
    assert choose([german], "en").detect
    assert choose([german], "de", sure=True).speech == german
    assert choose([german]).speech == german
    assert choose([short], "en", sure=True).speech == short
    assert choose([english], "ja", sure=True).speech is None
    assert choose([english], "ja", sure=True).beside == english
    assert choose([japanese], "ja", sure=True).speech == japanese
    assert choose([japanese], "en", sure=True).speech is None


LOGS = {
    "dji": "FrameCnt: {n}, DiffTime: 33ms\n2023-11-0{d} 09:10:{n}.500\n[iso: 200] [shutter: 1/50.0] [latitude: 1.{n}]",
    "dji old": "F/2.8, SS 206.14, ISO 100, EV 0, GPS (13.4{n}, 52.5{n}, 15), D 21.{n}m, H 6.{n}m, H.S 1.{n}m/s",
    "dashcam": "2023/11/0{d} 09:10:{n}  {n} km/h  N52.5{n} E13.4{n}",
    "tracker": "Geschwindigkeit: {n} km/h Höhe: 1{n} m Puls: 1{n}",
    "clock": "2023-11-0{d} 09:10:{n}",
    "nmea": "$GPRMC,0910{n},A,5230.{n},N,01324.{n},E,0.1,2.{n},011123,,,A*7{d}",
    "autel": "GPS(8.5{n}, 47.3{n}) HOME(8.5, 47.3) ISO:100 SHUTTER:60 EV:0 F-NUM:2.8 ALT:12.{n}",
}


@pytest.mark.parametrize("form", LOGS.values(), ids=LOGS)
def test_logs_are_not_speech(form: str) -> None:
    log = examined(Captions("a.srt"), lines(*(form.format(n=20 + n, d=n) for n in range(6))))
    assert log.content == "log"
    choice = choose([log])
    assert (choice.speech, choice.beside) == (None, None)
    assert "not speech" in passed_over([log], choice)[0]


@pytest.mark.parametrize(
    "texts",
    [
        ["Ten.", "Nine.", "Eight.", "Seven."],
        ["10", "9", "8", "7"],
        ["In 1914 there were 23 of them.", "In 1918 there were 4 of them.", "In 1920 there were 2 of them."],
        ["My number is 030 123 456.", "And yours?", "It is 030 654 321."],
        ["The ISO is 100 today.", "Use a wide aperture.", "Latitude matters in June."],
        ["Chapter 1: verse 3", "Go to gate 4, row 7", "We won 3:2 in 1998, at last"],
    ],
)
def test_speech_with_numbers_is_speech(texts: list[str]) -> None:
    assert not is_log(texts)


def test_what_is_passed_over_is_listed_once_for_each_reason() -> None:
    files = [Captions(f"a.{code}.vtt", language=code) for code in ("en", "af", "ar", "de", "fr", "it")]
    (notice,) = passed_over(files, choose(files, "en"), "en")
    assert notice.startswith("a.af.vtt, a.ar.vtt, a.de.vtt and 2 more: ")
    assert "another language" in notice


def test_times_of_a_broadcast_are_moved_onto_the_video_and_others_stay() -> None:
    def at(*starts: float) -> list[Segment]:
        return [Segment(Span(start, start + 2), "x", "subtitle") for start in starts]

    assert on_video(at(3602, 3650), 60) == at(2, 50)
    assert on_video(at(36_010), 60) == at(10)
    for lines_, duration in ((at(3602, 3650), 3700), (at(3602, 3700), 60), (at(1, 3602), 60), (at(3602), 0)):
        assert on_video(lines_, duration) == lines_
