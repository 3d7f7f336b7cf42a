"""Dates in names, folders and tags, as people, programs and cameras write them."""

from __future__ import annotations

import datetime

import pytest

from clamr_cli.dates import (
    date_in_folders,
    date_in_name,
    date_words,
    is_recording_date,
    local_date,
    moment_in_name,
    moment_of,
    period,
    refined,
    stated_date,
    year_in_name,
)

NAMES = {
    "20220704_091500": "2022-07-04",
    "VID_20220704_091500": "2022-07-04",
    "VID-20220704-WA0003": "2022-07-04",
    "Screen Recording 2022-07-04 at 09.15.00": "2022-07-04",
    "Bildschirmaufnahme 2022-07-04 um 09.15.00": "2022-07-04",
    "signal-2022-07-04-09-15-00-123": "2022-07-04",
    "video_2022-07-04_09-15-00": "2022-07-04",
    "WIN_20220704_09_15_00_Pro": "2022-07-04",
    "DJI_20220704091500_0007_D": "2022-07-04",
    "2022_0704_091500_001A": "2022-07-04",
    "20220704091500_000321R": "2022-07-04",
    "NO20220704-091500-000321B": "2022-07-04",
    "220704_091500_003_FH": "2022-07-04",
    "2022-07-04_09-15-00-back": "2022-07-04",
    "2022.07.04 Ludo": "2022-07-04",
    "2022-7-4": "2022-07-04",
    "2022年7月4日": "2022-07-04",
    "2022年7月": "2022-07",
    "Krimi_22.07.04_20-15_ndr_90": "2022-07-04",
    "2022070409150000-0A1B2C3D": "2022-07-04",
    "app_20220704_091500_7_1656918900000_video": "2022-07-04",
    "4 июля 1998": "1998-07-04",
    "4 lipca 1998": "1998-07-04",
    "4 Temmuz 1998": "1998-07-04",
    "04.07.1998": "1998-07-04",
    "4.7.1998 Ostsee": "1998-07-04",
    "31-07-1998": "1998-07-31",
    "07-31-1998": "1998-07-31",
    "07-07-1998": "1998-07-07",
    "04-07-1998": "1998",
    "Jul 4 1998": "1998-07-04",
    "July 4th, 1998": "1998-07-04",
    "4th of July 1998": "1998-07-04",
    "4. Juli 1998": "1998-07-04",
    "4 août 1998": "1998-08-04",
    "4 aou\u0302t 1998": "1998-08-04",
    "4 de julio de 1998": "1998-07-04",
    "04Jul1998": "1998-07-04",
    "July 1998": "1998-07",
    "1998-07 harbour": "1998-07",
    "Metropolis (1927)": "1927",
    "Metropolis [1927]": "1927",
    "Some.Film.1977.720p.WEB-DL": "1977",
    "2010.The.Year.1984.REMASTERED.1080p": "1984",
    "Blade.Runner.2049.2017.2160p": "2017",
    # No dates: numbers, sizes, versions, episodes, what no calendar has, and what is still to come.
    "clip 1920x1080": "",
    "movie.1080p": "",
    "S2019E05": "",
    "IMG_4471": "",
    "2022-02-30": "",
    "12.13.14": "",
    "20991231": "",
    "Tour (2090)": "",
    "17760704": "",
    "12022070409": "",
    "00000000000020220704": "",
    "received_10156789012345678": "",
    "4006381333931": "",
    "v4.7.1998": "",
    "192.168.7.1998": "",
    "Sequel 2012": "",
    "": "",
}


@pytest.mark.parametrize(("name", "date"), NAMES.items())
def test_dates_in_names(name: str, date: str) -> None:
    assert date_in_name(name) == date


