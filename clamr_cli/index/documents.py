"""The extracted parts of a video: their names in the store, its captions, and the documents that it becomes.

A document is what CLaMR encodes in one pass (section 3: frames, speech, on-screen text and metadata together). A video
longer than a window gives several, so that search answers with a time.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.extract.options import AsrOptions
from clamr_cli.extract.sidecars import (
    CaptionChoice,
    Captions,
    choose,
    examined,
    known_language,
    on_video,
    track_captions,
)
from clamr_cli.index.workdir import SAMPLE_RATE, DecodedMedia, TrackLines
from clamr_cli.languages import choose_track
from clamr_cli.types import (
    MAX_FRAMES,
    SPEAKER_SOURCE,
    Document,
    FileRecord,
    FileState,
    Frame,
    MediaInfo,
    MomentRecord,
    Segment,
    Sound,
    Span,
    VideoRecord,
    Word,
    voice_number,
)

if TYPE_CHECKING:
    from clamr_cli.store import Extraction, Store

StoredStage = Literal["media", "speech", "text"]

LONGEST_SOUND = 30.0
"""Seconds of sound of one document at most (CLaMR section 3: raw audio up to 30 s)."""

PRINTS_VERSION = "2"
SOUND_PRINT_VERSION = "1"
"""Change when the same file would get other fingerprints; see :mod:`clamr_cli.media.prints`."""

SHORTEST_PAUSE = 0.3
"""Seconds of silence between two stretches of speech below which it is breath, not a pause."""


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True):
    """Versions and settings of everything that shapes a video's moments; equal recipes give equal moments.

    ``media``, ``speech`` and ``text`` are also the names under which the extraction of a content is stored.
    ``speakers`` is empty where voices are not told apart.
    """

    media: str
    speech: str
    text: str
    window: float
    speakers: str = ""

    @classmethod
    def parse(cls, text: str) -> Recipe | None:
        """The recipe that :meth:`dump` wrote; None for another version's."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None

    def dump(self) -> str:
        """As text, equal for equal recipes."""
        return msgspec.json.encode(self).decode()

    def key(self, content_hash: str, stage: StoredStage) -> str:
        """The name under which a stage's result for a content is stored."""
        return f"{content_hash}/{stage}/{getattr(self, stage)}"


def language_key(content: str, options: AsrOptions) -> str:
    """The name under which the detected language of a content is stored."""
    return f"{content}/speech/{options.version}/language"


Density = Literal["", "/dense", "/close"]
"""How close the pictures are whose hashes are stored: as an index run decodes them, all of a video, or closer."""


def prints_key(content: str, density: Density = "") -> str:
    """The name under which the hashes of a content's pictures are stored; see :mod:`clamr_cli.media.prints`."""
    return f"{content}/prints/{PRINTS_VERSION}{density}"


def levels_key(content: str, density: Density = "") -> str:
    """The name under which the levels of the pictures of :func:`prints_key` are stored."""
    return f"{prints_key(content, density)}/levels"


def sound_print_key(content: str) -> str:
    """The name under which the energies of a content's sound are stored."""
    return f"{content}/sound/{SOUND_PRINT_VERSION}"


