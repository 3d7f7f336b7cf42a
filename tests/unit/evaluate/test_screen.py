"""A report as people see it, and its columns for programs."""

import io
from dataclasses import replace

import pytest

from clamr_cli.cli.commands import eval as evaluation
from clamr_cli.cli.output import console
from clamr_cli.evaluate.run import EvaluationReport, SystemResult

JOINT = SystemResult(
    "mini joint", {"AP": 0.75}, (0.7, 0.8), None, {"speech": 0.5, "base": 1.0}, 0.9, {"speech": 0.9}, None
)
ORACLE = replace(JOINT, name="oracle", means={"AP": 0.9}, oracle=True)
HOSTILE = replace(JOINT, name="run\x1b[2J[red]\n", means={"AP": 0.5}, p=0.0004, accuracy=None)
REPORT = EvaluationReport(("AP",), (JOINT, ORACLE, HOSTILE), {"speech": 4, "base": 4}, 0, "leave-one-out")


def shown(report: EvaluationReport, width: int) -> str:
    stream = io.StringIO()
    for part in evaluation.screen(report, width):
        console(stream, width=width).print(part)
    return stream.getvalue()


def test_the_best_rival_is_one_that_needs_no_oracle() -> None:
    told = evaluation.verdict(REPORT)
    assert told == "mini joint against run\x1b[2J[red]\n, the best other without an oracle: AP +0.250, p <0.001"
    assert evaluation.verdict(replace(REPORT, systems=(JOINT, ORACLE))) == ""


def test_names_of_runs_are_harmless_and_empty_cells_are_blank() -> None:
    drawn = shown(REPORT, 200)
    assert "\x1b" not in drawn
    assert "run\\x1b[2J[red]\\n" in drawn
    assert "None" not in drawn


def test_a_narrow_screen_shows_the_modalities_below() -> None:
    assert shown(REPORT, 200).count("oracle ") < shown(REPORT, 80).count("oracle ")


MEASURES = ("nDCG@10", "R@1", "R@10", "RR", "AP")
FULL = replace(
    JOINT,
    means=dict.fromkeys(MEASURES, 0.912),
    p=0.0004,
    by_label=dict.fromkeys(("video", "speech", "ocr", "metadata", "base"), 0.5),
    auroc=0.88,
)
NAMES = ("mini joint", "sentences oracle router", "BM25 all texts")
LINES = tuple(replace(FULL, name=name) for name in NAMES)


@pytest.mark.parametrize("width", [40, 60, 72, 80, 120, 200])
def test_every_figure_and_name_is_whole_at_any_width(width: int) -> None:
    drawn = shown(replace(REPORT, measures=MEASURES, systems=LINES, rows=dict.fromkeys(FULL.by_label, 4)), width)
    lines = drawn.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in drawn
    assert drawn.count("0.912") == 3 * len(MEASURES)
    assert drawn.count("0.500") == 3 * 5
    assert [drawn.count(figure) for figure in ("0.700-0.800", "0.900", "0.880")] == [3, 3, 3]
    tables = sum(line.startswith("system ") for line in lines)
    assert tables >= (1 if width == 200 else 2)
    # Names may fold, between their words.
    named = ("mini joint  ", "sentences oracle", "BM25 all texts  ")
    assert sum(line.startswith(named) for line in lines) == 3 * tables


def test_what_nobody_knows_takes_no_column() -> None:
    alone = replace(JOINT, interval=None, accuracy=None)
    drawn = shown(replace(REPORT, systems=(alone,), rows={"speech": 1}), 80)
    for name in ("interval", "p:", " p ", "aim met", "AUROC"):
        assert name not in drawn
    assert "1 query (1 speech)\n" in drawn
    assert "AUROC: " in shown(replace(REPORT, systems=(replace(alone, auroc=0.5),)), 80)


def test_columns_for_programs_stay_where_they_are() -> None:
    usual = [column.name for column in evaluation.figures(REPORT)]
    with_audio = evaluation.figures(replace(REPORT, rows={"audio": 1}))
    assert [column.name for column in with_audio if column.name not in usual] == ["AP audio"]
