"""The main job on clips that the package makes itself: index, a search by each modality, and why one answer ranked.

The content of each clip is known, so demonstration and tests can say what must be found. A clip is a list of scenes (a
photo under a slow camera move, or a title card), narrations at known seconds, and sometimes a sidecar in the form
yt-dlp writes. File names tell nothing about the content.

The photos are scikit-image's own (EasyOCR depends on it), used where its documentation says that they are in the public
domain or given under CC0: astronaut (NASA), rocket (SpaceX), hubble_deep_field (NASA), chelsea and clock_motion
(Stefan van der Walt), coffee (Rachel Michetti), camera (Lav Varshney), brick, grass and gravel (CC0 textures), retina
(Mikael Häggström). ``assets/README.md`` says how the narrations were made and under which terms they may be passed on;
``python -m tests.bench.narration`` makes them again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clamr_cli.errors import EXIT_INTERRUPTED, ClamrError
from clamr_cli.media.files import content_hash, video_id
from clamr_cli.text import format_time
from clamr_cli.types import Modality, Span

Size = tuple[int, int]

FPS: Final = 8
SIZE: Final = (640, 360)
RATE: Final = 48_000
"""Samples a second of the sound that is written; Opus works at this rate."""

ASSETS: Final = Path(__file__).parent / "assets"

PHOTOS: Final = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
"""Subject -> file of scikit-image's data folder."""

QUESTIONS: Final = {
    Modality.VIDEO: "What is shown",
    Modality.SPEECH: "What is said",
    Modality.OCR: "What is written on screen",
    Modality.METADATA: "What its metadata says",
}


@dataclass(frozen=True, slots=True)
class Narration:
    """A spoken text: its Ogg Opus file (mono), the flite voice that reads it, what is said, its length in seconds."""

    name: str
    voice: str
    text: str
    duration: float

    @property
    def path(self) -> Path:
        return ASSETS / f"{self.name}.opus"


_TEXTS: Final = (
    ("bread", "rms", 10.85,
     ("Fold the dough over itself four times, cover the bowl with a towel, and leave it to rise "
      "in a warm kitchen for two hours before baking the loaf.")),
    ("volcano", "slt", 9.53,
     ("The volcano woke up at dawn. Ash fell on the village, and by noon every family had "
      "walked down to the harbor, where fishing boats were waiting.")),
    ("bicycle", "awb", 10.15,
     ("To change a flat tire, turn the bicycle upside down, open the brake, and pull out the "
      "inner tube. Look for broken glass before you pump it up again.")),
    ("bees", "slt", 8.24,
     ("Honeybees tell each other where the flowers are by dancing. The angle of the dance shows "
      "the direction, and its length gives the distance.")),
    ("bridge", "rms", 10.36,
     ("Good evening. The city council voted on Tuesday to close the old bridge to cars. "
      "Pedestrians and buses may cross it from the first of March.")),
)  # fmt: skip

NARRATIONS: Final = {name: Narration(name, voice, text, duration) for name, voice, duration, text in _TEXTS}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A narration and the second of the clip at which it starts."""

    narration: Narration
    at: float


@dataclass(frozen=True, slots=True)
class Scene:
    """``duration`` seconds of a photo (a name of :data:`PHOTOS`) or, with ``lines``, of a title card."""

    duration: float
    photo: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """Something true of a clip: what it is, in which modality and when, and a query that must find it."""

    modality: Modality
    query: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip to be made: its file name, content, sidecar (yt-dlp's keys) and the facts that hold for it."""

    name: str
    scenes: tuple[Scene, ...]
    spoken: tuple[Spoken, ...] = ()
    silent: bool = False
    sidecar: Mapping[str, object] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()

    @property
    def duration(self) -> float:
        return sum(scene.duration for scene in self.scenes)


def _say(name: str, at: float) -> Spoken:
    return Spoken(NARRATIONS[name], at)


def _said(name: str, at: float, query: str) -> Fact:
    narration = NARRATIONS[name]
    return Fact(Modality.SPEECH, query, narration.text, Span(at, at + narration.duration))