@dataclass
class CaptionSet:
    """The captions of a video, their lines as far as they were read, and the spoken language as far as it is known."""

    files: list[Captions]
    language: str = ""  # as the owner says
    noted_language: str = ""  # as a sidecar says
    detected_language: str | None = None  # None where nobody has listened, empty where it is not clear
    tracks: list[Captions] = field(default_factory=list)
    lines: dict[str, Sequence[Segment]] = field(default_factory=dict)  # by the name of the captions
    media: MediaInfo | None = None

    @property
    def all(self) -> list[Captions]:
        return [*self.files, *self.tracks]

    def set_media(self, media: MediaInfo, tracks: Sequence[TrackLines] = (), speech: Sequence[Segment] = ()) -> None:
        """Take the tracks of the video into account, and their lines."""
        self.media = media
        lines = {track.index: track.lines for track in tracks}
        self.tracks = []
        for track in media.subtitles:
            # Tracks with pictures of text are listed too, so that somebody can be told.
            if track.index in lines or not track.text:
                captions = track_captions(track)
                self.tracks.append(examined(captions, lines[track.index]) if track.index in lines else captions)
        if speech:
            # An earlier version chose among the tracks, and stored the lines of one.
            language = speech[0].language
            titles = [track for track in media.subtitles if track.text and track.language == language]
            name = track_captions(titles[0]) if len(titles) == 1 else None
            captions = name or Captions("subtitle track", track=-1, language=language)
            self.tracks.append(examined(captions, speech))
        for captions in self.tracks:
            self.lines[captions.name] = lines.get(-1 if captions.track is None else captions.track, speech)

    def set_lines(self, captions: Captions, lines: Sequence[Segment] | None) -> None:
        """Note the lines of a file, None where it cannot be read."""
        place = self.files.index(captions)
        if lines is None:
            self.files[place] = replace(captions, content="none")
        else:
            self.lines[captions.name] = lines
            self.files[place] = examined(captions, lines)

    def spoken(self) -> str:
        """The spoken language: what was heard, else what the owner says, a sidecar, or the tag of the sound track."""
        track = choose_track(self.media, self.language) if self.media is not None else None
        tag = track.language if track is not None else ""
        return self.detected_language or known_language(self.all, self.language, self.noted_language, tag)

    def choose(self, *, recognise: bool, sure: bool = False) -> tuple[CaptionChoice, Captions | None]:
        """Choose the captions that stand for the speech; with the file that must be read before that is final.

        ``recognise`` says whether sound can be recognised instead, ``sure`` that its language need not be detected.
        """
        choice = choose(
            self.all,
            self.spoken(),
            sure=sure or bool(self.language) or self.detected_language is not None,
            audible=recognise and (self.media is None or bool(self.media.audio)),
            duration=self.media.duration if self.media is not None else 0.0,
        )
        captions = choice.speech or choice.beside
        is_unread = captions is not None and captions.content == "unread" and captions in self.files
        return choice, captions if is_unread else None

    def lines_of(self, captions: Captions | None) -> list[Segment]:
        """The lines of captions that were chosen, at the times of the video; empty for None."""
        duration = self.media.duration if self.media is not None else 0.0
        return list(on_video(self.lines[captions.name], duration)) if captions is not None else []


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame of a video, and the number of the shot it belongs to."""

    frame: Frame
    number: int


def split_video(
    video_id: str,
    duration: float,
    shots: Sequence[Shot] = (),
    speech: Sequence[Segment] = (),
    ocr: Sequence[Segment] = (),
    metadata: Sequence[Segment] = (),
    *,
    window: float,
) -> list[Document]:
    """Cut a video into moments of at most ``window`` seconds and give each what belongs to it; all in time order.

    Cuts fall into speech pauses or on shot changes where there are any. Speech belongs to the window in which
    it is said; text on screen to every window in which it can be seen; metadata to all, chapters to theirs. A video
    without any content still gives its documents, with empty modalities.
    """
    cuts = [later.frame.span.start for earlier, later in itertools.pairwise(shots) if later.number != earlier.number]
    silences = pauses([segment.span for segment in speech], duration)
    spans = windows(duration, longest=window, pauses=silences, cuts=cuts)
    shares = share_out(speech, spans)
    return [
        Document(
            id=f"{video_id}#{number}",
            span=span,
            frames=tuple(frames_of(shots, span)),
            speech=tuple(shares[number]),
            ocr=tuple(cut_to(ocr, span)),
            metadata=tuple(cut_to(metadata, span)),
        )
        for number, span in enumerate(spans)
    ]


def frames_of(shots: Sequence[Shot], span: Span, *, limit: int = MAX_FRAMES) -> list[Frame]:
    """At most ``limit`` frames that can be seen in ``span``, spread over its shots, with spans that tile it.

    Every shot gives a frame before any shot gives two; where there are more shots than frames the longest win, and
    where there is room the largest stretches without a frame are filled.
    """

    def shared(shot: Shot) -> float:
        return max(0.0, min(shot.frame.span.end, span.end) - max(shot.frame.span.start, span.start))

    chosen = visible = [shot for shot in shots if shot.frame.span.overlaps(span)]
    if len(visible) > limit:
        first_of: dict[int, Shot] = {}
        length: dict[int, float] = {}
        for shot in visible:
            length[shot.number] = length.get(shot.number, 0.0) + shared(shot)
            best = first_of.get(shot.number)
            if best is None or shared(shot) > shared(best):
                first_of[shot.number] = shot
        chosen = sorted(first_of.values(), key=lambda shot: (-length[shot.number], shot.frame.time))[:limit]
        rest = [shot for shot in visible if shot not in chosen]
        while len(chosen) < limit and rest:
            farthest = max(rest, key=lambda shot: min(abs(shot.frame.time - other.frame.time) for other in chosen))
            chosen.append(farthest)
            rest.remove(farthest)
        chosen.sort(key=lambda shot: shot.frame.time)
    borders = [span.start, *(max(shot.frame.span.start, span.start) for shot in chosen[1:]), span.end]
    return [
        replace(shot.frame, span=Span(start, max(start, end)))
        for shot, (start, end) in zip(chosen, itertools.pairwise(borders), strict=False)
    ]


def cut_to(segments: Sequence[Segment], span: Span) -> list[Segment]:
    """The segments that overlap a span, their times cut to it."""
    return [
        replace(segment, span=Span(max(segment.span.start, span.start), min(segment.span.end, span.end)))
        for segment in segments
        if segment.span.overlaps(span)
    ]


def share_out(segments: Sequence[Segment], spans: Sequence[Span]) -> list[list[Segment]]:
    """Give every segment to the span that holds its middle, or its words to theirs where it knows their times.

    Nothing is lost: what lies outside all spans goes to the nearest.
    """
    shares: list[list[Segment]] = [[] for _ in spans]
    for segment in segments:
        groups: dict[int, list[Word]] = {}
        for word in segment.words:
            groups.setdefault(_nearest(word.span, spans), []).append(word)
        if len(groups) > 1:
            for number, words in sorted(groups.items()):
                shares[number].append(piece_of(segment, words))
        else:
            shares[next(iter(groups), _nearest(segment.span, spans))].append(segment)
    return shares


def piece_of(segment: Segment, words: Sequence[Word]) -> Segment:
    """The part of a segment that these neighbouring words make."""
    start, end = words[0].start, words[-1].end
    return replace(
        segment,
        text=segment.text[start:end],
        span=Span(words[0].span.start, words[-1].span.end),
        words=tuple(Word(word.start - start, word.end - start, word.span) for word in words),
    )


def speaker_names(speech: Sequence[Segment]) -> tuple[Segment, ...]:
    """Metadata of a moment: the name of each who speaks in it, from the first to the last line."""
    spans: dict[str, Span] = {}
    for line in speech:
        if line.speaker and voice_number(line.speaker) is None:
            first = spans.get(line.speaker, line.span)
            spans[line.speaker] = Span(min(first.start, line.span.start), max(first.end, line.span.end))
    return tuple(Segment(span, name, SPEAKER_SOURCE) for name, span in spans.items())


def with_speaker_names(documents: Sequence[Document]) -> list[Document]:
    """Documents with the names of those who speak in them as metadata, after what there is."""
    return [replace(one, metadata=(*one.metadata, *speaker_names(one.speech))) for one in documents]


def _nearest(span: Span, spans: Sequence[Span]) -> int:
    """The index of the span (of spans in order, side by side) that holds the middle, or lies closest to it."""
    middle = (span.start + span.end) / 2
    return max(0, bisect.bisect_right(spans, middle, key=lambda other: other.start) - 1)


def with_sound(documents: Sequence[Document], sound: NDArray[np.int16]) -> list[Document]:
    """Documents with the beginning of their sound, for encoders that take audio; ``sound`` is [samples] at 16 kHz."""
    results = []
    for document in documents:
        span = Span(document.span.start, min(document.span.end, document.span.start + LONGEST_SOUND))
        samples = np.array(sound[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)])
        results.append(replace(document, audio=Sound(span, samples)) if len(samples) else document)
    return results


# --- stored documents -------------------------------------------------------------------------------------------------


def moment_of(document: Document, video_id: str) -> MomentRecord:
    """A document as the index stores it."""
    return MomentRecord(
        document.id, video_id, document.span,
        tuple(frame.time for frame in document.frames), tuple(frame.span for frame in document.frames),
        document.speech, document.ocr, document.metadata,
    )  # fmt: skip


def document_of(moment: MomentRecord, frames: Mapping[float, Frame]) -> Document:
    """A stored moment with its frames, by their times."""
    own = tuple(
        Frame(time, span, frames[time].jpeg)
        for time, span in zip(moment.frame_times, moment.frame_spans, strict=True)
        if time in frames
    )
    return Document(moment.moment_id, moment.span, own, moment.speech, moment.ocr, moment.metadata)


def frames_from(decoded: DecodedMedia, jpegs: Sequence[bytes]) -> tuple[Frame, ...]:
    """The frames of a stored decoding."""
    return tuple(Frame(one.time, one.span, bytes(jpeg)) for one, jpeg in zip(decoded.frames, jpegs, strict=True))


def segments_from(extraction: Extraction) -> list[Segment]:
    """The segments of a stored recognition."""
    return msgspec.convert(extraction.payload["segments"], list[Segment])


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments of moments that tile the time line as they were before the cuts: equal texts that touch are one."""
    whole: list[Segment] = []
    last: dict[tuple[str, str], int] = {}
    for segment in sorted(segments, key=lambda segment: segment.span):
        place = last.get((segment.text, segment.source))
        if place is not None and not segment.words and whole[place].span.end >= segment.span.start:
            end = max(whole[place].span.end, segment.span.end)
            whole[place] = replace(whole[place], span=Span(whole[place].span.start, end))
        else:
            last[segment.text, segment.source] = len(whole)
            whole.append(segment)
    return tuple(whole)


