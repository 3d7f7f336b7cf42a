"""Dates as people, programs and cameras write them.

A date is ``YYYY-MM-DD``, or ``YYYY-MM`` or ``YYYY`` if less is known. A period, as in a question, is two dates.
"""

import calendar
import datetime
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

_FIRST_YEAR: Final = 1888  # of the oldest film
_FIRST_DIGITAL_YEAR: Final = 1980  # eight digits in a name with an earlier year are a number
# Dates from which the clocks of cameras and the time stamps of file formats start to count.
_CLOCKS = "1904-01-01 1946-02-14 1970-01-01 1980-01-01 1980-01-06 2000-01-01 2001-01-01"
_UNSET_CLOCKS: Final = frozenset(_CLOCKS.split())
_FARTHEST: Final = datetime.timedelta(hours=14)  # local time ahead of UTC at most
_FARTHEST_BEHIND: Final = datetime.timedelta(hours=12)
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier janv enero gennaio januari janeiro ene genn январь января stycznia ocak",
            "february feb februar fevrier fevr febrero febbraio februari fevereiro fev февраль февраля lutego subat",
            "march mar marz maerz mars marzo maart marco mrz март марта marca mart",
            "april apr avril abril aprile avr abr апрель апреля kwietnia nisan",
            "may mai mayo maggio mei maio maj маи мая maja mayıs",
            "june jun juni juin junio giugno junho июнь июня czerwca haziran",
            "july jul juli juillet julio luglio julho juil июль июля lipca temmuz",
            "august aug aout agosto augustus augusti ago август августа sierpnia agustos",
            "september sep sept septembre septiembre settembre setembro сентябрь сентября wrzesnia eylul",
            "october oct oktober okt octobre octubre ottobre outubro ott out октябрь октября pazdziernika ekim",
            "november nov novembre noviembre novembro ноябрь ноября listopada kasım",
            "december dec dezember dez decembre diciembre dicembre dezembro dic декабрь декабря grudnia aralık",
        ),
        1,
    )
    for name in names.split()
}
_MONTH: Final = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})"
_YEAR: Final = r"(?P<year>(?:1[89]|20)\d\d)"
_TIME: Final = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\d{2,3})?)?"
_QUALITY: Final = r"(?:\d{3,4}[pi]|4k|uhd|blu-?ray|b[dr]rip|web-?(?:dl|rip)?|hdtv|dvd\w*)"
_GAP: Final = r"[\s_.,-]{1,2}"