CLIPS: Final = (
    Clip(
        "IMG_2041.mp4",
        (Scene(9.0, "cat"),),
        silent=True,
        facts=(Fact(Modality.VIDEO, "a close-up of a cat", "a ginger cat", Span(0.0, 9.0)),),
    ),
    Clip(
        "memo-03.mp4",
        (Scene(13.0, "gravel"),),
        (_say("bread", 1.5),),
        facts=(_said("bread", 1.5, "leave the dough to rise in a warm kitchen"),),
    ),
    Clip(
        "IMG_2044.mp4",
        (Scene(4.0, "brick"), Scene(5.0, lines=("Lisbon Express", "departs 09:45", "Platform 9")), Scene(4.0, "brick")),
        silent=True,
        facts=(
            Fact(
                Modality.OCR,
                "Lisbon express departs platform 9",
                "Lisbon Express departs 09:45 Platform 9",
                Span(4.0, 9.0),
            ),
        ),
    ),
    Clip(
        "download (1).mp4",
        (Scene(8.0, "grass"),),
        silent=True,
        sidecar={
            "id": "fK2x9",
            "title": "Night ferry to Bornholm",
            "description": "Crossing the Baltic Sea from Sassnitz with bicycles and a tent.",
            "uploader": "Marit Holm",
            "upload_date": "20230714",
            "tags": ["ferry", "Baltic Sea", "Denmark"],
            "language": "en",
        },
        facts=(Fact(Modality.METADATA, "night ferry to Bornholm", "Night ferry to Bornholm", Span(0.0, 8.0)),),
    ),
    Clip(
        "rec_1830.webm",
        (Scene(3.0, lines=("City News", "Bridge closed to cars")), Scene(10.0, "camera")),
        (_say("bridge", 2.0),),
        facts=(_said("bridge", 2.0, "the city council voted to close the old bridge"),),
    ),
    Clip(
        "VID_20240518.mp4",
        (
            Scene(20.0, "astronaut"),
            Scene(20.0, "rocket"),
            Scene(6.0, lines=("Chapter Two", "The hidden orchard")),
            Scene(22.0, "coffee"),
            Scene(16.0, "galaxies"),
        ),
        (_say("volcano", 3.0), _say("bees", 50.0), _say("bicycle", 70.0)),
        facts=(
            _said("volcano", 3.0, "ash fell on the village when the volcano woke up"),
            Fact(Modality.VIDEO, "a rocket on the launch pad", "a rocket", Span(20.0, 40.0)),
            Fact(Modality.OCR, "chapter two the hidden orchard", "Chapter Two The hidden orchard", Span(40.0, 46.0)),
            _said("bees", 50.0, "honeybees tell where the flowers are by dancing"),
            _said("bicycle", 70.0, "how to change a flat tire of a bicycle"),
        ),
    ),
)


# --- the demonstration ------------------------------------------------------------------------------------------------


def run(directory: Path, cache: Path, say: Callable[[str], None]) -> int:
    """Make the clips where they are missing, then index, search and explain them with the real models.

    Everything runs through the command line, in processes of its own, and every command is shown as a reader can repeat
    it. ``directory`` gets ``clips`` and ``index``; both may be from an earlier run, which then costs little. ``say``
    shows a line of text; the commands' own output goes straight to standard output. Returns the exit code of the first
    command that did not end with 0, else 0.

    Raises:
        ClamrError: the photos that the clips are made of are not installed.
        OSError: the folder cannot be written.
    """
    clips, index = directory / "clips", directory / "index"
    say(f"Making {len(CLIPS)} short clips in {clips}")
    make_clips(clips)
    title = "Index: look, listen, read and note; the second time there is nothing to do"
    steps: list[tuple[str, tuple[str, ...], str]] = [(title, ("index", str(clips)), "")]
    for modality, title in QUESTIONS.items():
        clip, fact = next((clip, fact) for clip in CLIPS for fact in clip.facts if fact.modality is modality)
        start, end = format_time(fact.span.start), format_time(fact.span.end)
        outcome = f"expected first: {clip.name}, {start}-{end}: {textwrap.shorten(fact.text, 60)}"
        steps.append((title, ("search", fact.query, "--limit", "3"), outcome))
    identity = video_id(content_hash(str(clips / CLIPS[-1].name)))
    query = next(fact.query for fact in CLIPS[-1].facts if fact.span.start > 45.0)
    steps.append(("Why a video ranks, and where in it", ("explain", identity, "--query", query), ""))
    # The environment is handed on as it is, not read: settings are the business of the command that is started.
    environment = {**os.environ, "CLAMR_CACHE": str(cache)}
    for title, arguments, outcome in steps:
        command = ("--db", str(index), *arguments)
        say("")
        say(f"# {title}")
        say(f"$ {shlex.join(('clamr', *command))}")
        sys.stdout.flush()
        with subprocess.Popen([sys.executable, "-m", "clamr_cli", *command], env=environment) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                # The terminal sent it to the command too, which stops by itself and says how to go on.
                process.wait()
                code = EXIT_INTERRUPTED
        if code:
            return code
        if outcome:
            say(f"# {outcome}")
    say("")
    say("Now search them yourself, or index a folder of your own:")
    say(f"$ {shlex.join(('clamr', '--db', str(index), 'search', 'a cup of coffee'))}")
    say("$ clamr index ~/Videos")
    return 0


# --- making clips -----------------------------------------------------------------------------------------------------


