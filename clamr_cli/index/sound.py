"""The sound of a file's speech: from which of its sound tracks it is taken, and where each is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import MediaError
from clamr_cli.index.workdir import SAMPLE_RATE, Workdir
from clamr_cli.media.audio import Stretches, length, read_audio, track_groups, without
from clamr_cli.types import AudioTrack, MediaInfo

_BLOCK: Final = 300 * SAMPLE_RATE
"""Samples that are looked at at a time."""

_SILENT: Final = 32
"""The highest 16-bit sample of a track without sound."""

_NEARLY_MOST: Final = 0.8
"""Part of the most speech that makes a track that comes first the one to hear throughout."""

_OWN_PART: Final = 0.3
_OWN_SHORTEST: Final = SAMPLE_RATE
_OWN_LEAST: Final = 2 * SAMPLE_RATE
"""Least part of a track's speech where the others are silent: less is an echo, a copy or a translation."""

_WORTH_A_NOTICE: Final = 10 * SAMPLE_RATE
_HOP: Final = SAMPLE_RATE // 20
_COPY: Final = 0.6
"""Correlation of loudness over time from which a track is a copy of another."""

_MOST_GAIN: Final = 10.0

Share = tuple[int, "Stretches"]
"""A track's number, and the stretches in which it is heard."""


def write_sound(
    path: str, info: MediaInfo, workdir: Workdir, language: str, notices: list[str], progress: Callable[[int], None]
) -> int:
    """Write the sound of a file's speech into a working directory, and return its number of samples.

    Of several tracks alike in language, the one with the most speech is heard, and the others where only they have
    speech: a moment is never heard twice, so that copies and translations do no harm. Where these tracks have no speech
    the remaining ones are tried. A file with one track costs nothing of that.

    ``language`` chooses among tracks; ``progress`` is called now and then with the number of samples that are done.
    """
    groups = track_groups(info, language)
    quiet = 0
    failure: MediaError | None = None
    for group in groups:
        try:
            for written in workdir.write_tracks(read_audio(path, group, speech=_speech)):
                progress(written)
        except MediaError as error:
            failure = error
            continue
        if len(groups) == len(group) == 1:
            return workdir.use_track(0)
        tracks = [workdir.track(number) for number in range(len(group))]
        speech = [_speech_of(track, progress) for track in tracks]
        if any(speech):
            shares = share(speech)
            notices += _notices(info, groups[0], group, tracks, speech, shares)
            samples = _write_shares(workdir, tracks, speech, shares, progress)
            workdir.remove_tracks()
            return samples
        if not quiet:
            # Nobody speaks: the first track that has any sound is as good as another, unless there is speech elsewhere.
            quiet = workdir.use_track(next((n for n, track in enumerate(tracks) if not _is_silent(track)), 0))
    workdir.remove_tracks()
    if failure is not None and not quiet:
        raise failure
    return quiet


def share(speech: Sequence[Stretches]) -> list[Share]:
    """Stretches in which each track, the best first, is used for its speech; the track for the rest comes first."""
    amounts = [length(stretches) for stretches in speech]
    first = next(number for number, amount in enumerate(amounts) if amount >= _NEARLY_MOST * max(amounts))
    shares: list[Share] = [(first, speech[first])]
    taken = list(speech[first])
    for number in sorted(range(len(speech)), key=lambda number: -amounts[number]):
        own = without(speech[number], taken, _OWN_SHORTEST) if number != first else []
        if length(own) >= max(_OWN_LEAST, _OWN_PART * amounts[number]):
            shares.append((number, own))
            taken = sorted([*taken, *own])
    return shares


