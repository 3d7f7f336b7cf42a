"""A video keeps its identity when it moves and loses it when it changes."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.media.files import BLOCK, WHOLE_UP_TO, blocks, content_hash, replaced, stamp, video_id


def test_identity_depends_on_the_content_and_not_on_the_name(tmp_path):
    one, two, three = tmp_path / "a.mp4", tmp_path / "b.mkv", tmp_path / "c.mp4"
    one.write_bytes(b"x" * 5000)
    two.write_bytes(b"x" * 5000)
    three.write_bytes(b"x" * 4999 + b"y")
    assert content_hash(str(one)) == content_hash(str(two)) != content_hash(str(three))
    assert len(content_hash(str(one))) == 64
    assert video_id(content_hash(str(one))) == content_hash(str(one))[:12]


def test_an_empty_file_has_an_identity_of_its_own(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"\0")
    assert content_hash(str(tmp_path / "a")) != content_hash(str(tmp_path / "b"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first", "last", "size"])
def test_identity_of_a_large_file_depends_on_its_size_and_its_first_and_last_block(tmp_path, place):
    size = WHOLE_UP_TO + 3 * BLOCK + 7
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(size)
    before = content_hash(str(path))
    with path.open("r+b") as file:
        if place == "size":
            file.truncate(size + 1)
        else:
            file.seek(0 if place == "first" else size - 1)
            file.write(b"!")
    assert content_hash(str(path)) != before


def test_the_blocks_of_a_large_file_are_spread_evenly_from_the_first_byte_to_the_last():
    size = 10 * 2**30 + 12345
    counted = blocks(size)
    assert counted[0][0] == 0
    assert sum(counted[-1]) == size
    assert len(counted) == 64
    steps = [b[0] - a[0] for a, b in pairwise(counted)]
    assert max(steps) - min(steps) <= 1


def test_unreadable_files_give_clear_errors(tmp_path):
    with pytest.raises(MediaError, match="gone"):
        content_hash(str(tmp_path / "nothing.mp4"))
    with pytest.raises(MediaError, match="folder"):
        content_hash(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="pipe"):
        content_hash(str(tmp_path / "pipe.mp4"))


def test_a_file_whose_name_is_not_utf8_is_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.mp4")
    for name in (path, bytes(tmp_path / "plain.mp4")):
        with open(name, "wb") as file:
            file.write(b"content")
    assert content_hash(os.fsdecode(path)) == content_hash(str(tmp_path / "plain.mp4"))


def test_a_file_is_replaced_when_another_one_is_there_or_its_content_was_written_over(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 5000)
    before = stamp(str(path))
    assert not replaced(str(path), before)
    with path.open("ab") as file:
        file.write(b"a recording that goes on")
    assert not replaced(str(path), before)
    path.write_bytes(b"x" * 4999)
    assert replaced(str(path), before)
    path.write_bytes(b"y" * 5000)
    os.utime(path, ns=(before.mtime_ns + 1, before.mtime_ns + 1))
    assert replaced(str(path), before)
    path.rename(tmp_path / "b.mp4")
    path.write_bytes(b"x" * 5000)
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    assert replaced(str(path), before)
    path.unlink()
    with pytest.raises(MediaError):
        replaced(str(path), before)
