import csv
import io
import json
import os
import subprocess
from dataclasses import replace

import pytest

from clamr_cli.events import Discovered, Indexed, Skipped
from clamr_cli.render import records
from tests.unit.render.hits import HOSTILE, PLAIN


def test_a_hit_has_the_documented_keys_and_every_modality() -> None:
    record = json.loads(records.json_line(records.hit_record(PLAIN)))
    required = {"rank", "video_id", "path", "score", "start", "end", "modality", "modalities", "evidence"}
    assert required <= set(record)
    assert record["modalities"] == {"video": 0.1235, "speech": 2.7, "ocr": None, "metadata": None}
    assert record["evidence"][0] == {
        "query_token": "protest",
        "modality": "speech",
        "start": 740.0,
        "end": 741.5,
        "text": "protests",
        "similarity": 0.9877,
    }


def test_json_of_hostile_names_is_utf8_on_one_line_and_leads_back_to_the_file() -> None:
    line = records.json_line(records.hit_record(HOSTILE))
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert os.fsencode(json.loads(line.decode())["path"]) == b"/videos/caf\xe9\n[red]\x1b]8;;evil\x07.mp4"


def test_a_tsv_line_has_one_field_per_column_whatever_is_in_them() -> None:
    for hit in (PLAIN, HOSTILE):
        line = records.tsv_line(records.hit_row(hit)).decode()
        assert line.count("\n") == 1
        assert len(line.rstrip("\n").split("\t")) == len(records.HIT_COLUMNS)


def test_csv_has_a_header_and_a_line_per_hit() -> None:
    text = records.csv_lines(records.HIT_COLUMNS, map(records.hit_row, (PLAIN, HOSTILE))).decode()
    header, plain, hostile = csv.reader(io.StringIO(text))
    assert tuple(header) == records.HIT_COLUMNS
    assert plain[header.index("path")] == "/videos/lagos.mp4"
    assert "\x1b" not in hostile[header.index("path")]
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd|' /C calc'!A1", "-2+3", "@SUM(A1)", "=", "-", "\t=1", "\r=1", "＝1+1", "--5", "=-1.5"]
)
def test_no_cell_of_csv_begins_a_formula(cell: str) -> None:
    ((shown,),) = csv.reader(io.StringIO(records.csv_lines((), [[cell]]).decode().lstrip("\n")))
    assert shown[0] == "'"
    assert shown[1:].replace("\\t", "\t").replace("\\r", "\r") == cell


@pytest.mark.parametrize("cell", ["-1.5", "+4", "-2e-05", "1=1", "a@b", "", "'=1", -1.5, None])
def test_numbers_and_other_texts_of_csv_stay_as_they_are(cell: object) -> None:
    text = records.csv_lines(("a", "b"), [[cell, "x"]]).decode()  # type: ignore[list-item]
    assert text.splitlines()[1] == f"{'' if cell is None else cell},x"


def test_a_weak_hit_says_so_in_a_field_of_its_own() -> None:
    rows = [records.hit_row(replace(PLAIN, weak=weak)) for weak in (False, True)]
    assert [row[records.HIT_COLUMNS.index("weak")] for row in rows] == ["", "weak"]
    assert [cell for cell in rows[1] if cell != "weak"] == list(rows[0][:-2] + rows[0][-1:])


def test_paths_for_a_terminal_are_quoted_as_a_shell_reads_them() -> None:
    (line,) = records.path_lines([HOSTILE.path], null=False, quoted=True)
    read = subprocess.run(["bash", "-c", f"printf %s {line.decode()}"], capture_output=True, check=True)
    assert read.stdout == os.fsencode(HOSTILE.path)
    assert line.isascii()
    assert not set(line[:-1]) & set(range(32))


def test_paths_are_the_bytes_of_the_files_each_once() -> None:
    paths = [PLAIN.path, HOSTILE.path, PLAIN.path]
    assert b"".join(records.path_lines(paths, null=True)) == (
        b"/videos/lagos.mp4\0/videos/caf\xe9\n[red]\x1b]8;;evil\x07.mp4\0"
    )


def test_a_frame_that_matched_counts_by_its_query_word() -> None:
    assert records.matched(PLAIN.evidence) == ["protests", "lagos"]


def test_events_carry_their_name_and_fields() -> None:
    assert records.event_record(Discovered(3, 1, 2)) == {"event": "discovered", "files": 3, "unchanged": 1, "to_do": 2}
    assert records.event_record(Skipped("a", "b", "c")) == {"event": "skipped", "path": "a", "reason": "b", "hint": "c"}
    line = records.json_line(records.event_record(Indexed("a", "id", 1.23456, 2, ("speech",), {"ocr": 2.0})))
    assert json.loads(line)["duration"] == 1.235
