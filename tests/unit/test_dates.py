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
