import pytest

from clamr_cli.cli import parse
from clamr_cli.errors import UsageError
from clamr_cli.types import Modality


def test_modalities_are_repeated_or_joined_by_commas_and_counted_once() -> None:
    assert parse.modalities(["speech", "OCR,speech"]) == (Modality.SPEECH, Modality.OCR)
    assert parse.modalities([]) == ()


@pytest.mark.parametrize("name", ["smell", "", "audio"])
def test_an_unknown_modality_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="video, speech, ocr, metadata"):
        parse.modalities([name])


def test_weights_are_numbers_by_modality() -> None:
    assert parse.weights(["speech=2", "ocr=0.5,video=0"]) == {
        Modality.SPEECH: 2.0,
        Modality.OCR: 0.5,
        Modality.VIDEO: 0.0,
    }


@pytest.mark.parametrize("text", ["speech", "speech=", "speech=-1", "speech=nan", "speech=inf", "smell=1", "=1"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse.weights([text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2024", "2024"), ("2024-02", "2024-02"), ("2023-2", "2023-02"), (" 2024-5-7 ", "2024-05-07"), (None, None)],
)
def test_a_date_is_a_day_a_month_or_a_year(text: str | None, expected: str | None) -> None:
    assert parse.day(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "2024-13", "2024-02-30", "0000", "24-01-01", "2024-", "２０２４"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid date"):
        parse.day(text)
