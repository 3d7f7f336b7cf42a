import logging
import sys
import warnings
from pathlib import Path

import pytest

from clamr_cli import config, encoders
from clamr_cli.cli.options import encoder_for, open_store, quiet_libraries
from clamr_cli.selection import settings_for
from clamr_cli.types import EncoderInfo


def test_the_only_encoder_of_an_index_stands_in_for_the_default_and_that_is_said(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config.load({"db": str(db)})
    assert encoder_for(open_store(settings), settings, {}).info.name == "hashed"
    assert capsys.readouterr().err == "using the encoder hashed: the index has vectors of no other\n"


def test_an_encoder_that_settings_name_is_taken_without_a_word(
    db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAMR_ENCODER", "hashed")
    settings = config.load({"db": str(db)})
    assert encoder_for(open_store(settings), settings, {}).info.name == "hashed"
    assert capsys.readouterr().err == ""


def half_encoded(db: Path, name: str) -> int:
    """Give some of the index's videos vectors of another encoder; how many the index has."""
    store = open_store(config.load({"db": str(db)}))
    (use,) = store.encoders()
    rows = dict(store.scan_vectors(use.info.fingerprint))
    one = min(rows).partition("#")[0]
    other = EncoderInfo(name, encoders.describe(name, cache=db, pool=2).fingerprint if name == "hashed" else "0" * 16)
    with store.writer("test"):
        store.put_vectors(other, {key: item for key, item in rows.items() if key.startswith(one)})
    assert store.coverage(other.fingerprint)[0] == 1
    return store.coverage(use.info.fingerprint)[0]


def test_while_another_encoder_is_at_work_the_complete_one_answers(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = half_encoded(db, "mini")
    settings = config.load({"db": str(db)})
    assert encoder_for(open_store(settings), settings, {}).info.name == "hashed"
    assert capsys.readouterr().err == (
        f"using the encoder hashed, which answers from {of} of {of} videos; mini does from 1: "
        "clamr index --encoder mini finishes\n"
    )


def test_who_asks_for_an_encoder_that_is_not_through_is_told_how_many_videos_answer(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = half_encoded(db, "hashed")
    settings = config.load({"db": str(db), "encoder": "hashed"})
    encoder_for(open_store(settings), settings, {})
    assert capsys.readouterr().err == ""
    encoder_for(open_store(settings), settings, {"pool": 2})
    assert capsys.readouterr().err == f"answers from 1 of {of} videos: clamr index --encoder hashed finishes\n"


@pytest.mark.parametrize("debugging", [False, True])
def test_libraries_are_heard_only_while_looking_into_errors(
    debugging: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAMR_DEBUG", str(int(debugging)))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        quiet_libraries()
        logging.getLogger("library").warning("odd weights")
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
    told = capsys.readouterr().err
    assert ("odd weights" in told) is debugging
    assert bool(warned) is debugging
    assert (sys.warnoptions == ["ignore"]) is not debugging


def test_an_encoder_is_made_as_it_was_when_the_index_was(db: Path) -> None:
    settings = config.load({"db": str(db)})
    store = open_store(settings)
    assert settings_for(store, "clamr", settings, {}) == {}
    with store.writer("test"):
        store.put_encoder_settings("clamr", {"model": "/models/a", "dtype": "float32"})
    assert settings_for(store, "clamr", settings, {}) == {"model": "/models/a", "dtype": "float32"}
    assert settings_for(store, "clamr", settings, {"model": "/models/b"}) == {"model": "/models/b"}
    assert settings_for(store, "mini", settings, {}) == {}
