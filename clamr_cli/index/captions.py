"""The captions of one video, from files beside it and tracks inside it, and which of them stand for its speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
from clamr_cli.types import MediaInfo, Segment

if TYPE_CHECKING:
    from clamr_cli.index.workdir import TrackLines


def language_key(content: str, options: AsrOptions) -> str:
    """The name under which the detected language of a content is stored."""
    return f"{content}/speech/{options.version}/language"


@dataclass
class CaptionSet:
    """The captions of a video, their lines as far as they were read, and what is known of the spoken language."""

    files: list[Captions]
    language: str = ""  # as the owner says
    noted_language: str = ""  # as a sidecar says
    detected_language: str | None = None  # None where nobody has listened, empty where it is not clear
    tracks: list[Captions] = field(default_factory=list)
    lines: dict[str, Sequence[Segment]] = field(default_factory=dict)  # by the name of the captions
    media: MediaInfo | None = None

    @property
    def all(self) -> list[Captions]:
        """Those of files first."""
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
        from clamr_cli.media.audio import choose_track

        track = choose_track(self.media, self.language) if self.media is not None else None
        tag = track.language if track is not None else ""
        return self.detected_language or known_language(self.all, self.language, self.noted_language, tag)

    def choose(self, *, recognise: bool, sure: bool = False) -> tuple[CaptionChoice, list[Captions]]:
        """Choose the captions that stand for the speech, and list the files that must be read before that is final.

        ``recognise`` says whether sound can be recognised instead, ``sure`` that its language need not be detected.
        """
        choice = choose(
            self.all,
            self.spoken(),
            sure=sure or bool(self.language) or self.detected_language is not None,
            audible=recognise and (self.media is None or bool(self.media.audio)),
            duration=self.media.duration if self.media is not None else 0.0,
        )
        captions = [one for one in (choice.speech, choice.beside) if one is not None]
        return choice, [one for one in captions if one.content == "unread" and one in self.files]

    def lines_of(self, captions: Captions | None) -> list[Segment]:
        """The lines of captions that were chosen, at the times of the video; empty for None."""
        duration = self.media.duration if self.media is not None else 0.0
        return list(on_video(self.lines[captions.name], duration)) if captions is not None else []
