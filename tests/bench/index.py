"""Measures indexing against the naive way in the same run: ``python -m tests.bench.index DIR [--json OUT]``.

Indexes the videos of DIR into a fresh index with clamr's defaults and prints the seconds of every stage (they overlap,
so they add up to more than the wall time), how many times faster than real time, and the peak memory of all processes.
The naive way (see ``tests.bench.naive``) then reads the same files; both counts of words are compared, so that speed
bought with lost words shows. Also: how long ``clamr --help`` and a cold ``clamr search`` take.

Weights are looked for where clamr looks for them, and are put in place before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clamr_cli.config import default_cache
from clamr_cli.store import Store
from clamr_cli.weights import locate
from tests.bench.process import Measured, measure

WEIGHTS = ("whisper-base", "easyocr-en")
HELP_RUNS, SEARCH_RUNS = 11, 5


@dataclass
class Way:
    """A way to index: wall and processor seconds, seconds by stage, and the words it found by file name.

    ``peak`` and ``largest`` are bytes of memory: of all processes together, and of the largest one.
    """

    wall: float
    cpu: float
    stages: dict[str, float]
    peak: int
    largest: int
    written: dict[str, set[str]] = field(default_factory=dict)
    said: dict[str, Counter[str]] = field(default_factory=dict)


def words(text: str) -> list[str]:
    """Lower-case words of at least 3 characters with a letter in them: running time codes would count as thousands."""
    return [word for word in re.findall(r"\w{3,}", text.lower()) if re.search(r"[^\W\d]", word)]


def clamr(arguments: list[str], db: Path, cache: Path) -> Measured:
    """Runs clamr on an index."""
    empty = db.with_name("empty.toml")
    empty.touch()
    settings = {"CLAMR_DB": str(db), "CLAMR_CACHE": str(cache), "CLAMR_CONFIG": str(empty)}
    return measure([sys.executable, "-m", "clamr_cli", *arguments], {**os.environ, **settings})


def our_way(folder: Path, db: Path, cache: Path) -> tuple[Way, list[str], float]:
    """Indexes with clamr: what it took, the files it indexed, and the seconds of video in them."""
    run = clamr(["index", str(folder), "--json"], db, cache)
    events = [json.loads(line) for line in run.out.splitlines()]
    indexed = [event for event in events if event["event"] == "indexed"]
    for event in (event for event in events if event["event"] in ("skipped", "notice")):
        print("  ", event)
    stages: Counter[str] = Counter()
    for event in indexed:
        stages.update(event["seconds"])
    way = Way(run.seconds, run.cpu, dict(stages), run.peak, run.largest)
    store = Store.open(db)
    for event in indexed:
        name, moments = Path(event["path"]).name, list(store.moments([event["video_id"]]))
        # Moments overlap a segment that crosses their border: take each once.
        written = {segment for moment in moments for segment in moment.ocr}
        said = {segment for moment in moments for segment in moment.speech}
        way.written[name] = {word for segment in written for word in words(segment.text)}
        way.said[name] = Counter(word for segment in said for word in words(segment.text))
    return way, [event["path"] for event in indexed], sum(event["duration"] for event in indexed)


def naive_way(files: list[str], cache: Path) -> Way:
    """Reads the same files the naive way."""
    run = measure([sys.executable, "-m", "tests.bench.naive", str(cache), *files])
    readings = [json.loads(line) for line in run.out.splitlines()]
    if run.code or len(readings) != len(files):
        raise SystemExit(f"the naive way ended with {run.code} after {len(readings)} of {len(files)} files")
    stages = {stage: sum(one[stage] for one in readings) for stage in ("decode", "ocr", "speech")}
    way = Way(run.seconds, run.cpu, stages, run.peak, run.largest)
    for one in readings:
        name = Path(one["file"]).name
        way.written[name] = {word for text in one["written"] for word in words(text)}
        way.said[name] = Counter(words(one["said"]))
    return way


def truth(folder: Path) -> dict[str, set[str]]:
    """The words that are really on screen, where a ``manifest.json`` of the folder says so (keys file and written)."""
    path = folder / "manifest.json"
    entries = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return {entry["file"]: set(words(entry["written"])) for entry in entries if entry.get("written")}


def report_way(title: str, way: Way, seconds: float) -> dict[str, Any]:
    """Prints and returns the figures of one way."""
    stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in way.stages.items())
    print(
        f"{title}: {way.wall:.1f} s ({way.cpu:.1f} s of processor time) = {seconds / way.wall:.2f} x real time, "
        f"peak {way.peak / 2**20:.0f} MiB in all, {way.largest / 2**20:.0f} MiB in one process; {stages}"
    )
    memory = {"peak_bytes": way.peak, "largest_process_bytes": way.largest}
    return {"wall": way.wall, "cpu": way.cpu, "realtime": seconds / way.wall} | memory | {"stages": way.stages}


def compare_words(ours: Way, naive: Way | None, known: dict[str, set[str]]) -> dict[str, Any]:
    """Prints and returns how many words each way found, on screen and in speech."""
    figures: dict[str, Any] = {}
    if known:
        total = sum(map(len, known.values()))
        for title, way in (("clamr", ours), ("naive", naive)):
            if way is not None:
                found = sum(len(real & way.written.get(name, set())) for name, real in known.items())
                print(f"words known to be on screen: {title} found {found} of {total}")
                figures[f"known_{title}"] = [found, total]
    if naive is None:
        return figures
    both = sum(len(ours.written.get(name, set()) & found) for name, found in naive.written.items())
    counts = sum(map(len, ours.written.values())), sum(map(len, naive.written.values()))
    print(f"words on screen: clamr {counts[0]}, naive {counts[1]}, both {both}")
    for name, found in naive.written.items():
        if lost := sorted(found - ours.written.get(name, set())):
            print(f"   only naive in {name}: {' '.join(lost)}")
    heard = sum((ours.said.get(name, Counter()) & found).total() for name, found in naive.said.items())
    spoken = sum(one.total() for one in ours.said.values()), sum(one.total() for one in naive.said.values())
    print(f"words said: clamr {spoken[0]}, naive {spoken[1]}, both {heard}")
    return figures | {"written": [*counts, both], "said": [*spoken, heard]}


def command_times(db: Path, cache: Path) -> dict[str, float]:
    """Medians of the wall seconds of ``clamr --help`` and of a cold ``clamr search``."""
    help_times = [clamr(["--help"], db, cache).seconds for _ in range(HELP_RUNS)]
    search_times = [clamr(["search", "people on a street"], db, cache).seconds for _ in range(SEARCH_RUNS)]
    medians = {"help": statistics.median(help_times), "search": statistics.median(search_times)}
    print(f"clamr --help: median {medians['help']:.3f} s of {HELP_RUNS}")
    print(f"clamr search, cold: median {medians['search']:.3f} s of {SEARCH_RUNS}")
    return medians


def main() -> None:
    """Measures everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to a file too")
    parser.add_argument("--no-naive", action="store_true", help="leave out the naive way, which is slow")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    options = parser.parse_args()
    for name in WEIGHTS:
        locate(name, options.cache)
    with tempfile.TemporaryDirectory() as place:
        db = Path(place, "index")
        ours, files, seconds = our_way(options.folder, db, options.cache)
        print(f"{len(files)} videos, {seconds:.0f} s of video, {os.cpu_count()} cores")
        figures: dict[str, Any] = {"videos": len(files), "seconds": seconds, "cores": os.cpu_count()}
        figures["clamr"] = report_way("clamr", ours, seconds)
        figures["commands"] = command_times(db, options.cache)
    naive = None if options.no_naive else naive_way(files, options.cache)
    if naive is not None:
        figures["naive"] = report_way("naive", naive, seconds)
        figures |= {"speedup": naive.wall / ours.wall, "speedup_cpu": naive.cpu / ours.cpu}
        print(f"clamr is {figures['speedup']:.1f} times as fast as the naive way")
        print(f"and takes a {figures['speedup_cpu']:.1f}th of its processor time")
    known = {name: real for name, real in truth(options.folder).items() if name in ours.written}
    figures["words"] = compare_words(ours, naive, known)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