def transcript_key(content: str) -> str:
    """The name under which a person's correction of what is said in a content is stored."""
    return f"{content}/transcript"


class Transcript(msgspec.Struct, frozen=True):
    """A person's correction of what is said in a video, and what stood there before the first correction."""

    segments: tuple[Segment, ...]
    original: tuple[Segment, ...]
    language: str = ""


def stored_transcript(store: Store, content: str) -> Transcript | None:
    """The correction of what is said in a content; None where there is none."""
    stored = store.extraction(transcript_key(content))
    return None if stored is None else msgspec.convert(stored.payload, Transcript)


def spoken_segments(store: Store, video_id: str) -> tuple[Segment, ...]:
    """Spoken segments of an indexed video, in time order."""
    return joined([segment for moment in store.moments([video_id]) for segment in moment.speech])


def indexed_videos(store: Store, video_ids: Sequence[str] | None = None) -> list[FileRecord]:
    """One indexed file of each of the given videos (of all without): the first path of those that hold it, by id."""
    first: dict[str, FileRecord] = {}
    for record in store.files(video_ids):
        if record.state is FileState.INDEXED:
            first.setdefault(record.video_id, record)
    return [first[identity] for identity in sorted(first)]


def documents_of(store: Store, record: FileRecord, recipe: Recipe | None = None) -> tuple[VideoRecord, list[Document]]:
    """A video and its documents, as they were encoded, without touching any video file.

    ``record`` is an indexed file that holds it, ``recipe`` that of its moments where the record does not say.

    Raises:
        MediaError: its frames are no longer stored.
    """
    video = store.video(record.video_id)
    recipe = Recipe.parse(record.recipe) or recipe
    stored = None if recipe is None else store.extraction(recipe.key(video.content_hash, "media"))
    if stored is None:
        raise MediaError("its pictures are no longer stored", "index its folder again")
    decoded = msgspec.convert(stored.payload, DecodedMedia)
    frames = {frame.time: frame for frame in frames_from(decoded, stored.blobs)}
    return video, [document_of(moment, frames) for moment in store.moments([record.video_id])]


