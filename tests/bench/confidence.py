"""Measures and fits the confidence of hits: ``python -m tests.bench.confidence DATA [--db DB --queries FILE] [--fit]``.

DATA is the folder that ``clamr train --recipe mini`` learns from. Documents are composed of its held-out photos and
texts (:mod:`clamr_cli.train.mini.compose`), encoded, and put into libraries of 3 to 120 videos. Each query is asked
with its document in the library and without. An index of real videos with labelled queries (as for ``clamr eval``) is
used in the same way: alone, in part, and with composed documents beside it.

Some queries are in other languages: parts of the German and French translations of captions and sentences (Multi30k),
and words in eight languages for things and texts (``words.tsv``), whose documents are in the libraries, too. They have
a model of their own.

A first hit that is the query's own document is right; any first hit without that document is wrong, although another
may happen to answer. Everything is cross-validated in five parts by document: no document's queries are in both.

Prints the AUROC (the chance that a right hit has more confidence than a wrong one), and the share of impossible queries
that are refused where 95 % of the right hits are kept, by confidences within the bounds of their words, as in a search;
for all, and by what queries aim at and the size of the library, with 95 % intervals (a bootstrap over documents). "real
videos, unseen" is by a regression that saw none of them.
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
from clamr_cli.search.confidence import (
    FOREIGN,
    Background,
    ConfidenceModel,
    Judge,
    Null,
    Signals,
    bounded,
    model_of,
)
from clamr_cli.search.search import choose_reading, comes_first
from clamr_cli.store import Store
from clamr_cli.text import STOP_WORDS, content_words, standing_words, words_of
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import entries, fragment, photos, split_entries, split_photos
from clamr_cli.types import (
    FAIR_FROM,
    MODALITY_OF_ID,
    TEXT_MODALITIES,
    Document,
    ForeignQuery,
    Frame,
    Modality,
    MomentRecord,
    Segment,
    Span,
    TokenVectors,
)
from tests.bench.mini import NAMES, WORDS, parallel, plain, rows_of

RESULTS = Path(__file__).with_name("results")
RULE = ScoringRule("token-max", slot_weights({}))
FOLDS = 5
KEPT = 0.95
SHOWN_KEPT = 0.90
"""Of right hits in English that pictures win, the hardest to tell from wrong ones: one limit for all keeps 83 %."""

SIGNALS = ("score", "margin", "spreads", "literal", "shown", "shown_margin", "moments", "few", "numbers")
READINGS = ("words", "translation", "translation_lead", "sentence", "sentence_lead", "english")
"""Further signals of queries in other languages."""

SCALE_FREE = ("spreads", "literal", "shown", "moments", "few", "numbers")
"""Signals whose size does not depend on the encoder: of the model for encoders that have none of their own."""

RELATED = CompositionConfig(0.25, 0.0, 0.0)

WORDS_EACH = 3
"""Languages in which each thing is asked for."""

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
    foreign: bool = False
    shipped: float = 0.0
    """The logit of the model that was shipped before."""


Models = tuple[ConfidenceModel, ConfidenceModel]
"""Of queries in English and in other languages."""


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
        self._lines = [list(map(standing_words, texts)) for texts in self._texts]
        self._words = [frozenset().union(*lines) for lines in self._lines]

    def read(self, asked: Asked, library: Sequence[int]) -> TokenVectors:
        """The vectors of a query to a library."""
        return choose_reading(asked.text, asked.tokens, (self._words[number] for number in library))

    def maxima(self, tokens: TokenVectors) -> Any:
        return modality_maxima(tokens.vectors.astype(np.float32) @ self._vectors.T, self._ids, self.indptr)

    def first_hit(
        self, asked: Asked, tokens: TokenVectors, maxima: Any, library: Sequence[int], models: Models
    ) -> tuple[str, Signals]:
        """The video of the first hit, and its signals."""
        part = maxima[:, library]
        scores = RULE.scores(part)
        words = content_words(asked.text)
        first = np.array([comes_first(words, tokens, self._lines[number]) for number in library])
        scores = np.where(first.any() & ~first, -np.inf, scores)
        top = int(scores.argmax())
        videos = [self.videos[number] for number in library]
        model = models[isinstance(tokens, ForeignQuery)]
        judge = Judge(asked.text, RULE, Background(part, videos, len(library)), model, tokens)
        sums = part[: tokens.deciding, top].sum(axis=0)
        sums[0] = -np.inf
        winner = MODALITY_OF_ID[int(sums.argmax())]
        texts = self._texts[library[top]]
        best = part[:, top].max(axis=1)
        return videos[top], judge.signals(float(scores[top]), texts, videos[top], winner, best)


Queries = list[tuple[str, Modality | None]]
"""Texts with what they aim at."""


def composed(data: Path, count: int, pictures: int) -> tuple[list[Document], list[Queries]]:
    """Documents of held-out photos and texts, with the queries for each; the first ``pictures`` of them have photos."""
    sentences = [parallel(data, language) for language in ("en", "de", "fr")]
    row_of = {plain(sentence): row for row, sentence in reversed(list(enumerate(sentences[0])))}
    rng = random.Random(9)

    def translated(text: str, aim: Modality) -> Queries:
        row = row_of.get(plain(text))
        return [] if row is None else [(fragment(rng, each[row], 1, 6), aim) for each in sentences[1:]]

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
        own = [(caption, Modality.VIDEO) for index, _ in shown for caption in all_photos[index].captions]
        own += [(segment.text, modality) for modality in one.texts for segment in segments[modality.value]]
        queries.append([*one.queries, *(query for text, aim in own for query in translated(text, aim))])
    return documents, queries


def things(data: Path) -> tuple[list[Document], list[Queries]]:
    """Documents of a picture or a text each, with words for it in some languages, and names with a text each."""
    documents, queries, span, rng = [], [], Span(0.0, 30.0), random.Random(11)
    for row in [*rows_of(WORDS), *rows_of(NAMES)]:
        name, modality, text = row.pop("class", ""), row.pop("modality"), row.pop("text")
        frames: tuple[Frame, ...] = ()
        if name:
            picture = sorted((data / "train/caltech101" / name).glob("*.jpg"))[-3]
            frames = (Frame(5.0, span, picture.read_bytes()),)
        segments = {modality: (Segment(span, text),)} if modality else {}
        documents.append(Document(f"composed-thing{len(documents)}#0", span, frames=frames, **segments))
        chosen = [row.get("en") or row["query"], *rng.sample(list(row.values()), min(WORDS_EACH, len(row)))]
        queries.append([(each, Modality(modality or "video")) for each in dict.fromkeys(chosen)])
    return documents, queries


def cases(library: Library, asked: Sequence[Asked], models: Models, shipped: Models) -> list[Case]:
    """Each query in each of its libraries, with its answer and without.

    Without it there are as many other moments in its place: the size of a library must not tell the two apart.
    """
    result, rng, everything = [], random.Random(5), range(len(library.videos))
    for one in asked:
        readings = {True: one.tokens, False: getattr(one.tokens, "as_written", one.tokens)}
        maxima = {is_foreign: library.maxima(tokens) for is_foreign, tokens in readings.items()}
        own = [number for number, video in enumerate(library.videos) if video == one.answer]
        for chosen in one.libraries:
            others = set(chosen) - set(own)
            spare = set(rng.sample([number for number in everything if number not in {*others, *own}], len(own)))
            for possible in (True, False) if own else (False,):
                members = sorted(others | (set(own) if possible else spare))
                tokens = library.read(one, members)
                foreign = tokens is one.tokens
                video, signals = library.first_hit(one, tokens, maxima[foreign], members, models)
                _, before = library.first_hit(one, tokens, maxima[foreign], members, shipped)
                right, group = possible and video == one.answer, one.answer or one.text
                is_foreign = isinstance(tokens, ForeignQuery)
                chance = shipped[is_foreign].confidence(before)
                logit = float(np.log(chance / (1 - chance)))
                result.append(Case(signals, possible, right, one.aim, len(members), group, is_foreign, logit))
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
    """Mask of right hits and of those that cannot be right, where words alone do not decide.

    Others may be wrong or answer by chance.
    """
    decided = np.array([case.signals.whole or not case.signals.understood for case in found])
    return np.array([case.right or not case.possible for case in found]) & ~decided


def within_bounds(found: Sequence[Case], logits: Any) -> Any:
    """The logits of cases within the bounds of their words, as the search gives them."""
    chances = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    chances = np.array([bounded(float(chance), case.signals) for chance, case in zip(chances, found, strict=True)])
    return np.log(chances / (1 - chances))


def cross_validated(found: Sequence[Case], signals: Sequence[str]) -> Any:
    """The logit of each case above the limit, from a regression that saw neither its document nor its queries.

    Queries in other languages have a regression and a limit of their own.
    """
    groups = {group: number % FOLDS for number, group in enumerate(sorted({case.group for case in found}))}
    parts = np.array([groups[case.group] for case in found])
    values, right, use = table(found, signals), np.array([case.right for case in found]), usable(found)
    foreign, readings = np.array([case.foreign for case in found]), table(found, READINGS)
    shown = table(found, ["shown"])[:, 0] if "shown" in signals else np.zeros(len(found))
    whole = table(found, ["whole"])[:, 0]
    logits = np.zeros(len(found))
    for kind in (False, True):
        for part in range(FOLDS):
            train, test = use & (parts != part) & (foreign == kind), (parts == part) & (foreign == kind)
            if test.any():
                inputs = np.hstack([values, readings]) if kind and signals == SIGNALS else values
                slopes, _ = fit(inputs[train], right[train])
                train = right & (parts != part) & (foreign == kind)
                limit, rise = limits(inputs[train] @ slopes, shown[train] * (not kind), whole[train])
                logits[test] = inputs[test] @ slopes + rise * shown[test] - limit
    return within_bounds(found, logits)


def limits(right: Any, shown: Any, whole: Any) -> tuple[float, float]:
    """The limit that right hits reach, and what those that pictures win get added, of their logits [n] and winners [n].

    :data:`KEPT` of all reach it, and :data:`SHOWN_KEPT` of those that pictures win. In other languages most do, and one
    limit is better. Hits that hold all words (``whole`` [n]) are kept whatever the limit is.
    """
    won = shown > 0
    right = np.where(whole > 0, right.max(), right)
    if not won.any() or won.all():
        return float(np.quantile(right, 1 - KEPT)), 0.0
    rest = min(1.0, (KEPT - SHOWN_KEPT * won.mean()) / (1 - won.mean()))
    limit = float(np.quantile(right[~won], 1 - rest))
    return limit, limit - float(np.quantile(right[won], 1 - SHOWN_KEPT))


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
    foreign = np.array([case.foreign for case in found])
    rows |= {"foreign": foreign, "English": ~foreign, "won by pictures": table(found, ["shown"])[:, 0] > 0}
    rows |= {
        f"foreign aim {aim}": foreign & np.array([case.aim == aim for case in found])
        for aim in sorted({one.aim for one in found if one.foreign})
    }
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
    found = [case for case in found if not case.foreign]
    values, real = table(found, SIGNALS), is_real(found)
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    train = usable(found) & ~real
    logits = values @ fit(values[train], right[train])[0]
    kept, whole = right & ~real, table(found, ["whole"])[:, 0]
    limit, _ = limits(logits[kept], np.zeros(kept.sum()), whole[kept])
    logits = within_bounds(found, logits - limit)
    row = measures(logits[real & right], logits[real & impossible], 0.0)
    return {**row, "intervals": intervals(found, logits, real, 0.0)}


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
    """The model over all cases; its bias puts the limit that right hits reach at :data:`FAIR_FROM`."""
    use, right, values = usable(found), np.array([case.right for case in found]), table(found, signals)
    slopes, _ = fit(values[use], right[use])
    shown, whole = table(found, ["shown", "whole"])[right].T
    limit, rise = limits((values @ slopes)[right], shown * ("shown" in signals and not found[0].foreign), whole)
    weights = {name: round(float(slope), 4) for name, slope in zip(signals, slopes, strict=True)}
    if rise:
        weights["shown"] = round(weights["shown"] + rise, 4)
    return ConfidenceModel(round(float(np.log(FAIR_FROM / (1 - FAIR_FROM))) - limit, 4), weights, null)


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
    more, words = things(options.data)
    documents, queries = documents + more, queries + words
    moments = [moment_of(document, document.id.partition("#")[0]) for document in documents]
    vectors = [rows for one in documents for rows in encoder.encode_documents([one])]
    names: list[list[str]] = [[] for _ in moments]
    labelled: list[tuple[str, str, str]] = []
    for number, of_document in enumerate(queries):
        for text, aim in of_document:
            if STOP_WORDS.issuperset(words_of(text)):
                continue  # a part of a sentence that asks for nothing
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
    english = [one for one in asked if not isinstance(one.tokens, ForeignQuery)]
    foreign = [one for one in asked if isinstance(one.tokens, ForeignQuery)]
    null = reference(library, english)
    nulls = (null, reference(library, foreign) if foreign else null)
    bare = (ConfidenceModel(0.0, {}, nulls[0]), ConfidenceModel(0.0, {}, nulls[1]))
    found = cases(library, asked, bare, (model_of(options.encoder), model_of(options.encoder, FOREIGN)))
    logits = cross_validated(found, SIGNALS)
    result: dict[str, Any] = {
        "encoder": options.encoder,
        "documents": len(documents),
        "pictures": sum(bool(document.frames) for document in documents),
        "real moments": len(real),
        "queries": len(asked),
        "signals": SIGNALS,
        "measures": report(found, logits),
        "before": report(found, np.array([case.shipped for case in found])),
        "alone": {name: measures(*split(found, table(found, [name])[:, 0])) for name in ("score", *SIGNALS)},
        "scale-free": report(found, cross_validated(found, SCALE_FREE))["all"],
    }
    if real:
        result["measures"]["real videos, unseen"] = unseen(found)
    printed = {f"{name}, before": row for name, row in result["before"].items()} | result["measures"]
    for name, row in {**printed, **{f"{name} alone": row for name, row in result["alone"].items()}}.items():
        parts = []
        for measure in ("AUROC", "refused", "kept"):
            bounds = "[{:.3f}, {:.3f}]".format(*row["intervals"][measure]) if "intervals" in row else ""
            parts.append(f"{measure} {row[measure]:.3f} {bounds}")
        print(f"{name:30} {'  '.join(parts)}  ({row['right']} right, {row['impossible']} impossible)")
    fits = {options.encoder: fitted([case for case in found if not case.foreign], SIGNALS, null)}
    if foreign:
        fits[options.encoder + FOREIGN] = fitted(
            [case for case in found if case.foreign], (*SIGNALS, *READINGS), nulls[1]
        )
    print(msgspec.json.encode(fits).decode())
    if options.fit:
        path = Path(confidence.__file__).with_name(confidence.MODELS)
        models = msgspec.json.decode(path.read_bytes(), type=dict[str, ConfidenceModel])
        models |= fits
        if options.default:
            models[confidence.DEFAULT] = fitted([case for case in found if not case.foreign], SCALE_FREE, null)
        models = dict(sorted(models.items()))
        path.write_bytes(msgspec.json.format(msgspec.json.encode(models), indent=1) + b"\n")
    (RESULTS / f"confidence-{options.encoder}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def split(found: Sequence[Case], values: Any) -> tuple[Any, Any, float]:
    """The values of right hits and of impossible queries, and the limit that 95 % of right hits reach."""
    right, impossible = np.array([case.right for case in found]), np.array([not case.possible for case in found])
    return values[right], values[impossible], threshold(found, values)


if __name__ == "__main__":
    main()
