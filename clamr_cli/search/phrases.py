"""Quoted phrases in a query: what is in quotation marks must stand in a moment as it is written.

Case, white space, normal forms and the shapes of apostrophes, quotation marks and dashes make no difference, see
:func:`clamr_cli.text.plain`. A phrase stands in one modality's text of the moment: in
what is said, in what is on screen, or in what is noted, across the lines of each.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from clamr_cli.search.evidence import segments_of
from clamr_cli.store.records import readable
from clamr_cli.text import plain
from clamr_cli.types import TEXT_MODALITIES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from clamr_cli.store import Store
    from clamr_cli.types import MomentRecord

_QUOTED: Final = re.compile(r'"([^"]*)"|“([^“”]*)”|„([^„“”]*)[“”]|”([^“”]*)”|«([^«»]*)»|»([^«»]*)«|＂([^＂]*)＂')


def split(query: str) -> tuple[str, tuple[str, ...]]:
    """A query without its quotation marks, and the phrases that were in them; a mark without its other half stays."""
    phrases = [plain(match[match.lastindex or 0]) for match in _QUOTED.finditer(query)]
    text = _QUOTED.sub(lambda match: match[match.lastindex or 0], query)
    return text.strip(), tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def holders(store: Store, phrases: Sequence[str], videos: Collection[str]) -> frozenset[str]:
    """The moments of the given videos that hold every phrase."""
    # All texts of a moment in one are looked through first: that costs no reading of whole records.
    seen = [plain(readable(phrase)) for phrase in phrases]
    near = [
        moment_id
        for moment_id, text in store.texts()
        if (known := plain(text)) and all(phrase in known for phrase in seen)
    ]
    owners = sorted({moment_id.partition("#")[0] for moment_id in near} & set(videos))
    wanted = frozenset(near)
    moments = store.moments(owners) if owners else []
    return frozenset(one.moment_id for one in moments if one.moment_id in wanted and holds(one, phrases))


def holds(moment: MomentRecord, phrases: Sequence[str]) -> bool:
    """Whether each phrase stands in the text of one modality of a moment."""
    texts = [plain(" ".join(part.text for part in segments_of(moment, modality))) for modality in TEXT_MODALITIES]
    return all(any(phrase in text for text in texts) for phrase in phrases)
