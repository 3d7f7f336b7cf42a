from pathlib import Path

import numpy as np

from clamr_cli.index.outputs import Take, document_of, moment_of, with_sound
from clamr_cli.index.spool import Decoded, Spool
from clamr_cli.types import Document, Frame, MediaInfo, Segment, Span

MEDIA = MediaInfo("mp4", 70.0, 70.0, None, 64, 48, 0, 25.0, "h264", 0)


def test_an_encoder_that_listens_gets_the_first_half_minute_of_each_moment(tmp_path: Path):
    spool = Spool(tmp_path / "a")
    spool.begin()
    ramp = np.arange(65 * 16000, dtype=np.float32) / (65 * 16000)
    list(spool.write_audio([ramp]))
    take = Take(Decoded(MEDIA, samples=len(ramp)), (), spool)
    documents = [Document("v#0", Span(0, 40)), Document("v#1", Span(40, 68)), Document("v#2", Span(68, 70))]
    first, second, silent = with_sound(documents, take)
    assert first.audio is not None
    assert (first.audio.span, len(first.audio.samples)) == (Span(0, 30), 30 * 16000)
    assert second.audio is not None
    assert second.audio.samples[0] == spool.audio()[40 * 16000]
    assert len(second.audio.samples) == 25 * 16000
    assert silent.audio is None


def test_without_sound_documents_stay_as_they_are():
    documents = [Document("v#0", Span(0, 40))]
    assert with_sound(documents, Take(Decoded(MEDIA), (), None)) == documents


def test_a_stored_moment_becomes_its_document_again():
    frame = Frame(12.5, Span(10, 20), b"jpeg")
    made = Document("v#1", Span(10, 20), (frame,), (Segment(Span(11, 12), "hi"),), (), (Segment(Span(10, 20), "t"),))
    moment = moment_of(made, "v")
    assert document_of(moment, {12.5: Frame(12.5, Span(0, 99), b"jpeg")}) == made
    assert document_of(moment, {}).frames == ()
