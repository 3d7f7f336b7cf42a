"""Where an index lies: a local folder or the address of an object store, and where its small side files go."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from clamr_cli.errors import StoreError


@dataclass(frozen=True, slots=True)
class Place:
    """An index's place.

    Attributes:
        uri: what LanceDB is given.
        folder: the local folder, None for an object store.
        side: the local folder for lock and notes, None where none was given for an object store.
        prefix: what the names of side files begin with.
    """

    uri: str
    folder: Path | None
    side: Path | None
    prefix: str = ""

    @classmethod
    def of(cls, uri: str | Path, lock_dir: Path | None = None) -> Place:
        """Tell a folder from an address. Addresses (``scheme://...``) pass through; ``file://`` is a folder.

        Raises:
            StoreError: LanceDB cannot work in a folder of this name.
        """
        text = str(uri)
        if text.startswith("file://"):
            return cls.of(Path(unquote(urlparse(text).path)), lock_dir)
        if "://" in text:
            text = text.rstrip("/")
            digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
            return cls(text, None, lock_dir, f"index-{digest}-")
        # Lance resolves relative paths by itself; a later chdir must not move the index.
        folder = Path(text).absolute()
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in str(folder)):
            # Lance cannot name its files there.
            raise StoreError(
                f"an index cannot lie in {str(folder)!r}", "choose a folder without control characters in its name"
            )
        return cls(str(folder), folder, folder)

    def side_file(self, name: str) -> Path | None:
        """The path of a side file, None where there is no folder for it."""
        return None if self.side is None else self.side / f"{self.prefix}{name}"
