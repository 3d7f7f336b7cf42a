import json
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.text import command_line, escape_field, escape_json, escape_terminal, file_link, plural, shorten, size

HOSTILE = {
    "line\nbreak": "line\\nbreak",
    "tab\tand\rreturn": "tab\\tand\\rreturn",
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x9b2J": "\\x9b2J",
    "gpj.\u202eexe": "gpj.\\u202eexe",
    "\u2066isolate\u2069": "\\u2066isolate\\u2069",
    "zero\u200bwidth": "zero\\u200bwidth",
    "para\u2029graph": "para\\u2029graph",
    "tag\U000e0041": "tag\\U000e0041",
    os.fsdecode(b"caf\xe9.mp4"): "caf\\xe9.mp4",
    "\ud800": "\\ud800",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_becomes_an_escape(text: str) -> None:
    assert escape_terminal(text) == HOSTILE[text]


@pytest.mark.parametrize("text", ["[red]bold[/red]", "日本語", "שלום.mp4", "👩‍👩‍👧 family", "naïve", "می‌خواهم"])
def test_letters_emoji_and_their_joiners_stay(text: str) -> None:
    assert escape_terminal(text) == text


@given(st.text(st.characters()))
def test_escaped_text_is_one_line_of_encodable_characters(text: str) -> None:
    escaped = escape_terminal(text)
    escaped.encode()
    assert len(escaped.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in escaped)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_fields_differ_where_texts_differ(one: str, other: str) -> None:
    assert (escape_field(one) == escape_field(other)) == (one == other)


@given(st.text(st.characters()))
def test_json_gives_the_same_text_back_and_holds_nothing_a_terminal_obeys(text: str) -> None:
    # JSON joins a high and a low surrogate that stand side by side, as UTF-16 does.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    line = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line.decode()) == {"text": whole}
    assert escape_terminal(line.decode()) == line.decode()


def test_a_link_percent_encodes_bytes_that_are_no_utf8() -> None:
    assert file_link(os.fsdecode(b"/v/caf\xe9 \x1b;.mp4")) == "file:///v/caf%E9%20%1B%3B.mp4"


def test_a_long_text_loses_its_middle() -> None:
    assert shorten("a" * 10 + "end", 7) == "aaaa…nd"
    assert shorten("short", 7) == "short"


def test_numbers_read_well() -> None:
    assert [size(count) for count in (0, 999, 1_520_000, 8_500_000_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 MB",
        "8.5 GB",
        "3.0 TB",
    ]
    assert [plural(count, "video") for count in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]


def test_a_shell_reads_a_quoted_name_as_it_is() -> None:
    name = os.fsdecode(b"/videos/caf\xe9\n[red]\x1b]8;;evil\x07'\\.mp4")
    line = command_line([name])
    read = subprocess.run(["bash", "-c", f"printf %s {line}"], capture_output=True, check=True)
    assert read.stdout == os.fsencode(name)
    assert line.isascii()
    assert not set(line.encode()) & set(range(32))
    assert command_line(["mpv", "a b.mp4"]) == "mpv 'a b.mp4'"
