"""``clamr frames`` and ``clamr open``: what they print, what they write, and what they say of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from clamr_cli.cli.commands import open as open_command
from clamr_cli.cli.commands.open import player_command
from clamr_cli.errors import UsageError
from clamr_cli.store import Store
from clamr_cli.terms import split_place
from clamr_cli.types import Span
from tests import clips
from tests.unit.cli.conftest import Clamr, Ended
from tests.unit.cli.small_index import BEES, SALE
from tests.unit.cli.test_golden import compare

FAST = ("--no-asr", "--no-ocr", "--encoder", "hashed", "-q")
SAID = (
    (1, 3, "The red door opens."),
    (9, 11, "A blue\x1b[31m boat [bold]sails\u202e away."),
    (19, 23, "Bees dance for each other."),
)


@dataclass(frozen=True)
class Cinema:
    """A film with subtitles, other files beside it, and an index that has prepared the film."""

    folder: Path
    db: Path

    @property
    def film(self) -> str:
        return os.fspath(self.folder / "film.mp4")


@pytest.fixture(scope="session")
def _cinema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cinema")
    film = (
        clips.Clip(tags={"title": "A film"}).colour("red", 8).colour("blue", 6).colour("green", 4).colour("yellow", 8)
    )
    film.chapter(0, 14, "Morning").chapter(14, 26, "Evening").write(place / "film.mp4")
    cues = (f"{n}\n00:00:{a:02},000 --> 00:00:{b:02},000\n{text}\n" for n, (a, b, text) in enumerate(SAID, 1))
    (place / "film.srt").write_text("\n".join(cues), encoding="utf-8")
    clips.Clip().narration("bees", at=0).write(place / "sound.m4a")
    whole = (place / "film.mp4").read_bytes()
    (place / "cut-off.mp4").write_bytes(whole[: len(whole) // 2])
    (place / "empty.mp4").write_bytes(b"")
    (place / "notes.mp4").write_text("no video at all", encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def _prepared(_cinema: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from clamr_cli.frames import DenseOptions, locate, prepare
    from clamr_cli.index.run import IndexOptions

    db = tmp_path_factory.mktemp("prepared") / "index"
    store = Store.open(db, create=True)
    index = IndexOptions(db.with_name("cache"), encoder="hashed", speech=False, text=False)
    list(prepare(store, locate(store, os.fspath(_cinema / "film.mp4")), DenseOptions(index)))
    return db


@pytest.fixture
def cinema(_cinema: Path, _prepared: Path, tmp_path: Path) -> Cinema:
    return Cinema(_cinema, Path(shutil.copytree(_prepared, tmp_path / "index")))


@pytest.fixture
def frames(cinema: Cinema, clamr: Clamr):
    def call(video: str, *arguments: str) -> Ended:
        return clamr("--db", str(cinema.db), "frames", *FAST, *arguments[1:], "--", video, *arguments[:1])

    return call


def _steady(text: bytes, *places: Path) -> bytes:
    """Without what differs from run to run: folders, and ids, which depend on the build of the encoder."""
    for place in places:
        text = text.replace(os.fsencode(place), b"FOLDER")
    text = re.sub(rb'"video_id": "[0-9a-f]+"', b'"video_id": "ID"', text)
    return re.sub(rb"(?m) +$", b"", text)


GOLDEN = {
    "frames.table": ("red door", "-k", "3", "--table"),
    "frames.json": ("blue boat", "-k", "2", "--json"),
    "frames.tsv": ("blue boat", "-k", "2"),
    "frames.windows.tsv": ("red", "-k", "3", "--select", "windows"),
    "frames.more.tsv": ("bees dance", "-k", "99", "--select", "top"),
    "frames.modality.tsv": ("evening", "-k", "1", "-m", "metadata"),
    "frames.nothing": ("red", "-k", "1", "-m", "ocr"),
    "frames.empty": ("  ",),
    "frames.none": ("red", "-k", "0"),
    "frames.select": ("red", "--select", "best"),
    "frames.clips-nowhere": ("red", "--around", "2s"),
    "frames.sheet-format": ("red", "--sheet", "sheet.pdf"),
    "frames.clips-of-nothing": ("red", "--out", "never-made", "--around", "0"),
}
ERRORS = {
    "frames.gone": "no-such.mp4",
    "frames.unknown": "ffff",
    "frames.folder": "",
    "frames.no-picture": "sound.m4a",
    "frames.cut-off": "cut-off.mp4",
    "frames.no-bytes": "empty.mp4",
    "frames.no-video": "notes.mp4",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_it_prints_what_it_did_before(name: str, cinema: Cinema, frames) -> None:
    ended = frames(cinema.film, *GOLDEN[name])
    assert b"\x1b" not in ended.out
    told = f"stderr: {ended.err}".encode() if ended.err else b""
    compare(name, _steady(ended.out + told + f"exit code: {ended.code}\n".encode(), cinema.folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_one_clear_line(name: str, cinema: Cinema, frames) -> None:
    video = ERRORS[name] if name == "frames.unknown" else os.fspath(cinema.folder / ERRORS[name])
    ended = frames(video, "red")
    assert (ended.out, ended.err.count("\n")) == (b"", 1)
    compare(name, _steady(f"{ended.err}exit code: {ended.code}\n".encode(), cinema.folder))


@pytest.mark.slow
def test_the_list_of_an_export_is_what_it_was_before(cinema: Cinema, frames, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert frames(cinema.film, "blue boat", "-k", "2", "--out", str(out), "--around", "1s").code == 0
    content = (out / "frames.json").read_bytes()
    compare("frames.listing", _steady(content, cinema.folder))
    named = {name for frame in json.loads(content)["frames"] for name in (frame["file"], frame["clip"])}
    assert {path.name for path in out.iterdir()} == {"frames.json", *named}
    assert all((out / name).stat().st_size > 500 for name in named)


@pytest.mark.slow
def test_an_export_is_finished_repeated_and_replaced_but_never_mixed(cinema: Cinema, frames, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = frames(cinema.film, "blue boat", "-k", "2", "--out", str(out))
    pictures = sorted(out.glob("*.jpg"))
    pictures[0].unlink()
    stamp = pictures[1].stat().st_mtime_ns
    again = frames(cinema.film, "blue boat", "-k", "2", "--out", str(out))
    assert (again.code, again.out) == (0, first.out)
    assert pictures[0].is_file()
    assert pictures[1].stat().st_mtime_ns == stamp
    other = frames(cinema.film, "bees", "-k", "1", "--out", str(out))
    assert (other.code, other.out) == (2, b"")
    assert "--force" in other.err
    assert frames(cinema.film, "bees", "-k", "1", "--out", str(out), "--force").code == 0
    assert len(list(out.glob("*.jpg"))) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert frames(cinema.film, "bees", "--out", str(tmp_path / "mine"), "--force").code == 2
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("other", [("--around", "2s"), ("--around", "1s", "--exact"), ("--side", "100")], ids=str)
def test_files_of_another_kind_are_not_taken_for_those_that_are_wanted(
    other: tuple[str, ...], cinema: Cinema, frames, tmp_path: Path
) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    out, fresh, first = tmp_path / "out", tmp_path / "fresh", ("blue boat", "-k", "1", "--around", "1s")
    assert frames(cinema.film, *first, "--out", str(out)).code == 0
    before = content(out)
    refused = frames(cinema.film, *first, *other, "--out", str(out))
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert content(out) == before
    assert frames(cinema.film, *first, *other, "--out", str(out), "--force").code == 0
    assert frames(cinema.film, *first, *other, "--out", str(fresh)).code == 0
    assert content(out) == content(fresh) != before


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_said(cinema: Cinema, frames, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for where in (("--out", str(tmp_path / "file" / "x")), ("--sheet", str(tmp_path / "file" / "x.png"))):
        ended = frames(cinema.film, "red", "-k", "1", *where)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert "cannot write" in ended.err


@pytest.mark.slow
def test_a_sheet_is_written_and_not_overwritten(cinema: Cinema, frames, tmp_path: Path) -> None:
    from PIL import Image

    sheet = tmp_path / "new" / "sheet.jpg"
    assert frames(cinema.film, "red [bold]\x1b[2J " + "long " * 200, "-k", "4", "--sheet", str(sheet)).code == 0
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) > 200
    before = sheet.read_bytes()
    assert frames(cinema.film, "green", "--sheet", str(sheet)).code == 2
    assert sheet.read_bytes() == before
    # Nothing is green: the nearest frame is weak, and written nevertheless.
    assert frames(cinema.film, "green", "-k", "1", "--sheet", str(sheet), "--force").code == 0
    assert frames(cinema.film, "green", "-k", "1").code == 1
    assert sheet.read_bytes() != before


@pytest.mark.slow
def test_the_film_itself_is_needed_only_for_clips(cinema: Cinema, frames, clamr: Clamr, tmp_path: Path) -> None:
    moved = tmp_path / "-dash.mp4"
    shutil.copy(cinema.film, moved)
    shutil.copy(cinema.folder / "film.srt", tmp_path / "-dash.srt")
    # The same content under another name is known, even where a name looks like an option.
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        known = frames("-dash.mp4", "blue boat", "-k", "2", "--json")
    finally:
        os.chdir(here)
    assert known.code == 0
    assert json.loads(known.out.splitlines()[0])["rank"] == 1


@pytest.mark.slow
def test_damage_gives_the_kept_pictures(cinema: Cinema, frames, tmp_path: Path) -> None:
    film = Path(shutil.copytree(cinema.folder, tmp_path / "copy")) / "film.mp4"
    shutil.rmtree(cinema.db)
    assert frames(str(film), "red", "-k", "1").code == 0
    stamp = film.stat()
    film.write_bytes(b"\0" * stamp.st_size)
    os.utime(film, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    ended = frames(str(film), "red", "-k", "2", "--out", str(tmp_path / "out"))
    assert ended.code == 0
    assert "2 of 2 frames could not be decoded from the file" in ended.err
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 2


@pytest.mark.slow
def test_a_video_is_prepared_without_a_question(cinema: Cinema, frames, clamr: Clamr) -> None:
    refused = frames(cinema.film, "who?", "--prepare")
    assert (refused.code, refused.out) == (2, b"")
    assert "--prepare takes no question" in refused.err
    again = ("--db", str(cinema.db), "frames", *FAST, "--prepare", cinema.film)
    ended = clamr(*again, "--interval", "1", "--json")
    first, *_, last = map(json.loads, ended.out.splitlines())
    assert (ended.code, first["event"], last["event"]) == (0, "progress", "prepared")
    kept = clamr(*again)
    assert (kept.code, kept.out) == (0, b"")
    assert f"prepared: {last['frames']} frames to choose from" in kept.err


def test_what_was_prepared_can_be_forgotten(cinema: Cinema, frames, clamr: Clamr, tmp_path: Path) -> None:
    film = Path(shutil.copytree(cinema.folder, tmp_path / "copy")) / "film.mp4"
    shutil.rmtree(cinema.db)
    assert frames(str(film), "red", "-k", "1").code == 0
    assert Store.open(cinema.db).stats().extractions >= 4
    ended = clamr("--db", str(cinema.db), "rm", str(film))
    assert (ended.code, ended.err) == (0, f"removed from the index: {film}\n")
    assert Store.open(cinema.db).stats().extractions == 0
    assert clamr("--db", str(cinema.db), "rm", str(film)).code == 2


# --- open -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without players: programs are looked for in one empty folder."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(open_command, "PROGRAMS", {"mpv": ("mpv",), "vlc": ("vlc",)})
    return programs


def _player(folder: Path, name: str) -> Path:
    """A program that writes down what it was started with."""
    said = folder / f"{name}.said"
    program = folder / name
    program.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done > {said}.part\n/bin/mv {said}.part {said}\n'
    )
    program.chmod(0o755)
    return said


def _awaited(path: Path) -> list[bytes]:
    import time

    for _ in range(500):
        if path.is_file():
            return path.read_bytes().split(b"\0")[:-1]
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


@pytest.mark.parametrize(
    ("name", "start"), [("mpv", b"--start=62.5"), ("vlc", b"--start-time=62.5")], ids=["mpv", "vlc"]
)
def test_a_player_starts_at_the_moment(name: str, start: bytes, bare: Path, clamr: Clamr, tmp_path: Path) -> None:
    said = _player(bare, name)
    film = tmp_path / "$(touch x) -; 'é\n.mp4"
    film.write_bytes(b"")
    ended = clamr("open", f"{film}@1:02.5")
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    assert _awaited(said) == [start, b"--", os.fsencode(film)]


def test_without_a_player_the_command_is_printed(bare: Path, clamr: Clamr, tmp_path: Path) -> None:
    film = tmp_path / "it's a film.mp4"
    film.write_bytes(b"")
    ended = clamr("open", f"{film}@90")
    assert ended.code == 0
    assert ended.err == "no player is installed; with mpv:\n"
    assert ended.out.decode() == f"mpv --start=90 -- '{tmp_path}/it'\"'\"'s a film.mp4'\n"
    assert clamr("open", "--print", "--player", "vlc", str(film)).out.startswith(b"vlc -- ")


def test_the_printed_command_can_be_pasted_whatever_the_name(bare: Path, clamr: Clamr, tmp_path: Path) -> None:
    import subprocess

    said = _player(bare, "mpv")
    film = os.fsencode(tmp_path) + b"/-a\x1b[2J'\\ \xff\n$x\xe2\x80\xae7.mp4"
    Path(os.fsdecode(film)).write_bytes(b"")
    ended = clamr("open", "--print", f"{os.fsdecode(film)}@1h")
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in ended.out)
    subprocess.run(["/bin/bash", "-c", ended.out.decode()], check=True)
    assert _awaited(said) == [b"--start=3600", b"--", film]


def test_a_relative_name_with_a_dash_is_no_option(bare: Path, clamr: Clamr, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x.mp4").write_bytes(b"")
    assert clamr("open", "--print", "--", "-x.mp4@5").out.decode() == f"mpv --start=5 -- {tmp_path}/-x.mp4\n"


def test_an_id_whose_file_is_gone_is_told_with_where_it_was(bare: Path, db: Path, clamr: Clamr) -> None:
    ended = clamr("--db", str(db), "open", f"{BEES[:4]}@12:03")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err == (
        f"clamr: no file of video {BEES} is there now (it was at /videos/nature/bees.mkv): connect its disk, "
        "bring it back, or index its folder\n"
    )
    assert "\x1b" not in clamr("--db", str(db), "open", SALE).err


def test_what_is_no_video_is_called_by_its_name(clamr: Clamr, frames, tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "link.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("link.mp4", "pipe.mp4"):
        ended = frames(str(tmp_path / name), "red")
        assert (ended.code, ended.err.count("\n"), "index again" in ended.err) == (3, 1, False)
        assert ended.err.startswith(f"clamr: {tmp_path / name}: ")
    ended = clamr("open", f"{tmp_path}@5")
    assert (ended.code, ended.err) == (2, f"clamr: {tmp_path} is a folder: name one video in it\n")


def test_moments_hours_into_a_video_are_exact_too() -> None:
    assert player_command("mpv", "mpv", "/v", 12_345.678)[1] == "--start=12345.678"
    assert player_command("vlc", "vlc", "/v", 2_000_000.0)[1] == "--start-time=2000000"


def test_a_file_that_is_not_there_is_no_id_of_an_index(clamr: Clamr, tmp_path: Path) -> None:
    ended = clamr("--db", str(tmp_path / "none"), "open", "film.mp4@12:03")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith("clamr: there is no file film.mp4: ")
    ended = clamr("--db", str(tmp_path / "none"), "frames", "film.mp4", "red", *FAST)
    assert (ended.code, ended.err) == (
        2,
        "clamr: there is no file film.mp4: check the path, or give an id that clamr ls shows\n",
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("place", ["", "@5", "no/such.mp4", "no/such.mp4@5", "film@never", "\0", "a\0b@3"])
def test_bad_places_are_one_line(place: str, bare: Path, db: Path, clamr: Clamr) -> None:
    ended = clamr("--db", str(db), "open", place)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1)


def test_a_file_with_an_at_sign_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("me@12:03").write_bytes(b"")
    assert split_place("me@12:03") == ("me@12:03", None)
    assert split_place("me@12:03@4") == ("me@12:03", Span(4.0, 4.0))
    assert split_place("s3://b/me@2x.mp4") == ("s3://b/me@2x.mp4", None)
    assert split_place("s3://b/me@2x.mp4@1:05.5") == ("s3://b/me@2x.mp4", Span(65.5, 65.5))
    assert split_place("ab12@1h2m3s") == ("ab12", Span(3723.0, 3723.0))
    with pytest.raises(UsageError):
        split_place("ab12@")
