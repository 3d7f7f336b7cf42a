"""Scores weights of the embedded encoder on what no training step has seen: ``python -m tests.bench.mini DATA [FILE]``.

DATA is the folder that ``clamr train --recipe mini`` learns from; FILE is what it wrote, else shipped weights count.
Prints one measure a line; see ``clamr_cli.train.mini.evaluate``.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from clamr_cli.config import default_cache
from clamr_cli.encoders.mini.networks import WEIGHTS
from clamr_cli.train.mini.evaluate import evaluate


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    options = parser.parse_args()
    with resources.as_file(resources.files("clamr_cli.encoders.mini") / WEIGHTS) as shipped:
        for name, value in evaluate(options.file or shipped, options.data, options.cache).items():
            print(f"{name}: {value:g}")


if __name__ == "__main__":
    main()
