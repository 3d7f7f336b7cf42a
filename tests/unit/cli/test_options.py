import pytest

from clamr_cli import terms
from clamr_cli.cli import options
from clamr_cli.errors import UsageError
from clamr_cli.types import Modality


def test_modalities_are_repeated_or_joined_by_commas_and_counted_once() -> None:
    assert terms.modalities(["speech", "OCR,speech"]) == (Modality.SPEECH, Modality.OCR)
    assert terms.modalities([]) == ()


@pytest.mark.parametrize("name", ["smell", "", "audio"])
def test_an_unknown_modality_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="video, speech, ocr, metadata"):
        terms.modalities([name])


def test_weights_are_numbers_by_modality() -> None:
    assert terms.weights(["speech=2", "ocr=0.5,video=0"]) == {
        Modality.SPEECH: 2.0,
        Modality.OCR: 0.5,
        Modality.VIDEO: 0.0,
    }


@pytest.mark.parametrize("text", ["speech", "speech=", "speech=-1", "speech=nan", "speech=inf", "smell=1", "=1"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        terms.weights([text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2024", "2024"), ("2024-02", "2024-02"), ("2023-2", "2023-02"), (" 2024-5-7 ", "2024-05-07")],
)
def test_a_date_is_a_day_a_month_or_a_year(text: str, expected: str) -> None:
    assert terms.since(text) == terms.until(text) == expected


def test_since_takes_the_first_day_of_a_period_and_until_its_last() -> None:
    assert (terms.since("summer 2023"), terms.until("summer 2023")) == ("2023-06-01", "2023-08-31")
    assert terms.since(None) is terms.until(None) is None


@pytest.mark.parametrize("text", ["10", "2024-13", "2024-02-30", "0000", "24-01-01", "2024-", "", "9999y"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid --since"):
        terms.since(text)


def test_two_possible_dates_are_refused_with_both() -> None:
    with pytest.raises(UsageError, match="2024-05-06 or 2024-06-05"):
        terms.until("05/06/2024")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["en", "eng", "English", "ENGLISH", "en-US"])
def test_a_language_is_a_code_or_a_name(text: str) -> None:
    assert terms.language(text) == "en"


@pytest.mark.slow
def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown language: 'klingonese'"):
        terms.language("klingonese")
    assert terms.language("") == ""


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "x", ""])
def test_a_number_must_be_finite(text: str) -> None:
    assert options.finite("-0.5") == -0.5
    with pytest.raises(UsageError, match="invalid number"):
        options.finite(text)