def documents_with(store: Store, record: FileRecord, speech: Sequence[Segment]) -> list[Document]:
    """The documents of a video as an index run would make them if this were said in it, without touching any file.

    ``record`` is an indexed file that holds it.

    Raises:
        MediaError: what they are made of is no longer stored.
    """
    video, recipe = store.video(record.video_id), Recipe.parse(record.recipe)
    moments = store.moments([record.video_id])
    stored = None if recipe is None else store.extraction(recipe.key(video.content_hash, "media"))
    text = None if recipe is None or not recipe.text else store.extraction(recipe.key(video.content_hash, "text"))
    if recipe is None or stored is None:
        raise MediaError("its pictures are no longer stored", "index its folder again")
    decoded = msgspec.convert(stored.payload, DecodedMedia)
    shots = [
        Shot(frame, picked.shot)
        for frame, picked in zip(frames_from(decoded, stored.blobs), decoded.frames, strict=True)
    ]
    ocr = segments_from(text) if text is not None else joined([part for moment in moments for part in moment.ocr])
    # Notes were cut to the moments.
    metadata: dict[Segment, Span] = {}
    for part in (part for moment in moments for part in moment.metadata):
        whole = replace(part, span=Span(0.0, 0.0))
        before = metadata.get(whole, part.span)
        metadata[whole] = Span(min(before.start, part.span.start), max(before.end, part.span.end))
    notes = [replace(part, span=span) for part, span in metadata.items() if part.source != SPEAKER_SOURCE]
    documents = split_video(record.video_id, decoded.media.duration, shots, speech, ocr, notes, window=recipe.window)
    return with_speaker_names(documents)


