import io

import pytest
from rich.console import Console

from clamr_cli.render.console import console
from clamr_cli.render.hits import table
from tests.unit.render.hits import HOSTILE, PLAIN


def _drawn(width: int, *, terminal: bool = False) -> str:
    stream = io.StringIO()
    target = (
        Console(file=stream, width=width, force_terminal=True, color_system="truecolor", _environ={})
        if terminal
        else console(stream, width=width)
    )
    target.print(table([PLAIN, HOSTILE]))
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_fits_the_terminal(width: int) -> None:
    assert max(map(len, _drawn(width).splitlines())) <= width


def test_a_hit_shows_rank_score_title_moment_second_modality_and_words() -> None:
    drawn = _drawn(120)
    for shown in ("1", "2.72", "Protest in Lagos", "3f9a1c2b", "12:03-12:41", "12:21", "speech", "protests · lagos"):
        assert shown in drawn


def test_hostile_names_reach_no_terminal_and_are_no_markup() -> None:
    drawn = _drawn(120)
    assert "\x1b" not in drawn
    assert "\u202e" not in drawn
    assert "[bold]x\\x1b[2J" in drawn


def test_a_title_opens_its_file_on_a_terminal() -> None:
    drawn = _drawn(120, terminal=True)
    assert "file:///videos/lagos.mp4\x1b\\" in drawn
    assert "file:///videos/caf%E9%0A%5Bred%5D%1B%5D8%3B%3Bevil%07.mp4" in drawn
