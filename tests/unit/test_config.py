import os
from pathlib import Path

import pytest

from clamr_cli import config
from clamr_cli.errors import UsageError
from clamr_cli.types import RayOptions


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CLAMR_"):
            monkeypatch.delenv(name)
    for folder in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder.lower()))


def _write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_without_anything_said_the_defaults_hold() -> None:
    settings = config.load()
    assert settings.given == {}
    assert (settings.encoder, settings.limit, settings.ocr_languages) == ("mini", 10, ("en",))
    assert settings.db.endswith("clamr/index")


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _write(config.default_config(), 'db = "/file"\nencoder = "file"\nlanguage = "de"\n')
    assert config.load().db == "/file"
    monkeypatch.setenv("CLAMR_DB", "/environment")
    monkeypatch.setenv("CLAMR_ENCODER", "environment")
    settings = config.load({"db": "/flag", "encoder": None})
    assert (settings.db, settings.encoder, settings.language, settings.limit) == ("/flag", "environment", "de", 10)
    assert settings.given["db"] == "--db"
    assert settings.given["encoder"] == "the environment variable CLAMR_ENCODER"


def test_the_file_is_the_one_named_by_flag_else_by_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write(config.default_config(), "limit = 1")
    monkeypatch.setenv("CLAMR_CONFIG", _write(tmp_path / "two.toml", "limit = 2"))
    assert config.load().limit == 2
    assert config.load(config=_write(tmp_path / "three.toml", "limit = 3")).limit == 3


