"""What is already known of a video's words: from the index, else from what was recognised of the same content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clamr_cli.errors import MediaError
from clamr_cli.extract.captions import choose, examined, on_video
from clamr_cli.extract.sidecar import find_sidecars
from clamr_cli.frames import keys
from clamr_cli.frames.documents import joined
from clamr_cli.frames.values import Texts
from clamr_cli.index import tasks
from clamr_cli.index.executors.local import Worker
from clamr_cli.index.options import Recipe
from clamr_cli.types import FileState, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.extract.captions import Captions
    from clamr_cli.frames.values import DenseOptions, Target
    from clamr_cli.index.sampling import Sampled
    from clamr_cli.store import Store
    from clamr_cli.types import MomentRecord

Words = tuple[Segment, ...]


class Known:
    """The words that the store has of a video.

    Attributes:
        speech, ocr: None where they have yet to be recognised; empty where there are none.
    """

    def __init__(self, store: Store, target: Target, sampled: Sampled, options: DenseOptions) -> None:
        self._store, self._target, self._sampled, self._options = store, target, sampled, options
        recipes = [
            Recipe.parse(record.recipe)
            for record in store.files([target.video_id])
            if record.state is FileState.INDEXED
        ]
        self._moments: list[MomentRecord] = store.moments([target.video_id]) if recipes else []
        self._recipe = next((recipe for recipe in recipes if recipe is not None), None)
        self.speech = self._speech()
        self.ocr = self._ocr()

    @property
    def complete(self) -> bool:
        """Whether nothing that is wanted has yet to be recognised."""
        return self.speech is not None and self.ocr is not None

    def texts(self) -> Texts:
        """All of them; what is not known is left out."""
        chapters = tuple(Segment(one.span, one.title, "chapter") for one in self._sampled.media.chapters if one.title)
        return Texts(self.speech or (), self.ocr or (), chapters)

    def _speech(self) -> Words | None:
        """What is said: by named subtitles, else as the index has it, the owner's, embedded ones, else recognised."""
        if self._target.subtitles:
            return self._named_subtitles(self._target.subtitles)
        heard = joined([segment for moment in self._moments for segment in moment.speech])
        if heard or (self._recipe is not None and self._recipe.speech):
            return heard
        captioned, beside = self._captioned()
        if captioned is not None or not self._sampled.media.audio:
            return captioned or beside
        recognised = self._kept("speech", wanted=self._options.index.speech)
        if recognised is None:
            return None
        return tuple(sorted((*recognised, *beside), key=lambda segment: segment.span))

    def _ocr(self) -> Words | None:
        seen = joined([segment for moment in self._moments for segment in moment.ocr])
        if seen or (self._recipe is not None and self._recipe.text) or not self._sampled.stills:
            return seen
        return self._kept("text", wanted=self._options.index.text)

    def _kept(self, stage: str, *, wanted: bool) -> Words | None:
        kept = self._store.extraction(keys.recipe(self._options).key(self._target.content_hash, stage))
        if kept is not None:
            return tuple(msgspec.convert(kept.payload["segments"], list[Segment]))
        return None if wanted else ()

    def _named_subtitles(self, path: str) -> Words:
        """Those that are spoken before the video ends: they may be those of a longer one that it was cut from."""
        from clamr_cli.extract.subtitles import read_subtitle_file

        if not Path(path).stat().st_size:
            return ()
        duration = self._sampled.media.duration
        return tuple(one for one in read_subtitle_file(Path(path)) if one.span.start < duration or duration <= 0)

    def _captioned(self) -> tuple[Words | None, Words]:
        """What captions say for the speech, None where it has to be recognised, and what they say beside it."""
        media, options = self._sampled.media, self._options.index
        here = find_sidecars(self._target.path, options.language).subtitles if self._target.path else ()
        captions = [*here, *tasks.captions_of(self._sampled)]
        lines: dict[str, Sequence[Segment]] = dict(tasks.lines_of(self._sampled))
        detected = self._store.extraction(tasks.detection_key(self._target.content_hash, options.asr))
        heard = str(detected.payload["language"]) if detected is not None else ""
        while True:
            spoken = heard or tasks.spoken_in(media, captions, options.language)
            choice = choose(
                captions, spoken, sure=True, audible=options.speech and bool(media.audio), duration=media.duration
            )
            unread = next((one for one in (choice.speech, choice.beside) if one and one.content == "unread"), None)
            if unread is None or unread.path is None:
                break
            place = captions.index(unread)
            try:
                lines[unread.name] = _read(unread, self._target.path, spoken, options.time_limit)
                captions[place] = examined(unread, lines[unread.name])
            except MediaError:
                # The run that recognises what is said in its place tells of it.
                captions[place] = replace(unread, content="none")
        speech, beside = (
            None if one is None else tuple(on_video(lines[one.name], media.duration))
            for one in (choice.speech, choice.beside)
        )
        return speech, beside or ()


def _read(captions: Captions, video: str, spoken: str, limit: float) -> list[Segment]:
    """The lines of a subtitle file, read in a process that ends where the file stalls it."""
    worker = Worker("sidecar reading", confined=True)
    try:
        *_, (segments, _) = worker.run(tasks.read_captions, captions, video, spoken, silence=limit)
        return segments
    finally:
        worker.stop()
