"""Scores weights of the embedded encoder on what no training step has seen: ``python -m tests.bench.mini DATA [FILE]``.

DATA is the folder that ``clamr train --recipe mini`` learns from; FILE is what it wrote, else shipped weights count.
Prints one measure a line; see ``clamr_cli.train.mini.evaluate``. With ``--against FORMER`` it prints the recalls of
both files and the 95 % interval of the difference over queries (paired bootstrap).

With ``--languages`` it prints how queries in other languages do instead, with the multilingual text model and without
it, and the 95 % interval of the difference of nDCG@10 over queries (paired bootstrap): held-out photos by the German
and French translations of their captions (Multi30k), sentences to their English translation as speech, German
and French speech by two of its words and one of another sentence, with ``--stamps DIR`` (the files of the Debian
package tuxpaint-stamps-default) pictures by descriptions in seven languages, and one to three words in nine languages
(``words.tsv``) for pictures of things and for English texts, in documents with other texts. The same library has names,
loan words and words of programs (``names.tsv``), which are not foreign: their lines also tell how often the modality
that has them wins.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from clamr_cli.config import default_cache
from clamr_cli.encoders.mini.encoder import Backbones, MiniEncoder
from clamr_cli.encoders.mini.multilingual import MultilingualHeads
from clamr_cli.encoders.mini.networks import WEIGHTS, Heads, ImageFeatures
from clamr_cli.text import content_words
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import entries, photos, split_entries, split_photos
from clamr_cli.train.mini.evaluate import EncodedDocuments, evaluate, gains, match_held_out
from clamr_cli.types import MODALITY_OF_ID, Document, Frame, Segment, Span
from tests.bench.process import counted

WHOLE: Final = Span(0.0, 10.0)
STAMPS: Final = ("en", "de", "fr", "es", "ja", "zh_CN", "ko", "ru")
STAMPS_IN_DATA: Final = "train/more/tuxstamps"

WORDS: Final = Path(__file__).parent / "words.tsv"
"""Classes of Caltech-101, or texts, and what people would type to find them, written before it was scored."""

NAMES: Final = Path(__file__).parent / "names.tsv"
"""Words that are of no language or of any, and a text that has each."""

NAMED: Final = "names "
"""Before the modality that has them: queries of that table."""

_MORE_DOCUMENTS: Final = 90

Queries = Sequence[tuple[str, int]]
"""Texts, each with the number of the document that answers."""


class OncePerPicture(Backbones):
    """The frozen models of several encoders that encode the same documents in turn: a picture is seen once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seen = functools.cache(super().image_features)

    def image_features(self, jpegs: Sequence[bytes]) -> ImageFeatures:
        """Features of images, in order."""
        return self._seen(tuple(jpegs))


def parallel(data: Path, language: str) -> list[str]:
    """The sentences of Multi30k in one of its languages."""
    with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
        return [line.strip() for line in lines]


def plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def tasks(
    data: Path, stamps: Path | None, limit: int, *, only_words: bool = False
) -> Iterator[tuple[str, list[Document], dict[str, Queries]]]:
    """Names, documents and queries by language."""
    if only_words:
        yield "words", *word_task(data)
        return
    sentences = {language: parallel(data, language) for language in ("en", "de", "fr")}
    rows = {plain(text): number for number, text in reversed(list(enumerate(sentences["en"])))}
    every = photos(data)
    _, held_out = split_photos(every)
    documents, queries = [], {language: [] for language in sentences}
    for number, index in enumerate(held_out):
        frame = Frame(5.0, WHOLE, (data / "train/flickr8k_1k/images" / every[index].name).read_bytes())
        documents.append(Document(str(number), WHOLE, frames=(frame,)))
        found = [rows[key] for caption in every[index].captions if (key := plain(caption)) in rows]
        for language, texts in sentences.items():
            queries[language] += [(texts[row], number) for row in found]
    yield "photos", documents, queries
    # The sentences of the end: the recipe draws few of all 29,000.
    texts = list(zip(*(sentences[language][-limit:] for language in sentences), strict=True))
    speech = [Document(str(n), WHOLE, speech=(Segment(WHOLE, each[0]),)) for n, each in enumerate(texts)]
    yield (
        "speech",
        speech,
        {"de": [(t[1], n) for n, t in enumerate(texts)], "fr": [(t[2], n) for n, t in enumerate(texts)]},
    )
    rng, quoted, quotes = random.Random(3), [], {}
    for column, language in ((1, "de"), (2, "fr")):
        own = [each[column] for each in texts[: limit // 2]]
        for text in own:
            words, more = content_words(text), content_words(rng.choice(own))
            start = rng.randrange(max(1, len(words) - 2))
            quote = " ".join([rng.choice(more), *words[start : start + 2]])
            quotes.setdefault(language, []).append((quote, len(quoted)))
            quoted.append(Document(str(len(quoted)), WHOLE, speech=(Segment(WHOLE, text),)))
    yield "quotes", quoted, quotes
    if stamps:
        yield "stamps", *stamp_task(data, stamps)
    yield "words", *word_task(data)


def word_task(data: Path) -> tuple[list[Document], dict[str, Queries]]:
    """Documents that each have what one query of the two files asks for, among other texts and pictures, and others.

    No picture was trained on, and no text.
    """
    all_photos, texts = photos(data), entries(data)
    (_, held_out), (_, held_out_texts) = split_photos(all_photos), split_entries(texts)
    config = CompositionConfig(related=0.0, channel=0.0, both=1.0)
    composer = Composer(all_photos, held_out, texts, held_out_texts, random.Random(7), config)
    documents: list[Document] = []
    queries: dict[str, list[tuple[str, int]]] = {}

    def add(picture: Path | None, modality: str = "", text: str = "") -> None:
        composed = composer.compose(max_images=0 if picture else 1)
        segments = {
            each.value: [Segment(WHOLE, texts[part.entry].text) for part in parts]
            for each, parts in composed.texts.items()
        }
        if modality:
            segments.setdefault(modality, []).append(Segment(WHOLE, text))
        for index, _ in composed.images:
            picture = data / "train/flickr8k_1k/images" / all_photos[index].name
        frames = (Frame(5.0, WHOLE, picture.read_bytes()),) if picture else ()
        parts = {name: tuple(each) for name, each in segments.items()}
        documents.append(Document(str(len(documents)), Span(0.0, 60.0), frames=frames, **parts))

    for row in rows_of(WORDS):
        name, modality, text = row.pop("class"), row.pop("modality"), row.pop("text")
        add(sorted((data / "train/caltech101" / name).glob("*.jpg"))[-3] if name else None, modality, text)
        for language, query in row.items():
            queries.setdefault(language, []).append((query, len(documents) - 1))
    for row in rows_of(NAMES):
        add(None, row["modality"], row["text"])
        queries.setdefault(NAMED + row["modality"], []).append((row["query"], len(documents) - 1))
    for _ in range(_MORE_DOCUMENTS):
        add(None)
    return documents, queries


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a table whose columns tabs part."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def stamp_task(data: Path, stamps: Path) -> tuple[list[Document], dict[str, Queries]]:
    """Stamps with a description in every language, one for each English description."""
    documents, queries, seen = [], {language: [] for language in STAMPS}, set()
    for file in sorted(stamps.rglob("*.txt")):
        picture = data / STAMPS_IN_DATA / ("_".join(file.relative_to(stamps).with_suffix("").parts) + ".jpg")
        first, *lines = file.read_text("utf-8", "replace").splitlines() or [""]
        texts = {"en": first} | dict(line.split(".utf8=", 1) for line in lines if ".utf8=" in line)
        if first in seen or not picture.exists() or not all(texts.get(language) for language in STAMPS):
            continue
        seen.add(first)
        for language in STAMPS:
            queries[language].append((texts[language], len(documents)))
        documents.append(Document(str(len(documents)), WHOLE, frames=(Frame(5.0, WHOLE, picture.read_bytes()),)))
    return documents, queries


def ranked(library: EncodedDocuments, pairs: Queries, what: str) -> np.ndarray:
    """Number of documents before each answer; of those that score the same, half."""
    ranks = []
    for text, answer in counted(pairs, what):
        (query,) = library.read([text])
        scores = library.order(text, query, library.maxima(query).sum(axis=0).round(5))
        ranks.append((scores > scores[answer]).sum() + ((scores == scores[answer]).sum() - 1) / 2)
    return np.array(ranks)


def won(library: EncodedDocuments, pairs: Queries, modality: str) -> float:
    """Share of queries whose answer is won by a modality."""
    wins = 0
    for text, answer in pairs:
        (query,), document = library.read([text]), library.vectors[answer]
        values = query.vectors @ document.vectors.T
        sums = {
            name: values[:, document.modality_ids == number].max(axis=1).sum()
            for number, name in MODALITY_OF_ID.items()
            if (document.modality_ids == number).any()
        }
        wins += max(sums, key=lambda name: sums[name]) == modality
    return wins / len(pairs)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of a paired bootstrap over queries."""
    rng = np.random.default_rng(0)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(2000)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def languages(
    encoders: dict[str, MiniEncoder], parts: Iterable[tuple[str, list[Document], dict[str, Queries]]]
) -> None:
    """Print the recalls of each task and language with every encoder."""
    for name, documents, queries in parts:
        libraries = {kind: EncodedDocuments(encoder, documents) for kind, encoder in encoders.items()}
        for language, pairs in queries.items():
            ranks = {
                kind: ranked(library, pairs, f"{name}: queries, {language}, {kind}")
                for kind, library in libraries.items()
            }
            both, without = ranks.values()
            low, high = interval(gains(both) - gains(without))
            recalls = ", ".join(f"{k} R@1 {(r < 1).mean():.3f} R@10 {(r < 10).mean():.3f}" for k, r in ranks.items())
            change = f"nDCG@10 {gains(without).mean():.3f} -> {gains(both).mean():.3f} [{low:+.3f}, {high:+.3f}]"
            if language.startswith(NAMED):
                wins = [won(library, pairs, language[len(NAMED) :]) for library in libraries.values()]
                change += "; modality {1:.3f} -> {0:.3f}".format(*wins)
            print(
                f"{name} {language}: {recalls}; {change}; {len(pairs)} queries, {len(documents)} documents", flush=True
            )


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?")
    parser.add_argument("--against", type=Path, metavar="FORMER", help="another file, to compare FILE with")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    parser.add_argument("--languages", action="store_true", help="queries in other languages instead")
    parser.add_argument("--stamps", type=Path, metavar="DIR", help="files of tuxpaint-stamps-default")
    parser.add_argument("--words", action="store_true", help="with --languages, the last of its parts alone")
    parser.add_argument("--limit", type=int, default=1000, help="sentences at most")
    parser.add_argument("--threads", type=int, default=0, help="of the image model")
    options = parser.parse_args()
    with resources.as_file(resources.files("clamr_cli.encoders.mini") / WEIGHTS) as shipped:
        file = options.file or shipped
        if options.languages:
            backbones = OncePerPicture(options.cache, device="cpu", threads=options.threads)
            both = MiniEncoder(backbones, Heads.load(file), MultilingualHeads.load(file.parent))
            parts = tasks(options.data, options.stamps, options.limit, only_words=options.words)
            languages({"both": both, "without": both.for_earlier()}, parts)
            return
        if options.against:
            compare(options.against, file, options.data, options.cache, options.threads)
            return
        for name, value in evaluate(file, options.data, options.cache).items():
            print(f"{name}: {value:g}")


def compare(former: Path, file: Path, data: Path, cache: Path, threads: int) -> None:
    """Print the recalls of two files, and the 95 % interval of the differences over queries."""
    backbones = Backbones(cache, device="cpu", threads=threads)
    both = [match_held_out(each, data, backbones) for each in counted((former, file), "files")]
    for name in both[0]:
        before, after = (np.array([one.rank for one in matches[name]]) for matches in both)
        measures = {f"R@{k}": (before < k, after < k) for k in (1, 10)} | {"nDCG@10": (gains(before), gains(after))}
        changes = []
        for measure, (old, new) in measures.items():
            low, high = interval(new.astype(float) - old)
            changes.append(f"{measure} {old.mean():.3f} -> {new.mean():.3f} [{low:+.3f}, {high:+.3f}]")
        print(f"{name}: {', '.join(changes)}; {len(before)} queries", flush=True)


if __name__ == "__main__":
    main()