# What stands in names, the surest first. Names are lower case, without accents.
_IN_NAMES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # 2023-12-25, 2023.12.25, 2023_12_25, 2023 12 25, 2023:12:25, 2023年12月25日, 2023年12月, 2023-7-4
        rf"(?<!\d){_YEAR}(?P<gap>[-_. :])(?P<month>0[1-9]|1[0-2])(?P=gap)(?P<day>0[1-9]|[12]\d|3[01])(?!\d)",
        rf"(?<!\d){_YEAR}年(?P<month>\d\d?)月(?:(?P<day>\d\d?)日)?",
        rf"(?<!\d){_YEAR}-(?P<month>\d\d?)-(?P<day>\d\d?)(?!\d|[-.]\d)",
        # 20231225, 20231225183000, 2023_1225_183000 and 231225-183000 of dashcams, 23.12.25_18-30 of recorders
        rf"(?<!\d)(?P<digital>(?:19|20)\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?:{_TIME})?(?!\d)",
        rf"(?<!\d){_YEAR}[-_](?P<month>\d\d)(?P<day>\d\d)[-_]{_TIME}(?!\d)",
        rf"(?<!\d)(?P<short>\d\d)(?P<month>\d\d)(?P<day>\d\d)[-_]{_TIME}(?!\d)",
        r"(?<!\d)(?P<short>\d\d)\.(?P<month>\d\d)\.(?P<day>\d\d)_(?:[01]\d|2[0-3])-[0-5]\d(?!\d)",
        # 24.12.1999, 24-12-1999, 12-24-1999
        rf"(?<![\dv.])(?P<first>\d\d?)(?P<gap>[-_. ])(?P<second>\d\d?)(?P=gap){_YEAR}(?!\d|\.\d)",
        # 24 December 1999, 24. Dez. 1999, 24 de diciembre de 1999, December 24th, 1999, 1999 Dec 24, Dec 1999
        rf"(?<!\d)(?P<day>\d\d?)(?:st|nd|rd|th|er)?{_GAP}(?:of |de )?{_MONTH}{_GAP}(?:de )?{_YEAR}(?!\d)",
        rf"(?<![^\W\d_]){_MONTH}{_GAP}(?P<day>\d\d?)(?:st|nd|rd|th)?{_GAP}{_YEAR}(?!\d)",
        rf"(?<!\d){_YEAR}{_GAP}{_MONTH}{_GAP}(?P<day>\d\d?)(?!\d)",
        rf"(?<!\d)(?P<day>\d\d?){_MONTH}{_YEAR}(?!\d)",
        rf"(?<![^\W\d_]){_MONTH}{_GAP}(?:de )?{_YEAR}(?!\d)",
        rf"(?<!\d){_YEAR}{_GAP}{_MONTH}(?![^\W\d_])",
        # 2019-07
        rf"(?<![\d-]){_YEAR}-(?P<month>0[1-9]|1[0-2])(?!\d|-\d)",
        # Alien (1979), Alien.1979.1080p
        rf"[(\[]{_YEAR}[)\]]",
        rf"[. _]{_YEAR}(?=[. _](?:[a-z]\w*[. _])?{_QUALITY}\b)",
    )
)
_IN_FOLDERS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^{_YEAR}[-_. ](?P<month>0[1-9]|1[0-2])(?!\d)",
        rf"^{_YEAR}(?P<month>0[1-9]|1[0-2])(?!\d)",
        rf"^{_YEAR}(?:_(?=[^\W\d_]{{2}})|年|(?!\w))(?!\s*[-–]\s*\d)",
        rf"(?<![\d_]){_YEAR}$(?<![12]\d\d\d[-–]\d\d\d\d)",
    )
)
_AFTER_A_WORD: Final = re.compile(rf"(?P<word>[^\W\d_]{{3,}})[\s_-]{_YEAR}(?![\w-])")
# Words that programs and people put before the number of a file.
_COUNTED_WORDS = "clip dsc dscf dscn dvd file gopr img mov movie mvi part pict scene take tape track vid video"
_COUNTED: Final = frozenset(_COUNTED_WORDS.split())
_MONTH_FOLDER: Final = re.compile(
    rf"^(?:(?P<number>0[1-9]|1[0-2]|[1-9](?!\s))(?!\d)|{_MONTH}(?![^\W\d_]))"  # not "3 weeks in Italy"
)
_DAY_FOLDER: Final = re.compile(r"^(0?[1-9]|[12]\d|3[01])(?!\d)")
_YEAR_FOLDER: Final = re.compile(rf"^{_YEAR}年?$")
_STATED: Final = re.compile(
    rf"\s*{_YEAR}(?:(?P<gap>[-:./]?)(?P<month>0[1-9]|1[0-2])(?:(?P=gap)(?P<day>0[1-9]|[12]\d|3[01]))?)?(?![\d])"
)
_UTC_NAMES: Final = (
    re.compile(rf"^(?:pxl_|gmt)(?P<day>\d{{8}})[-_](?P<time>{_TIME})(?!\d)"),
    re.compile(rf"(?<!\d)(?P<day>\d{{8}})t(?P<time>{_TIME})z(?![^\W_])"),
    re.compile(r"(?<!\d)(?P<day>\d{4}-\d\d-\d\d)t(?P<time>\d\d(?P<gap>[-_.:])\d\d(?P=gap)\d\d)(?:[-_.]\d{3})?z"),
)
_ISO: Final = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)
_NUMERIC: Final = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})", re.ASCII)
_NUMBER_WORDS = "one two three four five six seven eight nine ten"
_NUMBERS: Final = {"a couple of": 2, "a few": 3, "an": 1, "a": 1} | {
    word: number for number, word in enumerate(_NUMBER_WORDS.split(), 1)
}
# Units, the days or months in one, and their names.
_UNITS: Final = {
    name: unit
    for unit, names in {
        (1, 0): "d day days", (7, 0): "w wk wks week weeks", (14, 0): "fortnight fortnights",
        (0, 1): "m mo month months", (0, 3): "quarter quarters", (0, 12): "y yr yrs year years",
        (0, 120): "decade decades",
    }.items()
    for name in names.split()
}  # fmt: skip
_COUNT: Final = rf"(?P<count>\d{{1,4}}|{'|'.join(_NUMBERS)})"
_AGO: Final = re.compile(
    rf"(?P<last>(?:the )?(?:last|past|previous) )?{_COUNT}\s*(?P<unit>{'|'.join(_UNITS)})(?: ago)?"
)
# Periods that return: in which months they start and how many they last, or on which day of the week and how many days.
_OF_MONTHS: Final[dict[str, tuple[Sequence[int], int]]] = {
    "year": ((1,), 12), "quarter": ((1, 4, 7, 10), 3), "month": (range(1, 13), 1),
    "spring": ((3,), 3), "summer": ((6,), 3), "autumn": ((9,), 3), "fall": ((9,), 3), "winter": ((12,), 3),
    **{name: ((number,), 1) for name, number in _MONTHS.items()},
}  # fmt: skip
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday"
_OF_DAYS: Final = {"week": (0, 7), "weekend": (5, 2)} | {
    name: (number, 1) for number, name in enumerate(_WEEKDAYS.split())
}
_NAMED: Final = re.compile(
    rf"(?:(?P<last>last|past|previous) |this |current |the )?(?P<name>{'|'.join([*_OF_MONTHS, *_OF_DAYS])})"
    r"(?: (?:of )?(?P<year>\d{4}))?"
)
_WORD: Final = re.compile(r"[^\W\d_]{2,}|\bq[1-4]\b|[\u3040-\u30ff\u3400-\u9fff]")
_LANGUAGES = "en de fr es it nl pt sv da nb fi pl cs ru uk tr el ar he hi id vi zh ja ko"  # each costs time
_EPOCH: Final = re.compile(r"(?<!\d)(1[1-9]\d{11})(?!\d)|^rpreplay_final(1[1-9]\d{8})(?!\d)")