def _write_shares(
    workdir: Workdir,
    tracks: Sequence[NDArray[np.int16]],
    speech: Sequence[Stretches],
    shares: Sequence[Share],
    progress: Callable[[int], None],
) -> int:
    """Write the sound of the first share's track, and of the others in their stretches, as loud as its speech is."""
    first = shares[0][0]
    if len(shares) == 1:
        return workdir.use_track(first)
    loud = {number: _loudness(tracks[number], speech[number]) for number, _ in shares}
    total = max(map(len, tracks))

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, total, _BLOCK):
            chunk = np.zeros(min(_BLOCK, total - start), np.float32)
            base = _as_float(tracks[first][start : start + _BLOCK])
            chunk[: len(base)] = base
            for number, stretches in shares[1:]:
                gain = min(_MOST_GAIN, max(1 / _MOST_GAIN, loud[first] / max(1e-9, loud[number])))
                for begin, end in stretches:
                    low, high = max(begin, start), min(end, start + len(chunk))
                    if low < high:
                        chunk[low - start : high - start] = gain * _as_float(tracks[number][low:high])
            yield chunk

    for written in workdir.write_tracks((len(tracks), block) for block in blocks()):
        progress(written)
    return workdir.use_track(len(tracks))


def _speech(samples: NDArray[np.float32]) -> Stretches:
    from clamr_cli.extract.asr import speech_stretches

    return speech_stretches(samples)


def _speech_of(track: NDArray[np.int16], progress: Callable[[int], None]) -> Stretches:
    """Find the speech of a track of any length."""
    stretches: list[tuple[int, int]] = []
    for start in range(0, len(track), _BLOCK):
        progress(len(track))
        block = track[start : start + _BLOCK]
        if not _is_silent(block):
            stretches += [(start + begin, start + end) for begin, end in _speech(_as_float(block))]
    return stretches


def _is_silent(track: NDArray[np.int16]) -> bool:
    blocks = (track[start : start + _BLOCK].astype(np.int32) for start in range(0, len(track), _BLOCK))
    return all(np.abs(block).max() <= _SILENT for block in blocks)


def _loudness(track: NDArray[np.int16], stretches: Stretches) -> float:
    """Root mean square of a track's speech."""
    total = sum(float(np.square(_as_float(track[begin:end]), dtype=np.float64).sum()) for begin, end in stretches)
    return float(np.sqrt(total / max(1, length(stretches))))


def _notices(
    info: MediaInfo,
    wanted: Sequence[AudioTrack],
    group: Sequence[AudioTrack],
    tracks: Sequence[NDArray[np.int16]],
    speech: Sequence[Stretches],
    shares: Sequence[Share],
) -> Iterator[str]:
    """Notices about the choice; that copies and translations are left out goes without saying."""
    numbers = {track.index: number for number, track in enumerate(info.audio, start=1)}
    names = [numbers[track.index] for track in group]
    heard = " and ".join(str(name) for name in sorted(names[number] for number, _ in shares))
    if group is not wanted:
        yield f"sound track {numbers[wanted[0].index]} has no speech: that of track {heard} was taken"
        return
    if len(shares) > 1:
        yield f"speech was taken from the sound tracks {heard}"
    first = shares[0][0]
    for number, stretches in enumerate(speech):
        left_out = number not in dict(shares) and length(stretches) >= _WORTH_A_NOTICE
        if left_out and not _is_copy(tracks[first], tracks[number]):
            yield f"sound track {names[number]} was left out: it has speech at the same time as track {names[first]}"


def _is_copy(first: NDArray[np.int16], second: NDArray[np.int16]) -> bool:
    """Whether two tracks are loud at the same moments, as those of one recording are."""
    count = min(len(first), len(second)) // _HOP
    return bool(np.corrcoef([_envelope(track[: count * _HOP]) for track in (first, second)])[0, 1] >= _COPY)


def _envelope(track: NDArray[np.int16]) -> NDArray[np.float64]:
    """Root mean square of each twentieth of a second, read in blocks: a track may be hours."""
    blocks = (_as_float(track[start : start + _BLOCK]) for start in range(0, len(track), _BLOCK))
    return np.concatenate([np.sqrt(np.square(b, dtype=np.float64).reshape(-1, _HOP).mean(axis=1)) for b in blocks])


def _as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.asarray(samples, dtype=np.float32) / 32_768.0
