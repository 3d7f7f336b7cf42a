"""Commands beside their output: exit codes, refusals, changes, and settings that are kept."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clamr_cli import encoders
from clamr_cli.store import Store
from clamr_cli.types import FileState, TokenVectors
from tests.unit.cli.conftest import Clamr
from tests.unit.cli.small_index import BEES, HOSTILE_PATH, LAGOS, MOMENTS, SALE


def _paths(db: Path) -> set[str]:
    return {file.path for file in Store.open(db).files()}


def _ids(db: Path) -> set[str]:
    return {video.video_id for video in Store.open(db).videos()}


def test_only_weak_matches_are_shown_but_do_not_count_as_found(clamr: Clamr, db: Path):
    found = clamr("--db", str(db), "search", "crowd", "--json")
    weak = clamr("--db", str(db), "search", "crowd", "--json", "--floor", "5")
    assert (found.code, weak.code) == (0, 1)
    assert [json.loads(line)["weak"] for line in weak.out.splitlines()] == [True] * len(found.out.splitlines())
    assert "only weak hits" in weak.err


def test_queries_are_computed_by_one_thread(db: Path) -> None:
    pytest.importorskip("threadpoolctl")
    script = """import os, sys, threadpoolctl
os._exit = lambda code: None
from clamr_cli.__main__ import main
assert main() == 0
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
print(*(pool["num_threads"] for pool in pools if "numpy" in pool["filepath"]), file=sys.stderr)"""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    free = {name: value for name, value in os.environ.items() if name not in limits}
    words = [sys.executable, "-c", script, "--db", str(db), "search", "crowd"]
    ended = subprocess.run(words, env=free, capture_output=True, text=True, check=True)
    assert set(ended.stderr.splitlines()[-1].split()) <= {"1"}


def test_paths_leave_weak_hits_out(clamr: Clamr, db: Path):
    found = clamr("--db", str(db), "search", "crowd", "--paths", "--floor", "0.5")
    assert found.out.splitlines() == [b"/videos/copy of lagos.mp4", b"/videos/nature/bees.mkv"]
    assert "1 weak hit left out (--floor 0 accepts them)" in found.err
    every = clamr("--db", str(db), "search", "crowd", "--paths", "--floor", "0")
    assert (every.code, len(every.out.split(b"/videos/")) - 1) == (0, 3)
    none = clamr("--db", str(db), "search", "crowd", "--paths", "-0", "--floor", "5")
    assert (none.code, none.out) == (1, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ("search",),
        ("search", "  "),
        ("search", "x", "--json", "--csv"),
        ("search", "x", "--table", "--tsv"),
        ("search", "x", "-0"),
        ("search", "x", "--modality", "smell"),
        ("search", "x", "--weight", "speech=-1"),
        ("search", "x", "--since", "soon"),
        ("search", "x", "--longer", "long"),
        ("search", "x", "--limit", "0"),
        ("search", "x", "--limit", "99999999999999999999"),
        ("search", "x", "--floor", "nan"),
        ("search", "x", "--weight", "speech=1e308"),
        ("search", "!!!"),
        ("search", '"..." ?'),
        ("explain", LAGOS, "--query", "?!"),
        ("search", "x", "--scoring", "best"),
        ("search", "x", "--encoder", "no-such"),
        ("search", "x", "--modality", "speech", "--weight", "speech=0"),
        ("explain", "1a"),
        ("explain", "zz"),
        ("explain", LAGOS, "--query", " "),
        ("show", ""),
        ("rm", "no-such-id"),
        ("rm", "/no/such/file.mp4"),
        ("index", "--window", "x", "."),
        ("index", "--window", "0.1", "."),
        ("index", "--ocr", "magic", "."),
        ("models", "pull", "no-such-model"),
        ("nonsense",),
        ("ls", "--nonsense"),
        ("--db",),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(clamr: Clamr, db: Path, arguments: tuple[str, ...]) -> None:
    ended = clamr("--db", str(db), *arguments) if arguments != ("--db",) else clamr(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    told = [line for line in ended.err.splitlines() if not line.startswith("using the encoder")]
    assert len(told) == 1
    assert told[0].startswith("clamr: ")


def test_without_an_index_commands_say_how_to_make_one(clamr: Clamr, tmp_path: Path) -> None:
    for command in (
        ("search", "x"),
        ("ls",),
        ("status",),
        ("show", "x"),
        ("rm", "x", "--yes"),
        ("index", "--retry-failed"),
    ):
        ended = clamr("--db", str(tmp_path / "none"), *command)
        assert ended.code == 2
        assert "clamr index DIR" in ended.err
    assert not (tmp_path / "none").exists()


def test_the_version_is_printed(clamr: Clamr) -> None:
    ended = clamr("--version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(b"clamr ")


def test_the_index_comes_from_flag_environment_or_file(
    clamr: Clamr, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'db = "{db}"\n')
    assert clamr("--config", str(file), "ls").code == 0
    assert clamr("ls").code == 2
    monkeypatch.setenv("CLAMR_DB", str(db))
    assert clamr("ls").code == 0
    assert clamr("--db", str(tmp_path / "none"), "ls").code == 2


def test_options_of_the_program_stand_behind_the_command_too(clamr: Clamr, db: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'db = "{db}"\n')
    before = clamr("--db", str(db), "ls", "--path", "nature")
    assert (before.code, before.err) == (0, "")
    assert clamr("ls", "--path", "nature", "--db", str(db)) == before
    assert clamr("ls", "--path", "nature", "--config", str(file)) == before
    assert clamr("--db", str(tmp_path / "none"), "ls", "--path", "nature", "--db", str(db)) == before


def test_quiet_leaves_notes_out_but_no_errors(clamr: Clamr, db: Path) -> None:
    assert clamr("--db", str(db), "ls", "--path", "no-such").err == "no video of the index matches\n"
    for words in (("-q", "ls"), ("ls", "-q"), ("ls", "--quiet")):
        ended = clamr("--db", str(db), *words, "--path", "no-such")
        assert (ended.code, ended.out, ended.err) == (1, b"", "")
    assert clamr("--db", str(db), "-q", "show", "zz").err.startswith("clamr: no video")
    # The next command line starts anew.
    assert clamr("--db", str(db), "ls", "--path", "no-such").err != ""


def test_colours_come_and_go_as_asked(clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = clamr("--db", str(db), "ls", "--table")
    assert b"\x1b[" not in plain.out
    coloured = clamr("--db", str(db), "ls", "--table", "--color", "always")
    assert b"\x1b[" in coloured.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert clamr("--db", str(db), "ls", "--table", "--color", "always") == coloured
    assert clamr("--db", str(db), "--color", "never", "ls", "--table") == plain
    assert clamr("ls", "--color", "pink").code == 2


def test_a_dash_stands_for_the_lines_of_stdin(clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    stdin(b"crowd\n")
    assert clamr("--db", str(db), "search", "-").out == clamr("--db", str(db), "search", "crowd").out
    stdin(os.fsencode(HOSTILE_PATH) + b"\0/videos/nature/bees.mkv\0")
    assert clamr("--db", str(db), "rm", "-", "--yes").code == 0
    assert HOSTILE_PATH not in _paths(db)
    stdin(LAGOS.encode() + b"\n")
    assert clamr("--db", str(db), "show", "-").out == clamr("--db", str(db), "show", LAGOS).out
    stdin(b"")
    assert clamr("--db", str(db), "search", "-").code == 2
    assert clamr("--db", str(db), "show", "-").code == 2


def test_a_fault_in_the_configuration_names_file_and_key(clamr: Clamr, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("limit = 0\n")
    ended = clamr("--config", str(file), "search", "x")
    assert ended.code == 2
    assert ended.err.startswith(f"clamr: {file}: limit: 0 cannot be used: ")


def test_the_limit_comes_from_the_settings_too(clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMR_LIMIT", "1")
    assert clamr("--db", str(db), "search", "crowd").out.count(b"\n") == 1
    assert clamr("--db", str(db), "search", "crowd", "-n", "2").out.count(b"\n") == 2


def test_an_encoder_that_was_asked_for_is_not_replaced(clamr: Clamr, db: Path) -> None:
    ended = clamr("--db", str(db), "search", "crowd", "--encoder", "hashed")
    assert (ended.code, ended.err) == (0, "")


def test_explain_takes_up_the_last_search_with_its_options(clamr: Clamr, db: Path) -> None:
    clamr("--db", str(db), "search", "bees", "dance", "--modality", "speech")
    ended = clamr("--db", str(db), "explain", BEES, "--json")
    assert ended.err == "explaining the last search: bees dance\n"
    record = json.loads(ended.out)
    assert (record["query"], record["rank"]) == ("bees dance", 1)
    assert record["shares"] == {"speech": 1.0}


def test_explain_refuses_a_video_that_the_last_search_left_out(clamr: Clamr, db: Path) -> None:
    clamr("--db", str(db), "search", "crowd", "--language", "de")
    ended = clamr("--db", str(db), "explain", LAGOS)
    assert ended.code == 2
    assert "--query" in ended.err


def test_rm_takes_a_video_out_by_id_with_all_its_paths_and_touches_no_file(
    clamr: Clamr, db: Path, tmp_path: Path
) -> None:
    ended = clamr("--db", str(db), "rm", LAGOS[:4], "--yes")
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err.count("removed from the index: ") == 2
    assert _ids(db) == {BEES, SALE}
    assert not {path for path in _paths(db) if "lagos" in path}


@pytest.mark.slow
def test_rm_by_path_keeps_a_video_that_another_file_holds(clamr: Clamr, db: Path) -> None:
    assert clamr("--db", str(db), "rm", "/videos/lagos.mp4", "--yes").code == 0
    assert LAGOS in _ids(db)
    assert clamr("--db", str(db), "rm", "/videos/copy of lagos.mp4", "--yes").code == 0
    assert LAGOS not in _ids(db)


def test_rm_of_the_last_file_takes_the_video_and_the_notes_of_files_that_went_before(clamr: Clamr, db: Path) -> None:
    store = Store.open(db)
    gone = store.file("/videos/copy of lagos.mp4")
    assert gone is not None
    with store.writer("tests"):
        store.put_files([replace(gone, state=FileState.MISSING)])
    assert clamr("--db", str(db), "rm", "/videos/lagos.mp4", "--yes").code == 0
    assert LAGOS not in _ids(db)
    assert not {path for path in _paths(db) if "lagos" in path}


def test_rm_takes_hostile_names_and_failed_files(clamr: Clamr, db: Path) -> None:
    failed = next(file.path for file in Store.open(db).files() if file.state is FileState.FAILED)
    ended = clamr("--db", str(db), "rm", HOSTILE_PATH, failed, "--yes")
    assert ended.code == 0
    assert "\x1b" not in ended.err
    assert _paths(db) & {HOSTILE_PATH, failed} == set()


def test_rm_finds_a_file_by_a_relative_path(clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert clamr("--db", str(db), "rm", "videos/nature/bees.mkv", "--yes").code == 0
    assert BEES not in _ids(db)


def test_rm_of_a_file_that_the_index_does_not_know_speaks_of_a_file(
    clamr: Clamr, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").touch()
    assert "the index has no file film.mp4" in clamr("--db", str(db), "rm", "film.mp4", "--yes").err
    assert "id, title or file name like 'none.mp4'" in clamr("--db", str(db), "rm", "none.mp4", "--yes").err
    # A file that happens to be called like the beginning of an id stands in nobody's way.
    (tmp_path / BEES[:5]).touch()
    assert clamr("--db", str(db), "rm", BEES[:5], "--yes").code == 0


@pytest.mark.slow
def test_rm_waits_for_nobody_while_another_process_writes(clamr: Clamr, db: Path) -> None:
    with Store.open(db).writer("clamr index /videos"):
        ended = clamr("--db", str(db), "rm", LAGOS, "--yes")
    assert ended.code == 2
    assert "clamr index /videos" in ended.err
    assert LAGOS in _ids(db)


def test_status_tells_vectors_of_one_encoder_with_other_settings_apart(clamr: Clamr, db: Path) -> None:
    store = Store.open(db)
    (use,) = store.encoders()
    with store.writer("tests"):
        store.put_vectors(replace(use.info, fingerprint="feedbeef12345678"), {f"{BEES}#0": _vectors()})
    told = clamr("--db", str(db), "status").out.decode()
    assert f"encoder\thashed {use.info.fingerprint[:8]}: 4 moments" in told
    assert "encoder\thashed feedbeef: 1 moment, 2 vectors, 1 of 3 videos\n" in told


def _vectors() -> TokenVectors:
    return encoders.create("hashed", cache=Path()).encode_queries(["two words"])[0]


def test_status_without_failures_says_so(clamr: Clamr, db: Path) -> None:
    failed = next(file.path for file in Store.open(db).files() if file.state is FileState.FAILED)
    clamr("--db", str(db), "rm", failed, "--yes")
    ended = clamr("--db", str(db), "status", "--failed")
    assert (ended.code, ended.out, ended.err) == (0, b"", "no failed files\n")


def test_status_names_files_of_which_only_a_part_can_be_read(clamr: Clamr, db: Path) -> None:
    store = Store.open(db)
    video = next(video for video in store.videos() if video.video_id == BEES)
    media = replace(video.media, duration=9.0, duration_from_content=9.0, incomplete=True)
    with store.writer("tests"):
        store.put_video(replace(video, media=media), MOMENTS[BEES])
    table = clamr("--db", str(db), "status").out.decode()
    assert "incomplete\t1 (clamr status --failed)\n" in table
    part = "only 0:09.0 of 0:30 can be read: the file may be incomplete"
    assert f"incomplete file\t/videos/nature/bees.mkv: {part}\n" in table
    assert json.loads(clamr("--db", str(db), "status", "--json").out)["incomplete"] == 1
    rows = [json.loads(line) for line in clamr("--db", str(db), "status", "--failed", "--json").out.splitlines()]
    assert {row["path"]: row["reason"] for row in rows}["/videos/nature/bees.mkv"] == part


def test_paths_lead_to_the_files_even_where_names_are_no_utf8(clamr: Clamr, db: Path) -> None:
    ended = clamr("--db", str(db), "search", "sale", "--paths", "-0", "-n", "1")
    assert ended.out == os.fsencode(HOSTILE_PATH) + b"\0"


def test_doctor_says_of_each_thing_whether_it_works(clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMR_ENCODER", "hashed")
    # A model of one's own is taken as it is; the real one would first be joined in a cache that is thrown away.
    monkeypatch.setenv("CLAMR_ASR_MODEL", str(db))
    ended = clamr("--db", str(db), "doctor", "--json")
    records = [json.loads(line) for line in ended.out.splitlines()]
    states = {record["check"]: record["state"] for record in records}
    assert set(states.values()) <= {"ok", "warn", "fail"}
    assert {"clamr", "torch", "device", "decoders", "speech model", "screen text", "encoder", "cache", "index"} <= set(
        states
    )
    assert ended.code == (2 if "fail" in states.values() else 0)
    assert states["speech model"] == states["encoder"] == states["index"] == states["writer"] == "ok"
    assert states["failures"] == "warn"
    assert all(record["hint"] for record in records if record["state"] != "ok")


def test_doctor_fails_on_what_is_broken_and_goes_on(
    clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAMR_ENCODER", "no-such")
    monkeypatch.setenv("CLAMR_ASR_MODEL", "no-such")
    monkeypatch.setenv("CLAMR_OCR_LANGUAGES", "klingon")
    ended = clamr("--db", str(tmp_path / "none"), "doctor", "--json")
    states = {record["check"]: record["state"] for record in map(json.loads, ended.out.splitlines())}
    assert ended.code == 2
    assert (states["speech model"], states["screen text"], states["encoder"]) == ("fail", "fail", "fail")
    assert (states["index"], states["cache"]) == ("warn", "ok")


def test_the_home_of_nobody_is_a_place_that_is_not_there(clamr: Clamr, tmp_path: Path) -> None:
    ended = clamr("train", "--recipe", "mini", "--data", "~nosuchuser/data", "--out", str(tmp_path / "out"))
    assert (ended.code, ended.out) == (2, b"")
    assert "no file or folder ~nosuchuser/data" in ended.err


def test_rm_takes_the_vectors_of_an_encoder_out_and_leaves_the_videos(clamr: Clamr, db: Path) -> None:
    before = clamr("--db", str(db), "ls", "--json").out
    assert clamr("--db", str(db), "rm", "--encoder", "mini").code == 2
    assert clamr("--db", str(db), "rm").code == 2
    ended = clamr("--db", str(db), "rm", "--encoder", "hashed", "-y")
    assert (ended.code, ended.err) == (0, "removed from the index: all vectors of hashed\n")
    assert Store.open(db).encoders() == []
    assert clamr("--db", str(db), "ls", "--json").out == before


def test_search_in_an_index_that_holds_nothing_yet_says_whether_somebody_is_at_work(
    clamr: Clamr, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "index", create=True)
    ended = clamr("--db", store.uri, "search", "dog", "--encoder", "hashed")
    assert (ended.code, ended.err) == (1, "nothing is indexed yet: clamr index DIR\n")
    with store.writer("clamr index"):
        ended = clamr("--db", store.uri, "search", "dog", "--encoder", "hashed")
    assert (ended.code, ended.err) == (1, "nothing is indexed yet; clamr index is running\n")


def test_search_says_in_json_too_that_not_all_videos_answer(clamr: Clamr, db: Path) -> None:
    store = Store.open(db)
    (use,) = store.encoders()
    gone = min(dict(store.scan_vectors(use.info.fingerprint)))
    with store.writer("test"):
        store.tables.delete("vectors", "moment_id", [gone])
    searched, of = store.coverage(use.info.fingerprint)
    assert searched == of - 1
    ended = clamr("--db", str(db), "search", "a", "b", "--json", "--encoder", "hashed", "--floor", "0")
    assert f"answers from {searched} of {of} videos" in ended.err
    assert {(hit["searched"], hit["of"]) for hit in map(json.loads, ended.out.splitlines())} == {(searched, of)}
    assert f"{searched} of {of} videos" in clamr("--db", str(db), "status").out.decode()


def test_a_batch_says_which_query_each_line_answers(clamr: Clamr, db: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text('"no such words"\ncrowd\nbees\n', "utf-8")
    call = ("--db", str(db), "search", "--queries", str(queries), "-n", "1")
    ended = clamr(*call, "--json")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [(row["query_id"], row["query"], row["video_id"]) for row in rows] == [
        ("2", "crowd", LAGOS), ("3", "bees", BEES),
    ]  # fmt: skip
    assert ended.code == 0
    assert '"no such words": nothing found: "no such words" stands in no moment' in ended.err
    tsv = clamr(*call, "--tsv").out.decode().splitlines()
    assert [line.split("\t")[:3] for line in tsv] == [["2", "crowd", "1"], ["3", "bees", "1"]]
    csv = clamr(*call, "--csv").out.decode().splitlines()
    assert (csv[0].split(",")[:3], len(csv)) == (["query_id", "query", "rank"], 3)
    queries.write_text('"no such words"\n', "utf-8")
    assert clamr(*call).code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bees",), "--queries and a query exclude each other"),
        (("--save", "x"), "--queries and --save exclude each other"),
        (("--paths",), "--queries and --paths exclude each other"),
        ((), "query 1 of"),
    ],
)
def test_a_batch_that_cannot_be_answered_is_refused(
    clamr: Clamr, db: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "q").write_text("?!\n", "utf-8")
    ended = clamr("--db", str(db), "search", "--queries", str(tmp_path / "q"), *arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert message in ended.err


def test_a_saved_search_keeps_its_options_and_takes_others(clamr: Clamr, db: Path) -> None:
    def call(*arguments: str) -> tuple[int, list[str], str]:
        ended = clamr("--db", str(db), "search", *arguments)
        return ended.code, ended.out.decode().splitlines(), ended.err

    code, first, told = call("crowd", "--language", "German", "--not", "toll gate", "-n", "5", "--save", "german")
    assert code == 0
    assert "saved: clamr search @german" in told
    assert call("@german") == (code, first, told.replace("saved: clamr search @german\n", ""))
    assert [line.split("\t")[2] for line in call("@german", "--language", "en")[1]] == [LAGOS]
    assert call("--saved")[1] == ["german\tcrowd --language de --limit 5 --not 'toll gate'"]
    assert "(it replaces another one)" in call("bees", "--since", "2w", "--save", "german")[2]
    assert call("--saved")[1] == ["german\tbees --since 2w"]
    assert call("--forget", "german")[::2] == (0, "removed @german\n")
    assert call("--saved") == (1, [], "no search is saved: clamr search QUERY --save NAME\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("@none",), "no search is saved as @none: saved are: none"),
        (("--forget", "none"), "no search is saved as @none"),
        (("crowd", "--save", "a b"), "invalid --save: 'a b'"),
        (("crowd", "--saved"), "--saved and --forget stand alone"),
        (("crowd", "--all", "-n", "3"), "--all and --limit exclude each other"),
        (("crowd", "--not", "?"), "the query '?' has no words"),
        ((), "the query is empty"),
    ],
)
def test_wrong_searches_are_refused(clamr: Clamr, db: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = clamr("--db", str(db), "search", *arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert message in ended.err


def test_all_results_are_those_of_every_page(clamr: Clamr, db: Path) -> None:
    every = clamr("--db", str(db), "search", "crowd", "--moments", "--all").out
    pages = [
        clamr("--db", str(db), "search", "crowd", "--moments", "-n", "2", "--offset", str(2 * page)).out
        for page in range(3)
    ]
    assert b"".join(pages) == every
    past = clamr("--db", str(db), "search", "crowd", "--moments", "--offset", "90")
    assert (past.code, past.out) == (1, b"")
    assert "there are not more than 90 results" in past.err


def test_several_indexes_answer_as_one_and_only_where_nothing_is_written(clamr: Clamr, db: Path, tmp_path: Path):
    other = tmp_path / "other"
    assert clamr("merge", str(db), "--into", str(other), "--tsv").out.splitlines()[1] == b"videos\t3"
    with (store := Store.open(other)).writer("test"):
        store.remove_videos([LAGOS])
    with (store := Store.open(db)).writer("test"):
        store.remove_videos([BEES])
    both = clamr("search", "crowd", "--db", str(db), "--db", str(other), "--json")
    assert [json.loads(line)["video_id"] for line in both.out.splitlines()] == [LAGOS, BEES, SALE]
    assert clamr("open", "2", "--print", "--db", str(db), "--db", str(other)).err == (
        f"clamr: no file of video {BEES} is there now (it was at /videos/nature/bees.mkv): connect its disk, bring it "
        "back, or index its folder\n"
    )
    refused = clamr("tag", "add", LAGOS, "x", "--db", str(db), "--db", str(other))
    assert (refused.code, refused.err[:36]) == (2, "clamr: this command uses one index: ")


def test_indexes_are_merged_with_a_line_for_each_contradiction(clamr: Clamr, db: Path, tmp_path: Path):
    other, target = tmp_path / "other", str(tmp_path / "target")
    clamr("merge", str(db), "--into", str(other))
    with (store := Store.open(other)).writer("test"):
        store.put_video(store.video(BEES), [replace(MOMENTS[BEES][0], speech=())])
    merged = clamr("merge", str(db), str(other), "--into", target, "--json")
    assert (merged.code, len(json.loads(merged.out)["conflicts"])) == (0, 1)
    assert merged.err == f"{json.loads(merged.out)['conflicts'][0]}\n"
    assert clamr("merge", str(db)).err == "clamr: no index was named to take them: give --into DB\n"
    assert "no index at" in clamr("merge", str(tmp_path / "none"), "--into", target).err
    for shard in ("0/3", "4/3", "x", "1/0"):
        assert "give a part and the number of parts" in clamr("index", str(tmp_path), "--shard", shard).err


def test_a_cluster_needs_its_extra_and_its_options_need_a_cluster(
    clamr: Clamr, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (["index", str(tmp_path), "--encoder", "hashed"], ["search", "bees"], ["serve", "--no-browser"]):
        ended = clamr("--db", str(db), *command, "--executor", "ray")
        assert ended.code == 2
        assert ended.err.startswith("clamr: --executor ray needs an optional package: pip install ")
        assert "[cluster]" in ended.err
        ended = clamr("--db", str(db), *command, "--workers", "2")
        assert ended.code == 2
        assert ended.err == "clamr: --workers requires --executor ray: add it, or leave both out\n"


def test_status_says_how_far_a_run_is_only_while_there_is_one(clamr: Clamr, db: Path):
    store = Store.open(db)
    with store.writer("clamr index"):
        store.note_run("3 of 40 videos; 2 of 2 workers on 2 nodes: decode 1")
        assert (
            b"now indexing\t3 of 40 videos; 2 of 2 workers on 2 nodes: decode 1\n"
            in clamr("--db", str(db), "status").out
        )
    assert b"now indexing" not in clamr("--db", str(db), "status").out


def test_videos_are_listed_by_date_and_by_length(clamr: Clamr, db: Path) -> None:
    def listed(*arguments: str) -> list[dict[str, Any]]:
        ended = clamr("--db", str(db), "ls", "--json", *arguments)
        return [json.loads(line) for line in ended.out.splitlines()]

    assert [row["path"] for row in listed()] == sorted(row["path"] for row in listed())
    assert [row["date"] for row in listed("--sort", "date")] == ["2020-10-20", "2020-10-20", "", "", ""]
    assert [row["duration"] for row in listed("--sort", "length")] == [3725.0, 80.0, 80.0, 30.0, None]
    assert {row["title"] for row in listed("--since", "2020-10", "--until", "2020")} == {"Protest in Lagos"}
    assert clamr("--db", str(db), "ls", "--since", "2021").err == "no video of the index matches\n"
