"""The cascade ranks as scoring every stored vector does: any shape of library, any way of scoring, any kernel."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamr_cli import kernel
from clamr_cli.search import cascade, explain, search
from clamr_cli.search import scoring as maxsim
from clamr_cli.search.bounds import CpuScanner
from clamr_cli.search.cascade import Pool
from clamr_cli.search.exact import ranked, standings
from clamr_cli.search.ranking import TIE, View, score_all, video_of
from clamr_cli.store import CorruptCache, Store
from clamr_cli.store.scan_cache import scan_file
from clamr_cli.types import DIMENSION, Filters, Modality, SearchOptions
from tests.unit.search.test_search import put
from tests.unit.store.samples import ENCODER, moment, new, token_vectors, video
from tests.unit.words import WordEncoder
from tests.unit.words import moment as texts

FINGERPRINT = ENCODER.fingerprint
MODALITIES = [*Modality, None]
SCORINGS = ("token-max", "modality-max")


def fill(store, rng, sizes, *, shift=0.0, grouped=False, first=0):
    """Videos of one to three moments with so many vectors; ``shift`` pushes all of them to one side."""
    with store.writer("test"):
        made = {}
        number = first
        while sizes:
            count = int(rng.integers(1, 4))
            moments = [moment(f"v{number:04}", n) for n in range(min(count, len(sizes)))]
            store.put_video(video(f"v{number:04}"), moments)
            for one in moments:
                size = sizes.pop()
                rows = rng.standard_normal((size, DIMENSION)) + shift
                kinds = [MODALITIES[k] for k in rng.integers(0, len(MODALITIES), size)]
                made[one.moment_id] = token_vectors(rows, sorted(kinds, key=str) if grouped else kinds)
            number += 1
        store.put_vectors(ENCODER, made)


def query(rng, tokens, shift=0.0):
    return token_vectors(rng.standard_normal((tokens, DIMENSION)) + shift, [None] * tokens)


def views(rng):
    """Some ways of scoring: plain, weighted, some modalities only, one modality left out."""
    odd = {modality: float(weight) for modality, weight in zip(Modality, rng.uniform(0, 3, 5), strict=True)}
    weights = [
        maxsim.slot_weights({}),
        maxsim.slot_weights(odd),
        maxsim.slot_weights({}, frozenset([Modality.SPEECH, Modality.OCR])),
        maxsim.slot_weights({Modality.VIDEO: 0.0}),
    ]
    return [View(scoring, weight) for scoring in SCORINGS for weight in weights]


def assert_same(found, wanted):
    """The same ranking; scores that are ties up to rounding may stand either way."""
    assert len(found) == len(wanted)
    np.testing.assert_allclose([score for _, score in found], [score for _, score in wanted], atol=2 * TIE)
    scores = dict(wanted)
    for (one, _), (other, score) in zip(found, wanted, strict=True):
        assert one == other or abs(scores.get(one, score) - score) <= 2 * TIE


def rankings(scores, limit, of_each_video):
    ranking = scores.best_of_each_video() if of_each_video else scores.ranking()
    return list(islice(ranking, limit))


def check(store, rng, tokens, videos, *, limit=10):
    for view in views(rng):
        for of_each_video in (True, False):
            whole = score_all(store, ENCODER, tokens, videos, [view])
            found = ranked(store, ENCODER, tokens, videos, view, limit=limit, of_each_video=of_each_video)
            assert_same(rankings(found, limit, of_each_video), rankings(whole, limit, of_each_video))


def all_videos(store):
    return {facts.video_id for facts in store.catalog()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([0, 1, 1, 2, 5, 17, 64, 130]), min_size=1, max_size=40),
    tokens=st.integers(1, 40),
    shift=st.sampled_from([0.0, 0.5, 3.0]),
    against=st.booleans(),
    packed=st.integers(0, 2),
    limit=st.sampled_from([1, 3, 10, 100]),
)
def test_any_library_ranks_as_brute_force_does(seed, sizes, tokens, shift, against, packed, limit):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        half = len(sizes) // 2
        fill(store, rng, sizes[half:], shift=shift)
        if packed:
            store.pack_vectors(FINGERPRINT)
        fill(store, rng, sizes[:half], shift=shift, grouped=True, first=1000)
        if packed == 2:
            store.pack_vectors(FINGERPRINT)
        # Pushed to the other side, every similarity is negative.
        asked = query(rng, tokens, -shift if against else shift)
        videos = sorted(all_videos(store))
        check(store, rng, asked, videos, limit=limit)
        check(store, rng, asked, set(rng.choice(videos, rng.integers(0, len(videos) + 1), replace=False)), limit=limit)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library of 300 moments whose best scores lie close together."""
    rng = np.random.default_rng(7)
    store = new(tmp_path_factory.mktemp("library"))
    fill(store, rng, rng.integers(1, 120, 300).tolist())
    store.pack_vectors(FINGERPRINT)
    return store


