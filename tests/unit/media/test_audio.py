"""Sound lies where it belongs on the time line, from the right track, whatever the file does."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.languages import audio_role, choose_track, track_groups
from clamr_cli.media.audio import MonoLine, read_audio, without
from clamr_cli.media.probe import probe
from clamr_cli.types import AudioTrack, MediaInfo
from tests.unit.media.clips import Clip, Sound

RATE = 16_000


def hear(path, language="", rate=RATE):
    return np.concatenate(list(chunks(str(path), choose_track(probe(str(path)), language), rate=rate)))


def chunks(path, track, **options):
    return (chunk for _, chunk in read_audio(path, [track], **options))


def loud(samples, rate=RATE):
    """The stretches of sound, in seconds, at a twentieth of a second."""
    step = rate // 20
    heard = [np.abs(samples[start : start + step]).max() > 0.2 for start in range(0, len(samples) - step, step)]
    edges = np.flatnonzero(np.diff([False, *heard, False])) / 20
    return [tuple(pair) for pair in edges.reshape(-1, 2)]


def pitch(samples, rate=RATE):
    return np.fft.rfft(samples[:rate] * np.hanning(rate)).argmax()


def track(index, language="", codec="aac", default=False):
    return AudioTrack(index, codec, language, default=default)


def info_with(*tracks):
    return MediaInfo("mp4", 1, 1, 1, 0, 0, 0, 0, "", None, audio=tracks)


def test_tracks_are_chosen_by_language_then_default_then_order():
    info = info_with(track(0, "en"), track(1, "de", default=True), track(2, "fr"))
    assert [choose_track(info, wish).index for wish in ("fr", "fre", "", "it")] == [2, 2, 1, 1]
    assert choose_track(info_with(track(3), track(4))).index == 3


def test_a_track_without_decoder_is_never_chosen():
    assert choose_track(info_with(track(0, "en", codec="", default=True), track(1, "de")), "en").index == 1
    assert choose_track(info_with(track(0, codec=""))) is None
    assert choose_track(info_with()) is None


def test_tracks_of_one_language_and_role_form_the_first_group():
    info = info_with(track(1, "de"), track(2, "en", default=True), track(3), track(4, "en"))
    places = [[one.index for one in group] for group in track_groups(info)]
    assert places == [[2, 3, 4], [1]]
    assert [[one.index for one in group] for group in track_groups(info, "de")] == [[1, 3], [2, 4]]
    assert track_groups(info_with()) == []


@pytest.mark.parametrize(
    ("title", "language", "role"),
    [
        ("Commentary with the director", "en", "commentary"),
        ("Audiokommentar", "de", "commentary"),
        ("Commentary", "", ""),
        ("Mic", "", ""),
        ("English (Audio Description)", "en", "description"),
        ("Hörfilmfassung", "de", "description"),
        ("Stereo AD", "en", "description"),
        ("Adam's radio", "en", ""),
        ("Music only", "en", "effects"),
        ("Дубляж", "ru", "dub"),
        ("English Dub 5.1", "en", "dub"),
        ("Dublin session", "en", ""),
        ("Clear dialogue", "en", "hearing-impaired"),
    ],
)
def test_titles_give_the_roles_of_tracks(title, language, role):
    assert audio_role(title, language) == role


def test_without_subtracts_stretches():
    assert without([(0, 10), (20, 30), (40, 50)], [(2, 4), (5, 25), (40, 50)], shortest=2) == [(0, 2), (25, 30)]


def test_the_samples_are_mono_floats_of_the_right_pitch_and_length(tmp_path):
    tone = Sound(end=25, rate=44_100, frequency=523, codec="flac")
    samples = hear(Clip(seconds=25, fps=1, sounds=(tone,)).write(tmp_path / "a.mkv"))
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(25 * RATE, abs=RATE // 10)
    assert pitch(samples[RATE:]) == pytest.approx(523, abs=1)
    assert 0.45 < np.abs(samples).max() <= 1


@pytest.mark.slow
def test_chunks_are_of_one_size_and_few(tmp_path):
    path = Clip(seconds=2, sounds=(Sound(end=25),)).write(tmp_path / "a.mp4")
    sizes = [len(chunk) for chunk in chunks(path, choose_track(probe(path)))]
    assert sizes[:2] == [10 * RATE, 10 * RATE]
    assert len(sizes) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_sound_that_begins_late_is_preceded_by_silence(tmp_path, name):
    samples = hear(Clip(seconds=6, sounds=(Sound(start=2, end=4),)).write(tmp_path / name))
    ((start, end),) = loud(samples)
    assert start == pytest.approx(2, abs=0.1)
    assert end == pytest.approx(4, abs=0.15)


def test_the_time_line_begins_with_the_first_stream_also_where_the_clock_does_not(tmp_path):
    clip = Clip(seconds=6, sounds=(Sound(start=2, end=4),), mux={"output_ts_offset": "5000"})
    ((start, _),) = loud(hear(clip.write(tmp_path / "a.ts")))
    assert start == pytest.approx(2, abs=0.1)


@pytest.mark.slow
def test_gaps_are_silent(tmp_path):
    sound = Sound(end=8, gap=(2, 5))
    ((a, b), (c, d)) = loud(hear(Clip(seconds=8, sounds=(sound,)).write(tmp_path / "a.mkv")))
    assert (a, b, c, d) == pytest.approx((0, 2, 5, 8), abs=0.15)


def test_the_chosen_track_is_the_one_that_is_read(tmp_path):
    english = Sound(frequency=300, language="eng", end=3, codec="flac")
    german = Sound(frequency=900, language="deu", default=True, end=3, codec="flac")
    path = Clip(seconds=3, sounds=(english, german)).write(tmp_path / "a.mkv")
    assert pitch(hear(path, "en")[RATE:]) == pytest.approx(300, abs=1)
    assert pitch(hear(path)[RATE:]) == pytest.approx(900, abs=1)


@pytest.mark.parametrize(
    ("codec", "name", "rate"), [("pcm_s16le", "a.mkv", 8000), ("libopus", "a.webm", 48_000), ("flac", "a.mkv", 22_050)]
)
def test_codecs_and_rates(tmp_path, codec, name, rate):
    video = "libvpx-vp9" if name.endswith("webm") else "libx264"
    clip = Clip(codec=video, fps=5, sounds=(Sound(codec=codec, rate=rate, frequency=400, end=3),))
    samples = hear(clip.write(tmp_path / name))
    assert len(samples) == pytest.approx(3 * RATE, abs=RATE // 10)
    assert pitch(samples[RATE:]) == pytest.approx(400, abs=1)


def test_damage_becomes_a_gap_and_the_rest_stays_in_place(tmp_path):
    path = tmp_path / "a.ts"
    Clip(picture=None, sounds=(Sound(end=10), Sound(start=9, end=10))).write(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 15_000] = np.random.default_rng(2).bytes(15_000)
    path.write_bytes(content)
    stretches = loud(hear(path))
    assert stretches[0][0] == pytest.approx(0, abs=0.1)
    assert stretches[-1][1] == pytest.approx(10, abs=0.3)


def test_sound_that_cannot_be_decoded_at_all_is_an_error(tmp_path):
    path = Path(Clip(picture=None, sounds=(Sound(end=5, codec="flac"),)).write(tmp_path / "a.mkv"))
    chosen = choose_track(probe(str(path)))
    content = path.read_bytes()
    start = content.index(b"\xff\xf8")
    path.write_bytes(content[:start] + content[start:].replace(b"\xff\xf8", b"\0\0"))
    with pytest.raises(MediaError, match="sound"):
        list(chunks(str(path), chosen))


def test_a_track_that_is_gone_is_an_error(tmp_path, plain_clip):
    with pytest.raises(MediaError, match="changed"):
        list(chunks(plain_clip, track(1)))


def second_of(layout):
    made = av.AudioFrame(format="fltp", layout=layout, samples=RATE)
    for plane in made.planes[:2]:
        plane.update(np.full(plane.buffer_size // 4, 0.5, np.float32))
    made.sample_rate = RATE
    return made


def test_frames_in_no_valid_format_are_silent_and_the_others_are_heard():
    line = MonoLine(RATE)
    layouts = ["mono", "27 channels", "27 channels", "stereo", "27 channels"]
    laid = [chunk for time, layout in enumerate(layouts) for chunk in line.add(second_of(layout), float(time))]
    samples = np.concatenate([*laid, *line.finish()])
    assert line.heard
    assert loud(samples) == [(0.0, 1.0), (3.0, pytest.approx(4.0, abs=0.1))]


def test_frames_in_no_valid_format_alone_give_no_sound():
    line = MonoLine(RATE)
    assert list(line.add(second_of("27 channels"), 0.0)) == list(line.finish()) == []
    assert not line.heard
