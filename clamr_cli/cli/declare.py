"""Commands whose options are the fields of a dataclass: one value to pass on instead of a dozen parameters."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

from clamr_cli.cli.guard import check_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.core import TyperCommand

    from clamr_cli.config import Settings

Flags = TypeVar("Flags")


@dataclass(frozen=True, slots=True)
class Globals:
    """The options before the command."""

    db: str | None = None
    config: str | None = None

    def settings(self, **flags: object) -> Settings:
        """The settings of this run; flags that are None were not given.

        Raises:
            UsageError: a setting that cannot be used.
        """
        from clamr_cli import config

        return config.load({"db": self.db, **flags}, config=self.config)


def command(
    app: typer.Typer,
    name: str,
    run: Callable[[Globals, Flags], int],
    flags: type[Flags],
    kind: type[TyperCommand] | None = None,
) -> None:
    """Declare a command: its options are the fields of ``flags``, its help is the docstring of ``run``.

    Args:
        app: what it is a command of.
        name: one word or two.
        run: what it does.
        flags: a dataclass.
        kind: the class that parses its arguments, where it is not the usual one.
    """
    app.command(name, cls=kind, help=inspect.getdoc(run))(flattened(run, flags))


def flattened(run: Callable[[Globals, Flags], int], flags: type[Flags]) -> Callable[..., int]:
    """A function with a keyword parameter per field of ``flags``, as Typer wants it, that calls ``run``."""
    hints = get_type_hints(flags, include_extras=True)
    defaults = {field.name: field.default for field in fields(flags)}  # type: ignore[arg-type]
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    # Fields of the class itself come before inherited ones: a command's own options lead its help.
    for name in dict.fromkeys(name for kind in flags.__mro__ for name in inspect.get_annotations(kind)):
        default = inspect.Parameter.empty if defaults[name] is MISSING else defaults[name]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        )

    def call(context: typer.Context, **values: Any) -> int:  # noqa: ANN401 -- what Typer parsed, by the annotations
        check_limits()
        return run(context.obj, flags(**values))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