def stated_date(text: str) -> str:
    """The date that a text written as a date begins with: ``20250411``, ``2025-04-11T10:00:00+02:00``, ``2025``.

    The day is the one that is written, in whatever time zone. Empty for anything else.
    """
    match = _STATED.match(text[:60])
    return (_checked(match) if match else "") or _in_name(text[:60])


def date_in_name(name: str) -> str:
    """The date inside a file name such as ``VID_20250411_101530``, ``24 December 1999`` or ``Alien (1979)``.

    Times that some programs write in UTC are not the owner's date: see :func:`moment_in_name`.
    """
    return "" if moment_in_name(name) else _in_name(name)


def date_in_folders(folders: Sequence[str]) -> str:
    """The date in names of folders, of which the last counts most: ``2019-07-14 Wedding``, ``2019/07 Italy``."""
    plain = [_plain(folder).strip() for folder in folders]
    for number in reversed(range(len(plain))):
        date = _in_name(plain[number]) or _first(_IN_FOLDERS, plain[number])
        below = plain[number + 1 : number + 3]
        is_year = len(date) == len("YYYY") and _YEAR_FOLDER.match(plain[number])
        # The folders below a year: 07 or "07 Italy" or July, and 14.
        if is_year and below and (month := _MONTH_FOLDER.match(below[0])):
            date = f"{date}-{int(month['number'] or _MONTHS[month['month']]):02}"
            if len(below) > 1 and (day := _DAY_FOLDER.match(below[1])):
                date = _calendar(f"{date}-{int(day[1]):02}") or date
        if date:
            return date
    return ""


def year_in_name(name: str) -> str:
    """A year after a word, as in ``Christmas 1994``; it may also be part of a title, or a number."""
    years = (match["year"] for match in _AFTER_A_WORD.finditer(_plain(name)) if match["word"] not in _COUNTED)
    return next((year for year in years if int(year) >= _FIRST_DIGITAL_YEAR and _calendar(year)), "")


