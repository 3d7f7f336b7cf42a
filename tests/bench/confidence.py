"""Measures and fits the confidence of hits: ``python -m tests.bench.confidence DATA [--db DB --queries FILE] [--fit]``.

DATA is the folder that ``clamr train --recipe mini`` learns from. Documents are composed of its held-out photos and
texts (:mod:`clamr_cli.train.mini.compose`), encoded, and put into libraries of 3 to 120 videos. Each query is asked
with its document in the library and without. An index of real videos with labelled queries (as for ``clamr eval``) is
used in the same way: alone, in part, and with composed documents beside it.

A first hit that is the query's own document is right; any first hit without that document is wrong, although another
may happen to answer. Everything is cross-validated in five parts by document: no document's queries are in both.

Prints the AUROC (the chance that a right hit has more confidence than a wrong one), and the share of impossible queries
that are refused where 95 % of the right hits are kept; for all, and by what queries aim at and the size of the library,
with 95 % intervals (a bootstrap over documents). "real videos, unseen" is by a regression that saw none of them.
``--fit`` writes the regression over all of it to ``clamr_cli/search/confidence.json``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import minimize

from clamr_cli import load_encoder
from clamr_cli.config import default_cache
from clamr_cli.evaluate.data import read_queries, resolve
from clamr_cli.index.documents import moment_of
from clamr_cli.search import confidence
from clamr_cli.search.cascade import ScoringRule, modality_maxima, slot_weights
from clamr_cli.search.confidence import Background, ConfidenceModel, Judge, Null, Signals
from clamr_cli.store import Store
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import entries, photos, split_entries, split_photos
from clamr_cli.types import (
    FAIR_FROM,
    MODALITY_OF_ID,
    TEXT_MODALITIES,
    Document,
    Frame,
    Modality,
    MomentRecord,
    Segment,
    Span,
    TokenVectors,
)

RESULTS = Path(__file__).with_name("results")
RULE = ScoringRule("token-max", slot_weights({}))
FOLDS = 5
KEPT = 0.95
SIGNALS = ("score", "margin", "spreads", "literal", "shown", "shown_margin", "moments", "few")
SCALE_FREE = ("spreads", "literal", "shown", "moments", "few")
"""Signals whose size does not depend on the encoder: of the model for encoders that have none of their own."""

RELATED = CompositionConfig(0.25, 0.0, 0.0)

DRAWS = 500
"""Of the bootstrap."""


@dataclass(frozen=True)
class Asked:
    """A query, its vectors, the video that answers, what it aims at, and the libraries it is asked in."""

    text: str
    tokens: TokenVectors
    answer: str
    aim: str
    libraries: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Case:
    """The first hit of a query in a library."""

    signals: Signals
    possible: bool
    right: bool
    aim: str
    size: int
    group: str


class Library:
    """Moments with their vectors and texts, all in one array."""

    def __init__(
        self, moments: Sequence[MomentRecord], vectors: Sequence[TokenVectors], names: Sequence[Sequence[str]]
    ) -> None:
        self.videos = [moment.video_id for moment in moments]
        self.indptr = np.cumsum([0, *map(len, vectors)], dtype=np.int64)
        self._vectors = np.concatenate([item.vectors.astype(np.float32) for item in vectors])
        self._ids = np.concatenate([item.modality_ids for item in vectors])
        self._texts = [
            [*more, *(segment.text for modality in TEXT_MODALITIES for segment in moment.segments(modality))]
            for moment, more in zip(moments, names, strict=True)
        ]

    def maxima(self, tokens: TokenVectors) -> Any:
        return modality_maxima(tokens.vectors.astype(np.float32) @ self._vectors.T, self._ids, self.indptr)

    def first_hit(
        self, asked: Asked, maxima: Any, library: Sequence[int], model: ConfidenceModel
    ) -> tuple[str, Signals]:
        """The video of the first hit, and its signals."""
        part = maxima[:, library]
        scores = RULE.scores(part)
        top = int(scores.argmax())
        videos = [self.videos[number] for number in library]
        judge = Judge(asked.text, RULE, Background(part, videos, len(library)), model)
        sums = part[:, top].sum(axis=0)
        sums[0] = -np.inf
        winner = MODALITY_OF_ID[int(sums.argmax())]
        texts = self._texts[library[top]]
        return videos[top], judge.signals(float(scores[top]), texts, videos[top], winner)


def composed(data: Path, count: int, pictures: int) -> tuple[list[Document], list[list[tuple[str, Modality | None]]]]:
    """Documents of held-out photos and texts, with the queries for each; the first ``pictures`` of them have photos."""
    all_photos, all_texts = photos(data), entries(data)
    (_, held_out), (_, texts) = split_photos(all_photos), split_entries(all_texts)
    composer = Composer(all_photos, held_out, all_texts, texts, random.Random(7), RELATED)
    folder, span = data / "train/flickr8k_1k/images", Span(0.0, 60.0)
    documents, queries = [], []
    while len(documents) < count:
        one = composer.compose(max_images=1)
        if not (one.texts and one.images):
            if not one.images and not one.texts:
                break
            continue
        shown = one.images if len(documents) < pictures else []
        frames = tuple(Frame(time, span, (folder / all_photos[index].name).read_bytes()) for index, time in shown)
        segments = {
            modality.value: tuple(
                Segment(Span(part.time or 0.0, (part.time or 0.0) + 2.0), part.caption or all_texts[part.entry].text)
                for part in parts
            )
            for modality, parts in one.texts.items()
        }
        documents.append(Document(f"composed{len(documents)}#0", span, frames=frames, **segments))
        queries.append(list(one.queries))
    return documents, queries


def cases(library: Library, asked: Sequence[Asked], model: ConfidenceModel) -> list[Case]:
    """Each query in each of its libraries, with its answer and without.

    Without it there are as many other moments in its place: the size of a library must not tell the two apart.
    """
    result, rng, everything = [], random.Random(5), range(len(library.videos))
    for one in asked:
        maxima = library.maxima(one.tokens)
        own = [number for number, video in enumerate(library.videos) if video == one.answer]
        for chosen in one.libraries:
            others = set(chosen) - set(own)
            spare = set(rng.sample([number for number in everything if number not in {*others, *own}], len(own)))
            for possible in (True, False) if own else (False,):
                members = sorted(others | (set(own) if possible else spare))
                video, signals = library.first_hit(one, maxima, members, model)
                right = possible and video == one.answer
                result.append(Case(signals, possible, right, one.aim, len(members), one.answer or one.text))
    return result


def reference(library: Library, asked: Sequence[Asked]) -> Null:
    """The medians of scores and of their spread: of each query over all documents but its own."""
    rows = []
    for one in asked:
        others = [number for number, video in enumerate(library.videos) if video != one.answer]
        scores = RULE.scores(library.maxima(one.tokens)[:, others]) / len(one.tokens)
        low, median, high = np.percentile(scores[np.isfinite(scores)], [25, 50, 75])
        rows.append([median, (high - low) / confidence.QUARTILES])
    return Null(*(round(float(value), 4) for value in np.median(rows, axis=0)))


# --- logistic regression ----------------------------------------------------------------------------------------------


def fit(values: Any, right: Any) -> tuple[Any, float]:
    """Weights and bias of a logistic regression, both classes weighing the same, with a slight ridge."""
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-9
    scaled = (values - mean) / deviation
    weights = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())

    def loss(parameters: Any) -> tuple[float, Any]:
        logits = scaled @ parameters[1:] + parameters[0]
        errors = weights * (1 / (1 + np.exp(-logits)) - right)
        ridge = 1e-3 * parameters[1:]
        value = float((weights * (np.logaddexp(0, logits) - right * logits)).sum() + ridge @ parameters[1:])
        return value, np.concatenate([[errors.sum()], scaled.T @ errors + 2 * ridge])

    parameters = minimize(loss, np.zeros(values.shape[1] + 1), jac=True).x
    slopes = parameters[1:] / deviation
    return slopes, float(parameters[0] - slopes @ mean)


def table(found: Sequence[Case], signals: Sequence[str]) -> Any:
    """[cases, signals]."""
    return np.array([[getattr(case.signals, name) for name in signals] for case in found])


def usable(found: Sequence[Case]) -> Any:
    """Mask of right hits and of those that cannot be right; others may be wrong or answer by chance."""
    return np.array([case.right or not case.possible for case in found])


def cross_validated(found: Sequence[Case], signals: Sequence[str]) -> Any:
    """The logit of each case from a regression that saw neither its document nor its queries."""
    groups = {group: number % FOLDS for number, group in enumerate(sorted({case.group for case in found}))}
    parts = np.array([groups[case.group] for case in found])
    values, right, use = table(found, signals), np.array([case.right for case in found]), usable(found)
    logits = np.zeros(len(found))
    for part in range(FOLDS):
        train = use & (parts != part)
        slopes, bias = fit(values[train], right[train])
        logits[parts == part] = values[parts == part] @ slopes + bias
    return logits


def threshold(found: Sequence[Case], logits: Any) -> float:
    """The logit that 95 % of right hits reach."""
    return float(np.quantile(logits[[case.right for case in found]], 1 - KEPT))


def measures(right: Any, wrong: Any, limit: float) -> dict[str, float]:
    """AUROC, and the shares of right hits kept and of impossible queries refused by a limit."""
    ordered = np.sort(wrong)
    below = (np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")) / 2
    return {
        "AUROC": round(float(below.mean() / len(wrong)), 4),
        "kept": round(float((right >= limit).mean()), 4),
        "refused": round(float((wrong < limit).mean()), 4),
        "right": len(right),
        "impossible": len(wrong),
    }


def report(found: Sequence[Case], logits: Any) -> dict[str, dict[str, Any]]:
    """Measures of all cases, by aim and by size of the library, with one limit for all."""
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    limit = threshold(found, logits)
    rows = {"all": np.ones(len(found), np.bool_)}
    rows |= {f"aim {aim}": np.array([case.aim == aim for case in found]) for aim in sorted({one.aim for one in found})}
    for low, high in ((1, 5), (6, 20), (21, 60), (61, 1000)):
        rows[f"{low}-{high} videos"] = np.array([low <= case.size <= high for case in found])
    rows |= {"real videos": is_real(found)}
    return {
        name: {
            **measures(logits[mask & right], logits[mask & impossible], limit),
            "intervals": intervals(found, logits, mask, limit),
        }
        for name, mask in rows.items()
        if (mask & right).any() and (mask & impossible).any()
    }


def is_real(found: Sequence[Case]) -> Any:
    """Mask of the cases whose query is about a real video."""
    return np.array([not case.group.startswith("composed") for case in found])


def unseen(found: Sequence[Case]) -> dict[str, Any]:
    """Measures of real videos by a regression, and with a limit, of composed documents alone."""
    values, real = table(found, SIGNALS), is_real(found)
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    train = usable(found) & ~real
    logits = values @ fit(values[train], right[train])[0]
    limit = float(np.quantile(logits[right & ~real], 1 - KEPT))
    row = measures(logits[real & right], logits[real & impossible], limit)
    return {**row, "intervals": intervals(found, logits, real, limit)}


def intervals(found: Sequence[Case], logits: Any, mask: Any, limit: float) -> dict[str, list[float]]:
    """The 95 % intervals of the measures of some cases, over documents."""
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    groups: dict[str, list[int]] = {}
    for number in np.flatnonzero(mask).tolist():
        groups.setdefault(found[number].group, []).append(number)
    members = [np.array(numbers) for numbers in groups.values()]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        part = np.concatenate([members[number] for number in rng.integers(0, len(members), len(members))])
        good, bad = part[right[part]], part[impossible[part]]
        if len(good) and len(bad):
            drawn.append(measures(logits[good], logits[bad], limit))
    bounds = {name: np.percentile([one[name] for one in drawn], [2.5, 97.5]) for name in ("AUROC", "refused", "kept")}
    return {name: [round(float(value), 4) for value in bound] for name, bound in bounds.items()}


def fitted(found: Sequence[Case], signals: Sequence[str], null: Null) -> ConfidenceModel:
    """The model over all cases; its bias puts the limit that 95 % of right hits reach at :data:`FAIR_FROM`."""
    use = usable(found)
    slopes, _ = fit(table(found, signals)[use], np.array([case.right for case in found])[use])
    bias = float(np.log(FAIR_FROM / (1 - FAIR_FROM))) - threshold(found, table(found, signals) @ slopes)
    weights = {name: round(float(slope), 4) for name, slope in zip(signals, slopes, strict=True)}
    return ConfidenceModel(round(bias, 4), weights, null)


def main() -> None:
    """Measure, print, and fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--documents", type=int, default=150, help="composed documents")
    parser.add_argument("--pictures", type=int, default=150, help="how many of them have a photo")
    parser.add_argument("--db", help="an index of real videos by the same encoder")
    parser.add_argument("--queries", type=Path, help="labelled queries for it")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    parser.add_argument("--fit", action="store_true", help="write the model")
    parser.add_argument("--default", action="store_true", help="with --fit: also the model for other encoders")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder, cache=options.cache)
    documents, queries = composed(options.data, options.documents, options.pictures)
    moments = [moment_of(document, document.id.partition("#")[0]) for document in documents]
    vectors = encoder.encode_documents(documents)
    names: list[list[str]] = [[] for _ in moments]
    labelled: list[tuple[str, str, str]] = []
    for number, of_document in enumerate(queries):
        for text, aim in of_document:
            answer = moments[number].video_id if aim is not Modality.VIDEO or documents[number].frames else ""
            labelled.append((text, answer, str(aim or "both")))
    ours, real = range(len(moments)), range(0)
    if options.db:
        store = Store.open(options.db)
        stored = dict(store.scan_vectors(encoder.info.fingerprint))
        of_index = [moment for moment in store.moments() if moment.moment_id in stored]
        titles = {video.video_id: video.fields.title for video in store.videos()}
        files = store.files()
        real = range(len(moments), len(moments) + len(of_index))
        moments += of_index
        vectors += [stored[moment.moment_id] for moment in of_index]
        for moment in of_index:
            paths = [Path(file.path).name for file in files if file.video_id == moment.video_id]
            names.append([titles[moment.video_id], *paths])
        by_name, _ = resolve([name for query in read_queries(options.queries) for name in query.relevant], files)
        for query in read_queries(options.queries):
            answers = {by_name[name] for name in query.relevant if name in by_name}
            if len(answers) == 1 and answers <= {moment.video_id for moment in of_index}:
                labelled.append((query.text, answers.pop(), str(query.modality or "both")))
    rng = random.Random(3)
    tokens = encoder.encode_queries([text for text, _, _ in labelled])
    asked = []
    for (text, answer, aim), token in zip(labelled, tokens, strict=True):
        few = [rng.sample(ours, rng.choice((2, 5))), rng.sample(ours, min(len(ours), rng.choice((15, 50, 119))))]
        if real:
            few = [[*few[0], *rng.sample(real, min(len(real), 2))], [*few[1], *(real if rng.random() < 0.5 else ())]]
            few += [] if answer.startswith("composed") else [list(real), rng.sample(real, min(4, len(real)))]
        asked.append(Asked(text, token, answer, aim, few))
    library = Library(moments, vectors, names)
    null = reference(library, asked)
    found = cases(library, asked, ConfidenceModel(0.0, {}, null))
    logits = cross_validated(found, SIGNALS)
    result: dict[str, Any] = {
        "encoder": options.encoder,
        "documents": len(documents),
        "pictures": sum(bool(document.frames) for document in documents),
        "real moments": len(real),
        "queries": len(asked),
        "signals": SIGNALS,
        "measures": report(found, logits),
        "alone": {name: measures(*split(found, table(found, [name])[:, 0])) for name in ("score", *SIGNALS)},
        "scale-free": report(found, cross_validated(found, SCALE_FREE))["all"],
    }
    if real:
        result["measures"]["real videos, unseen"] = unseen(found)
    for name, row in {**result["measures"], **{f"{name} alone": row for name, row in result["alone"].items()}}.items():
        parts = []
        for measure in ("AUROC", "refused", "kept"):
            bounds = "[{:.3f}, {:.3f}]".format(*row["intervals"][measure]) if "intervals" in row else ""
            parts.append(f"{measure} {row[measure]:.3f} {bounds}")
        print(f"{name:20} {'  '.join(parts)}  ({row['right']} right, {row['impossible']} impossible)")
    model = fitted(found, SIGNALS, null)
    print(msgspec.json.encode(model).decode())
    if options.fit:
        path = Path(confidence.__file__).with_name(confidence.MODELS)
        models = msgspec.json.decode(path.read_bytes(), type=dict[str, ConfidenceModel])
        models[options.encoder] = model
        if options.default:
            models[confidence.DEFAULT] = fitted(found, SCALE_FREE, null)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(models), indent=1) + b"\n")
    (RESULTS / f"confidence-{options.encoder}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def split(found: Sequence[Case], values: Any) -> tuple[Any, Any, float]:
    """The values of right hits and of impossible queries, and the limit that 95 % of right hits reach."""
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    return values[right], values[impossible], threshold(found, values)


if __name__ == "__main__":
    main()
