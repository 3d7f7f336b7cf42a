"""``python -m clamr_cli`` is ``clamr``."""

import os
import sys

_GARBAGE = 200_000
"""Objects made until garbage is looked for. Imports make many and leave hardly any."""

_ANSWERING = frozenset(("ask", "mcp", "serve"))
"""Commands that encode queries beside those that only read."""


def main() -> int:
    """Run the command line and return its exit code; an interruption while it is still being imported counts too.

    A server that is warm may answer in its place. A command that only reads ends the process itself.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It was closed. No file that is opened later may take its place.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    reads = False
    try:
        from clamr_cli.warm import READING, ask, command_of

        command = command_of(sys.argv[1:])
        reads = command in READING
        if (code := ask(sys.argv[1:])) is None:
            if reads or command in _ANSWERING:
                # The matrices of a query are small: threads of numpy's OpenBLAS wait longer for each other than they
                # compute. It looks when it is imported. Worker processes have numbers of their own.
                os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            if reads:
                import gc

                gc.set_threshold(_GARBAGE)
            from clamr_cli.cli import main as run

            code = run()
    except KeyboardInterrupt:
        sys.stderr.write("clamr: interrupted\n")
        return 130
    if reads:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End the process without taking its libraries down, which takes a good part of a short command.

    Where other processes work for this one, they must be ended in good order.
    """
    if sys.modules.keys() & {"multiprocessing", "ray"}:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        # The command has said that it could not write.
        pass
    os._exit(code)


if __name__ == "__main__":
    raise SystemExit(main())
