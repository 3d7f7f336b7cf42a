"""``clamr doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clamr_cli.cli.options import FormOptions
from clamr_cli.errors import EXIT_FOUND, EXIT_USAGE

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions):
    """Options of ``clamr doctor``."""


def run(before: Context, flags: Flags) -> int:
    """Check that everything clamr needs works.

    Each line says ok, warn or fail, and what to do. It exits with 2 if a check fails. Piped, it prints tab-separated
    lines: state, what, what was found, what to do.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.checks import all_checks
    from clamr_cli.cli.runtime import quiet_libraries
    from clamr_cli.render.listing import Column

    settings = before.settings()
    quiet_libraries()
    checks = list(all_checks(settings))
    columns = (Column("state"), Column("check"), Column("found", wide=True), Column("hint", below="found"))
    output.listing(flags, columns, [(check.state, check.name, check.found, check.hint) for check in checks])
    return EXIT_USAGE if any(check.state == "fail" for check in checks) else EXIT_FOUND
