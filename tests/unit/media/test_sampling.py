"""Close keyframes are decoded alone, the rest in sequence, and no stretch is left unseen."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.media.frames import FrameSampler

FPS = 10
CLOCK = SimpleNamespace(seconds=lambda pts: pts / FPS)


class Decoder:
    """Gives a frame for each packet, and counts the packets."""

    def __init__(self):
        self.decoded = 0

    def decode(self, packet):
        self.decoded += packet is not None
        return [] if packet is None else [packet]

    def flush_buffers(self):
        pass


def packet(number, *, key):
    return number / FPS, SimpleNamespace(is_keyframe=key, size=1, pts=number)


def packets(keys, *, seconds):
    """Packets of a stream without reordering; ``keys`` are the times of its keyframes."""
    numbers = {round(key * FPS) for key in keys}
    return [packet(number, key=number in numbers) for number in range(round(seconds * FPS))]


def sampled(stream, interval=2.0, longest_gap=4.0, **options):
    """The times of the frames, and the number of packets that had to be decoded for them."""
    decoder = Decoder()
    sampler = FrameSampler(stream, decoder, CLOCK, interval=interval, longest_gap=longest_gap, **options)
    return [time for time, _ in sampler.frames(-math.inf, stream[-1][0])], decoder.decoded


def test_close_keyframes_are_decoded_alone():
    times, decoded = sampled(packets(range(0, 100, 4), seconds=98))
    assert times == list(range(0, 97, 4))
    # Only the last group is decoded whole, since nothing follows it.
    assert decoded == 24 + 20


def test_a_stream_of_keyframes_is_thinned_out():
    times, decoded = sampled(packets([index / 10 for index in range(300)], seconds=30))
    assert max(after - before for before, after in pairwise(times)) <= 2.0
    assert decoded <= 20


def test_a_long_group_is_decoded_up_to_the_last_frame_that_is_wanted():
    times, decoded = sampled(packets([0, 10, 20], seconds=20.1))
    assert times == [0, 2, 4, 6, 10, 12, 14, 16, 20]
    assert decoded == 61 + 61 + 1


def test_a_keyframe_at_a_cut_between_two_regular_ones_is_taken():
    times, _ = sampled(packets([0, 2, 2.8, 5.2, 7.2], seconds=7.3))
    assert 2.8 in times


def test_without_any_keyframe_everything_is_decoded():
    _, decoded = sampled(packets([], seconds=30))
    assert decoded == 300


def test_where_keyframes_are_not_trusted_nothing_is_left_out():
    _, decoded = sampled(packets(range(30), seconds=30), trust_keys=False)
    assert decoded == 300


def test_little_is_looked_ahead():
    read, decoder = 0, Decoder()

    def endless():
        nonlocal read
        while True:
            yield packet(read, key=read % 100 == 0)
            read += 1

    frames = FrameSampler(endless(), decoder, CLOCK, interval=2.0, longest_gap=4.0).frames(-math.inf, 1e9)
    for _ in range(3):
        next(frames)
    assert read <= decoder.decoded + 41 + 1


@pytest.mark.slow
@given(
    keys=st.lists(st.integers(0, 600), max_size=60).map(lambda tenths: sorted({tenth / 10 for tenth in tenths})),
    interval=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    longest_gap=st.sampled_from([3.0, 4.0, 6.0]),
)
def test_any_stretch_longer_than_the_gap_has_a_sample(keys, interval, longest_gap):
    times, _ = sampled(packets(keys, seconds=60), interval, longest_gap)
    assert times == sorted(set(times))
    edges = [times[0], *times, 59.9]
    assert max(after - before for before, after in pairwise(edges)) <= longest_gap + 0.101
