"""``clamr edit`` and ``clamr show --srt``: what is said in a video as text, corrected by a person."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pysubs2
import pytest

from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr, Ended
from tests.unit.cli.small_index import LAGOS, SALE
from tests.unit.media.clips import Clip

SAID = "1\n00:00:00,100 --> 00:00:01,000\nthe horse is brown\n\n2\n00:00:01,200 --> 00:00:01,900\nsecond line\n"
PLAIN = ("--encoder", "hashed", "--no-ocr", "--no-speech")


@dataclass(frozen=True)
class Desk:
    """An indexed clip with subtitles, and the command line on its index with an editor that runs Python."""

    place: Path
    clamr: Clamr
    monkeypatch: pytest.MonkeyPatch

    @property
    def film(self) -> str:
        return str(self.place / "videos" / "film.mp4")

    def __call__(self, *arguments: str) -> Ended:
        return self.clamr("--db", str(self.place / "index"), *arguments)

    def editor(self, body: str) -> None:
        script = self.place / "editor.py"
        script.write_text(f"import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n{body}\n")
        self.monkeypatch.setenv("VISUAL", shlex.join([sys.executable, str(script)]))

    def replace(self, before: str, after: str) -> None:
        self.editor(f"path.write_text(path.read_text().replace({before!r}, {after!r}))")

    def text(self) -> list[str]:
        return self("show", self.film, "--txt").out.decode().splitlines()

    def vectors(self) -> dict[str, bytes]:
        store = Store.open(self.place / "index")
        (use,) = store.encoders()
        return {moment: item.vectors.tobytes() for moment, item in store.scan_vectors(use.info.fingerprint)}

    def first(self, query: str) -> str:
        record = json.loads(self("search", query, "--json", "-n", "1", "--modality", "speech").out.splitlines()[0])
        return " ".join(part["text"] for part in record["evidence"])


@pytest.fixture
def desk(clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "videos").mkdir()
    Clip(seconds=2).write(tmp_path / "videos" / "film.mp4")
    (tmp_path / "videos" / "film.srt").write_text(SAID)
    desk = Desk(tmp_path, clamr, monkeypatch)
    assert desk("index", str(tmp_path / "videos"), *PLAIN).code == 0
    return desk


@pytest.mark.slow
def test_a_correction_is_found_at_once_and_outlives_index_runs(desk: Desk) -> None:
    desk.replace("brown", "purple")
    ended = desk("edit", desk.film)
    assert (ended.code, ended.out) == (0, b"")
    assert "1 new line of 2" in ended.err
    assert desk.text() == ["the horse is purple", "second line"]
    assert "purple" in desk.first("purple horse")
    vectors = desk.vectors()
    # Nothing is left to do, whatever is changed beside it, and with another recipe.
    assert '"indexed": 0' in desk("index", str(desk.place / "videos"), *PLAIN, "--json").out.decode().splitlines()[-1]
    assert desk("index", str(desk.place / "videos"), *PLAIN, "--language", "de").code == 0
    assert desk.text() == ["the horse is purple", "second line"]
    assert desk.vectors() == vectors
    assert Store.open(desk.place / "index").problems() == []


@pytest.mark.slow
def test_corrections_are_taken_back_without_the_file(desk: Desk) -> None:
    for before, after in (("brown", "purple"), ("purple", "green"), ("second line", "")):
        desk.replace(before, after)
        assert desk("edit", desk.film).code == 0
    assert desk.text() == ["the horse is green"]
    Path(desk.film).rename(desk.place / "away.mp4")
    assert desk("edit", desk.film, "--revert").code == 0
    assert desk.text() == ["the horse is brown", "second line"]
    assert "nothing was corrected" in desk("edit", desk.film, "--revert").err
    assert desk("edit", desk.film, "--revert", "--from", "x.srt").code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(1)", "ended with 1"),
        ("path.write_text('')", "the transcript is empty"),
        ("path.unlink()", "left no text"),
        ("path.write_bytes(b'\\xff\\xfe\\xff')", "not UTF-8"),
        ("path.write_text(path.read_text().replace('00:00:01,200 -->', '00:00:xx -->'))", "line 6 is no time"),
        ("path.write_text(path.read_text().replace('00:00:01,900', '00:00:00,900'))", "line 6 ends before it starts"),
        ("path.write_text('hello\\n' + path.read_text())", "line 1 stands before the first time"),
        ("path.write_text(path.read_text().replace('00:00:01', '07:00:01'))", "starts after the end of the video"),
    ],
)
def test_a_damaged_edit_is_one_line_and_changes_nothing(desk: Desk, body: str, reason: str) -> None:
    desk.editor(body)
    ended = desk("edit", desk.film)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert reason in ended.err
    assert Path(ended.err.strip().rpartition(" in ")[2]).parent.is_dir()
    assert desk.text() == ["the horse is brown", "second line"]


@pytest.mark.slow
def test_what_is_said_goes_out_and_comes_back_as_subtitles(desk: Desk) -> None:
    shown = pysubs2.SSAFile.from_string(desk("show", desk.film, "--srt").out.decode(), format_="srt")
    assert [(line.start, line.end, line.plaintext) for line in shown] == [
        (100, 1000, "the horse is brown"),
        (1200, 1900, "second line"),
    ]
    shown.shift(s=-0.1)
    shown[0].plaintext = "a & b <c>"
    shown.save(str(desk.place / "other.vtt"))
    assert desk("edit", desk.film, "--from", str(desk.place / "other.vtt")).code == 0
    assert desk("show", desk.film, "--vtt", "-o", str(desk.place / "out.vtt")).code == 0
    text = (desk.place / "out.vtt").read_text()
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.900\n")
    assert [line.start for line in pysubs2.load(str(desk.place / "out.vtt"))] == [0, 1100]
    assert desk("edit", desk.film, "--from", str(desk.place / "no.srt")).code == 2
    desk.editor("pass")
    assert "nothing was changed" in desk("edit", desk.film).err


def test_transcripts_are_clean_and_refuse_other_forms(clamr: Clamr, db: Path) -> None:
    for form in ("--srt", "--vtt", "--txt"):
        ended = clamr("--db", str(db), "show", LAGOS, form)
        assert (ended.code, ended.err) == (0, "")
        assert b"\x1b" not in ended.out
    assert clamr("--db", str(db), "show", LAGOS, "--srt", "--json").code == 2
    assert clamr("--db", str(db), "show", LAGOS, "--srt", "--txt").code == 2
    assert clamr("--db", str(db), "show", LAGOS, "-o", "x.srt").code == 2
    assert clamr("--db", str(db), "show", SALE, "--txt").code in (0, 1)