@pytest.mark.parametrize(
    ("folders", "date"),
    [
        ("2018/03 Norway", "2018-03"),
        ("2018/03/22", "2018-03-22"),
        ("2018/March/x", "2018-03"),
        ("2018/12_Dez", "2018-12"),
        ("Trips/2018-03-22 Wedding/raw", "2018-03-22"),
        ("2018/2018-03", "2018-03"),
        ("201803", "2018-03"),
        ("Summer 2018", "2018"),
        ("Summer2018/old", "2018"),
        ("2018 Norway", "2018"),
        ("2018/Norway", "2018"),
        ("2018/22 videos", "2018"),
        ("2018/3 weeks in Spain", "2018"),
        ("2018/3", "2018-03"),
        ("2018年/3月", "2018-03"),
        ("2018_Norway", "2018"),
        ("1995-2003", ""),
        ("2018-2019 school", ""),
        ("2018-03-22.20.15.1-0.rec", "2018-03-22"),
        ("2018-03-22/001/dav/20", "2018-03-22"),
        ("2018/13", "2018"),
        ("100_2018", ""),
        ("Route 66", ""),
        ("DCIM/100GOPRO", ""),
        ("", ""),
    ],
)
def test_dates_in_folders(folders: str, date: str) -> None:
    assert date_in_folders(folders.split("/")) == date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("20220704", "2022-07-04"), ("2022-07-04T23:30:00-0700", "2022-07-04"), ("2022:07:04 10:00:00", "2022-07-04"),
        ("2022/07/04", "2022-07-04"), ("2022-07", "2022-07"), ("1977", "1977"), ("04.07.1998", "1998-07-04"),
        ("4 Jul 1998", "1998-07-04"), ("0000-00-00", ""), ("20220230", ""), ("1656925200", ""), ("soon", ""), ("", ""),
    ],
)  # fmt: skip
def test_stated_dates(text: str, date: str) -> None:
    assert stated_date(text) == date


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("PXL_20220704_231500123", "2022-07-04T23:15:00+00:00"),
        ("GMT20220704-231500_Recording_1920x1080", "2022-07-04T23:15:00+00:00"),
        ("VID_1656976500000", "2022-07-04T23:15:00+00:00"),
        ("mmexport1656976500000", "2022-07-04T23:15:00+00:00"),
        ("RPReplay_Final1656976500", "2022-07-04T23:15:00+00:00"),
        ("20220704T231500Z", "2022-07-04T23:15:00+00:00"),
        ("recording-2022-07-04T23_15_00.123Z", "2022-07-04T23:15:00+00:00"),
    ],
)
def test_names_in_utc_give_moments_and_not_dates(name: str, moment: str) -> None:
    assert moment_in_name(name) == datetime.datetime.fromisoformat(moment)
    assert date_in_name(name) == ""


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("Christmas 1994", "1994"), ("Weihnachten_1994", "1994"), ("Corfu 1994 part 2", "1994"), ("IMG_2019", ""),
        ("Video 2019", ""), ("1994", ""), ("2001 A Space Odyssey", ""), ("Blade Runner 2049", ""),
        ("Tour 1994-1997", ""),
        ("ab 1920x1080", ""), ("Metropolis 1927", ""), ("1917 trailer", ""),
    ],
)  # fmt: skip
def test_a_year_after_a_word(name: str, year: str) -> None:
    assert year_in_name(name) == year


def test_a_moment_is_within_a_day_of_its_local_date() -> None:
    moment = moment_of("2022-01-01T03:00:00Z")
    assert moment is not None
    assert refined("2021", moment) == "2021-12-31"
    assert refined("2022-01", moment) == "2022-01-01"
    assert refined("2019", moment) == "2019"
    assert refined("2021-12-31", moment) == "2021-12-31"
    assert refined("2021", "2021-05-06") == "2021-05-06"
    assert local_date(moment, ["2022-01-03", "2021-12-31"]) == "2021-12-31"
    assert local_date(moment, ["2022", "2021-12-30"]) == moment
    assert moment_of("2022-01-01T03:00:00+02:00") is None


def test_clocks_that_were_never_set_give_no_date() -> None:
    dates = ("1904-01-01", "1970-01-01", "2000-01-01", "2099-01-01", "", "1999-12-31", "2000-01-02")
    assert [date for date in dates if is_recording_date(date)] == ["1999-12-31", "2000-01-02"]


