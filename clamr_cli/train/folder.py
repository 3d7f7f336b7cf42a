"""The folder of a run: who may write into it, and whether a run may go on with other options."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError
from clamr_cli.train.options import CHECKPOINT, last_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FACTS: Final = "run.json"


def claim(
    out: Path,
    facts: Mapping[str, object],
    *,
    resume: bool,
    results: tuple[str, ...] = (),
    stages: tuple[str, ...] = (),
) -> None:
    """Begin or go on with a run in a folder.

    Args:
        out: the folder; it is made where it is not there.
        facts: all that the course of the run depends on, as JSON values; kept in ``run.json``.
        resume: go on with the run that is there.
        results: names of files that a finished run leaves.
        stages: folders of its stages, where it has several.

    Raises:
        UsageError: the folder holds a run although none is to be resumed, or none although one is, or a run with other
            facts, or it cannot be written.
    """
    kept = _read(out / FACTS)
    if resume:
        if kept is None or last_checkpoint(out, stages) is None:
            raise UsageError(f"there is no run to resume in {out}", "leave --resume out to start one")
        _compare(out, kept, facts)
        return
    begun = any(any((out / stage).glob(f"{CHECKPOINT}*")) for stage in stages or ("",))
    if begun or any((out / name).exists() for name in results):
        raise UsageError(f"{out} holds a run already", "go on with --resume, or name another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        fresh = out / f"{FACTS}.{os.getpid()}"
        fresh.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        # All processes of a run write the same.
        fresh.replace(out / FACTS)
    except OSError as problem:
        raise UsageError(f"{out} cannot be written: {problem.strerror}", "name another --out") from problem


def _read(path: Path) -> dict[str, object] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _compare(out: Path, kept: Mapping[str, object], facts: Mapping[str, object]) -> None:
    # What was written is compared, since JSON knows no tuples.
    asked = json.loads(json.dumps(facts))
    other = [name for name in sorted(kept.keys() | asked.keys()) if kept.get(name) != asked.get(name)]
    if other:
        name = other[0]
        what = f"the run in {out} was started with {name} {kept.get(name)!r}, not {asked.get(name)!r}"
        raise UsageError(what, "resume with the options it was started with, or name another --out")
