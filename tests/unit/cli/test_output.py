import csv
import io
import json
import os
from dataclasses import replace

import pytest

from clamr_cli.cli import output
from clamr_cli.cli.output import Form, csv_text, emit, emit_one
from clamr_cli.cli.progress import event_record
from clamr_cli.events import Discovered, Indexed, Skipped
from clamr_cli.records import HIT, Column, fields, json_line, json_only, matched_texts, record, table_only
from clamr_cli.types import Level
from tests.unit.cli.hits import HOSTILE, PLAIN

TSV = [column.name for column in HIT if column.tsv]


def test_a_hit_has_the_documented_keys_and_every_modality() -> None:
    values = json.loads(json_line(record(HIT, PLAIN)))
    required = {"rank", "video_id", "path", "score", "start", "end", "modality", "modalities", "evidence"}
    assert required <= set(values)
    assert values["modalities"] == {"video": 0.1235, "speech": 2.7, "ocr": None, "metadata": None}
    assert values["evidence"][0] == {
        "query_token": "protest",
        "modality": "speech",
        "start": 740.0,
        "end": 741.5,
        "text": "protests",
        "similarity": 0.9877,
    }


def test_json_of_hostile_names_is_utf8_on_one_line_and_leads_back_to_the_file() -> None:
    line = json_line(record(HIT, HOSTILE))
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert os.fsencode(json.loads(line.decode())["path"]) == b"/videos/caf\xe9\n[red]\x1b]8;;evil\x07.mp4"


def test_a_tsv_line_has_one_field_per_column_whatever_is_in_them() -> None:
    for hit in (PLAIN, HOSTILE):
        line = output.tsv_line(fields(HIT, hit)).decode()
        assert line.count("\n") == 1
        assert len(line.rstrip("\n").split("\t")) == len(TSV)


def test_csv_has_a_header_and_a_line_per_hit() -> None:
    text = csv_text(TSV, (fields(HIT, hit) for hit in (PLAIN, HOSTILE))).decode()
    header, plain, hostile = csv.reader(io.StringIO(text))
    assert header == TSV
    assert plain[header.index("path")] == "/videos/lagos.mp4"
    assert "\x1b" not in hostile[header.index("path")]
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd|' /C calc'!A1", "-2+3", "@SUM(A1)", "=", "-", "\t=1", "\r=1", "＝1+1", "--5", "=-1.5"]
)
def test_no_cell_of_csv_begins_a_formula(cell: str) -> None:
    ((shown,),) = csv.reader(io.StringIO(csv_text((), [[cell]]).decode().lstrip("\n")))
    assert shown[0] == "'"
    assert shown[1:].replace("\\t", "\t").replace("\\r", "\r") == cell


@pytest.mark.parametrize("cell", ["-1.5", "+4", "-2e-05", "1=1", "a@b", "", "'=1", -1.5, None])
def test_numbers_and_other_texts_of_csv_stay_as_they_are(cell: object) -> None:
    text = csv_text(("a", "b"), [[cell, "x"]]).decode()
    assert text.splitlines()[1] == f"{'' if cell is None else cell},x"


def test_a_weak_hit_says_so_in_a_field_of_its_own() -> None:
    rows = [fields(HIT, replace(PLAIN, level=level)) for level in (Level.FAIR, Level.WEAK)]
    assert [row[TSV.index("weak")] for row in rows] == ["", "weak"]
    assert [cell for cell in rows[1] if cell != "weak"] == list(rows[0][:-2] + rows[0][-1:])


def test_a_frame_that_matched_counts_by_its_query_word() -> None:
    assert matched_texts(PLAIN.evidence) == ["protests", "lagos"]


def test_events_carry_their_name_and_fields() -> None:
    assert event_record(Discovered(3, 1, 2)) == {"event": "discovered", "files": 3, "unchanged": 1, "to_do": 2}
    assert event_record(Skipped("a", "b", "c")) == {"event": "skipped", "path": "a", "reason": "b", "hint": "c"}
    line = json_line(event_record(Indexed("a", "id", 1.23456, 2, ("speech",), {"ocr": 2.0})))
    assert json.loads(line)["duration"] == 1.235


def test_paths_are_the_bytes_of_the_files_each_once(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output.write_paths([PLAIN.path, HOSTILE.path, PLAIN.path], null=True)
    assert capfdbinary.readouterr().out == b"/videos/lagos.mp4\0/videos/caf\xe9\n[red]\x1b]8;;evil\x07.mp4\0"


COLUMNS = (
    Column("name", wide=True),
    Column("size", json=str, tsv=lambda size: size * 2, label="bytes"),
    json_only("only_json"),
    table_only("only_table", lambda row: f"{row['name']}!"),
    Column("many", tsv=lambda values: list(values)),
    Column("unknown", tsv=lambda value: value),
)
ROW = {"name": "a\tb\x1b", "size": 21, "only_json": None, "many": "xy"}


def test_a_thing_is_a_json_object_or_lines_of_name_and_value(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    emit_one(COLUMNS, ROW, Form.JSON)
    expected = {"name": "a\tb\x1b", "size": "21", "only_json": None, "many": "xy", "unknown": None}
    assert json.loads(capfdbinary.readouterr().out) == expected
    emit_one(COLUMNS, ROW, Form.TSV)
    out = capfdbinary.readouterr().out
    assert out == b"name\ta\\tb\\x1b\nbytes\t42\nonly table\ta\\tb\\x1b!\nmany\tx\nmany\ty\n"


def test_rows_get_extra_keys_in_json_only(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for form in (Form.JSON, Form.CSV, Form.TSV):
        emit(COLUMNS[:2], [ROW], form, extra={"searched": 1})
    first, *rest = capfdbinary.readouterr().out.splitlines()
    assert json.loads(first) == {"name": "a\tb\x1b", "size": "21", "searched": 1}
    assert rest == [b"name,size", b"a\\tb\\x1b,42", b"a\\tb\\x1b\t42"]
