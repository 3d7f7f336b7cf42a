"""Speech and text of a video, as far as stored: by the index, else recognised of the same content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clamr_cli.errors import MediaError
from clamr_cli.extract.sidecars import find_sidecars
from clamr_cli.frames.documents import joined
from clamr_cli.frames.values import DenseOptions, Target, Texts
from clamr_cli.index import tasks
from clamr_cli.index.captions import CaptionSet, language_key
from clamr_cli.index.documents import segments_from
from clamr_cli.index.executors.local import Worker
from clamr_cli.index.options import Recipe
from clamr_cli.index.sampling import SampledMedia
from clamr_cli.store import Store
from clamr_cli.types import FileState, Segment


def recipe_of(options: DenseOptions) -> Recipe:
    """The names of the results of an index run, of speech and text too where neither is to be recognised now."""
    return Recipe.of(replace(options.index, speech=True, text=True))


def stored_texts(
    store: Store, target: Target, sampled: SampledMedia, options: DenseOptions
) -> tuple[Texts, frozenset[str]]:
    """The texts that the store has of a video, and which of ``speech`` and ``ocr`` have yet to be recognised."""
    files = [file for file in store.files([target.video_id]) if file.state is FileState.INDEXED]
    moments = store.moments([target.video_id]) if files else []
    indexed = next((recipe for file in files if (recipe := Recipe.parse(file.recipe)) is not None), None)
    names, missing = recipe_of(options), set()

    def recognised(stage: str) -> Sequence[Segment]:
        stored = store.extraction(names.key(target.content_hash, "text" if stage == "ocr" else "speech"))
        if stored is None and (options.index.text if stage == "ocr" else options.index.speech):
            missing.add(stage)
        return segments_from(stored) if stored is not None else ()

    # Subtitles that were named, else as the index has it, the owner's, embedded ones, else recognised.
    speech: Sequence[Segment] = joined([segment for moment in moments for segment in moment.speech])
    if target.subtitles:
        speech = _named_subtitles(target.subtitles, sampled.media.duration)
    elif not (speech or (indexed is not None and indexed.speech)):
        captions = _read_captions(store, target, sampled, options)
        choice, _ = captions.choose(recognise=options.index.speech, sure=True)
        beside = captions.lines_of(choice.beside)
        if choice.speech is not None or not sampled.media.audio:
            speech = captions.lines_of(choice.speech) or beside
        else:
            speech = sorted((*recognised("speech"), *beside), key=lambda segment: segment.span)
    ocr: Sequence[Segment] = joined([segment for moment in moments for segment in moment.ocr])
    if not (ocr or (indexed is not None and indexed.text)) and sampled.stills:
        ocr = recognised("ocr")
    chapters = (Segment(one.span, one.title, "chapter") for one in sampled.media.chapters if one.title)
    return Texts(tuple(speech), tuple(ocr), tuple(chapters)), frozenset(missing)


def _named_subtitles(path: str, duration: float) -> list[Segment]:
    """Those that are spoken before the video ends: they may be those of a longer one that it was cut from."""
    from clamr_cli.extract.subtitles import read_subtitle_file

    if not Path(path).stat().st_size:
        return []
    return [one for one in read_subtitle_file(Path(path)) if one.span.start < duration or duration <= 0]


def _read_captions(store: Store, target: Target, sampled: SampledMedia, options: DenseOptions) -> CaptionSet:
    """The captions of a video, those files read that may stand for its speech, or beside it."""
    language = options.index.language
    captions = CaptionSet(list(find_sidecars(target.path, language).subtitles) if target.path else [], language)
    captions.set_media(sampled.media, sampled.tracks, sampled.speech)
    detected = store.extraction(language_key(target.content_hash, options.index.asr))
    captions.detected_language = str(detected.payload["language"]) if detected is not None else None
    while unread := captions.choose(recognise=options.index.speech, sure=True)[1]:
        # In a process that ends where the file stalls it.
        worker = Worker("sidecar reading", confined=True)
        try:
            lines, _ = worker.run(
                tasks.read_captions, unread[0], target.path, captions.spoken(), stall_timeout=options.index.time_limit
            )
            captions.set_lines(unread[0], lines)
        except MediaError:
            # The run that recognises what is said in its place gives a notice.
            captions.set_lines(unread[0], None)
        finally:
            worker.stop()
    return captions