def moment_in_name(name: str) -> datetime.datetime | None:
    """The moment in UTC that the names of some programs tell: ``PXL_20231231_203015123``, ``VID_1703980800000``.

    A number of seconds counts only where the name has no date beside it.
    """
    plain = _plain(name)
    try:
        if match := next((match for pattern in _UTC_NAMES if (match := pattern.search(plain))), None):
            digits = re.sub(r"\D", "", match["day"] + match["time"]) + "00"
            moment = datetime.datetime.strptime(digits[:14] + "+0000", "%Y%m%d%H%M%S%z")
        elif (match := _EPOCH.search(plain)) and not _in_name(name):
            seconds = int(match[1]) / 1000 if match[1] else int(match[2])
            moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        else:
            return None
    except ValueError:
        return None
    return moment if is_recording_date(moment.date().isoformat()) else None


def moment_of(text: str) -> datetime.datetime | None:
    """The moment of an ISO 8601 time stamp in UTC; None for local time, whose date is as written."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if moment.tzinfo is None or moment.utcoffset() else moment


def local_date(moment: datetime.datetime, dates: Iterable[str]) -> str | datetime.datetime:
    """The first of some dates that is a moment's in some time zone; the moment itself where none is."""
    first, last = ((moment + gap).date().isoformat() for gap in (-_FARTHEST_BEHIND, _FARTHEST))
    return next((date for date in dates if len(date) == len(first) and first <= date <= last), moment)


def is_recording_date(date: str) -> bool:
    """Whether something can have been recorded on a date: not the start of a clock that was never set, not later on."""
    return bool(date) and date not in _UNSET_CLOCKS and f"{_FIRST_YEAR}" <= date <= _tomorrow()


def refined(date: str, finer: str | datetime.datetime) -> str:
    """A date that may lack its day or month, completed by a finer one, or by a moment in UTC, if the two agree."""
    if isinstance(finer, str):
        return finer if finer.startswith(date) and len(finer) > len(date) else date
    near = (finer, finer - _FARTHEST_BEHIND, finer + _FARTHEST)
    return next((refined(date, day) for moment in near if (day := moment.date().isoformat()).startswith(date)), date)


def period(text: str, today: datetime.date) -> tuple[str, str]:
    """The first and the last day of what a text says: a date, a part of the calendar, a time before today.

    A year and a month in digits stay as they are. Weeks begin on Monday; seasons are those of the northern half of the
    earth, in whole months; the winter of a year begins in its December. ``last`` is the latest one that is over. What
    is not understood here, such as other languages, is left to dateparser.

    >>> day = datetime.date(2024, 5, 17)
    >>> period("2w", day), period("yesterday", day), period("last summer", day)
    (('2024-05-03', '2024-05-03'), ('2024-05-16', '2024-05-16'), ('2023-06-01', '2023-08-31'))
    >>> period("2023-12", day), period("last 3 days", day)
    (('2023-12', '2023-12'), ('2024-05-14', '2024-05-17'))

    Raises:
        ValueError: it is no date, or two dates may be meant; the message says which.
    """
    words = re.sub(r"^(?:since|from|until|till|during|in(?! \d)) ", "", " ".join(_plain(text).split()))
    if match := _ISO.fullmatch(words):
        year, month, number = (int(part) if part else None for part in match.groups())
        whole = datetime.date(year or 0, month or 1, number or 1).isoformat()
        date = whole[:4] if month is None else whole[:7] if number is None else whole
        return date, date
    try:
        first, last = _period(words, text, today)
    except OverflowError:
        raise ValueError("it is too long ago") from None
    return first.isoformat(), last.isoformat()


def _period(words: str, text: str, today: datetime.date) -> tuple[datetime.date, datetime.date]:
    days_ago = {"today": 0, "now": 0, "yesterday": 1, "last night": 1, "day before yesterday": 2}
    if (days := days_ago.get(words.removeprefix("the "))) is not None:
        return (today - datetime.timedelta(days),) * 2
    if match := _AGO.fullmatch(words):
        days, months = _UNITS[match["unit"]]
        count = _NUMBERS.get(match["count"]) or int(match["count"])
        day = _months_before(today, count * months) - datetime.timedelta(count * days)
        return day, today if match["last"] else day
    if match := _NAMED.fullmatch(words):
        return _returning(match["name"], today, over=bool(match["last"]), year=int(match["year"] or 0))
    if match := _NUMERIC.fullmatch(words):
        one, other, year = int(match[1]), int(match[3]), int(match[4])
        if one <= 12 and other <= 12 and one != other and match[2] != ".":
            raise ValueError(f"it may be {year}-{one:02}-{other:02} or {year}-{other:02}-{one:02}")
        day = datetime.date(year, one, other) if other > 12 else datetime.date(year, other, one)
        return day, day
    if not _WORD.search(words):
        raise ValueError("it is no date")
    # Slow to import, and rarely needed.
    from dateparser.date import DateDataParser

    base = datetime.datetime.combine(today, datetime.time(12))
    parser = DateDataParser(_LANGUAGES.split(), settings={"RELATIVE_BASE": base, "PREFER_DATES_FROM": "past"})
    parsed = parser.get_date_data(text)
    if parsed.date_obj is None:
        raise ValueError("it is no date")
    day = parsed.date_obj.date()
    name = parsed.period
    return (day, day) if name not in ("week", "month", "quarter", "year") else _returning(name, day, over=False)


