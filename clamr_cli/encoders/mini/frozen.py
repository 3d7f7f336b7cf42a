"""The two frozen models that everything here stands on: where their weights are, and the picture model when needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clamr_cli import weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clamr_cli.encoders.mini.heads import PictureFeatures
    from clamr_cli.encoders.mini.pictures import Pictures

TEXT_WEIGHTS: Final = "minilm-l6"
PICTURE_FILE: Final = "efficientnet-lite2-9656183e.pth"
_PICTURE_WEIGHTS: Final = "efficientnet-lite2"


def text_folder(cache: Path) -> Path:
    """The folder of the text model's ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        ModelError: they are absent or damaged.
    """
    return weights.locate(TEXT_WEIGHTS, cache)


def picture_file(cache: Path) -> Path:
    """The picture model's checkpoint.

    Raises:
        ModelError: it is absent or damaged.
    """
    return weights.locate(_PICTURE_WEIGHTS, cache) / PICTURE_FILE


class LazyPictures:
    """The picture model, loaded with the first picture: torch takes seconds that a query does not have.

    Args:
        file: its checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; 0 leaves them as they are.
    """

    def __init__(self, file: Path, *, device: str, threads: int) -> None:
        self._file, self._device, self._threads = file, device, threads
        self._model: Pictures | None = None

    def features(self, jpegs: Sequence[bytes]) -> PictureFeatures:
        """See :meth:`clamr_cli.encoders.mini.pictures.Pictures.features`."""
        if self._model is None:
            from clamr_cli.encoders.mini.pictures import Pictures

            self._model = Pictures(self._file, device=self._device, threads=self._threads)
        return self._model.features(jpegs)
