"""The names under which what is prepared of a video is kept, by content and by everything that shapes it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from clamr_cli.frames.values import PART
from clamr_cli.index.options import Recipe
from clamr_cli.index.sampling import VERSION

if TYPE_CHECKING:
    from clamr_cli.frames.values import DenseOptions, Texts
    from clamr_cli.types import EncoderInfo

_VERSION: Final = "1"
"""Changes when the same candidates and texts would give other documents."""


def recipe(options: DenseOptions) -> Recipe:
    """The names of the ordinary extraction's results, of speech and text too where neither is to be recognised now."""
    return Recipe.of(replace(options.index, speech=True, text=True))


def samples(content_hash: str, options: DenseOptions) -> str:
    """Of the list of candidates."""
    return f"{content_hash}/dense/{VERSION}:{options.interval:g}:{options.index.language}"


def pictures(samples_key: str, part: int) -> str:
    """Of the pictures of the candidates from ``part * PART`` on."""
    return f"{samples_key}/pictures/{part}"


def vectors(samples_key: str, options: DenseOptions, texts: Texts, encoder: EncoderInfo, part: int) -> str:
    """Of the vectors of the candidates from ``part * PART`` on."""
    digest = hashlib.blake2b(msgspec.json.encode(texts), digest_size=12).hexdigest()
    return f"{samples_key}/vectors/{_VERSION}:{options.context:g}:{digest}:{encoder.fingerprint}/{part}"


def parts(count: int) -> range:
    """The numbers of the parts that so many candidates make."""
    return range(-(-count // PART))


def file(path_digest: str) -> str:
    """Of the content that a file had when it was looked at last."""
    return f"file/{path_digest}"
