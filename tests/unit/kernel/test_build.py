"""The package without a compiler, with one, and under the sanitizers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import clamr_cli
from clamr_cli.kernel import VERSION, build
from tests.unit.kernel.conftest import HAS_COMPILER, SOURCE

ROOT = Path(__file__).resolve().parents[3]
SANITIZED = ("-O1", "-g", "-std=c11", "-fPIC", "-shared", "-ffp-contract=off", "-fno-omit-frame-pointer")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the kernel needs, without a library."""
    package = tmp_path / "tree" / "clamr_cli"
    shutil.copytree(SOURCE.parent, package / "kernel", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("__init__.py", "errors.py", "types.py"):
        shutil.copy(Path(clamr_cli.__file__).with_name(name), package)
    tests = tmp_path / "tree" / "tests" / "unit" / "kernel"
    shutil.copytree(Path(__file__).parent, tests, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (tests.parent, tests.parent.parent):
        (folder / "__init__.py").touch()
    return tmp_path / "tree"


def _python(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), **variables}
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_library_numpy_serves(tree: Path) -> None:
    script = (
        "import numpy as np; from clamr_cli import kernel\n"
        "vectors, ranges = np.eye(128, dtype=np.float16)[:5], np.array([[0, 2], [2, 5]])\n"
        "held = kernel.quantize(vectors)\n"
        "query = vectors[3:4].astype(np.float32)\n"
        "bounds = kernel.bound(query, held.codes, held.scales, held.residuals, ranges, max_norm=held.max_norm)\n"
        "print(kernel.backends(), kernel.exact(query, vectors, ranges).tolist(), bounds.round(3).tolist())"
    )
    ended = _python(tree, "-c", script)
    assert ended.stdout == "('numpy',) [[0.0], [1.0]] [[0.0], [1.0]]\n", ended.stderr


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(100)])
def test_a_damaged_library_is_passed_over(tree: Path, content: bytes) -> None:
    (tree / "clamr_cli" / "kernel" / build.LIBRARY).write_bytes(content)
    ended = _python(tree, "-c", "from clamr_cli import kernel; print(kernel.backends())")
    assert ended.stdout == "('numpy',)\n", ended.stderr


@pytest.mark.slow
@needs_compiler
def test_a_library_of_another_version_is_passed_over(tree: Path) -> None:
    folder = tree / "clamr_cli" / "kernel"
    source = folder / "maxsim.c"
    version = f"return {VERSION}; }}"
    assert version in source.read_text("utf-8")
    source.write_text(source.read_text("utf-8").replace(version, f"return {VERSION + 1}; }}"), "utf-8")
    assert build.compile_library(source, folder / build.LIBRARY) == ""
    assert _python(tree, "-c", "from clamr_cli import kernel; print(kernel.backends())").stdout == "('numpy',)\n"


def _sanitizer_runtime() -> str:
    """The library that must be loaded before Python's own, or an empty string."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return ""
    name = "libasan.so"
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    path = found.stdout.strip()
    return path if Path(path).is_absolute() and Path(path).exists() else ""


@pytest.mark.slow
@needs_compiler
def test_nothing_is_read_or_written_where_it_must_not(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _sanitizer_runtime()
    if not runtime:
        pytest.skip("gcc's address sanitizer is not installed")
    monkeypatch.setenv("CC", "gcc")
    kernel = tree / "clamr_cli" / "kernel"
    assert build.compile_library(kernel / "maxsim.c", kernel / build.LIBRARY, (*SANITIZED, *SANITIZERS)) == ""
    # With Python's own allocator an array would lie in a larger block, and a step beyond it would go unnoticed.
    ended = _python(
        tree,
        *("-m", "tests.unit.kernel.fuzz", "25", "11"),
        LD_PRELOAD=runtime,
        ASAN_OPTIONS="detect_leaks=0",
        PYTHONMALLOC="malloc",
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
    assert ended.stdout.startswith("25 rounds on ")


@pytest.mark.slow
@needs_compiler
def test_the_sanitizers_would_have_noticed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _sanitizer_runtime()
    if not runtime:
        pytest.skip("gcc's address sanitizer is not installed")
    monkeypatch.setenv("CC", "gcc")
    kernel = tree / "clamr_cli" / "kernel"
    source = kernel / "maxsim.c"
    check = "end > job->vector_count"
    assert check in source.read_text("utf-8")
    source.write_text(source.read_text("utf-8").replace(check, "0"), "utf-8")
    assert build.compile_library(source, kernel / build.LIBRARY, (*SANITIZED, *SANITIZERS)) == ""
    variables = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    ended = _python(tree, "-m", "tests.unit.kernel.fuzz", "3", "11", **variables)
    assert ended.returncode != 0
    assert "AddressSanitizer" in ended.stderr


@pytest.mark.parametrize("compiler", ["false", "true", "no-such-compiler"])
def test_a_compiler_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert build.compile_library(SOURCE, tmp_path / build.LIBRARY) != ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    assert "nowhere" in build.compile_library(SOURCE, tmp_path / "nowhere" / build.LIBRARY)


def _wheel(folder: Path, **variables: str) -> list[str]:
    """Build a wheel of this source with the hook; what it holds of the kernel, its own name first."""
    script = (
        "import sys; from hatchling.builders.wheel import WheelBuilder\n"
        "print(next(WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=['standard'])))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(folder)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    wheel = Path(ended.stdout.splitlines()[-1])
    names = zipfile.ZipFile(wheel).namelist()
    return [wheel.name, *(name for name in names if name.startswith("clamr_cli/kernel/")), ended.stdout + ended.stderr]


@pytest.mark.slow
@needs_compiler
def test_the_wheel_holds_the_library_and_is_for_this_platform(tmp_path: Path) -> None:
    name, *held, _ = _wheel(tmp_path)
    assert name.endswith(build.platform_tag() + ".whl")
    assert f"clamr_cli/kernel/{build.LIBRARY}" in held


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_pure_and_says_so(tmp_path: Path) -> None:
    name, *held, said = _wheel(tmp_path, CC="false")
    assert name.endswith("py3-none-any.whl")
    assert f"clamr_cli/kernel/{build.LIBRARY}" not in held
    assert "clamr_cli/kernel/maxsim.c" in held
    assert "numpy will serve instead" in said


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("nm") is None, reason="reads symbols of Linux")
def test_the_library_checks_its_stack(tmp_path: Path) -> None:
    assert build.compile_library(SOURCE, tmp_path / build.LIBRARY) == ""
    named = subprocess.run(["nm", "-D", tmp_path / build.LIBRARY], capture_output=True, text=True, check=True)
    assert "__stack_chk_fail" in named.stdout
