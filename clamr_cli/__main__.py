"""``python -m clamr_cli`` is ``clamr``."""

from clamr_cli.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
