"""``clamr encode``: the token vectors of a document or a query, without an index."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clamr_cli.cli.options import Context, DeviceOption, EncoderOptions, out_file, quiet_libraries
from clamr_cli.cli.output import warn
from clamr_cli.errors import EXIT_FOUND, ModelError, UsageError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class EncodeArguments(EncoderOptions):
    more_frames: Annotated[
        list[str] | None, typer.Argument(metavar="FRAME", help="More frames, in order.", show_default=False)
    ] = None
    frames: Annotated[list[str] | None, typer.Option(metavar="FRAME", help="Pictures, ten at most, in order.")] = None
    ocr: Annotated[str | None, typer.Option(metavar="TEXT", help="On-screen text.")] = None
    asr: Annotated[str | None, typer.Option(metavar="TEXT", help="Speech.")] = None
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Metadata.")] = None
    query: Annotated[str | None, typer.Option(metavar="TEXT", help="A query to encode as well.")] = None
    output: Annotated[
        Path, typer.Option("--out", "--output", "-o", metavar="FILE", parser=out_file, help="Write to this .npz file.")
    ]
    encoder: Annotated[Literal["clamr", "clamr-omni"], typer.Option(help="The encoder.")] = "clamr"
    device: DeviceOption = None
    max_ocr_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens of --ocr at most.", min=1)] = 512
    max_asr_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens of --asr at most.", min=1)] = 512
    max_description_tokens: Annotated[int, typer.Option(metavar="N", help="Of --description at most.", min=1)] = 512
    max_combined_tokens: Annotated[int, typer.Option(metavar="N", help="Of the document at most.", min=1)] = 2048
    max_query_tokens: Annotated[int, typer.Option(metavar="N", help="Of --query at most.", min=1)] = 64


def encode(context: Context, arguments: EncodeArguments) -> int:
    """Write the token vectors of a document, a query or both.

    It is a NumPy archive: vectors, modality_ids (0 template, 1 video, 2 ocr, 3 speech, 4 metadata) and input_ids of the
    document, and the same with query_ before.

    Examples:
        clamr encode --query "red car" -o query.npz
        clamr encode --frames a.jpg b.jpg --asr "hello" -o document.npz
    """
    target = arguments.output
    paths = [*(arguments.frames or ()), *(arguments.more_frames or ())]
    document: dict[str, Any] = {name: getattr(arguments, name) for name in ("ocr", "asr", "description")}
    document["frames"] = [_open_image(path) for path in paths] or None
    has_document = any(value is not None for value in document.values())
    if not has_document and arguments.query is None:
        raise UsageError("nothing to encode", "give --frames, --ocr, --asr, --description or --query")
    settings = context.settings(device=arguments.device)
    quiet_libraries()
    import numpy as np

    from clamr_cli import load_encoder
    from clamr_cli.encoders.hub import WAY_OUT

    vectors = {}
    try:
        encoder: Any = load_encoder(
            arguments.encoder,
            cache=settings.cache,
            device=settings.device,
            threads=settings.threads,
            **{**settings.encoders.get(arguments.encoder, {}), **arguments.encoder_settings()},
        )
        for note in encoder.notes:
            warn(note)
        if has_document:
            kinds = ("ocr", "asr", "description", "combined")
            limits = {f"max_{kind}_tokens": getattr(arguments, f"max_{kind}_tokens") for kind in kinds}
            (vectors[""],) = encoder.encode_documents([document], **limits)
        if arguments.query is not None:
            limit = arguments.max_query_tokens
            (vectors["query_"],) = encoder.encode_queries([arguments.query], max_query_tokens=limit)
    except ModelError as error:
        # Another encoder, which searches may use instead, is of no use here.
        raise ModelError(error.what, error.hint.removesuffix(WAY_OUT).rstrip(", ")) from error
    names = ("vectors", "modality_ids", "input_ids")
    arrays = {f"{prefix}{name}": getattr(item, name) for prefix, item in vectors.items() for name in names}
    # Beside the target and then moved, so that a failure leaves no half file.
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        # A file object, because names without .npz would be changed. It is never one that is there, nor a link.
        with draft.open("xb") as stream:
            np.savez(stream, **arrays)
        draft.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror})", "name another file") from error
    finally:
        draft.unlink(missing_ok=True)
    warn(f"{target}: " + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()))
    return EXIT_FOUND


def _open_image(path: str) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise UsageError(f"there is no picture {path}", "check the spelling") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a picture that can be read", "give PNG or JPEG files") from error
