"""``clamr ls``: the videos of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clamr_cli.cli.options import Context, FormOptions, PathOption, open_store
from clamr_cli.cli.output import Column, as_time, emit, mark, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING


@dataclass(frozen=True, kw_only=True)
class LsArguments(FormOptions):
    path: PathOption = None


COLUMNS: Final = (
    Column("video_id", "Id of the video that the file holds; null where it could not be read.", style="dim"),
    Column("duration", "Seconds.", table=as_time, right=True),
    Column("title", "Title of the video.", wide=True),
    Column("path", "Path of the file.", below="title"),
    Column("state", "indexed, failed or missing."),
    Column(
        "offline", "True for an indexed file that is not there now.",
        tsv=mark("offline"), table=mark("offline"), below="state",
    ),
)  # fmt: skip


def ls(context: Context, arguments: LsArguments) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing),
    and "offline" where an indexed file is not there now.

    Examples:
        clamr ls
        clamr ls --path "*holiday*" --json
    """
    from clamr_cli.search import offline
    from clamr_cli.search.search import files_matching

    settings, form = context.settings(), arguments.form
    store = open_store(settings)
    files = store.files() if arguments.path is None else files_matching(store.files(), arguments.path)
    videos = {video.video_id: video for video in store.catalog()}
    away = offline(files)
    rows = []
    for file in files:
        video = videos.get(file.video_id)
        duration, title = (round(video.duration, 3), video.title) if video else (None, "")
        rows.append(
            {
                "video_id": file.video_id or None,
                "duration": duration,
                "title": title,
                "path": file.path,
                "state": file.state.value,
                "offline": file.path in away,
            }
        )
    if not rows:
        warn("no video of the index matches" if arguments.path else "the index holds no videos: clamr index DIR")
        return EXIT_NOTHING
    emit(COLUMNS, rows, form)
    return EXIT_FOUND
