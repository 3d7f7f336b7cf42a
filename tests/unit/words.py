"""An encoder for tests that is easy to check by hand: one axis per word, one vector per word, same word, cosine 1."""

from __future__ import annotations

import re

import numpy as np

from clamr_cli.types import DIMENSION, MODALITY_IDS, EncoderInfo, Modality, MomentRecord, Segment, Span, TokenVectors

WORD = re.compile(r"\w+")
TEMPLATE_AXIS = DIMENSION - 1


class WordEncoder:
    """Words are axes, numbered as they come. ``similar`` sets cosines between words that are not the same."""

    def __init__(self, name="words", similar=None):
        self.info = EncoderInfo(name, f"{name}-fingerprint")
        self.axes = {}
        self.similar = similar or {}
        self.asked = []

    def vector(self, word):
        vector = np.zeros(DIMENSION, np.float32)
        vector[self._axis(word)] = 1.0
        for other, cosine in self.similar.get(word, {}).items():
            vector[self._axis(word)], vector[self._axis(other)] = np.sqrt(1 - cosine**2), cosine
        return vector

    def _axis(self, word):
        return self.axes.setdefault(word.lower(), len(self.axes))

    def encode_queries(self, queries):
        self.asked += queries
        found = []
        for query in queries:
            words = list(WORD.finditer(query))
            found.append(
                arrays([self.vector(w.group()) for w in words], [0] * len(words), offsets=[w.span() for w in words])
            )
        return found

    def encode_documents(self, documents):
        raise NotImplementedError

    def encode(self, moment, frames=()):
        """The vectors of a moment whose frames show the given words (one text per frame)."""
        vectors, ids, spans, segments, offsets = [], [], [], [], []
        tracks = [(Modality.VIDEO, list(frames), moment.frame_spans)]
        for modality, parts in (
            (Modality.OCR, moment.ocr), (Modality.SPEECH, moment.speech), (Modality.METADATA, moment.metadata)
        ):  # fmt: skip
            tracks.append((modality, [part.text for part in parts], [part.span for part in parts]))
        for modality, texts, times in tracks:
            for number, text in enumerate(texts):
                for word in WORD.finditer(text):
                    vectors.append(self.vector(word.group()))
                    ids.append(MODALITY_IDS[modality])
                    spans.append((times[number].start, times[number].end))
                    segments.append(number)
                    offsets.append((0, 0) if modality is Modality.VIDEO else word.span())
        return arrays(vectors, ids, spans, segments, offsets)


def arrays(vectors, ids, spans=None, segments=None, offsets=None):
    count = len(vectors)
    return TokenVectors(
        np.array(vectors, np.float32).reshape(count, DIMENSION),
        np.array(ids, np.uint8),
        np.array(spans if spans is not None else [(0, 0)] * count, np.float32).reshape(count, 2),
        np.array(segments if segments is not None else [-1] * count, np.int32),
        np.array(offsets if offsets is not None else [(0, 0)] * count, np.int32).reshape(count, 2),
        np.full(count, -1, np.int32),
    )


def moment(video_id="v1", number=0, *, frames=0, speech=(), ocr=(), metadata=(), start=0.0, length=60.0):
    """A moment whose speech, text and frames follow each other in steps of ten seconds; metadata spans all of it."""
    span = Span(start, start + length)

    def steps(texts):
        return tuple(
            Segment(Span(start + 10.0 * i, start + 10.0 * i + 10.0), text, "test") for i, text in enumerate(texts)
        )

    times = tuple(start + 10.0 * i + 5.0 for i in range(frames))
    spans = tuple(Span(time - 5.0, time + 5.0) for time in times)
    notes = tuple(Segment(span, text, "title") for text in metadata)
    return MomentRecord(f"{video_id}#{number}", video_id, span, times, spans, steps(speech), steps(ocr), notes)
