"""A rebuildable copy of the token vectors beside the index, packed for scanning: one byte a number, mapped into memory.

LanceDB stays the source of truth. A sidecar belongs to one encoder's fingerprint and says which fragments of the
vectors table it covers, each by the names of its data files, which are never used twice. What it does not cover is read
from the table, what was deleted since is masked, so a search is right whatever state the sidecar is in:

- it is a list of parts, each a file that is never changed, and a manifest that is replaced in one step; a build that is
  cut off leaves files that nothing names;
- new rows become a new part; parts that grew small or dead beside it are joined with it, so their number stays
  logarithmic;
- every block of a part is compared with its checksum before this process first uses it, and again when the file's
  times or size changed. Checking costs about a tenth of the scan that follows, reads what the scan reads anyway, and
  leaves no bit to chance: a flipped one could hide an answer without any later step noticing;
- whatever is damaged is passed over, and replaced by the next build.

Within a part, moments are in the order of their video and number, and a moment's vectors in the order of their
modality: so a moment, a video and what is left of them by a filter are runs of the file.
"""

from clamr_cli.store.scan_cache.build import Built, update
from clamr_cli.store.scan_cache.part import Damaged, Part
from clamr_cli.store.scan_cache.snapshot import PartView, Snapshot

__all__ = ["Built", "Damaged", "Part", "PartView", "Snapshot", "update"]
