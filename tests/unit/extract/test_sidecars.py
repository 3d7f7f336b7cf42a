"""Sidecars are found by name, read safely, and become the description modality without repetition."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from clamr_cli.extract.clean import split_words
from clamr_cli.extract.metadata import read_metadata
from clamr_cli.extract.sidecars import Sidecars, find_sidecars, sidecar_signature
from clamr_cli.languages import short_code
from clamr_cli.types import Chapter, MediaInfo, Segment, Span, VideoFields


def media(**changes: Any) -> MediaInfo:
    values: dict[str, Any] = {
        "container": "mov", "duration": 60.0, "duration_from_header": 60.0, "duration_from_content": None,
        "width": 64, "height": 64, "rotation": 0, "fps": 25.0, "video_codec": "h264", "video_stream": 0,
    }  # fmt: skip
    return MediaInfo(**(values | changes))


def noted(folder: Path, name: str = "clip.mp4", **changes: Any) -> tuple[dict[str, str], VideoFields, list[str]]:
    segments, fields, notices = read_metadata(folder / name, folder, media(**changes))
    return {segment.source: segment.text for segment in segments}, fields, notices


def read(path: Path, root: Path) -> tuple[dict[str, str], VideoFields, list[str]]:
    segments, fields, notices = read_metadata(path, root, media())
    return {segment.source: segment.text for segment in reversed(segments)}, fields, notices


def names_of(sidecars: Sidecars) -> list[str]:
    return [path.name for path in (*(each.path for each in sidecars.subtitles if each.path), *sidecars.notes.values())]


def test_sidecars_are_found_in_any_case_and_only_those_of_the_video(tmp_path: Path) -> None:
    names = ("Clip.SRT", "clip.de.srt", "clip.info.json", "CLIP.NFO", "clip.description", "clip2.srt", "clip.part.srt")
    for name in (*names, "clip.part.mp4"):
        (tmp_path / name).touch()
    found = find_sidecars(tmp_path / "clip.mp4")
    assert names_of(found) == list(names[:5])


def test_the_wanted_language_comes_first_then_no_language(tmp_path: Path) -> None:
    for name in ("a.en.srt", "a.srt", "a.fr.auto.vtt", "a.fr-CA.vtt", "a.mp4.ass"):
        (tmp_path / name).touch()
    assert [s.path.name for s in find_sidecars(tmp_path / "a.mp4", "fra").subtitles][:3] == [
        "a.fr-CA.vtt",
        "a.fr.auto.vtt",
        "a.srt",
    ]
    assert find_sidecars(tmp_path / "a.mp4").subtitles[0].path.name == "a.srt"


def listed(folder: Path, video: str, *names: str) -> list[tuple[str, str]]:
    for name in (video, *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [(one.name, one.language) for one in find_sidecars(folder / video).subtitles]


def test_folders_of_languages_hold_the_subtitles_of_each_video(tmp_path: Path) -> None:
    (tmp_path / "e2.mkv").touch()
    names = ("Subtitles/German/e1.srt", "Subtitles/German/e2.srt", "Subtitles/fr/e1.forced.srt", "Subtitles/Old/e1.srt")
    assert sorted(listed(tmp_path, "e1.mkv", *names)) == [
        ("Subtitles/German/e1.srt", "de"),
        ("Subtitles/fr/e1.forced.srt", "fr"),
    ]
    assert listed(tmp_path / "film", "film.mkv", "Subs/Greek/anything.srt") == [("Subs/Greek/anything.srt", "el")]


def test_names_in_words_brackets_and_other_normal_forms_belong_to_the_video(tmp_path: Path) -> None:
    names = ("\u00dcbung.Italiano.srt", "u\u0308bung_fr.vtt", "\u00dcbung (Spanish).ass", "\u00dcbung.mov.srt")
    found = listed(tmp_path, "\u00dcbung.mov", *names, "\u00dcbung 2.srt", "\u00dcbungen.srt", "\u00dcbung-3.srt")
    assert set(found) == set(zip(names, ("it", "fr", "es", ""), strict=True))


def test_a_part_that_is_no_language_comes_last_and_does_not_vanish(tmp_path: Path) -> None:
    assert listed(tmp_path, "a.mkv", "a.Restored.srt", "a.2160p.srt") == [("a.2160p.srt", ""), ("a.Restored.srt", "")]


def test_a_subtitle_of_a_longer_name_is_that_videos(tmp_path: Path) -> None:
    names = ("trip.day2.srt", "trip.day2.de.srt", "trip.de.srt", "trip.day2.mov")
    assert listed(tmp_path, "trip.mov", *names) == [("trip.de.srt", "de")]
    assert [one.language for one in find_sidecars(tmp_path / "trip.day2.mov").subtitles] == ["", "de"]
    assert listed(tmp_path, "b.mp4", "b.mkv", "b.mkv.srt", "b.mp4.en.srt") == [("b.mp4.en.srt", "en")]


def test_a_folder_of_subtitles_is_its_only_videos_or_sorted_by_name(tmp_path: Path) -> None:
    found = listed(tmp_path / "film", "x.mp4", "SUBS/3_Dutch.srt", "SUBS/4_pt-BR.srt", "sample.mp4")
    assert found == [("SUBS/3_Dutch.srt", "nl"), ("SUBS/4_pt-BR.srt", "pt")]
    series = tmp_path / "series"
    names = (
        "E2.mkv",
        "Subtitles/E1/2_Danish.srt",
        "Subtitles/E2/2_Danish.srt",
        "Subtitles/E1.fi.srt",
        "Subtitles/sv.srt",
    )
    assert set(listed(series, "E1.mkv", *names)) == {("Subtitles/E1/2_Danish.srt", "da"), ("Subtitles/E1.fi.srt", "fi")}


def test_a_change_in_a_folder_of_subtitles_changes_the_signature(tmp_path: Path) -> None:
    (tmp_path / "Subs").mkdir()
    before = sidecar_signature(tmp_path / "a.mp4")
    (tmp_path / "Subs" / "English.srt").touch()
    assert sidecar_signature(tmp_path / "a.mp4") != before


def test_a_zoom_transcript_belongs_to_all_views_of_its_recording(tmp_path: Path) -> None:
    transcript = "GMT20230102-080910_Recording.transcript.vtt"
    views = ("_1280x720", "_gallery_1280x720", "_avo_640x360")
    for view in views:
        assert listed(tmp_path, f"GMT20230102-080910_Recording{view}.mp4", transcript) == [(transcript, "")]
    assert find_sidecars(tmp_path / "GMT20230103-080910_Recording_1280x720.mp4").subtitles == ()


def test_json_beside_a_video_counts_only_under_names_of_transcripts(tmp_path: Path) -> None:
    names = ("a.json", "a.whisper.json", "a.tsv", "a.live_chat.json", "a.ffprobe.json", "a.info.json")
    assert [name for name, _ in listed(tmp_path, "a.mp4", *names)] == ["a.json", "a.whisper.json", "a.tsv"]


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    secret, library = tmp_path / "secret.txt", tmp_path / "library"
    (library / "store").mkdir(parents=True)
    secret.write_text("a password")
    (library / "store" / "x").write_text("said")
    (library / "a.description").symlink_to(secret)
    (library / "a.srt").symlink_to(secret)
    (library / "a.de.srt").symlink_to(library / "store" / "x")
    (library / "Subs").symlink_to(tmp_path)
    found = find_sidecars(library / "a.mp4", root=library)
    assert names_of(found) == ["a.de.srt"]
    assert {path.name for path in found.refused} == {"a.description", "a.srt"}
    segments, _, _ = read_metadata(library / "a.mp4", library, media())
    assert not [segment for segment in segments if "password" in segment.text]
    real = tmp_path / "nas"
    real.mkdir()
    for name in ("b.mp4", "b.srt"):
        (real / name).touch()
        (library / name).symlink_to(real / name)
    assert names_of(find_sidecars(library / "b.mp4", root=library)) == ["b.srt"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["<video>" * 100_000, "<movie><title>" * 40_000, "<movie " * 100_000, "<a" * 200_000])
def test_an_nfo_that_never_ends_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "clip.nfo").write_text(text)
    assert noted(tmp_path)[2][0].startswith("clip.nfo was left out")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 999, "1" + "0" * 9_999, "NaN", "Infinity"])
def test_wild_numbers_cost_the_sidecar_at_most(tmp_path: Path, number: str) -> None:
    chapter = f'{{"start_time": {number}, "end_time": 2, "title": "Sea"}}'
    (tmp_path / "clip.info.json").write_text(f'{{"chapters": [{chapter}]}}')
    notes, _, _ = noted(tmp_path)
    assert "filename" in notes


def test_a_video_without_a_folder_has_no_sidecars(tmp_path: Path) -> None:
    assert names_of(find_sidecars(tmp_path / "gone" / "a.mp4")) == []


def test_the_signature_changes_with_every_sidecar_change(tmp_path: Path) -> None:
    video, subtitle = tmp_path / "a.mp4", tmp_path / "a.srt"
    seen = [sidecar_signature(video)]
    (tmp_path / "unrelated.srt").touch()
    assert sidecar_signature(video) == seen[0]
    subtitle.write_text("1")
    seen.append(sidecar_signature(video))
    os.utime(subtitle, ns=(5, 5))
    seen.append(sidecar_signature(video))
    subtitle.rename(tmp_path / "a.en.srt")
    seen.append(sidecar_signature(video))
    assert len(set(seen)) == len(seen)


def test_info_json_becomes_fields_and_segments(tmp_path: Path) -> None:
    info = {
        "title": "Beach walk", "uploader": "Ada", "upload_date": "20250411", "tags": ["sea", "sand", "sea"],
        "description": "Low tide. https://example.org/x?y=1 More.", "language": "en-GB", "categories": None,
        "chapters": [{"start_time": 5, "end_time": 90, "title": "Dunes"}, {"start_time": "x", "title": 3}, 7],
    }  # fmt: skip
    (tmp_path / "clip.info.json").write_text(json.dumps(info))
    segments, fields, notices = read_metadata(tmp_path / "clip.mp4", tmp_path, media())
    texts = {segment.source: segment.text for segment in segments}
    assert fields == VideoFields("Beach walk", "Ada", "2025-04-11", "en")
    assert texts["date"] == "11 April 2025"
    assert texts["tags"] == "sea, sand"
    assert texts["description"] == "Low tide. More."
    assert segments[-1] == Segment(Span(5.0, 60.0), "Dunes", "chapter")
    assert all(segment.span == Span(0.0, 60.0) for segment in segments[:-1])
    assert notices == []


def test_what_is_said_twice_is_noted_once(tmp_path: Path) -> None:
    (tmp_path / "Beach_walk.info.json").write_text(json.dumps({"title": "Beach walk", "description": "BEACH WALK!"}))
    texts, _, _ = noted(tmp_path, "Beach_walk.mp4", tags={"title": "beach walk", "comment": "filmed at noon"})
    assert texts == {"title": "Beach walk", "comment": "filmed at noon"}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\x00\x01", '{"title": {"a": 1}}'])
def test_malformed_json_is_at_most_a_notice(tmp_path: Path, content: str) -> None:
    (tmp_path / "clip.info.json").write_text(content)
    texts, fields, notices = noted(tmp_path)
    assert texts == {"filename": "clip"}
    assert fields.title == "clip"
    assert content.startswith('{"title"') or "clip.info.json" in notices[0]


def test_kodi_nfo_is_read_and_its_trailing_address_ignored(tmp_path: Path) -> None:
    (tmp_path / "clip.nfo").write_text(
        "<?xml version='1.0' encoding='UTF-8'?><movie><title>The Dunes</title><genre>Nature</genre>"
        "<studio>Sea TV</studio>"
        "<actor><name>Ada L.</name></actor><premiered>2019-07-02</premiered><plot>Sand &amp; wind.</plot></movie>\n"
        "https://example.org/title/1"
    )
    texts, fields, notices = noted(tmp_path)
    assert fields == VideoFields("The Dunes", "Sea TV", "2019-07-02")
    assert (texts["genre"], texts["cast"], texts["description"]) == ("Nature", "Ada L.", "Sand & wind.")
    assert notices == []


@pytest.mark.parametrize(
    "plot",
    [
        "Salt & sand",
        "Salt &amp; sand",
        "<![CDATA[Salt & sand]]>",
        "Salt&nbsp;&amp; sand",
        "Salt \x01& sand",
        "Salt &#38; sand",
    ],
)
def test_an_nfo_is_read_as_it_is_meant(tmp_path: Path, plot: str) -> None:
    (tmp_path / "clip.nfo").write_text(f"<movie><title>M & M</title><plot>{plot}</plot><year>1977</year></movie>")
    texts, fields, notices = noted(tmp_path)
    assert (texts["title"], texts["description"], fields.date, notices) == ("M & M", "Salt & sand", "1977", [])


def test_an_nfo_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "clip.nfo").write_text("<movie><title>Dunes</title><year>1977</year><plot>Once upon")
    texts, fields, notices = noted(tmp_path)
    assert (texts["title"], fields.title, fields.date) == ("Dunes", "Dunes", "1977")
    assert "clip.nfo was read in part: malformed XML" in notices[0]


def test_the_files_of_a_folder_hold_for_its_one_film_and_for_the_episodes_of_a_show(tmp_path: Path) -> None:
    season = tmp_path / "Show" / "Season 2"
    film = tmp_path / "Film"
    for folder in (season, film):
        folder.mkdir(parents=True)
    (season / "a.mkv").touch()
    (season / "a.nfo").write_text(
        "<episodedetails><title>Tide</title><season>2</season><episode>05</episode></episodedetails>"
    )
    (tmp_path / "Show" / "tvshow.nfo").write_text(
        "<tvshow><title>Coast</title><genre>Nature</genre><plot>All.</plot></tvshow>"
    )
    texts, fields, _ = read(season / "a.mkv", tmp_path)
    assert texts == {
        "title": "Tide", "season": "season 2", "episode": "episode 5", "show": "Coast", "genre": "Nature",
        "filename": "a", "folder": "Show",
    }  # fmt: skip
    assert fields.title == "Tide"
    (film / "f.mkv").touch()
    (film / "f-trailer.mkv").touch()
    (film / "movie.nfo").write_text("<movie><title>Nosferatu</title><year>1922</year></movie>")
    assert read(film / "f.mkv", tmp_path)[1] == VideoFields("Nosferatu", "", "1922")
    before = sidecar_signature(film / "f.mkv", tmp_path)
    (film / "g.mkv").touch()
    assert read(film / "f.mkv", tmp_path)[1].title == "f"
    assert sidecar_signature(film / "f.mkv", tmp_path) != before


XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
 xmp:Rating="4" photoshop:DateCreated="2021-06-30T23:50:00+02:00" photoshop:City="Riga">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Midsummer</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">Bonfire at the lake</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>fire</rdf:li><rdf:li>lake</rdf:li></rdf:Bag></dc:subject>
<lr:hierarchicalSubject><rdf:Bag><rdf:li>Nature|Water|lake</rdf:li></rdf:Bag></lr:hierarchicalSubject>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


@pytest.mark.parametrize("name", ["clip.xmp", "Clip.XMP", "clip.mp4.xmp"])
def test_xmp_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(XMP, "utf-8")
    texts, fields, notices = noted(tmp_path, created="2021-06-30T21:50:00Z")
    assert fields == VideoFields("Midsummer", "", "2021-06-30")
    assert (texts["description"], texts["tags"], texts["location"]) == (
        "Bonfire at the lake", "fire, lake, Nature, Water", "Riga",
    )  # fmt: skip
    assert notices == []


@pytest.mark.parametrize("element", ["dc:subject", "rdf:li", "x"])
def test_an_xmp_file_nested_without_end_is_read_in_one_pass(tmp_path: Path, element: str) -> None:
    deep = f"<{element}>" * 20_000 + "oak" + f"</{element}>" * 20_000
    (tmp_path / "clip.xmp").write_text(XMP.replace("<rdf:li>fire</rdf:li>", f"<rdf:li>{deep}</rdf:li>"), "utf-8")
    texts, _, notices = noted(tmp_path)
    assert ("oak" in texts["tags"], notices) == (element != "x", [])


TAKEN = {"photoTakenTime": {"timestamp": "1625093400"}, "description": "Bonfire", "people": [{"name": "Liv"}, {}, 3]}


@pytest.mark.parametrize(
    ("video", "sidecar"),
    [
        ("clip.mp4", "clip.mp4.json"),
        ("clip.mp4", "clip.mp4.supplemental-metadata.json"),
        ("clip.mp4", "clip.mp4.supplemental-me.json"),
        ("clip(2).mp4", "clip.mp4(2).json"),
        ("clip(2).mp4", "clip.mp4.supplemental-metadata(2).json"),
        ("clip-edited.mp4", "clip.mp4.json"),
        ("IMG_1.MP4", "IMG_1.HEIC.supplemental-metadata.json"),
        ("a_video_with_a_name_that_is_longer_than_takeout.mp4", "a_video_with_a_name_that_is_longer_than_takeou.json"),
    ],
)
def test_google_takeouts_files_are_read(tmp_path: Path, video: str, sidecar: str) -> None:
    (tmp_path / sidecar).write_text(json.dumps({"title": "night at the lake.mp4", **TAKEN}))
    (tmp_path / "clip.mp4(1).json").write_text(json.dumps({"photoTakenTime": {"timestamp": "1"}, "description": "No"}))
    texts, fields, notices = noted(tmp_path, video, created="2023-01-01T00:00:00Z")
    assert (texts["description"], texts["cast"], fields.date, notices) == ("Bonfire", "Liv", "2021-06-30", [])


@pytest.mark.parametrize("stamp", ["0", "-5", "99999999999", "x", 5, None, ["1"]])
def test_a_takeout_file_without_a_sensible_time_gives_no_date(tmp_path: Path, stamp: object) -> None:
    (tmp_path / "clip.mp4.json").write_text(json.dumps({"photoTakenTime": {"timestamp": stamp}}))
    assert noted(tmp_path, created="2023-01-02T10:00:00Z")[1:] == (VideoFields("clip", "", "2023-01-02"), [])


def test_the_local_date_goes_before_takeouts_utc(tmp_path: Path) -> None:
    (tmp_path / "20210701_005000.mp4.json").write_text(json.dumps(TAKEN))
    assert noted(tmp_path, "20210701_005000.mp4")[1].date == "2021-07-01"
    (tmp_path / "other.json").write_text("[1]")
    assert noted(tmp_path, "other.mp4")[2] == []


def test_the_parts_of_one_recording_are_named(tmp_path: Path) -> None:
    names = (
        "GX010005.MP4",
        "GX020005.MP4",
        "GX010006.MP4",
        "GOPR0007.MP4",
        "GP010007.MP4",
        "GX020005.LRV",
        "VTS_01_1.VOB",
    )
    for name in names:
        (tmp_path / name).touch()
    told = {name: noted(tmp_path, name)[1] for name in names}
    assert told["GX020005.MP4"] == VideoFields("GX020005 (part 2 of 2)", part=2, of=2, group="GX0005")
    assert told["GOPR0007.MP4"].title == "GOPR0007 (part 1 of 2)"
    assert told["GP010007.MP4"].group == "GOPR0007"
    assert [told[name] for name in ("GX010006.MP4", "VTS_01_1.VOB")] == [
        VideoFields("GX010006"),
        VideoFields("VTS_01_1"),
    ]
    before = sidecar_signature(tmp_path / "GX010005.MP4")
    (tmp_path / "GX030005.MP4").touch()
    assert sidecar_signature(tmp_path / "GX010005.MP4") != before
    texts, fields, _ = noted(tmp_path, "GX010005.MP4", tags={"title": "Descent"})
    assert (fields.title, fields.of, texts["part"]) == ("Descent", 3, "part 1 of 3 of GX0005")


def test_plain_nfo_keeps_the_lines_with_words(tmp_path: Path) -> None:
    (tmp_path / "clip.nfo").write_bytes("░▒▓█\nRecorded in Lagos\n-----\n".encode())
    assert noted(tmp_path)[0]["description"] == "Recorded in Lagos"


@pytest.mark.parametrize(
    "content",
    [
        "<movie><title>x</movie>",
        "<",
        "<!DOCTYPE m [<!ENTITY a 'aaaa'>]><movie><title>&a;</title></movie>",
        "<!DOCTYPE m SYSTEM 'file:///etc/passwd'><movie><title>x</title></movie>",
    ],
)
def test_malformed_or_hostile_xml_is_a_notice(tmp_path: Path, content: str) -> None:
    (tmp_path / "clip.nfo").write_text(content)
    texts, _, notices = noted(tmp_path)
    assert texts == {"filename": "clip"}
    assert "clip.nfo" in notices[0]


def test_an_unreadable_sidecar_is_a_notice(tmp_path: Path) -> None:
    (tmp_path / "clip.description").symlink_to(tmp_path / "loop")
    (tmp_path / "clip.nfo").mkdir()
    assert noted(tmp_path)[2] == []
    (tmp_path / "clip.info.json").write_bytes(b"\xff" * 10)
    assert "clip.info.json" in noted(tmp_path)[2][0]


def test_hostile_text_is_cleaned_and_capped(tmp_path: Path) -> None:
    (tmp_path / "clip.description").write_text("\x1b]0;owned\x07 a\u202eb \x00" + "word " * 100_000)
    text = noted(tmp_path)[0]["description"]
    assert text.startswith("]0;owned a b word")
    assert len(text) <= 3_000
    assert text.isprintable()


def test_container_tags_dates_and_chapters_are_noted(tmp_path: Path) -> None:
    chapters = (Chapter(Span(0.0, 30.0), "Intro"), Chapter(Span(30.0, 60.0), ""))
    tags = {"title": "Home", "encoder": "Lavf", "artist": "Bo", "comment": "https://only.a/link"}
    texts, fields, _ = noted(tmp_path, tags=tags, chapters=chapters, created="2020-05-16T22:31:32Z")
    assert texts == {"title": "Home", "artist": "Bo", "date": "16 May 2020", "filename": "clip", "chapter": "Intro"}
    assert fields == VideoFields("Home", "Bo", "2020-05-16")


def test_the_epoch_of_a_container_is_no_date(tmp_path: Path) -> None:
    assert noted(tmp_path, created="1970-01-01T00:00:00Z")[1].date == ""


@pytest.mark.parametrize(
    ("name", "created", "tags", "date"),
    [
        # Local time in the name, UTC in the header: one moment, and the owner's date.
        ("20210101_003000.mp4", "2020-12-31T15:30:00Z", {}, "2021-01-01"),
        (
            "clip.mp4",
            "2021-06-30T22:30:00Z",
            {"com.apple.quicktime.creationdate": "2021-07-01T00:30:00+0200"},
            "2021-07-01",
        ),
        ("PXL_20210630_223000123.mp4", "2021-06-30T22:30:00Z", {}, "2021-06-30"),
        ("2020/08 Alps/MVI_0001.mp4", "2020-08-12T10:00:00Z", {}, "2020-08-12"),
        ("2020/MVI_0001.mp4", "2021-01-01T02:00:00Z", {}, "2020-12-31"),
        ("2020-08-12 Alps/MVI_0001.mp4", "2021-01-01T02:00:00Z", {}, "2020-08-12"),
        ("Nosferatu (1922).mkv", "2015-03-04T05:06:07Z", {}, "1922"),
        ("film.mkv", "2015-03-04T05:06:07Z", {"date_released": "1922"}, "1922"),
        ("film.mkv", "2015-03-04T05:06:07Z", {"date_recorded": "1995-02-01 10:00:00"}, "1995-02-01"),
        ("MVI_0001.mp4", "2000-01-01T00:03:00Z", {}, ""),
        ("MVI_0001.mp4", "2099-01-01T00:03:00Z", {}, ""),
        ("MVI_0001.mp4", "2000-01-01T00:03:00Z", {"date": "1999"}, "1999"),
        # A year in a name may be part of a title: it is less sure than tags, and was not before the recording.
        ("Christmas 1994.avi", "2015-03-04T05:06:07Z", {}, "1994"),
        ("Christmas 2014.mp4", "2014-12-25T10:00:00Z", {}, "2014-12-25"),
        ("Budget 2016.mp4", "2015-03-04T05:06:07Z", {}, "2015-03-04"),
        ("Wonder Woman 1984.mkv", "2021-03-04T05:06:07Z", {"date": "2020"}, "2020"),
        # Android writes UTC, and the place tells about how late it was there. Other clocks are as they were set.
        ("PXL_20210101_030000123.mp4", "2021-01-01T03:00:00Z", {"com.android.version": "13"}, "2020-12-31"),
        ("MVI_0001.mp4", "2021-01-01T03:00:00Z", {}, "2021-01-01"),
    ],
)
def test_the_owners_date_goes_before_the_machines(
    tmp_path: Path, name: str, created: str, tags: dict[str, str], date: str
) -> None:
    assert noted(tmp_path, name, created=created, tags=tags, location="+40.7128-074.0060/")[1].date == date


@pytest.mark.parametrize(
    ("tag", "title"),
    [
        ("GoPro", "clip"), ("GoPro AVC", "clip"), ("HandBrake", "clip"), ("Untitled", "clip"), ("Sequence 01", "clip"),
        ("Core Media Video", "clip"), ("New Project (3)", "clip"), ("VID_20210101_003000", "clip"),
        ("IMG_1234", "clip"),
        ("Clip.MP4", "clip"), ("Canon city festival", "Canon city festival"), ("Tom &amp; Kim", "Tom & Kim"),
        ("The Untitled Film", "The Untitled Film"), ("Movie night", "Movie night"), ("1917", "1917"),
    ],
)  # fmt: skip
def test_titles_that_programs_give_every_video_are_none(tmp_path: Path, tag: str, title: str) -> None:
    texts, fields, _ = noted(tmp_path, tags={"title": tag})
    assert fields.title == title
    assert texts.get("title", "clip") == title


SONY = """<?xml version="1.0" encoding="UTF-8"?>
<NonRealTimeMeta xmlns="urn:schemas-professionalDisc:nonRealTimeMeta:ver.2.00"><Duration value="60"/>
<CreationDate value="{}"/><Description>Regatta</Description><Device manufacturer="Sony"/></NonRealTimeMeta>"""


@pytest.mark.parametrize(
    ("stamp", "video", "date"),
    [
        ("2020-12-31T21:30:00-05:00", "C0001.MP4", "2020-12-31"),
        ("2020-12-31T21:30:00-05:00", "20190102_101010.MP4", "2019-01-02"),
        ("1970-01-01T00:00:00+09:00", "C0001.MP4", "2021-01-01"),
        ("soon", "C0001.MP4", "2021-01-01"),
    ],
)
def test_the_xml_of_sonys_cameras_tells_the_local_date(tmp_path: Path, stamp: str, video: str, date: str) -> None:
    (tmp_path / f"{Path(video).stem}M01.XML").write_text(SONY.format(stamp))
    texts, fields, notices = noted(tmp_path, video, created="2021-01-01T02:30:00Z")
    assert (fields.date, texts["description"], notices) == (date, "Regatta", [])


def test_keys_of_phones_and_levels_of_matroska_are_read_like_plain_ones(tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.title": "Harbour", "com.apple.quicktime.keywords": "boats, gulls",
        "com.apple.quicktime.software": "17.1", "com.apple.quicktime.location.name": "Tromsø",
        "collection/title": "Our coast", "episode/summary": "Fishing at night", "actor-eng": "Liv",
        "song/title": "Hymn", "season_number": "2", "episode_sort": "0",
    }  # fmt: skip
    texts, fields, _ = noted(tmp_path, tags=tags)
    assert fields.title == "Harbour"
    assert {key: texts[key] for key in texts if key != "filename"} == {
        "title": "Harbour", "tags": "boats, gulls", "location": "Tromsø", "show": "Our coast", "season": "season 2",
        "description": "Fishing at night", "cast": "Liv",
    }  # fmt: skip


def test_names_and_folders_below_the_root_are_searchable(tmp_path: Path) -> None:
    path = tmp_path / "Summer2019" / "lagosTrip" / "VID_20250411_market-day.mp4"
    segments, fields, _ = read_metadata(path, tmp_path, media())
    assert [(s.source, s.text) for s in segments] == [
        ("date", "11 April 2025"),
        ("filename", "VID 20250411 market day"),
        ("folder", "lagos Trip"),
        ("folder", "Summer 2019"),
    ]
    assert fields == VideoFields("VID_20250411_market-day", "", "2025-04-11")


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    texts, fields, _ = noted(tmp_path, os.fsdecode(b"caf\xe9\n[red].mp4"))
    assert texts["filename"] == "caf red"
    assert fields.title == "caf [red]"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("IMG1234", "IMG 1234"),
        ("v27", "v27"),
        ("S01E02", "S01E02"),
        ("myHoliday.final", "my Holiday final"),
        ("__", ""),
    ],
)
def test_words_of_names(name: str, words: str) -> None:
    assert split_words(name) == words


def test_language_tags_become_two_letters() -> None:
    assert [short_code(tag) for tag in ("eng", "EN-us", "ger", "pt_BR", "und", "forced", "")] == [
        "en", "en", "de", "pt", "", "", "",
    ]  # fmt: skip
