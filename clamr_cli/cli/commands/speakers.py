"""``clamr speakers``: who speaks in the videos, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli.commands.tag import clean, encoders_of
from clamr_cli.cli.options import Context, FormOptions, open_store
from clamr_cli.cli.output import emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.records import Column, fixed, rounded
from clamr_cli.text import escape_field, plain, plural
from clamr_cli.types import voice_label, voice_number

if TYPE_CHECKING:
    from clamr_cli.store import Store

_LONGEST_NAME: Final = 80
_CONTEXT: Final = 60


@dataclass(frozen=True, kw_only=True)
class SpeakersArguments(FormOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class NameArguments:
    speaker: Annotated[str, typer.Argument(metavar="NUMBER", help="A number of 'clamr speakers', or a name.")]
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The name from now on.")] = None
    clear: Annotated[bool, typer.Option("--clear", help="Take the name away.")] = False


COLUMNS: Final = (
    Column(
        "number", "Number of the voice, several where they have one name; empty for a name from captions.",
        json=list, tsv=lambda numbers: " ".join(map(str, numbers)), table=lambda numbers: " ".join(map(str, numbers)),
        style="bold", kind=list[int], label="#",
    ),
    Column("name", "Name; empty where you gave none.", style="cyan"),
    Column("videos", "Number of videos in which this one speaks.", right=True, kind=int),
    Column(
        "minutes", "Minutes of speech.", json=rounded(2), tsv=fixed(1), table=fixed(1), right=True, kind=float
    ),
    Column("example", "A line.", wide=True),
    Column("video", "Id of the video of that line.", style="dim"),
)  # fmt: skip


def ls(context: Context, arguments: SpeakersArguments) -> int:
    """List who speaks in the videos.

    Voices are told apart by 'clamr index --speakers', and have numbers until 'clamr speakers name' names them. Names in subtitles count, too. 'clamr search QUERY --speaker NAME' looks only where that one speaks.

    Examples:
        clamr speakers
        clamr speakers name 3 Ann
    """  # noqa: E501 -- a paragraph of help is a line
    store = open_store(context.settings())
    rows = _rows(store)
    if not rows:
        warn("no speaker is known: clamr index DIR --speakers tells voices apart")
        return EXIT_NOTHING
    emit(COLUMNS, rows, arguments.form)
    if len(models := {voices.model for voices in store.voices().values()}) > 1:
        warn(f"voices by {' and '.join(sorted(models))} are not compared: one person may have two numbers")
    return EXIT_FOUND


def name(context: Context, arguments: NameArguments) -> int:
    """Name a speaker.

    The name stands at each line of that voice, and is found like a note of your own. It stays when videos come, move or are encoded anew. Two numbers with one name are one speaker.

    Examples:
        clamr speakers name 3 Ann
        clamr speakers name 5 Ann
        clamr speakers name Ann --clear
    """  # noqa: E501 -- a paragraph of help is a line
    if arguments.clear == (arguments.name is not None):
        raise UsageError("give either a name or --clear", 'clamr speakers name 3 "Ann"')
    new = "" if arguments.name is None else clean(arguments.name, "name", _LONGEST_NAME)
    if new.isdigit() or voice_number(plain(new)) is not None:
        raise UsageError(f"invalid name: {new!r}", "it would be taken for a number")
    from clamr_cli.cli.progress import waiting
    from clamr_cli.index.speakers import name_speakers

    settings = context.settings()
    store = open_store(settings)
    numbers = _numbers(store, arguments.speaker)
    with waiting("encoding"):
        changed = list(name_speakers(store, encoders_of(store, settings), numbers, new))
    voices = f"voice{'s' * (len(numbers) > 1)} {' and '.join(map(str, numbers))}"
    named = f"{'are' if len(numbers) > 1 else 'is'} named {escape_field(new)}" if new else "without a name"
    warn(f"{voices} {named}: {plural(len(changed), 'video')}")
    return EXIT_FOUND


def _numbers(store: Store, speaker: str) -> list[int]:
    """The numbers of a speaker by number or name."""
    known = {number for voices in store.voices().values() for number in voices.numbers} | store.speakers().keys()
    number = voice_number(plain(speaker))
    numbers = [number for number, one in store.speakers().items() if plain(one.name) == plain(speaker)]
    if not numbers and number is not None and number in known:
        numbers = [number]
    if not numbers:
        raise UsageError(f"no voice is known as {speaker!r}", "list them with: clamr speakers")
    return sorted(numbers)


def _rows(store: Store) -> list[dict[str, Any]]:
    """A row of each speaker, who says most first."""
    named, numbers = store.speakers(), {number for voices in store.voices().values() for number in voices.numbers}
    numbers_of: dict[str, list[int]] = {}
    for number in sorted(numbers | named.keys()):
        label = named[number].name if number in named else voice_label(number)
        numbers_of.setdefault(plain(label), []).append(number)
    rows: dict[str, dict[str, Any]] = {}
    for moment in store.moments():
        for line in moment.speech:
            if not line.speaker:
                continue
            key = plain(line.speaker)
            row = rows.setdefault(
                key,
                {
                    "number": numbers_of.get(key, []), "name": "" if voice_number(key) is not None else line.speaker,
                    "videos": set(), "minutes": 0.0, "example": "", "video": "",
                },
            )  # fmt: skip
            row["videos"].add(moment.video_id)
            row["minutes"] += line.span.duration / 60
            # The longest line that a screen has room for.
            if len(row["example"]) < len(line.text) <= _CONTEXT or not row["example"]:
                row |= {"example": line.text, "video": moment.video_id}
    for row in rows.values():
        row["videos"] = len(row["videos"])
    return sorted(rows.values(), key=lambda row: -row["minutes"])
