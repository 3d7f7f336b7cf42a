"""clamr: search a folder of videos by what is shown, said, written on screen and in their metadata."""

from __future__ import annotations

# The command line imports this first, and typing would take longer than a warm command does.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal, overload

    from clamr_cli.encoders.clamr import ClamrEncoder
    from clamr_cli.types import Encoder

__all__ = ["__version__", "load_encoder"]

__version__ = "0.1.0"

if TYPE_CHECKING:

    @overload
    def load_encoder(
        name: Literal["clamr"] = ...,
        *,
        cache: Path | None = ...,
        device: str = ...,
        threads: int = ...,
        **settings: object,
    ) -> ClamrEncoder: ...

    @overload
    def load_encoder(
        name: str, *, cache: Path | None = ..., device: str = ..., threads: int = ..., **settings: object
    ) -> Encoder: ...


def load_encoder(
    name: str = "clamr", *, cache: Path | None = None, device: str = "auto", threads: int = 0, **settings: object
) -> Encoder:
    """Load an encoder by name, to use it without an index.

    Args:
        name: "clamr", "clamr-omni", "mini" or "hashed".
        cache: folder of downloaded weights; the user's cache folder where None.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; 0 leaves the choice to the libraries.
        settings: the encoder's own; of "clamr": ``model``, ``adapter`` (folders or hub ids), ``revision``,
            ``adapter_revision``, ``dtype``, ``projection_init``, ``template_vectors``, ``context``, ``quantize``,
            ``batch_tokens``, ``compile``.

    Returns:
        An object with ``encode_documents`` and ``encode_queries``, both of which give
        :class:`clamr_cli.types.TokenVectors`. "clamr" takes documents as mappings or objects with ``frames`` (PIL
        images), ``ocr``, ``asr`` and ``description`` (strings), each of which may be None.

    Raises:
        UsageError: unknown name or setting.
        ModelError: weights are absent, damaged or incomplete, or do not fit this machine.
    """
    # Whoever imports another module of the package does not pay for these.
    from clamr_cli import config, encoders

    return encoders.create(name, cache=cache or config.default_cache(), device=device, threads=threads, **settings)