def make_clips(folder: Path) -> list[Path]:
    """Write those of :data:`CLIPS` that are not yet in ``folder``, whole or not at all; returns all paths, in order.

    The same frames and sounds every time; bytes may differ between builds of FFmpeg. Takes some seconds.

    Raises:
        ClamrError: the photos are not installed.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        path = folder / clip.name
        if not path.exists():
            if clip.sidecar:
                sidecar = {**clip.sidecar, "duration": clip.duration}
                path.with_name(f"{path.stem}.info.json").write_text(json.dumps(sidecar, indent=2), encoding="utf-8")
            # A hidden name, so that an index run beside this one does not meet half a file.
            draft = path.with_name(f".{path.name}.draft{path.suffix}")
            track = None if clip.silent else sound(clip.spoken, clip.duration)
            write_video(draft, _images(clip), FPS, SIZE, track)
            draft.replace(path)
    return [folder / clip.name for clip in CLIPS]


def _images(clip: Clip) -> Iterator[Image.Image]:
    """Every frame of a clip, RGB of :data:`SIZE`, :data:`FPS` a second."""
    for scene in clip.scenes:
        count = round(scene.duration * FPS)
        still = card(scene.lines, SIZE) if scene.lines else None
        for number in range(count):
            yield still or camera_move(photo(scene.photo), SIZE, number / max(1, count - 1))


@lru_cache(maxsize=len(PHOTOS))
def photo(name: str) -> Image.Image:
    """A photo of :data:`PHOTOS` as RGB.

    Raises:
        ClamrError: scikit-image is not installed or does not carry the photo.
    """
    spec = find_spec("skimage")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder, "data", PHOTOS[name])
        if path.is_file():
            with Image.open(path) as image:
                return image.convert("RGB")
    raise ClamrError(
        f"The photo {PHOTOS[name]} of scikit-image is not installed", "pip install --force-reinstall scikit-image"
    )


def camera_move(image: Image.Image, size: Size, progress: float) -> Image.Image:
    """The view of a camera that zooms in and drifts right: ``progress`` in [0, 1], ``size`` is (width, height)."""
    width, height = size
    whole = min(image.width / width, image.height / height)
    scale = whole * (1.0 - 0.15 * progress)
    view = (min(width * scale, image.width), min(height * scale, image.height))
    left = (image.width - view[0]) * (0.4 + 0.2 * progress)
    top = (image.height - view[1]) * 0.5
    return image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + view[0], top + view[1]))


def card(lines: Sequence[str], size: Size, *, background: str = "#14213d", ink: str = "#ffffff") -> Image.Image:
    """A title card: the lines centred on a plain ground, the first one larger, in Pillow's own font."""
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        width, height = size[0] * 0.9, size[1] // (7 if number == 0 else 10)
        font = ImageFont.load_default(size=height)
        if (length := font.getlength(line)) > width:
            font = ImageFont.load_default(size=height * width / length)
        place = (size[0] / 2, size[1] * (number + 1) / (len(lines) + 1))
        draw.text(place, line, fill=ink, font=font, anchor="mm")
    return image


def samples_of(path: Path) -> NDArray[np.float32]:
    """The whole sound of a file: mono float32 samples in [-1, 1] at :data:`RATE`, shape (n,)."""
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(str(path)) as source:
        frames = [out for frame in source.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def sound(spoken: Sequence[Spoken], duration: float) -> NDArray[np.float32]:
    """Silence of ``duration`` seconds with the narrations in their places, shape (n,) at :data:`RATE`."""
    track = np.zeros(round(duration * RATE), dtype=np.float32)
    for part in spoken:
        start = round(part.at * RATE)
        piece = samples_of(part.narration.path)[: len(track) - start]
        track[start : start + len(piece)] += piece
    return track


def write_video(
    path: Path, images: Iterable[Image.Image], fps: int, size: Size, track: NDArray[np.float32] | None
) -> None:
    """Encode images (RGB, ``size``) and sound (see :func:`sound`; None for a silent film).

    The file's ending decides: ``.webm`` gets VP9 or VP8 with Opus, anything else H.264 (MPEG-4 where this build of
    FFmpeg has no x264) with AAC. A key frame comes at least every 2 seconds. The two streams are interleaved by time.
    """
    if path.suffix == ".webm":
        codecs, sound_codec = ("libvpx-vp9", "libvpx"), "libopus"
        options = {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"}
    else:
        codecs, sound_codec, options = ("libx264", "mpeg4"), "aac", {"preset": "ultrafast", "crf": "25"}
    codec = next((name for name in codecs if name in av.codecs_available), codecs[-1])
    with av.open(str(path), "w") as target:
        film = target.add_stream(codec, rate=fps, options=options)
        film.width, film.height = size
        film.pix_fmt = "yuv420p"
        film.codec_context.gop_size = 2 * fps
        voice = target.add_stream(sound_codec, rate=RATE, layout="mono", bit_rate=48_000) if track is not None else None
        sounds = _packets_of(voice, track) if track is not None else iter(())
        waiting = next(sounds, None)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            target.mux(film.encode(frame))
            while waiting is not None and waiting.dts is not None and waiting.dts * waiting.time_base <= number / fps:
                target.mux(waiting)
                waiting = next(sounds, None)
        target.mux(film.encode(None))
        while waiting is not None:
            target.mux(waiting)
            waiting = next(sounds, None)


def _packets_of(stream: Any, track: NDArray[np.float32]) -> Iterator[Any]:  # noqa: ANN401 - PyAV's types are unknown here
    """The encoded packets of a sound track, in time order."""
    step = stream.codec_context.frame_size or 1024
    for start in range(0, len(track), step):
        frame = av.AudioFrame.from_ndarray(track[None, start : start + step], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)
