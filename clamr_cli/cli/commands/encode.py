"""``clamr encode``."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clamr_cli.cli.options import EncoderOptions
from clamr_cli.errors import EXIT_FOUND, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from PIL import Image

    from clamr_cli.cli.runtime import Context
    from clamr_cli.encoders.clamr import ClamrEncoder
    from clamr_cli.types import TokenVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(EncoderOptions):
    """Options of ``clamr encode``."""

    more_frames: Annotated[
        list[str] | None, typer.Argument(metavar="FRAME", help="More frames, in order.", show_default=False)
    ] = None
    frames: Annotated[
        list[str] | None, typer.Option("--frames", metavar="FRAME", help="Pictures, ten at most, in order.")
    ] = None
    ocr: Annotated[str | None, typer.Option("--ocr", metavar="TEXT", help="What is written on screen.")] = None
    asr: Annotated[str | None, typer.Option("--asr", metavar="TEXT", help="What is said.")] = None
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="What is noted about it.")
    ] = None
    query: Annotated[str | None, typer.Option("--query", metavar="TEXT", help="A query to encode as well.")] = None
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Write to this .npz file.")]
    encoder: Annotated[str, typer.Option("--encoder", metavar="NAME", help="clamr (default) or clamr-omni.")] = "clamr"
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None
    max_ocr_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens of --ocr at most.", min=1)] = 512
    max_asr_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens of --asr at most.", min=1)] = 512
    max_description_tokens: Annotated[int, typer.Option(metavar="N", help="Of --description at most.", min=1)] = 512
    max_combined_tokens: Annotated[int, typer.Option(metavar="N", help="Of the document at most.", min=1)] = 2048
    max_query_tokens: Annotated[int, typer.Option(metavar="N", help="Of --query at most.", min=1)] = 64


def run(before: Context, flags: Flags) -> int:
    """Write the token vectors of a document, a query or both.

    It is a NumPy archive: vectors, modality_ids (0 template, 1 video, 2 ocr, 3 speech, 4 metadata) and input_ids of the
    document, and the same with query_ before.
    """
    from clamr_cli.cli.runtime import quiet_libraries

    wanted = _document(flags)
    if wanted is None and flags.query is None:
        raise UsageError("nothing to encode", "give --frames, --ocr, --asr, --description or --query")
    _check_output(flags.output)
    if flags.encoder not in ("clamr", "clamr-omni"):
        raise UsageError(f"clamr encode cannot use the encoder {flags.encoder!r}", "use clamr or clamr-omni")
    settings = before.settings(device=flags.device)
    quiet_libraries()
    from clamr_cli import load_encoder
    from clamr_cli.cli.output import warn
    from clamr_cli.encoders.clamr.hub import WAY_OUT

    try:
        encoder: ClamrEncoder = load_encoder(  # type: ignore[assignment]
            flags.encoder,
            cache=settings.cache,
            device=settings.device,
            threads=settings.threads,
            **{**settings.encoders.get(flags.encoder, {}), **flags.encoder_settings()},
        )
        for note in encoder.notes:
            warn(note)
        arrays = _encoded(encoder, wanted, flags)
    except ModelError as error:
        # Another encoder, which searches may use instead, is of no use here.
        raise ModelError(error.what, error.hint.removesuffix(WAY_OUT).rstrip(", ")) from error
    _write(flags.output, arrays)
    warn(f"{flags.output}: " + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()))
    return EXIT_FOUND


def _document(flags: Flags) -> dict[str, object] | None:
    """The document that the flags describe, None where they describe none."""
    paths = [*(flags.frames or ()), *(flags.more_frames or ())]
    texts = {"ocr": flags.ocr, "asr": flags.asr, "description": flags.description}
    if not paths and all(text is None for text in texts.values()):
        return None
    return {**texts, "frames": [_picture(path) for path in paths] or None}


def _picture(path: str) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            opened.load()
            return opened.copy()
    except FileNotFoundError as problem:
        raise UsageError(f"there is no picture {path}", "check the spelling") from problem
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path} is not a picture that can be read", "give PNG or JPEG files") from problem


def _check_output(output: str) -> None:
    """Fail before the model is loaded, not after."""
    if Path(output).is_dir() or not Path(output).absolute().parent.is_dir():
        raise UsageError(f"{output} cannot be written", "name a file in a folder that is there")


def _encoded(encoder: ClamrEncoder, wanted: dict[str, object] | None, flags: Flags) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    if wanted is not None:
        (found,) = encoder.encode_documents(
            [wanted],
            max_ocr_tokens=flags.max_ocr_tokens,
            max_asr_tokens=flags.max_asr_tokens,
            max_description_tokens=flags.max_description_tokens,
            max_combined_tokens=flags.max_combined_tokens,
        )
        arrays |= _arrays("", found)
    if flags.query is not None:
        (found,) = encoder.encode_queries([flags.query], max_query_tokens=flags.max_query_tokens)
        arrays |= _arrays("query_", found)
    return arrays


def _arrays(prefix: str, found: TokenVectors) -> dict[str, NDArray[Any]]:
    return {f"{prefix}{name}": getattr(found, name) for name in ("vectors", "modality_ids", "input_ids")}


def _write(output: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write beside the target and move, so that a failure leaves no half file."""
    import numpy as np

    target = Path(output)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        # A file object, because names without .npz would be changed. It is never one that is there, nor a link.
        with fresh.open("xb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        fresh.replace(target)
    except OSError as problem:
        raise UsageError(f"{output} cannot be written ({problem.strerror})", "name another file") from problem
    finally:
        fresh.unlink(missing_ok=True)
