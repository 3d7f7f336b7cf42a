"""How composed documents are searched by the evaluation of the recipe."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from clamr_cli.train.mini.evaluate import EncodedDocuments, match
from clamr_cli.types import MODALITY_IDS, Document, ForeignQuery, Modality, Segment, Span, TokenVectors
from tests.unit.words import WordEncoder, arrays

WHOLE = Span(0.0, 10.0)


class Translating(WordEncoder):
    """Takes every query for one in another language, of which "tree" is the translation."""

    def encode_documents(self, documents: list[Document]) -> list[TokenVectors]:
        return [
            arrays([self.vector(word) for word in words], [MODALITY_IDS[Modality.SPEECH]] * len(words))
            for words in (document.speech[0].text.split() for document in documents)
        ]

    def encode_queries(self, queries: list[str]) -> list[TokenVectors]:
        (wrong,) = super().encode_queries(["tree"])
        parts = {each.name: getattr(wrong, each.name) for each in fields(wrong)}
        return [
            ForeignQuery(**parts, as_written=tokens, certain=True, translation=0, sentence=0)
            for tokens in super().encode_queries(queries)
        ]


def test_queries_are_read_and_ordered_as_by_a_search() -> None:
    texts = ("old tree", "notre dame", "siesta")
    documents = [Document(str(n), WHOLE, speech=(Segment(WHOLE, text),)) for n, text in enumerate(texts)]
    library = EncodedDocuments(Translating(), documents)
    pairs = [("notre dame", 1), ("siesta", 2), ("dame siesta", 2), ("tree", 0)]
    assert [one.rank for one in match(library, pairs)] == [0, 0, 1, 0]
    (query,) = library.read(["siesta"])
    assert np.argmax(library.order("siesta", query, np.array([3.0, 2.0, 1.0]))) == 2
