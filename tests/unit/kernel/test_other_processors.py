"""The backends of 64-bit ARM, emulated: built with a cross compiler, they give what the reference gives here."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clamr_cli import kernel
from tests.unit.kernel import reference
from tests.unit.kernel.conftest import SOURCE
from tests.unit.kernel.draws import collections, ranges

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
NUMBERS = {"scalar": 0, "neon": 3, "neon-dotprod": 4}
pytestmark = pytest.mark.skipif(
    not COMPILER or not EMULATOR, reason="needs aarch64-linux-gnu-gcc and qemu-aarch64 to emulate ARM"
)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("arm") / "driver"
    flags = ("-O3", "-std=c11", "-static", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE.parent}")
    source = Path(__file__).with_name("driver.c")
    subprocess.run([str(COMPILER), *flags, str(source), "-o", str(made)], check=True)
    return made


def _emulated(program: Path, *parts: NDArray[np.generic], processor: str = "max") -> bytes:
    data = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    command = [str(EMULATOR), "-cpu", processor, str(program)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def _head(*numbers: int) -> NDArray[np.int64]:
    return np.array([*numbers, *[0] * (8 - len(numbers))], np.int64)


@pytest.mark.parametrize(("processor", "usable"), [("max", {0, 3, 4}), ("cortex-a72", {0, 3})])
def test_paths_are_those_of_the_processor(program: Path, processor: str, usable: set[int]) -> None:
    found = int.from_bytes(_emulated(program, _head(0, -1), processor=processor), "little")
    assert {number for number in range(8) if found >> number & 1} == usable


@pytest.mark.parametrize("path", NUMBERS)
@settings(deadline=None, max_examples=25)
@given(st.data(), collections(), st.sampled_from([1, 2]))
def test_bounds_have_the_same_bits_on_arm(program: Path, path: str, data: st.DataObject, drawn, planes: int) -> None:
    query, vectors = drawn
    pairs, held = data.draw(ranges(len(vectors))), kernel.quantize(vectors)
    tokens = kernel.bound_tokens(query, planes, held.max_norm, 1)
    head = _head(1, NUMBERS[path], len(query), len(vectors), len(pairs), planes, 1)
    query_parts = (tokens.codes, tokens.steps, tokens.weights, tokens.offsets)
    found = _emulated(program, head, *query_parts, held.codes, held.scales, held.residuals, pairs)
    expected = reference.bound(query, held, pairs, planes)
    assert np.array_equal(np.frombuffer(found, np.float32).reshape(expected.shape), expected)


@pytest.mark.parametrize("path", NUMBERS)
@settings(deadline=None, max_examples=25)
@given(st.data(), collections())
def test_exact_maxima_are_within_the_bounds_on_arm(program: Path, path: str, data: st.DataObject, drawn) -> None:
    query, vectors = drawn
    pairs, held = data.draw(ranges(len(vectors))), kernel.quantize(vectors)
    head = _head(0, NUMBERS[path], len(query), len(vectors), len(pairs), 1, 0)
    nothing, none = np.zeros((3, len(query)), np.float32), np.zeros((2, len(vectors)), np.float32)
    found = _emulated(program, head, query, nothing, vectors, none, pairs)
    score = np.frombuffer(found, np.float32).reshape(len(pairs), len(query))
    assert (reference.bound(query, held, pairs, 1, -1) <= score).all()
    assert (score <= reference.bound(query, held, pairs, 1)).all()
    native = kernel.exact(query, vectors, pairs, backend="numpy")
    allowed = 1e-5 * np.linalg.norm(query.astype(np.float64), axis=1) * held.max_norm + 1e-37
    assert np.array_equal(np.isneginf(score), np.isneginf(native))
    off = np.abs(np.where(np.isneginf(score), 0.0, score) - np.where(np.isneginf(native), 0.0, native))
    assert (off <= 2 * allowed).all()
