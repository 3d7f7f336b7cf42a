"""Files that are no good videos, or whose names mean harm: what an index run must survive."""

from __future__ import annotations

import os
from pathlib import Path

from tests.clips import Clip

NAMES = (
    b"two\nlines.mp4",
    b"[red]bold [bold on white][link=file:x].mp4",
    "cat \N{SMILING CAT FACE WITH OPEN MOUTH} \N{FAMILY}.mp4".encode(),
    "\u202egnp.exe \u05e9\u05dc\u05d5\u05dd.mp4".encode(),
    b"\x1b[31mred\x1b]0;owned\x07.mp4",
    b"latin-\xe9\xff.mp4",
    b"-n --help.mp4",
    b"quote' OR 1=1 --.mp4",
)
"""File names as bytes; each is a valid name on Linux."""

MARKUP = {"title": "[bold red]Sale[/] \x1b[2J\u202eevil", "comment": "[link=file:///etc/passwd]click[/link]"}
"""Tags that would colour, clear or mislead a terminal that prints them as they are."""


def small(colour: str = "teal") -> Clip:
    """A second of plain colour: the cheapest real video."""
    return Clip(size=(96, 64), fps=4).colour(colour, 1)


def broken_files(folder: Path) -> list[Path]:
    """Files with a video's name that hold no video that can be read."""
    whole = Clip().photo("rocket", 3).write(folder / "whole.mp4").read_bytes()
    (folder / "whole.mp4").unlink()
    contents = {
        "empty.mp4": b"",
        "cut.mp4": whole[: whole.index(b"moov") - 4],
        "letter.mp4": b"Dear Anna,\n\nthe cat is well.\n" * 40,
        "noise.mkv": b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 64,
        "nothing-but-ftyp.mp4": whole[:32],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [*(folder / name for name in contents), encrypted(folder / "locked.mp4")]


def encrypted(path: Path) -> Path:
    """A video under Common Encryption (ISO 23001-7), as shops sell it; its key is not in the file."""
    key = {"encryption_key": "00112233445566778899aabbccddeeff", "encryption_kid": "ffeeddccbbaa99887766554433221100"}
    return Clip(mux={"encryption_scheme": "cenc-aes-ctr", **key}).photo("coffee", 3).write(path)


def damaged_middle(path: Path) -> Path:
    """A video whose picture data is noise from a third to two thirds of the file; the rest can be read."""
    content = bytearray(Clip().photo("cat", 6).write(path).read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(number * 37 % 256 for number in range(third))
    path.write_bytes(content)
    return path


def named_badly(folder: Path) -> list[bytes]:
    """A good little video under each of :data:`NAMES`, each of another colour, so that no two are the same video."""
    paths = [os.path.join(os.fsencode(folder), name) for name in NAMES]
    for number, path in enumerate(paths):
        small(f"hsl({number * 40}, 80%, 50%)").write(path)
    return paths


def many_lines(path: Path, lines: int = 10_000, *, every: float = 0.5) -> Path:
    """A SubRip file of ``lines`` lines, ``every`` seconds one; line 7777 speaks of a purple submarine."""

    def stamp(seconds: float) -> str:
        hours, rest = divmod(round(seconds * 1000), 3_600_000)
        minutes, rest = divmod(rest, 60_000)
        return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"

    def words(number: int) -> str:
        return "a purple submarine surfaces" if number == 7777 else f"line number {number} of the transcript"

    blocks = (
        f"{number}\n{stamp(number * every)} --> {stamp((number + 1) * every)}\n{words(number)}\n"
        for number in range(lines)
    )
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def pipe(path: Path) -> Path:
    """A named pipe: opening it waits for ever."""
    os.mkfifo(path)
    return path


def endless(path: Path) -> Path:
    """A link to a device whose reading never ends."""
    path.symlink_to("/dev/zero")
    return path


def forbidden(path: Path) -> Path:
    """A good video that its owner may not read (root may, unless it gave up that right)."""
    small("maroon").write(path).chmod(0)
    return path
