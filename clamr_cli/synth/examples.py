"""In-context examples: queries of each kind that show a model what is wanted (the paper shows ten of the kind)."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath
from typing import TYPE_CHECKING

from clamr_cli.errors import UsageError
from clamr_cli.queries import parse_lines
from clamr_cli.synth.plan import target_name

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from clamr_cli.queries import LabelledQuery
    from clamr_cli.synth.plan import Job, Target


class Examples:
    """A pool of examples for each kind of query.

    Args:
        queries: the examples; those without modality are base queries.
    """

    def __init__(self, queries: Sequence[LabelledQuery]) -> None:
        self._pool: dict[Target, list[LabelledQuery]] = {}
        for query in queries:
            self._pool.setdefault(query.modality, []).append(query)

    @classmethod
    def shipped(cls) -> Examples:
        """The examples that come with clamr, twenty-odd of each kind, invented for it."""
        text = resources.files("clamr_cli.synth").joinpath("examples.jsonl").read_text("utf-8")
        return cls(parse_lines(text.splitlines(), "examples.jsonl"))

    @classmethod
    def read(cls, path: Path) -> Examples:
        """The user's own examples; kinds of which the file has none keep the shipped ones.

        Raises:
            UsageError: it cannot be read or holds no labelled query.
        """
        own = cls(parse_lines(_lines(path), path.name))
        if not own._pool:
            raise UsageError(f"{path.name} holds no queries", "give a JSONL file of labelled queries")
        own._pool = {**cls.shipped()._pool, **own._pool}
        return own

    def draw(self, job: Job, count: int, rng: random.Random) -> list[str]:
        """At most ``count`` different examples of a job's kind, none of which is answered by the job's video."""
        names = {job.video_id, job.path, PurePath(job.path).name}
        texts = [_plain(query.text) for query in self._pool.get(job.target, ()) if names.isdisjoint(query.relevant)]
        texts = list(dict.fromkeys(texts))
        return rng.sample(texts, min(count, len(texts)))

    def texts(self) -> list[str]:
        """All of them."""
        return [query.text for queries in self._pool.values() for query in queries]

    def counts(self) -> dict[str, int]:
        """How many there are of each kind, by its name."""
        return {target_name(target): len(queries) for target, queries in self._pool.items()}


def _lines(path: Path) -> list[str]:
    try:
        # Other line ends than this one may stand inside of a text.
        return path.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file that is there") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is no UTF-8 text", "save it as UTF-8") from error


def _plain(text: str) -> str:
    """A text in one line, as a prompt can hold it: nothing in it is half a character."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