PLAIN = View("token-max", maxsim.slot_weights({}))


@pytest.fixture(scope="module")
def judged(library):
    """Random queries, and their first moments by brute force."""
    rng = np.random.default_rng(11)
    asked = [query(rng, int(rng.integers(1, 33))) for _ in range(120)]
    videos = all_videos(library)
    return [(one, rankings(score_all(library, ENCODER, one, videos, [PLAIN]), 10, False)) for one in asked]


@pytest.mark.parametrize("path", kernel.paths())
def test_every_kernel_ranks_random_queries_as_brute_force_does(library, judged, path):
    videos = all_videos(library)
    for asked, wanted in judged:
        scanner = CpuScanner(asked.vectors, path=path)
        pool = Pool.fill(library.snapshot(FINGERPRINT), asked.vectors, videos, [PLAIN], scanner)
        assert_same(rankings(cascade.best(pool, 10, of_each_video=False), 10, False), wanted)


def test_few_moments_are_scored_exactly(library):
    rng = np.random.default_rng(5)
    target = dict(library.scan_vectors(FINGERPRINT))["v0003#0"]
    rows = target.vectors[rng.integers(0, len(target), 8)].astype(np.float32)
    view = View("token-max", maxsim.slot_weights({}))
    pool = Pool.fill(library.snapshot(FINGERPRINT), rows, None, [view], CpuScanner(rows))
    found = cascade.best(pool, 3, of_each_video=False)
    assert next(found.ranking())[0] == "v0003#0"
    assert len(found.moment_ids) < 100


def test_bounds_hold_for_every_moment(library):
    rng = np.random.default_rng(6)
    ways = views(rng)
    asked = query(rng, 16)
    whole = score_all(library, ENCODER, asked, all_videos(library), ways)
    exact = dict(zip(whole.moment_ids, whole.values, strict=True))
    pool = Pool.fill(library.snapshot(FINGERPRINT), asked.vectors, None, ways, CpuScanner(asked.vectors))
    values = np.stack([exact[moment_id] for moment_id in pool.moment_ids])
    everything = np.arange(len(values))
    before = pool.upper.copy()
    pool.tighten(everything)
    lower = pool.lower(everything)
    answering = np.isfinite(values)
    assert (np.isfinite(before) == answering).all()
    assert (before[answering] >= values[answering]).all()
    assert (pool.upper <= before).all()
    assert (pool.upper[answering] >= values[answering] - 1e-5).all()
    assert (lower[answering] <= values[answering] + 1e-5).all()


def test_equal_moments_stand_in_the_order_of_their_ids(tmp_path):
    store = new(tmp_path)
    rng = np.random.default_rng(2)
    same = token_vectors(rng.standard_normal((9, DIMENSION)), [Modality.OCR] * 9)
    with store.writer("test"):
        for video_id in ("b", "a", "c"):
            made = [moment(video_id, number) for number in (0, 2, 10)]
            store.put_video(video(video_id), made)
            store.put_vectors(ENCODER, {one.moment_id: same for one in made})
    store.pack_vectors(FINGERPRINT)
    view = View("token-max", maxsim.slot_weights({}))
    for limit in (1, 2, 4):
        scores = ranked(store, ENCODER, query(rng, 5), set("abc"), view, limit=limit, of_each_video=False)
        assert [name for name, _ in islice(scores.ranking(), limit)] == ["a#0", "a#2", "a#10", "b#0"][:limit]
        scores = ranked(store, ENCODER, query(rng, 5), set("abc"), view, limit=limit, of_each_video=True)
        assert [name for name, _ in islice(scores.best_of_each_video(), limit)] == ["a#0", "b#0", "c#0"][:limit]


def test_places_are_those_of_the_whole_ranking(library):
    rng = np.random.default_rng(9)
    videos = all_videos(library)
    asked, ways = query(rng, 12), views(rng)
    whole = score_all(library, ENCODER, asked, videos, ways)
    for video_id in rng.choice(sorted(videos), 12, replace=False).tolist():
        standing = standings(library, ENCODER, asked, videos, ways, video_id)
        assert standing.total == sum(1 for _ in whole.best_of_each_video())
        for view, found in enumerate(standing.places):
            ranking = enumerate(whole.best_of_each_video(view), 1)
            wanted = next(((rank, name, score) for rank, (name, score) in ranking if video_of(name) == video_id), None)
            if wanted is None:
                assert found is None
            else:
                assert (found.rank, found.moment_id) == wanted[:2]
                assert found.score == pytest.approx(wanted[2], abs=2 * TIE)