def _months_before(day: datetime.date, months: int) -> datetime.date:
    """The same day of an earlier month, or its last day."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    if year < datetime.MINYEAR:
        raise OverflowError
    return day.replace(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _returning(name: str, today: datetime.date, *, over: bool, year: int = 0) -> tuple[datetime.date, datetime.date]:
    """The latest one of a period that returns which has begun, is over, or began in a year."""
    if name in _OF_DAYS:
        if year:
            raise ValueError("it is no date")
        start, length = _OF_DAYS[name]
        first = today - datetime.timedelta((today.weekday() - start) % 7)
        last = first + datetime.timedelta(length - 1)
        back = datetime.timedelta(7 if over and last >= today else 0)
        return first - back, last - back
    starts, length = _OF_MONTHS[name]
    if year and len(starts) > 1:
        raise ValueError("it is no date")
    for candidate in [year] if year else range(today.year, today.year - 3, -1):
        for month in reversed(starts):
            first = datetime.date(candidate, month, 1)
            last = _months_before(first, -length) - datetime.timedelta(1)
            if year or (last < today if over else first <= today):
                return first, last
    raise ValueError("it is no date")


def date_words(date: str) -> str:
    """``11 April 2025`` of ``2025-04-11``, ``April 2025`` of ``2025-04``: what people type."""
    year, *rest = date.split("-")
    month = [calendar.month_name[int(rest[0])]] if rest else []
    return " ".join([*(str(int(day)) for day in rest[1:]), *month, year])


def _in_name(name: str) -> str:
    return _first(_IN_NAMES, _plain(name))


def _first(patterns: Iterable[re.Pattern[str]], name: str) -> str:
    return next((date for p in patterns for match in p.finditer(name) if (date := _checked(match))), "")


def _plain(name: str) -> str:
    """Lower case without accents, of which names in the two normal forms have the same."""
    decomposed = unicodedata.normalize("NFKD", name[:1000].lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _checked(match: re.Match[str]) -> str:
    """The date of a match, empty if the calendar does not have it or it has not come yet."""
    parts = match.groupdict()
    if parts.get("digital") and int(parts["digital"]) < _FIRST_DIGITAL_YEAR:
        return ""
    year = parts.get("year") or parts.get("digital") or f"20{parts['short']}"
    month, day = parts.get("month"), parts.get("day")
    if parts.get("first"):
        first, second = int(parts["first"]), int(parts["second"])
        if 0 in (first, second) or (first > 12 and second > 12):
            return ""
        # Only dots tell that the day comes first; otherwise 05-06-1999 leaves open which the month is.
        if first <= 12 < second:
            first, second = second, first
        elif parts["gap"] != "." and first <= 12 and first != second:
            return _calendar(year)
        month, day = str(second), str(first)
    number = 0 if month is None else _MONTHS.get(month) or int(month)
    return _calendar(year + (f"-{number:02}" if month else "") + (f"-{int(day):02}" if day else ""))


def _calendar(date: str) -> str:
    try:
        datetime.date.fromisoformat(date + "0000-01-01"[len(date) :])
    except ValueError:
        return ""
    return date if f"{_FIRST_YEAR}" <= date <= _tomorrow() else ""


def _tomorrow() -> str:
    # In the time zone that is farthest ahead of UTC it may be tomorrow.
    return (datetime.datetime.now(datetime.UTC) + _FARTHEST).date().isoformat()
