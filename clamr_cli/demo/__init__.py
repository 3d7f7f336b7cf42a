"""The main job on clips that the package makes itself: index, a search by each modality, and why one answer ranked.

Everything runs through the command line, in processes of its own, and every command is shown as a reader can repeat it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from clamr_cli.demo.clips import CLIPS, make_clips
from clamr_cli.errors import EXIT_INTERRUPTED
from clamr_cli.media.files import content_hash, video_id
from clamr_cli.text import format_time
from clamr_cli.types import Modality

__all__ = ["run"]

QUESTIONS: Final = {
    Modality.VIDEO: "What is seen",
    Modality.SPEECH: "What is said",
    Modality.OCR: "What is written on screen",
    Modality.METADATA: "What is noted about it",
}


def run(directory: Path, cache: Path, say: Callable[[str], None]) -> int:
    """Make the clips where they are missing, then index, search and explain them with the real models.

    ``directory`` gets ``clips`` and ``index``; both may be from an earlier run, which then costs little. ``say`` shows
    a line of text; the commands' own output goes straight to standard output. Returns the exit code of the first
    command that did not end with 0, else 0.

    Raises:
        ClamrError: the photos that the clips are made of are not installed.
        OSError: the folder cannot be written.
    """
    clips, index = directory / "clips", directory / "index"
    say(f"Making {len(CLIPS)} short clips in {clips}")
    make_clips(clips)
    for title, arguments, outcome in _steps(clips):
        say("")
        say(f"# {title}")
        say(f"$ {shlex.join(('clamr', '--db', str(index), *arguments))}")
        code = _clamr(("--db", str(index), *arguments), cache)
        if code:
            return code
        if outcome:
            say(f"# {outcome}")
    say("")
    say("Now search them yourself, or index a folder of your own:")
    say(f"$ {shlex.join(('clamr', '--db', str(index), 'search', 'a cup of coffee'))}")
    say("$ clamr index ~/Videos")
    return 0


def _steps(clips: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """The title of each step, its arguments of ``clamr``, and what it should give."""
    yield "Index: look, listen, read and note; the second time there is nothing to do", ("index", str(clips)), ""
    for modality, title in QUESTIONS.items():
        clip, fact = next((clip, fact) for clip in CLIPS for fact in clip.facts if fact.modality is modality)
        start, end = format_time(fact.span.start), format_time(fact.span.end)
        outcome = f"expected first: {clip.name}, {start}-{end}: {textwrap.shorten(fact.text, 60)}"
        yield title, ("search", fact.query, "--limit", "3"), outcome
    clip = CLIPS[-1]
    identity = video_id(content_hash(str(clips / clip.name)))
    query = next(fact.query for fact in clip.facts if fact.span.start > 45.0)
    yield "Why a video ranks, and where in it", ("explain", identity, "--query", query), ""


def _clamr(arguments: tuple[str, ...], cache: Path) -> int:
    """Run a command of the same installation and return its exit code; its output is not touched."""
    sys.stdout.flush()
    # The environment is handed on as it is, not read: settings are the business of the command that is started.
    environment = {**os.environ, "CLAMR_CACHE": str(cache)}
    with subprocess.Popen([sys.executable, "-m", "clamr_cli", *arguments], env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the command too, which stops by itself and says how to go on.
            process.wait()
            return EXIT_INTERRUPTED
