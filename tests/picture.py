"""The picture of a session in the README: ``python -m tests.picture`` runs the commands and writes session.svg.

The clips are those of ``clamr demo``. What the commands print is drawn as it comes, on 80 columns.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from clamr_cli import demo

TARGET: Final = Path(__file__).resolve().parents[1] / "clamr_cli" / "docs" / "session.svg"
COLUMNS: Final = 80
COMMANDS: Final = (
    ("search", "bread dough rising in a warm kitchen", "-n", "2", "--table"),
    ("show", "1", "--srt"),
)
_LINES: Final = 8
"""Lines of the output of a command that are shown."""


def picture(folder: Path) -> str:
    """The session as SVG; ``folder`` gets the clips and their index."""
    if not (folder / "clips").is_dir():
        demo.make_clips(folder / "clips")
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True, highlight=False)  # noqa: SIM115
    # The folder is the home of the session, so that no path of this machine is in the picture.
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "CLAMR_DB": str(folder / "index"), "HOME": str(folder)}
    for command in (("index", "clips"), *COMMANDS):
        ended = subprocess.run(
            [sys.executable, "-m", "clamr_cli", "--color", "always", *command],
            env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
        if command in COMMANDS:
            console.print(Text(f"$ {shlex.join(('clamr', *command))}".replace(" --table", ""), style="bold"))
            console.print(Text.from_ansi("\n".join(ended.stdout.rstrip().splitlines()[:_LINES])))
            console.print()
    svg = console.export_svg(title="clamr", unique_id="clamr")
    # Rich's template fetches a font from the network.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the clips and their index for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (given.folder or Path(made)).absolute()
        folder.mkdir(exist_ok=True)
        TARGET.write_text(picture(folder), "utf-8")


if __name__ == "__main__":
    main()
