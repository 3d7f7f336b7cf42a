"""Colours come out as a viewer sees them: HDR, wide gamuts, streams that do not say what they are."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from clamr_cli.media.frames import sample_frames, to_rgb
from clamr_cli.media.probe import probe
from tests.unit.media.clips import Clip

SIZE = (64, 32)
BT2020_OF_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear RGB of BT.2020 from that of BT.709 (ITU-R BT.2087)."""

P3_OF_BT709 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "yellow": (1, 1, 0)}


def pq(nits):
    power = (np.asarray(nits) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits):
    """The signal that a screen of 1000 cd/m2 shows at these luminances."""
    light = np.asarray(nits) / 1000
    overall = max(float(light @ [0.2627, 0.6780, 0.0593]), 1e-9)
    scene = light * overall ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def frame(signal, *, matrix, tag=None, trc=2, primaries=2, form="yuv420p10le", range_=ColorRange.MPEG, size=SIZE):
    """A frame of one colour, R'G'B' in [0, 1], stored with a matrix and tagged as told."""
    deep = np.full((size[1], size[0], 3), np.round(np.asarray(signal) * 65535), np.uint16)
    rgb = av.VideoFrame.from_ndarray(deep, format="rgb48le")
    made = rgb.reformat(format=form, dst_colorspace=matrix, dst_color_range=range_)
    made.colorspace = int(matrix if tag is None else tag)
    made.color_trc, made.color_primaries, made.color_range = int(trc), int(primaries), int(range_)
    return made


def shown(one, size=SIZE):
    return to_rgb(one, *size)[size[1] // 2, size[0] // 2].astype(int)


@pytest.mark.parametrize("range_", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le", "yuv422p12le", "p010le"])
@pytest.mark.parametrize(("trc", "curve"), [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)])
def test_hdr_is_shown_in_the_colours_it_was_made_in(trc, curve, form, range_):
    for name, linear in COLOURS.items():
        signal = curve(203 * BT2020_OF_BT709 @ linear)
        seen = shown(frame(signal, matrix=Colorspace.BT2020, trc=trc, primaries=9, form=form, range_=range_))
        for channel, lit in zip(seen, linear, strict=True):
            assert (channel > 170) if lit else (channel < 40), (name, seen)
    assert min(shown(frame(curve(np.full(3, 203.0)), matrix=Colorspace.BT2020, trc=trc, primaries=9))) >= 215


@pytest.mark.parametrize(("trc", "curve"), [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)])
def test_greys_stay_grey_and_in_order_up_to_the_brightest(trc, curve):
    nits = (0.0, 1.0, 10.0, 26.0, 60.0, 100.0, 203.0, 400.0, 1000.0)
    greys = [shown(frame(curve(np.full(3, one)), matrix=Colorspace.BT2020, trc=trc, primaries=9)) for one in nits]
    assert all(np.ptp(grey) <= 4 for grey in greys)
    levels = [int(grey.mean()) for grey in greys]
    assert levels == sorted(set(levels))
    assert levels[0] <= 4
    assert levels[-1] >= 245
    assert 90 <= levels[3] <= 128  # 18 % grey


@pytest.mark.parametrize(("tag", "primaries"), [(2, 9), (9, 2), (2, 2), (10, 9)])
def test_hdr_that_says_only_its_curve_is_of_the_usual_kind(tag, primaries):
    signal = pq(203 * BT2020_OF_BT709 @ COLOURS["red"])
    red = shown(frame(signal, matrix=Colorspace.BT2020, tag=tag, trc=ColorTrc.SMPTE2084, primaries=primaries))
    assert red[0] > 190
    assert max(red[1:]) < 40


@pytest.mark.parametrize(
    ("primaries", "conversion"), [(ColorPrimaries.BT2020, BT2020_OF_BT709), (ColorPrimaries.SMPTE432, P3_OF_BT709)]
)
@pytest.mark.parametrize("trc", [ColorTrc.BT709, ColorTrc.BT2020_10, ColorTrc.UNSPECIFIED])
def test_wide_gamuts_without_hdr_keep_their_colours(primaries, conversion, trc):
    matrix = Colorspace.BT2020 if primaries == ColorPrimaries.BT2020 else Colorspace.ITU709
    signal = np.clip(conversion @ (0.9, 0.2, 0.05), 0, 1) ** (1 / 2.2)
    seen = shown(frame(signal, matrix=matrix, trc=trc, primaries=primaries))
    assert np.abs(seen - 255 * np.array((0.9, 0.2, 0.05)) ** (1 / 2.2)).max() < 14
    assert min(shown(frame((1, 1, 1), matrix=matrix, trc=trc, primaries=primaries))) >= 252


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((320, 240), Colorspace.ITU601), ((720, 576), Colorspace.ITU601), ((1280, 720), Colorspace.ITU709)],
)
@pytest.mark.parametrize("range_", [ColorRange.MPEG, ColorRange.JPEG])
def test_frames_without_a_matrix_get_that_of_their_size(size, matrix, range_):
    colour = np.array((0.1, 0.8, 0.2))
    one = frame(colour, matrix=matrix, tag=2, form="yuv420p", size=size, range_=range_)
    assert np.abs(shown(one, SIZE) - 255 * colour).max() <= 4


@pytest.mark.parametrize("tag", [Colorspace.ITU601, Colorspace.ITU709, 6])
def test_frames_with_a_matrix_keep_it_at_any_size(tag):
    matrix = Colorspace.ITU601 if tag == 6 else tag
    for size in ((320, 240), (1280, 720)):
        colour = np.array((0.9, 0.3, 0.1))
        assert np.abs(shown(frame(colour, matrix=matrix, tag=tag, size=size)) - 255 * colour).max() <= 4


def test_a_film_that_is_mastered_brighter_keeps_its_lights_apart(tmp_path):
    """Of two grey halves, at 1000 and 3000 cd/m2, the second is brighter where the stream says so."""

    def halves(time):
        picture = np.zeros((64, 128, 3), np.uint8)
        picture[:, :64], picture[:, 64:] = round(255 * float(pq(1000))), round(255 * float(pq(3000)))
        return picture

    levels = []
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50)"
    for stated in ("", f":max-cll=4000,400:{display}"):
        params = "log-level=none:colorprim=9:transfer=16:colormatrix=9:range=limited" + stated
        clip = Clip(
            picture=halves, seconds=0.4, codec="libx265", options={"preset": "ultrafast", "x265-params": params}
        )
        path = clip.write(tmp_path / "a.mp4")
        image = next(iter(sample_frames(path, probe(path)))).image.astype(int)
        levels.append((image[32, 32].mean(), image[32, 96].mean()))
    (plain_low, plain_high), (low, high) = levels
    assert high - low >= 3 > plain_high - plain_low
