"""``clamr watch``: the index follows its folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer

from clamr_cli import locations
from clamr_cli.cli.children import end_with_parent
from clamr_cli.cli.commands.index import IndexArguments, on_cluster, plan
from clamr_cli.cli.options import Context, EventsOption, ExecutorOptions, open_store
from clamr_cli.cli.output import warn, write
from clamr_cli.cli.progress import IndexView, event_record, follow, interruptible
from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED, IndexLocked, UsageError
from clamr_cli.events import Event, Finished, Notice, Offline
from clamr_cli.records import json_line

_BUSY: Final = 5.0
"""Seconds between two looks whether another program still writes to the index."""

_NICE: Final = 10
_IDLE: Final = 19


@dataclass(frozen=True, kw_only=True)
class WatchArguments(ExecutorOptions):
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="DIR", help="Folders; by default all known ones.", show_default=False)
    ] = None
    idle: Annotated[
        bool, typer.Option("--idle", help="Work only while the machine has nothing else to do, one video at a time.")
    ] = False
    json: EventsOption = False
    attached: Annotated[bool, typer.Option("--attached", hidden=True, help="End when stdin closes.")] = False


class _View(IndexView):
    """Each finished change as a line; what is the same after each run is said once."""

    def __init__(self) -> None:
        super().__init__(verbose=True)
        self._said: set[str] = set()

    def show(self, event: Event) -> None:
        if isinstance(event, Finished) or (isinstance(event, Notice | Offline) and repr(event) in self._said):
            return
        if isinstance(event, Notice | Offline):
            self._said.add(repr(event))
        super().show(event)

    def renew(self) -> None:
        """Begin another run."""
        said = self._said
        self.__init__()  # type: ignore[misc]
        self._said = said

    def interrupted(self) -> str:
        return "stopped; what is done is kept"


def watch(context: Context, arguments: WatchArguments) -> int:
    """Keep the index current while files come, change, move and go.

    Folders that are not in the index yet are added to it. What was given to clamr index for a folder (--language, --exclude and so on) holds here too. Each finished change is a line.

    A file is taken when no program writes to it and it has not changed for 5 seconds, so half-copied files wait. A folder that vanishes with its disk is watched again when it is back; nothing is forgotten meanwhile. Network file systems report no changes: they are looked at every 30 seconds, all others every 30 minutes besides.

    --executor ray takes the workers of a Ray cluster for each change, and lets go of them after it. While another command writes to the index, or the cluster is away, it waits. It runs with low priority. Ctrl-C or SIGTERM ends it and keeps what is done.

    Examples:
        clamr watch ~/Videos
        clamr watch --idle
        clamr service print systemd -- watch
    """  # noqa: E501 -- a paragraph of help is a line
    with interruptible() as received:
        try:
            if arguments.attached:
                end_with_parent()
            _lower_priority(idle=arguments.idle)
            return _watch(context, arguments, received)
        except KeyboardInterrupt:
            warn("stopped; what is done is kept")
            return EXIT_FOUND


def _watch(context: Context, arguments: WatchArguments, received: Sequence[int]) -> int:
    from clamr_cli.index import run
    from clamr_cli.index.watch import Watch
    from clamr_cli.media.walk import is_below

    settings = context.settings()
    cluster = arguments.ray_options(settings)
    given = [locations.absolute(folder) for folder in arguments.folders or ()]
    if remote := next(filter(locations.is_remote, given), ""):
        raise UsageError(f"{remote} cannot be watched", "run 'clamr index' from time to time: it reads what is new")
    absent = [folder for folder in given if not os.path.isdir(folder)]
    if absent and len(absent) == len(given):
        files = open_store(settings).files()
        if not any(is_below(file.path, absent[0]) for file in files):
            raise UsageError(f"no such folder: {absent[0]!r}", "check the spelling")
    store = open_store(settings, create=bool(given))
    _, targets, options = plan(context, IndexArguments(targets=given or None), settings, store, {})
    targets = [target for target in targets if not locations.is_remote(target)]
    if not targets:
        raise UsageError("the index knows no folder of this machine", "name one: clamr watch DIR")
    targets = [target for target in targets if not any(is_below(target, one) for one in targets if one != target)]
    view, waiting, reached = _View(), False, False
    with Watch(targets, lambda folder: options.of(folder).exclude, store.watch_lock) as changes:
        warn(f"watching {', '.join(targets)}; Ctrl-C ends it")
        while True:
            found = changes.wait()
            if isinstance(found, Notice):
                if arguments.json:
                    write([json_line(event_record(found))])
                warn(found.text)
                continue
            try:
                # Another command may have changed what is remembered of the folders.
                store = open_store(settings)
                again = IndexArguments(targets=list(found.targets))
                _, names, options = plan(context, again, settings, store, {}, quiet=True)
                options, executor = on_cluster(cluster, replace(options, unfinished=found.unfinished))
                reached = executor is not None
                options = replace(options, jobs=1) if arguments.idle else options
                view.renew()
                with ExitStack() as stack:
                    if executor is not None:
                        # Also where nothing was to be done, or somebody else writes.
                        stack.callback(executor.stop)
                    events = run.index(store, names, options, executor)
                    code = follow(events, view, json=arguments.json, received=received)
            except (IndexLocked, UsageError) as error:
                gone = isinstance(error, UsageError) and not all(map(os.path.lexists, found.targets))
                if isinstance(error, UsageError) and not (gone or reached):
                    raise
                # A target went just now; or another program writes, or the cluster is away, which may take a while.
                if not (gone or waiting):
                    warn(f"waiting: {error.what}")
                waiting = waiting or not gone
                changes.again(found, 0.0 if gone else _BUSY)
                continue
            if code == EXIT_INTERRUPTED:
                return EXIT_FOUND
            waiting = False
            changes.done(found)


def _lower_priority(*, idle: bool) -> None:
    """Let other programs go first; the processes that this one starts inherit it."""
    with suppress(OSError, AttributeError):
        os.nice(_IDLE if idle else _NICE)
        if idle:
            # The system then counts its reading and writing as idle, too.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