def frames_at(store: Store, places: Sequence[tuple[str, float]]) -> list[bytes]:
    """The stored frame, a JPEG, of a second of each video; empty where none is stored any more."""
    frames = stored_frames(store, list(dict.fromkeys(video_id for video_id, _ in places)))
    return [nearest_frame(own, second).jpeg if (own := frames.get(video_id)) else b"" for video_id, second in places]


def stored_frames(store: Store, video_ids: Sequence[str]) -> dict[str, tuple[Frame, ...]]:
    """The stored frames of each video; videos of which none are stored any more are left out."""
    records = {record.video_id: record for record in indexed_videos(store, video_ids)}
    frames: dict[str, tuple[Frame, ...]] = {}
    for video in store.videos([video_id for video_id in video_ids if video_id in records]):
        recipe = Recipe.parse(records[video.video_id].recipe)
        if recipe is not None and (stored := store.extraction(recipe.key(video.content_hash, "media"))) is not None:
            frames[video.video_id] = frames_from(msgspec.convert(stored.payload, DecodedMedia), stored.blobs)
    return {video_id: own for video_id, own in frames.items() if own}


def nearest_frame(frames: Sequence[Frame], second: float) -> Frame:
    """The frame that stands for a second, else the one that was taken nearest to it."""
    return min(frames, key=lambda frame: (not frame.span.start <= second < frame.span.end, abs(frame.time - second)))


def windows(
    duration: float, *, longest: float = 60.0, pauses: Sequence[Span] = (), cuts: Sequence[float] = ()
) -> list[Span]:
    """Cut a video into consecutive windows that tile ``[0, duration]``; one of zero length gives one empty window.

    A cut falls in the middle of a speech pause where there is one, else at a shot cut, else at the limit. Of several
    pauses (or cuts) the latest is taken, so that windows stay long. No window is longer than ``longest``, and none is
    shorter than a third of it, unless the whole video is.

    Raises:
        UsageError: when ``longest`` is below one second or no number.
    """
    if not longest >= 1.0:
        raise UsageError(f"a window of {longest:g} seconds is too short", "give at least 1 second")
    duration = max(0.0, duration) if math.isfinite(duration) else 0.0
    middles = sorted((pause.start + pause.end) / 2 for pause in pauses)
    spans: list[Span] = []
    start, shortest = 0.0, longest / 3
    while duration - start > longest:
        # The remainder must not become a sliver: leave it a third of a window.
        latest = start + longest if duration - (start + longest) >= shortest else duration - shortest
        fitting = [[time for time in times if start + shortest <= time <= latest] for times in (middles, sorted(cuts))]
        end = next((times[-1] for times in fitting if times), latest)
        spans.append(Span(start, end))
        start = end
    return [*spans, Span(start, duration)]


def pauses(speech: Sequence[Span], duration: float) -> list[Span]:
    """The stretches of ``[0, duration]`` without speech that last at least :data:`SHORTEST_PAUSE`, in order."""
    silences: list[Span] = []
    end = 0.0
    for span in [*sorted(speech), Span(duration, duration)]:
        start = min(span.start, duration)
        if start - end >= SHORTEST_PAUSE:
            silences.append(Span(end, start))
        end = max(end, span.end)
    return silences
