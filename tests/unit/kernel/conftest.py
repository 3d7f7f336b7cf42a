import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli import kernel
from clamr_cli.kernel.build import compile_library

SOURCE = Path(kernel.__file__).with_name("maxsim.c")
HAS_COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bool]:
    """The library of the C source as it is now, not as it was when the package was installed."""
    if not HAS_COMPILER:
        yield False
        return
    library = tmp_path_factory.mktemp("kernel") / "_maxsim.so"
    assert compile_library(SOURCE, library) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "LIBRARY", library)
        yield True
