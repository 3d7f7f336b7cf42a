"""``python -m clamr_cli`` is ``clamr``."""

import sys


def main() -> int:
    """Run the command line and return its exit code; an interruption while it is still being imported counts too.

    A server that is warm may answer in its place.
    """
    try:
        from clamr_cli.warm import ask

        if (code := ask(sys.argv[1:])) is not None:
            return code
        from clamr_cli.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("clamr: interrupted\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
