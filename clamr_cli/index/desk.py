"""What the jobs of a run share: the worker processes, what the index already holds, and who works on which video."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from clamr_cli import encoders
from clamr_cli.index import spool
from clamr_cli.index.crew import Stop
from clamr_cli.index.executors.local import Worker
from clamr_cli.index.options import Recipe
from clamr_cli.index.register import Register
from clamr_cli.index.tasks import EncoderChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from clamr_cli.index.options import IndexOptions
    from clamr_cli.store import Store
    from clamr_cli.types import EncoderInfo, FileRecord


_PATIENCE: Final = 2.0
"""Seconds that threads get to end after their workers have; what they are at is a read of the index at most."""


class Desk:
    """Shared by the threads of one run.

    Args:
        store: the index; the threads only read it, under :attr:`reading`.
        options: of the run.
        encoder: what the encoder of the options calls itself.
    """

    def __init__(self, store: Store, options: IndexOptions, encoder: EncoderInfo) -> None:
        self.store = store
        self.options = options
        self.encoder = encoder
        self.recipe = Recipe.of(options)
        # Recognisers work side by side: together they should keep the cores busy, not each alone.
        threads = options.threads or max(1, (os.cpu_count() or 1) // 2)
        self.asr = replace(options.asr, threads=options.asr.threads or threads)
        self.ocr = replace(options.ocr, threads=options.ocr.threads or threads)
        self.choice = EncoderChoice(
            options.encoder, options.cache, options.device, threads, tuple(sorted(options.encoder_settings.items()))
        )
        self.hears = encoders.hears(options.encoder)
        self._room = spool.Room.take(options.cache)
        self.spools: Path = self._room.folder
        log = options.cache / "workers.log"
        self.decoder = Worker("decoding", log=log, threads=threads, confined=True)
        self.sidecars = Worker("sidecar reading", log=log, threads=threads, confined=True)
        self.hearer = Worker("speech recognition", log=log, threads=threads)
        self.reader = Worker("text recognition", log=log, threads=threads)
        self.encoding = Worker("encoding", log=log, threads=threads)
        self.reading = threading.Lock()
        self.register = Register(store)
        # Only what has its moments, all of them encoded: a table may have lost what was written last.
        self.encoded: set[str] = store.videos_encoded(encoder.fingerprint) & self.register.videos
        self.moved: Callable[[FileRecord], bool] = lambda _: False
        """Whether a file is no longer at its path, when its content was met at another one."""
        self.stopping = Stop()
        self._claims: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def sweep(self, finished: Collection[str] = ()) -> None:
        """Remove what killed runs left, that of these videos at once; only where no other run is at work."""
        if self._room.shared:
            spool.sweep(self.spools, finished)

    def claim(self, video_id: str) -> threading.Lock:
        """The lock of a video: two files of one content must not be worked on at once."""
        return self._claims[video_id]

    def stop(self) -> None:
        """End all worker processes at once; running jobs fail quietly."""
        self.stopping.set()
        for worker in (self.decoder, self.sidecars, self.hearer, self.reader, self.encoding):
            worker.stop()
        self.stopping.wait_for_all(_PATIENCE)
        self._room.leave()