def test_keys_may_be_written_with_hyphens_and_lists_as_lists(tmp_path: Path) -> None:
    file = _write(tmp_path / "c.toml", 'asr-model = "whisper-tiny"\nocr-languages = ["en", "fr"]\nspeech = false\n')
    settings = config.load(config=file)
    assert (settings.asr_model, settings.ocr_languages, settings.speech) == ("whisper-tiny", ("en", "fr"), False)


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("CLAMR_OCR_LANGUAGES", "en, fr,en", "ocr_languages", ("en", "fr")),
        ("CLAMR_SPEECH", "no", "speech", False),
        ("CLAMR_WINDOW", "30", "window", 30.0),
        ("CLAMR_LANGUAGE", "EN", "language", "en"),
        ("CLAMR_DB", "s3://bucket/name", "db", "s3://bucket/name"),
        ("CLAMR_DB", "", "encoder", "mini"),
    ],
)
def test_variables_are_text_that_is_understood(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(config.load(), name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "many"),
        ("limit", "1.5"),
        ("limit", "99999999999999999999"),
        ("threads", "9999"),
        ("scan_limit", "99999999999999999999"),
        ("window", "nan"),
        ("window", "0.2"),
        ("window", "1e999"),
        ("device", "tpu"),
        ("ocr", "tesseract"),
        ("scoring", "max"),
        ("language", "english"),
        ("speech", "perhaps"),
        ("encoder", "  "),
        ("threads", "-1"),
        ("db", "a\0b"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_flag_variable_or_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        config.load({name: value})
    file = _write(tmp_path / "c.toml", f'{name} = "{value}"' if "\0" not in value else f'{name} = "a\\u0000b"')
    with pytest.raises(UsageError) as caught:
        config.load(config=file)
    assert file in caught.value.what
    assert name in caught.value.what
    assert caught.value.hint
    if "\0" not in value:
        monkeypatch.setenv(f"CLAMR_{name.upper()}", value)
        with pytest.raises(UsageError, match=f"CLAMR_{name.upper()}"):
            config.load()


@pytest.mark.parametrize("value", ["7", "true", "[1]", "{ a = 1 }", "1979-05-27"])
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match="encoder"):
        config.load(config=_write(tmp_path / "c.toml", f"encoder = {value}"))


@pytest.mark.parametrize("text", ["colour = 1", "limit = ", "[limit]\nx = 1"])
def test_a_file_with_unknown_keys_or_faults_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = _write(tmp_path / "c.toml", text)
    with pytest.raises(UsageError) as caught:
        config.load(config=file)
    assert file in caught.value.what


def test_a_file_that_was_named_must_exist_and_be_readable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        config.load(config=str(tmp_path / "absent.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        config.load(config=str(tmp_path))
    (tmp_path / "latin.toml").write_bytes(b'encoder = "caf\xe9"')
    with pytest.raises(UsageError, match="not UTF-8"):
        config.load(config=str(tmp_path / "latin.toml"))


def test_a_number_beyond_all_floats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="window"):
        config.load(config=_write(tmp_path / "c.toml", f"window = 1{'0' * 400}"))


def test_the_home_of_an_unknown_user_is_only_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.load({"db": "~no-such-user/index"}).db == "~no-such-user/index"
    assert config.load({"cache": "~no-such-user/cache"}).cache == Path("~no-such-user/cache").absolute()
    with pytest.raises(UsageError, match="no configuration file"):
        config.load(config="~no-such-user/config.toml")


@pytest.mark.parametrize("name", config.NAMES)
def test_every_setting_says_what_it_expects(name: str) -> None:
    assert config.expected(name).split()[0] in ("use", "give", "write")


def test_an_encoder_has_a_table_of_its_own(tmp_path: Path) -> None:
    settings = config.load(config=_write(tmp_path / "c.toml", '[encoders.clamr]\ntemplate-vectors = "drop"'))
    assert settings.encoder_settings("clamr") == {"template_vectors": "drop"}
    assert settings.encoder_settings("clamr:other") == {"template_vectors": "drop"}
    assert settings.encoder_settings("mini") == {}
    with pytest.raises(UsageError, match="encoders"):
        config.load(config=_write(tmp_path / "c.toml", 'encoders = "clamr"'))


def test_globs_keep_their_commas(tmp_path: Path) -> None:
    settings = config.load(config=_write(tmp_path / "c.toml", 'exclude = ["{a,b}.mp4", "*.tmp"]'))
    assert settings.exclude == ("{a,b}.mp4", "*.tmp")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exclude = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("encoders = " + "{a = " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("limit = " + "7" * 6000, "too many digits"),
        ("limit = 0x" + "f" * 6000, "cannot be used"),
        ("limit = " + "7" * 4000, "cannot be used"),
        ("window." + ".".join("a" * 3000) + " = 1", "cannot be used"),
    ],
)
def test_what_no_parser_takes_is_refused_in_a_short_line(tmp_path: Path, text: str, reason: str) -> None:
    file = _write(tmp_path / "c.toml", text)
    with pytest.raises(UsageError, match=reason) as caught:
        config.load(config=file)
    assert len(str(caught.value).replace(file, "")) < 300


def test_a_file_may_begin_with_the_mark_of_windows_editors(tmp_path: Path) -> None:
    assert config.load(config=_write(tmp_path / "c.toml", "\ufefflimit = 3")).limit == 3


def test_the_workers_of_a_cluster_are_a_table_that_options_go_before(tmp_path):
    settings = config.load(config=_write(tmp_path / "c.toml", "[executors.ray]\nworkers = 4\ngpus-per-worker = 0.5"))
    assert settings.ray_options(workers=2, address=None) == RayOptions("auto", 2, 0.5)
    with pytest.raises(UsageError, match="0 or more"):
        settings.ray_options(workers=-1)
    with pytest.raises(UsageError, match="part of one GPU, or whole ones"):
        settings.ray_options(gpus_per_worker=1.5)
    for table in ("[executors.ray]\nworker = 4", "[executors.dask]\nworkers = 4", "[executors.ray]\nworkers = 'x'"):
        with pytest.raises(UsageError, match=r"\[executors.ray\] with address, cpus_per_worker"):
            config.load(config=_write(tmp_path / "c.toml", table))
