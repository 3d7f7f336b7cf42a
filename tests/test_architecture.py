"""Rules of the package: layers, import cost, size, docstrings, and which modules may print or read the environment."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clamr_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 55_344
MOST_FILES = 193
HEAVY = {"numpy", "torch", "lancedb", "lance", "pyarrow", "av", "rich", "transformers", "easyocr", "faster_whisper"}
PRINTERS = {"cli", "render", "demo", "__main__.py"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8")))


def test_imports_go_down_the_layers() -> None:
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph("clamr_cli", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the circle


def test_the_package_stays_small() -> None:
    """Raise a limit only in a commit whose body gives the reason."""
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in MODULES)
    assert lines <= MOST_LINES
    assert len(MODULES) <= MOST_FILES


@pytest.mark.slow
def test_docstrings_are_statements() -> None:
    riddle = re.compile(r"(What|How|Where|Which|Why)\b(?!.*\?$)")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    openings = [
        f"{_name(path)}: {first}"
        for path in MODULES
        for node in _nodes(path)
        if isinstance(node, documented) and riddle.match(first := (ast.get_docstring(node) or "").partition("\n")[0])
    ]
    assert openings == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["search", "--help"],
        ["models", "--help"],
        ["frames", "--help"],
        ["open", "--help"],
        [],
    ],
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from clamr_cli.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "clamr" in ended.stdout
    loaded = set(ended.stderr.split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def _reads_environment(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "pop" | "items" | "keys")):
            return True
        case ast.Subscript(value=ast.Attribute(attr="environ"), ctx=ast.Load()):
            return True
        case ast.Attribute(attr="getenv" | "getenvb" | "environb") | ast.Name(id="getenv"):
            return True
        case ast.ImportFrom(module="os", names=names):
            return any(alias.name in ("environ", "getenv", "environb") for alias in names)
        case _:
            return False


@pytest.mark.slow
def test_only_config_reads_the_environment() -> None:
    readers = {_name(path) for path in MODULES if any(map(_reads_environment, _nodes(path)))}
    # A warm search imports no settings: it only sends the environment on.
    # The profile of AWS is chosen by variables of AWS.
    assert readers == {"clamr_cli/config.py", "clamr_cli/locations.py", "clamr_cli/warm.py"}


def _prints(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="print" | "input")):
            return True
        case ast.Call(func=ast.Attribute(value=stream, attr="write" | "writelines")):
            return any(
                isinstance(part, ast.Attribute) and part.attr in ("stdout", "stderr") for part in ast.walk(stream)
            )
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in ("rich", "typer") for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").partition(".")[0] in ("rich", "typer")
        case _:
            return False


@pytest.mark.slow
def test_nothing_below_rendering_prints() -> None:
    below = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in PRINTERS]
    assert len(below) > 10
    assert [_name(path) for path in below if any(map(_prints, _nodes(path)))] == []


def test_nothing_is_left_to_be_written() -> None:
    marks = ("TODO", "FIXME", "XXX", "raise NotImplementedError")
    assert [_name(path) for path in MODULES if any(mark in path.read_text("utf-8") for mark in marks)] == []
