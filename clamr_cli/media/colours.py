"""Colours of decoded frames as a screen for sRGB shows them: HDR is tone-mapped, wide gamuts become BT.709's."""

import functools
import struct
from typing import Any, Final

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_WHITE: Final = 203.0  # luminance of reference white in HDR, in cd/m2 (ITU-R BT.2408)
_HLG_PEAK: Final = 1000.0
_PEAKS: Final = (1000.0, 2000.0, 4000.0, 10_000.0)  # that tables are made for; a stream is shown by the next one up
_GRID: Final = 49  # points along each side of a colour table; between them it is interpolated
# Sizes beyond these are HD, whose matrix is BT.709 where a stream does not say.
_HD_HEIGHT: Final = 576
_HD_WIDTH: Final = 1024
_WHITE_POINT: Final = (0.3127, 0.3290)
_BT709: Final = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
# CIE xy of red, green and blue, by the primaries that differ visibly from BT.709's.
_WIDE: Final = {
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE431: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_HDR: Final = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_NOT_STATED: Final = 2  # matrix, transfer or primaries of a frame whose stream says nothing (ITU-T H.273)
_CONSTANT_LUMINANCE: Final = 10
_LIGHT_LEVEL: Final = struct.Struct("=I")
# AVMasteringDisplayMetadata: eight primaries and the two luminances as fractions, and whether each is given.
_MASTERING: Final = struct.Struct("=22i")


def to_rgb(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded frame at another size as sRGB, [height, width, 3] uint8.

    A frame that does not say by which matrix its colours are stored has BT.709's if it is of HD size, else BT.601's.
    """
    matrix = None  # the one that the frame names
    if not frame.format.is_rgb and frame.colorspace in (_NOT_STATED, _CONSTANT_LUMINANCE):
        wide = frame.color_primaries == ColorPrimaries.BT2020 or frame.color_trc in _HDR
        if wide or frame.colorspace == _CONSTANT_LUMINANCE:
            matrix = Colorspace.BT2020
        elif frame.width > _HD_WIDTH or frame.height > _HD_HEIGHT:
            matrix = Colorspace.ITU709
    table = _table_for(frame)
    # Scaling inside libswscale, before the copy to an array, keeps large videos cheap. To planes libswscale rounds
    # right; what it loses on the way to rgb24 would show after tone mapping.
    small = frame.reformat(width, height, format="gbrp" if table else "rgb24", src_colorspace=matrix)
    picture = np.asarray(small.to_ndarray(), np.uint8)
    return np.asarray(Image.fromarray(picture).filter(table), np.uint8) if table else picture


def _table_for(frame: VideoFrame) -> ImageFilter.Color3DLUT | None:
    """The colour table from a frame's R'G'B' to sRGB; None where they are nearly the same."""
    trc, primaries = frame.color_trc, frame.color_primaries
    side: Any = frame.side_data
    light_level, mastering = Type.CONTENT_LIGHT_LEVEL in side, Type.MASTERING_DISPLAY_METADATA in side
    if trc == _NOT_STATED and primaries == ColorPrimaries.BT2020 and (light_level or mastering):
        trc = ColorTrc.SMPTE2084
    if trc not in _HDR:
        return _table(int(ColorTrc.IEC61966_2_1), int(primaries), _WHITE) if primaries in _WIDE else None
    peak = _HLG_PEAK
    if trc == ColorTrc.SMPTE2084:
        # The greatest luminance, in cd/m2: as the stream says, else the usual one.
        stated = float(_LIGHT_LEVEL.unpack_from(bytes(side[Type.CONTENT_LIGHT_LEVEL]))[0]) if light_level else 0.0
        if not stated and mastering:
            *_, numerator, denominator, _, given = _MASTERING.unpack_from(bytes(side[Type.MASTERING_DISPLAY_METADATA]))
            stated = numerator / denominator if given and denominator else 0.0
        peak = next((peak for peak in _PEAKS if stated <= peak), _PEAKS[0])
    # What does not name its primaries is BT.2020, the only ones that HDR is broadcast and filmed in.
    has_primaries = primaries in _WIDE or primaries == ColorPrimaries.BT709
    return _table(int(trc), int(primaries if has_primaries else ColorPrimaries.BT2020), peak)


@functools.lru_cache(maxsize=8)
def _table(trc: int, primaries: int, peak: float) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0.0, 1.0, _GRID)
    # The first channel of the table changes fastest.
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    signal = np.stack([red, green, blue], -1)
    if trc == ColorTrc.SMPTE2084:
        light = _tone_mapped(_from_pq(signal) / _WHITE, peak / _WHITE)
    elif trc == ColorTrc.ARIB_STD_B67:
        light = _tone_mapped(_from_hlg(signal) / _WHITE, peak / _WHITE)
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    if primaries in _WIDE:
        # From linear RGB of these primaries to that of BT.709, both with the white point D65.
        light = light @ (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(_WIDE[ColorPrimaries(primaries)])).T
    light = np.clip(light, 0.0, 1.0)
    shown = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return ImageFilter.Color3DLUT(_GRID, shown.astype(np.float32).reshape(-1))


def _from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance in cd/m2 of a PQ signal (SMPTE ST 2084)."""
    power = signal ** (1 / 78.84375)
    return np.asarray(
        10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    )


def _to_pq(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (luminance / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _from_hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance in cd/m2 of an HLG signal on a screen of 1000 cd/m2 (ITU-R BT.2100)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    overall = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(_HLG_PEAK * scene * overall[..., None] ** 0.2)


def _tone_mapped(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Light of up to ``peak`` times white brought below 1 by the knee of ITU-R BT.2390, hues kept."""
    strongest = np.max(light, axis=-1, keepdims=True)
    top = _to_pq(np.array(peak * _WHITE))
    level, limit = np.minimum(_to_pq(strongest * _WHITE) / top, 1.0), float(_to_pq(np.array(_WHITE)) / top)
    knee = 1.5 * limit - 0.5
    way = np.clip((level - knee) / (1 - knee), 0.0, 1.0)
    bent = (
        (2 * way**3 - 3 * way**2 + 1) * knee
        + (way**3 - 2 * way**2 + way) * (1 - knee)
        + (3 * way**2 - 2 * way**3) * limit
    )
    mapped = _from_pq(np.where(level < knee, level, bent) * top) / _WHITE
    return np.asarray(light * mapped / np.maximum(strongest, 1e-9))


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _WHITE_POINT
    return np.asarray(columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y])))
