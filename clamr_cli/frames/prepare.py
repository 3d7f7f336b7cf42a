"""Preparing one video for questions: whatever is kept already serves, the rest is done now and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clamr_cli.errors import IndexLocked, StoreError, UsageError
from clamr_cli.frames import kept
from clamr_cli.frames.values import DenseOptions, Prepared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clamr_cli.events import Event
    from clamr_cli.frames.values import Target
    from clamr_cli.store import Store

SHORTEST_INTERVAL = 0.1


def prepare(store: Store, target: Target, options: DenseOptions) -> Iterator[Event | Prepared]:
    """Make a video ready for questions; the last item is the :class:`Prepared` one.

    Closing the iterator stops all work at once; what was finished stays, and the next call goes on from there.

    Args:
        store: the index, where everything is kept by content; it need not hold the video.
        target: see :func:`clamr_cli.frames.target.locate`.
        options: how to recognise, encode and how densely.

    Raises:
        UsageError: an option cannot be used.
        MediaError: the file cannot be used, or is needed and not at hand.
        IndexLocked: something has to be kept and another process writes to the index.
        ModelError: weights are absent or damaged.
        StoreError: the index or the cache cannot be written.
    """
    _check(options)
    ready = kept.load(store, target, options)
    if ready is None:
        try:
            yield from _work(store, target, options)
        except IndexLocked as error:
            hint = f"{error.hint}; what is prepared of a video is kept in the index, or in another one: --db DIR"
            raise IndexLocked(error.what, hint) from error
        ready = kept.load(store, target, options)
    if ready is None:
        raise StoreError("what was prepared is not all there", "run the command again")
    yield ready


def _check(options: DenseOptions) -> None:
    if not SHORTEST_INTERVAL <= options.interval < float("inf"):
        raise UsageError(
            f"candidates every {options.interval:g} seconds cannot be taken", f"give {SHORTEST_INTERVAL} or more"
        )
    if not 0 <= options.context < float("inf"):
        raise UsageError(f"{options.context:g} seconds around a frame make no sense", "give 0 or more")


def _work(store: Store, target: Target, options: DenseOptions) -> Iterator[Event]:
    # Only here: a question about a prepared video must not wait for the imports of all the work there is.
    from clamr_cli.frames.job import DenseJob
    from clamr_cli.index.crew import outputs
    from clamr_cli.index.desk import Desk
    from clamr_cli.index.outputs import Commit, Keep

    with store.writer("clamr frames"):
        desk = Desk(store, options.index, kept.describe(options))
        job = DenseJob(target, desk, options)
        try:
            for _, output in outputs([job], hands=1, stopping=desk.stopping):
                match output:
                    case Keep():
                        with desk.reading:
                            output.write(store)
                    case BaseException():
                        raise output
                    case Commit():
                        pass  # no file is put into the index
                    case _:
                        yield output
            store.sweep()
        finally:
            # The helper first: the desk waits for threads that wait for it.
            if job.helper is not None:
                job.helper.stop()
            desk.sweep()
            desk.stop()
