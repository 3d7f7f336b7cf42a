"""``clamr status``: what the index holds, where it is, what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, open_store, partial_coverage
from clamr_cli.cli.output import Column, emit, emit_one, json_only, warn
from clamr_cli.errors import EXIT_FOUND
from clamr_cli.text import format_time, plural, readable_part, size

if TYPE_CHECKING:
    from clamr_cli.store import Store

_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class StatusArguments(FormOptions):
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be indexed, or only in part, and why.")
    ] = False


def _encoder_lines(encoders: list[dict[str, Any]]) -> list[str]:
    names = [use["name"] for use in encoders]
    lines = []
    for use in encoders:
        # Two of one name differ in weights or settings, such as --pool.
        name = use["name"] if names.count(use["name"]) == 1 else f"{use['name']} {str(use['fingerprint'])[:8]}"
        part = f", {use['searched']} of {use['of']} videos" if "of" in use else ""
        lines.append(f"{name}: {plural(use['moments'], 'moment')}, {plural(use['vectors'], 'vector')}{part}")
    return lines


COLUMNS: Final = (
    Column("index", "Path or address of the index."),
    Column("size", "Bytes; null for a remote index.", tsv=lambda count: "remote" if count is None else size(count)),
    Column("files", "Files that index runs met."),
    Column("videos", "Different videos that they hold."),
    Column("moments", "Moments that can be found."),
    Column("seconds", "Length of all videos.", tsv=format_time, label="time"),
    Column(
        "failed", "Files that could not be read or indexed.",
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0",
    ),
    Column("missing", "Files that are gone, whose extractions are kept for a while."),
    Column(
        "offline", "Indexed files that are not there now.", tsv=lambda count: f"{count} (clamr ls)" if count else "0"
    ),
    json_only("extractions", "Stored results of recognition, of videos in the index or prepared for questions."),
    Column(
        "encoders", "Encoders with vectors: name, fingerprint, moments, vectors, and searched and of where not all "
        "videos have them.", tsv=_encoder_lines, label="encoder",
    ),
    Column("problems", "What does not fit together in the tables, and what to run.", label="problem"),
    Column(
        "incomplete", "Files of which only a part can be read.", get=lambda row: len(row["incomplete"]),
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0",
    ),
    Column(
        "incomplete_file", json=None,
        cell=lambda row: [f"{file['path']}: {file['reason']}" for file in row["incomplete"][:_MOST_NAMED]],
    ),
)  # fmt: skip
FAILED_COLUMNS: Final = (
    Column("path", "Path of the file.", wide=True),
    Column("reason", "What is wrong with it.", below="path"),
    Column("hint", "What to do about it.", below="path"),
)


def status(context: Context, arguments: StatusArguments) -> int:
    """Say what the index holds, where it is, what failed.

    What does not fit together in its tables is told as a problem, with what to run.

    Piped, it prints tab-separated lines: name and value; with --failed path, reason and what to do.

    Examples:
        clamr status
        clamr status --failed
    """
    from clamr_cli.search import offline

    settings, form = context.settings(), arguments.form
    store = open_store(settings)
    incomplete = _incomplete_files(store)
    if arguments.failed:
        rows = [{"path": file.path, "reason": file.error, "hint": file.hint} for file in store.files() if file.failed]
        if not rows and not incomplete:
            warn("no failed files")
        else:
            emit(FAILED_COLUMNS, [*rows, *incomplete], form)
        return EXIT_FOUND
    stats = store.stats()
    encoders = [
        {
            "name": use.info.name,
            "fingerprint": use.info.fingerprint,
            "moments": use.moments,
            "vectors": use.vectors,
            **partial_coverage(store, use.info.fingerprint),
        }
        for use in stats.encoders
    ]
    content = {
        "index": store.uri,
        "size": stats.size,
        "files": stats.files,
        "videos": stats.videos,
        "moments": stats.moments,
        "seconds": round(stats.seconds, 3),
        "failed": stats.failed,
        "missing": stats.missing,
        "offline": len(offline(store.files())),
        "extractions": stats.extractions,
        "encoders": encoders,
        "problems": store.problems(),
        "incomplete": incomplete,
    }
    emit_one(COLUMNS, content, form)
    return EXIT_FOUND


def _incomplete_files(store: Store) -> list[dict[str, str]]:
    """The indexed files of which only a part can be read, how much of each, and what to do."""
    parts = {video.video_id: readable_part(video.media) for video in store.videos() if video.media.incomplete}
    return [
        {"path": file.path, "reason": parts[file.video_id], "hint": "copy or download it again, then index it again"}
        for file in (store.files() if parts else [])
        if file.state.value == "indexed" and file.video_id in parts
    ]
