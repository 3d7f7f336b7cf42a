"""Every known behaviour of the published code has a line that says whether it is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import clamr_cli.encoders.clamr as package

TEXT = (Path(package.__file__).parent / "DEVIATIONS.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- `(?P<id>[a-z0-9_]+)`: (?P<verdict>same|different|does not apply)", re.MULTILINE)


def test_every_known_behaviour_has_its_line(shared: Path):
    known = json.loads((shared / "oracle" / "deviations.json").read_text(encoding="utf-8"))
    assert {entry["id"] for entry in known} == {found["id"] for found in ENTRY.finditer(TEXT)}


def test_every_line_has_a_verdict():
    assert len(ENTRY.findall(TEXT)) == TEXT.count("- `")
