"""``clamr tag`` and ``clamr note``: tags and notes of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, VideoArgument, edited, open_store
from clamr_cli.cli.output import emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, ClamrError, UsageError
from clamr_cli.records import Column
from clamr_cli.selection import create_encoder, settings_for
from clamr_cli.text import escape_field, plain, plural, shorten
from clamr_cli.types import Encoder, Labels

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.store import Store

_LONGEST_TAG: Final = 80
_LONGEST_NOTE: Final = 10_000
_SHOWN: Final = 40


@dataclass(frozen=True, kw_only=True)
class TagsArguments(FormOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class TagArguments:
    words: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO... TAG", help="Ranks, ids, title parts or files; then the tag, or several: a,b."),
    ]


@dataclass(frozen=True, kw_only=True)
class NoteArguments:
    video: VideoArgument
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Added to the notes; without it your editor opens.")
    ] = None
    clear: Annotated[bool, typer.Option("--clear", help="Remove all notes of the video.")] = False


COLUMNS: Final = (
    Column("tag", "A tag that you gave.", style="bold", wide=True),
    Column("videos", "Number of videos that have it.", right=True),
)


def ls(context: Context, arguments: TagsArguments) -> int:
    """List your tags.

    'clamr ls --tag NAME' lists the videos of one.

    Examples:
        clamr tag
    """
    store = open_store(context.settings())
    counts = Counter(tag for labels in store.labels().values() for tag in labels.tags)
    if not counts:
        warn("no video has a tag: clamr tag add VIDEO TAG")
        return EXIT_NOTHING
    emit(COLUMNS, [{"tag": tag, "videos": count} for tag, count in sorted(counts.items())], arguments.form)
    return EXIT_FOUND


def add(context: Context, arguments: TagArguments) -> int:
    """Give videos a tag.

    The last word is the tag, those before it are videos: ranks of the last search, ids, parts of titles, or files. Several tags have commas between. A tag is found like other metadata, 'clamr search QUERY --tag NAME' looks only into videos that have it, and it stays when files are moved or indexed anew.

    Examples:
        clamr tag add 1 2 5 holiday
        clamr tag add film.mp4 "to cut,2024"
    """  # noqa: E501 -- a paragraph of help is a line
    videos, tags = _videos_and_tags(arguments.words)

    def change(labels: Labels) -> Labels:
        known = set(map(plain, labels.tags))
        return replace(labels, tags=(*labels.tags, *(tag for tag in tags if plain(tag) not in known)))

    return _label(context, videos, change, f"tagged {', '.join(map(escape_field, tags))}", "have that tag already")


def rm(context: Context, arguments: TagArguments) -> int:
    """Take a tag from videos.

    The last word is the tag, as of 'clamr tag add'.

    Examples:
        clamr tag rm 2 holiday
    """
    videos, tags = _videos_and_tags(arguments.words)
    going = set(map(plain, tags))

    def change(labels: Labels) -> Labels:
        return replace(labels, tags=tuple(tag for tag in labels.tags if plain(tag) not in going))

    return _label(context, videos, change, f"no longer {', '.join(map(escape_field, tags))}", "do not have that tag")


def note(context: Context, arguments: NoteArguments) -> int:
    """Note something of your own on a video.

    The text is added to the notes of the video; without it they open in your editor, a line each. Notes are found like other metadata, and stay when files are moved or indexed anew. 'clamr show' shows them.

    Examples:
        clamr note 3 "Anna's first concert"
        clamr note film.mp4
    """  # noqa: E501 -- a paragraph of help is a line
    if arguments.clear and arguments.text is not None:
        raise UsageError("--clear and a text exclude each other", "give one of them")
    given = None if arguments.text is None else clean(arguments.text, "note", _LONGEST_NOTE)
    store = open_store(context.settings())
    from clamr_cli.search import video_named

    video = store.video(video_named(store, arguments.video))
    notes = store.labels_of(video.content_hash).notes
    if arguments.clear:
        notes = ()
    elif given is not None:
        notes = (*notes, *(() if given in notes else (given,)))
    else:
        text = "".join(f"{one}\n" for one in notes)
        _, notes = edited(text, f"{video.video_id}.txt", _notes)
    done = f"{plural(len(notes), 'note')} on"
    return _label(context, [video.video_id], lambda labels: replace(labels, notes=notes), done, "were not changed")


def _notes(text: str) -> tuple[str, ...]:
    """The notes of an edited text, a line each."""
    return tuple(dict.fromkeys(clean(line, "note", _LONGEST_NOTE) for line in text.splitlines() if line.strip()))


def _videos_and_tags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The videos and the tags of a command line."""
    if len(words) < 2:
        raise UsageError("name the videos, and then the tag", "clamr tag add 1 2 holiday")
    parts = [part.strip().removeprefix("#") for part in words[-1].split(",")]
    tags = [clean(part, "tag", _LONGEST_TAG) for part in parts if part]
    if not tags:
        raise UsageError("the tag is empty", "clamr tag add 1 2 holiday")
    return list(words[:-1]), list(dict.fromkeys(tags))


def clean(text: str, kind: str, longest: int) -> str:
    """A tag or note that can be stored: one line, without control characters."""
    text = " ".join(text.split())
    if not text.isprintable() or not any(map(str.isalnum, text)):
        raise UsageError(f"invalid {kind}: {text!r}", "give letters, digits and signs")
    if len(text) > longest:
        raise UsageError(f"the {kind} has {len(text)} characters", f"give at most {longest}")
    return text


def _label(context: Context, names: Sequence[str], change: Callable[[Labels], Labels], done: str, nothing: str) -> int:
    """Change the tags or notes of videos, and say of which."""
    from clamr_cli.cli.progress import waiting
    from clamr_cli.index.labels import label
    from clamr_cli.search import video_named

    settings = context.settings()
    store = open_store(settings)
    # All names are looked up before the first change.
    ids = list(dict.fromkeys(video_named(store, name) for name in names))
    titles = {facts.video_id: facts.title for facts in store.catalog()}
    with waiting("encoding"):
        changed = [video_id for video_id, _ in label(store, encoders_of(store, settings), ids, change, "clamr tag")]
    if not changed:
        warn(f"nothing to do: {plural(len(ids), 'video')} {nothing}")
        return EXIT_FOUND
    shown = [escape_field(shorten(titles.get(video_id) or video_id, _SHOWN)) for video_id in changed[:3]]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    warn(f"{done}: {', '.join(shown)}{more}")
    return EXIT_FOUND


def encoders_of(store: Store, settings: Settings) -> dict[str, Encoder]:
    """The encoders of the index by fingerprint, as far as they are installed; says of which that is not so."""
    result: dict[str, Encoder] = {}
    uses = store.encoders()
    if not uses:
        return result
    from clamr_cli.encoders import for_earlier

    for use in uses:
        try:
            encoder = create_encoder(use.info.name, settings, settings_for(store, use.info.name, settings, {}))
        except ClamrError as error:
            warn(f"{use.info.name} does not see the change: {error.what}")
            continue
        if encoder.info.fingerprint == use.info.fingerprint:
            result[use.info.fingerprint] = encoder
        elif use.info.fingerprint in encoder.info.earlier:
            result[use.info.fingerprint] = for_earlier(encoder, use.info.fingerprint)
    return result