def test_a_writer_may_change_the_index_between_searches(tmp_path):
    store, writer = new(tmp_path), None
    rng = np.random.default_rng(4)
    fill(store, rng, [20] * 30)
    writer = Store.open(store.uri)
    for step in range(12):
        check(store, rng, query(rng, 6), all_videos(store), limit=4)
        videos = sorted(all_videos(store))
        if step % 4 == 0:
            fill(writer, rng, [15] * 6, first=1000 + 10 * step)
        elif step % 4 == 1:
            writer.pack_vectors(FINGERPRINT, join=step > 6)
        elif step % 4 == 2:
            with writer.writer("test"):
                writer.remove_videos(videos[:3])
        else:
            with writer.writer("test"):
                writer.finish()


def flip(store, share):
    """Change a byte of the codes of the only file."""
    (path,) = Path(store.uri).glob("scan/*/*/codes.npy")
    with path.open("r+b") as out:
        out.seek(int(share * path.stat().st_size))
        byte = out.read(1)[0]
        out.seek(-1, 1)
        out.write(bytes([byte ^ 0x40]))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 0.99])
@pytest.mark.parametrize("block", [32, 1 << 15])
def test_a_search_over_a_damaged_scan_cache_is_right(tmp_path, monkeypatch, share, block):
    monkeypatch.setattr(scan_file, "BLOCK", block)
    store = new(tmp_path)
    rng = np.random.default_rng(4)
    fill(store, rng, [40] * 50)
    store.pack_vectors(FINGERPRINT)
    store = Store.open(store.uri)
    flip(store, share)
    asked = query(rng, 6)
    # Either the file is not mapped at all, or its first use says what it is.
    if store.snapshot(FINGERPRINT).files:
        with pytest.raises(CorruptCache):
            Pool.fill(store.snapshot(FINGERPRINT), asked.vectors, None, views(rng)[:1], CpuScanner(asked.vectors))
    check(store, rng, asked, all_videos(store))
    standings(store, ENCODER, asked, all_videos(store), views(rng), "v0000")


def test_codes_that_are_not_those_of_the_stored_vectors_are_noticed_by_their_scores(tmp_path):
    """A file that is whole but wrong, as no checksum can tell: every score is above its bound."""
    store = new(tmp_path)
    rng = np.random.default_rng(4)
    fill(store, rng, [40] * 20)
    real = kernel.quantize

    def wrong(vectors):
        return real(np.ascontiguousarray(-vectors))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "quantize", wrong)
        store.pack_vectors(FINGERPRINT)
    target = dict(store.scan_vectors(FINGERPRINT))["v0002#0"]
    asked = token_vectors(target.vectors[:6].astype(np.float32), [None] * 6)
    view = View("token-max", maxsim.slot_weights({}))
    pool = Pool.fill(store.snapshot(FINGERPRINT), asked.vectors, None, [view], CpuScanner(asked.vectors))
    with pytest.raises(CorruptCache, match="above its bound"):
        cascade.best(pool, 50, of_each_video=False)
    found = ranked(store, ENCODER, asked, all_videos(store), view, limit=3, of_each_video=False)
    assert next(found.ranking())[0] == "v0002#0"


def test_search_and_explain_say_the_same_with_and_without_packed_vectors(tmp_path):
    store = new(tmp_path)
    encoder = WordEncoder(similar={"hound": {"dog": 0.8}})
    put(store, encoder, "said", texts("said", speech=["good morning", "a dog barks"]), language="en")
    put(store, encoder, "shown", texts("shown", frames=1), texts("shown", 1, speech=["dog barks"]), frames=["tree"])
    put(store, encoder, "written", texts("written", ocr=["the cat", "lost"], metadata=["A cat"]))
    options = [
        SearchOptions(),
        SearchOptions(moments=True, limit=2),
        SearchOptions(scoring="modality-max"),
        SearchOptions(modalities=(Modality.SPEECH,)),
        SearchOptions(weights={Modality.OCR: 3.0, Modality.VIDEO: 0.0}),
        SearchOptions(filters=Filters(language="en")),
    ]
    before = [search(store, encoder, "dog barks", one) for one in options]
    why = [explain(store, encoder, "said", "dog barks", one) for one in options]
    store.pack_vectors(encoder.info.fingerprint)
    assert store.snapshot(encoder.info.fingerprint).uncovered_rows == 0
    assert [search(store, encoder, "dog barks", one) for one in options] == before
    assert [explain(store, encoder, "said", "dog barks", one) for one in options] == why
