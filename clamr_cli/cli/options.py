"""Options that several commands have, and the parsers of their values: each rule stands here once.

A command's arguments are the fields of a dataclass; it inherits the groups of options below.
"""

from __future__ import annotations

import math
import os
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from clamr_cli.cli.output import Form
from clamr_cli.errors import UsageError
from clamr_cli.types import SHOWN_MODALITIES, Device, Modality

_DATE: Final = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)
_HEAVIEST: Final = 1000
"""A modality that counts so much more decides alone; far larger weights would leave the range of scores."""

DeviceOption: TypeAlias = Annotated[Device | None, typer.Option("--device", help="Where models run.")]
EncoderOption: TypeAlias = Annotated[
    str | None, typer.Option("--encoder", metavar="NAME", help="Use the vectors of this one.")
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


# Groups are without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The options that every command with output has."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False
    tsv: Annotated[bool, typer.Option("--tsv", help="Print tab-separated lines even on a terminal.")] = False
    table: Annotated[bool, typer.Option("--table", help="Print a table even into a pipe.")] = False

    @property
    def form(self) -> Form:
        """The form asked for; by default a table on a terminal and tab-separated lines elsewhere.

        Raises:
            UsageError: two forms were asked for.
        """
        forms = [form for form in Form if getattr(self, form.value, False)]
        if len(forms) > 1:
            raise UsageError(f"--{forms[0]} and --{forms[1]} exclude each other", "choose one")
        return forms[0] if forms else Form.TABLE if sys.stdout.isatty() else Form.TSV


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Settings of the CLaMR encoders; what is not given stays at the encoder's own default."""

    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Base model: a folder or hub id.")] = (
        None
    )
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="MODEL", help="LoRA adapter: a folder or hub id; none for none.")
    ] = None
    revision: Annotated[str | None, typer.Option("--revision", metavar="REV", help="Revision of the base model.")] = (
        None
    )
    adapter_revision: Annotated[
        str | None, typer.Option("--adapter-revision", metavar="REV", help="Revision of the adapter.")
    ] = None
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="auto, bfloat16, float16 or float32.")
    ] = None
    projection_init: Annotated[
        str | None,
        typer.Option("--projection-init", metavar="NAME", help="Draw of the projection: float16 (default) or float32."),
    ] = None
    template_vectors: Annotated[
        str | None, typer.Option("--template-vectors", metavar="WHAT", help="keep (default) or drop.")
    ] = None
    quantize: Annotated[str | None, typer.Option("--quantize", metavar="HOW", help="none (default) or 4bit.")] = None

    def encoder_settings(self) -> dict[str, object]:
        """The settings that were given, by the names the encoder has for them."""
        given = {field.name: getattr(self, field.name) for field in fields(EncoderOptions)}
        return {name: value for name, value in given.items() if value is not None}


def query(words: str, example: str) -> str:
    """A query as it was typed, without white space around it.

    Raises:
        UsageError: it is empty, or nothing but punctuation; ``example`` is in the message.
    """
    text = words.strip()
    if not text:
        raise UsageError("the query is empty", f"say what to look for: {example}")
    # Letters, marks, digits and symbols, emoji among them.
    if not any(unicodedata.category(character)[0] in "LMNS" for character in text):
        raise UsageError(f"the query {text!r} has no words", f"say what to look for: {example}")
    return text


def modality(name: str) -> Modality:
    """A modality by its name.

    Raises:
        UsageError: an unknown one.
    """
    if name.strip().lower() not in SHOWN_MODALITIES:
        raise UsageError(f"invalid modality: {name!r}", f"use {', '.join(SHOWN_MODALITIES)}")
    return Modality(name.strip().lower())


def modalities(names: Sequence[str] | None) -> tuple[Modality, ...]:
    """Modalities by name, each once; a name may be several with commas between.

    Raises:
        UsageError: an unknown one.
    """
    return tuple(dict.fromkeys(modality(part) for name in names or () for part in name.split(",")))


def weights(texts: Sequence[str] | None) -> Mapping[Modality, float]:
    """Weights such as ``speech=2``; several may be given with commas between. Zero leaves a modality out.

    Raises:
        UsageError: an invalid number, or an unknown modality.
    """
    result: dict[Modality, float] = {}
    for part in (part for text in texts or () for part in text.split(",")):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _HEAVIEST:
            raise UsageError(f"invalid --weight {part}: {number!r}", f"write it like speech=2, from 0 to {_HEAVIEST}")
        result[modality(name)] = value
    return result


def day(text: str) -> str:
    """A date, month or year of the calendar as YYYY-MM-DD, YYYY-MM or YYYY; for ``typer.Option(parser=day)``.

    Raises:
        UsageError: an invalid date.
    """
    match = _DATE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        year, month, number = (int(part) if part else None for part in match.groups())
        whole = date(year or 0, month or 1, number or 1).isoformat()
    except ValueError:
        raise UsageError(f"invalid date: {text!r}", "write it like 2024-05-17, 2024-05 or 2024") from None
    return whole[:4] if month is None else whole[:7] if number is None else whole


def finite(text: str) -> float:
    """A finite number; for ``typer.Option(parser=finite)``.

    Raises:
        UsageError: an invalid one.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"invalid number: {text!r}", "give a finite number, such as 0.35")
    return number


def out_file(text: str) -> Path:
    """A file to write, in a folder that exists; for ``typer.Option(parser=out_file)``.

    Raises:
        UsageError: it cannot be written there.
    """
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{text} cannot be written", "name a file in a folder that exists")
    return path


def names_file(video: str) -> bool:
    """True if a name that no file has can only be meant as a path: ids have neither separators nor dots."""
    return os.sep in video or "." in video
