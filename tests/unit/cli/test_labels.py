"""Tags, notes, and pictures as queries, on indexed clips: found at once, kept by index runs, refused when bad."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamr_cli.errors import UsageError
from clamr_cli.media.pictures import read_picture
from clamr_cli.store import Store
from tests.clips import Clip
from tests.unit.cli.conftest import Clamr, Ended

PLAIN = ("--encoder", "hashed", "--no-ocr", "--no-speech", "-q")


class Desk:
    """Two indexed clips of one colour each, and the command line on their index."""

    def __init__(self, clamr: Clamr, place: Path) -> None:
        self.clamr, self.place = clamr, place
        (place / "videos").mkdir()
        for colour in ("red", "blue"):
            Clip().colour(colour, 2).write(place / "videos" / f"{colour}.mp4")
        assert self("index", str(place / "videos"), *PLAIN).code == 0

    def __call__(self, *arguments: str) -> Ended:
        return self.clamr("--db", str(self.place / "index"), *arguments)

    def found(self, *arguments: str) -> list[str]:
        return [json.loads(line)["title"] for line in self("search", *arguments, "--json").out.splitlines()]

    def vectors(self) -> dict[str, np.ndarray]:
        store = Store.open(self.place / "index")
        (use,) = store.encoders()
        return {name: item.vectors for name, item in store.scan_vectors(use.info.fingerprint)}


@pytest.fixture
def desk(clamr: Clamr, tmp_path: Path) -> Desk:
    return Desk(clamr, tmp_path)


@pytest.mark.slow
def test_tags_are_found_at_once_and_outlive_index_runs_and_moves(desk: Desk) -> None:
    before = desk.vectors()
    ended = desk("tag", "add", "red", "#to cut,holiday")
    assert (ended.code, ended.out) == (0, b"")
    assert "tagged to cut, holiday: red" in ended.err
    assert desk.found("holiday")[0] == "red"
    assert desk.found("holiday", "--tag", "TO CUT") == ["red"]
    after = desk.vectors()
    for name, rows in before.items():
        # Only the rows of the tag are new.
        assert np.array_equal(after[name][: len(rows)], rows)
    assert json.loads(desk("search", "holiday", "-n", "1", "--json").out)["tags"] == ["to cut", "holiday"]
    # What is exported and cut may be limited as a search is.
    words = ("red@0:00-0:01", "blue@0:00-0:01")
    assert len(desk("export", "csv", *words).out.splitlines()) == 3
    listed = desk("export", "csv", *words, "--tag", "HOLIDAY").out.decode()
    assert (len(listed.splitlines()), "red" in listed, "blue" in listed) == (2, True, False)
    assert "has the tag nothing" in desk("export", "csv", *words, "--tag", "nothing").err
    desk("note", "blue", "the lake in winter")
    assert desk.found("lake")[0] == "blue"
    kept = desk.vectors()
    (desk.place / "videos" / "red.mp4").rename(desk.place / "videos" / "moved.mp4")
    assert desk("index", str(desk.place / "videos"), *PLAIN).code == 0
    assert desk("index", str(desk.place / "videos"), *PLAIN, "--language", "de").code == 0
    assert desk.found("holiday", "--tag", "holiday") != []
    now = desk.vectors()
    assert {name: rows.shape for name, rows in now.items()} == {name: rows.shape for name, rows in kept.items()}
    assert desk("tag", "--tsv").out == b"holiday\t1\nto cut\t1\n"
    assert Store.open(desk.place / "index").problems() == []
    desk("tag", "rm", "moved", "holiday")
    desk("tag", "rm", "moved", "to cut")
    desk("note", "blue", "--clear")
    assert desk("tag").code == 1
    assert desk("search", "x", "--tag", "holiday").err.strip().endswith("--tag holiday leaves 0 of 2 videos")
    left = desk.vectors()
    assert sum(np.array_equal(rows, left[name]) for name, rows in before.items()) == 1  # the other's title is new


BAD: tuple[tuple[tuple[str, ...], str], ...] = (
    (("tag", "add", "red"), "name the videos"),
    (("tag", "add", "red", ","), "the tag is empty"),
    (("tag", "add", "red", "a\x1bb"), "invalid tag"),
    (("tag", "add", "red", "x" * 81), "81 characters"),
    (("tag", "add", "nothing", "red", "x"), "no video of the index"),
    (("note", "red", "x", "--clear"), "exclude each other"),
    (("search", "--image", "none.jpg"), "cannot be read"),
    (("frames", "red", "--image", "none.jpg"), "cannot be read"),
    (("frames", "red", "what", "--image", "none.jpg"), "exclude each other"),
    (("search", "--image", "a.jpg", "--like", "red"), "exclude each other"),
    (("search", "--like", "red@9:00"), "after the end"),
    (("similar", "red@0:02-0:01"), "ends before it begins"),
)


@pytest.mark.slow
def test_bad_words_are_one_line(desk: Desk) -> None:
    for words, reason in BAD:
        ended = desk(*words)
        said = [line for line in ended.err.splitlines() if not line.startswith("using the encoder")]
        assert (ended.code, ended.out, len(said)) == (2, b"", 1), words
        assert reason in said[0]
    assert desk("tag").code == 1


@pytest.mark.slow
def test_pictures_and_clips_find_what_is_like_them(desk: Desk, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (300, 200), "blue").save(picture)
    assert desk.found("--image", str(picture))[0] == "blue"
    record = json.loads(desk("search", "--image", str(picture), "--json", "-n", "1").out)
    assert record["evidence"][0]["query_token"] == "picture.png"
    assert (record["modality"], record["lines"][0]["words"]) == ("video", ["like picture.png"])
    assert desk("explain", "1").code == 0
    assert desk.found("--image", str(picture), "red")[0] == "blue"
    clip = Clip().colour("red", 1).write(tmp_path / "clip.mp4")
    assert desk.found("--like", str(clip))[0] == "red"
    both = str(Clip().colour("red", 4).colour("blue", 4).write(tmp_path / "both.mp4"))
    shown = json.loads(desk("frames", both, "--image", str(picture), "-n", "1", "--json", *PLAIN).out)
    assert (shown["time"] >= 4, shown["evidence"][0]["query_token"]) == (True, "picture.png")
    assert [json.loads(line)["title"] for line in desk("similar", "red", "--json").out.splitlines()] == ["blue"]
    desk("tag", "add", "red", "blue", "x")
    assert desk("search", "--like", "red", "-m", "metadata", "--json").out.count(b"blue") > 0


def saved(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer


def test_pictures_are_read_upright_small_and_from_their_first_frame(tmp_path: Path) -> None:
    wide = Image.new("RGB", (900, 300), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    second = Image.new("RGB", (900, 300), "blue")
    for name, content, size in (
        ("turned.jpg", saved(wide, "JPEG", exif=exif), (149, 448)),
        (
            "moving.gif",
            saved(wide, "GIF", save_all=True, append_images=[second]),
            (448, 149),
        ),
        ("clear.webp", saved(Image.new("RGBA", (40, 30), (0, 0, 0, 0)), "WEBP"), (40, 30)),
    ):
        (tmp_path / name).write_bytes(content.getvalue())
        image = Image.open(io.BytesIO(read_picture(str(tmp_path / name))))
        assert image.size == size
        red, green, blue = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
        assert (red > 200, blue < 60 or green > 200) == (True, True), name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "is no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is no picture"),
        (saved(Image.new("L", (90, 90)), "PNG").getvalue()[:50], "cannot be decoded"),
        (saved(Image.new("1", (9000, 9000)), "PNG").getvalue(), "too large: 9000 x 9000"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        read_picture(str(path))