def test_dates_in_words() -> None:
    assert [date_words(date) for date in ("2022-07-04", "2022-07", "2022")] == ["4 July 2022", "July 2022", "2022"]


TODAY = datetime.date(2026, 11, 29)  # a Sunday

PERIODS = {
    "today": "2026-11-29",
    "Yesterday": "2026-11-28",
    "the day before yesterday": "2026-11-27",
    "2w": "2026-11-15",
    "2 weeks ago": "2026-11-15",
    "since two weeks": "2026-11-15",
    "a fortnight ago": "2026-11-15",
    "a couple of days ago": "2026-11-27",
    "3d": "2026-11-26",
    "9m": "2026-02-28",
    "1y": "2025-11-29",
    "last 3 days": "2026-11-26 2026-11-29",
    "the past two months": "2026-09-29 2026-11-29",
    "this week": "2026-11-23 2026-11-29",
    "last week": "2026-11-16 2026-11-22",
    "weekend": "2026-11-28 2026-11-29",
    "last weekend": "2026-11-21 2026-11-22",
    "sunday": "2026-11-29",
    "last sunday": "2026-11-22",
    "monday": "2026-11-23",
    "this month": "2026-11-01 2026-11-30",
    "last month": "2026-10-01 2026-10-31",
    "last quarter": "2026-07-01 2026-09-30",
    "this year": "2026-01-01 2026-12-31",
    "last year": "2025-01-01 2025-12-31",
    "last  summer": "2026-06-01 2026-08-31",
    "summer": "2026-06-01 2026-08-31",
    "summer of 2023": "2023-06-01 2023-08-31",
    "winter 2023": "2023-12-01 2024-02-29",
    "last winter": "2025-12-01 2026-02-28",
    "december": "2025-12-01 2025-12-31",
    "in May": "2026-05-01 2026-05-31",
    "last november": "2025-11-01 2025-11-30",
    "März 2023": "2023-03-01 2023-03-31",
    "24.12.2023": "2023-12-24",
    "24/12/2023": "2023-12-24",
    "12/24/2023": "2023-12-24",
    "05.06.2024": "2024-06-05",
    "2024-5-7": "2024-05-07",
    "2024-02": "2024-02",
    "2024": "2024",
}


@pytest.mark.parametrize("text", PERIODS)
def test_a_period_is_its_first_and_its_last_day(text: str) -> None:
    days = PERIODS[text].split()
    assert period(text, TODAY) == (days[0], days[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("24 December 1999", "1999-12-24 1999-12-24"),
        ("Q3 2024", "2024-07-01 2024-09-30"),
        ("gestern", "2026-11-28 2026-11-28"),
        ("il y a 2 semaines", "2026-11-09 2026-11-15"),
        ("letzten Monat", "2026-10-01 2026-10-31"),
        ("25 dec", "2025-12-25 2025-12-25"),
    ],
)
def test_dates_in_words_and_other_languages_are_understood(text: str, days: str) -> None:
    assert period(text, TODAY) == tuple(days.split())


def test_last_summer_in_summer_is_the_one_before() -> None:
    assert period("last summer", datetime.date(2026, 7, 4)) == ("2025-06-01", "2025-08-31")
    assert period("this summer", datetime.date(2026, 7, 4)) == ("2026-06-01", "2026-08-31")


@pytest.mark.parametrize("text", ["2024-13-01", "1e5", "10", "", "9999y", "9999 decades", "32.01.2024", "quarter 2023"])
def test_what_is_no_date_gives_no_period(text: str) -> None:
    with pytest.raises(ValueError, match=r"no date|month|day|ago"):
        period(text, TODAY)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["snow", "the red car", "yesterdays news 12"])
def test_words_that_are_no_date_give_no_period(text: str) -> None:
    with pytest.raises(ValueError, match="it is no date"):
        period(text, TODAY)


def test_an_ambiguous_date_says_both_meanings() -> None:
    with pytest.raises(ValueError, match="it may be 2024-05-06 or 2024-06-05"):
        period("05/06/2024", TODAY)
