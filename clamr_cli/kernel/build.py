"""Builds the kernel's library when the package is built: a hook of hatchling, not a part of the running program.

With a C compiler the wheel holds the library and is tagged for this platform; without one, or if it fails, the wheel is
pure and numpy serves. An editable installation gets the library in the source tree, and so does
``python -m clamr_cli.kernel.build``.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNEL: Final = Path("clamr_cli", "kernel")
LIBRARY: Final = "_maxsim.so"
# Checks of the stack and of copied memory, which cost no measurable time. Compilers of Windows lack their libraries.
CHECKS: Final = (
    () if platform.system() == "Windows" else ("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong")
)
# Contraction off: scans give the same bits on every path only if no product is fused with a sum.
FLAGS: Final = ("-O3", "-std=c11", "-fPIC", "-shared", "-ffp-contract=off", "-fvisibility=hidden", *CHECKS)


def compile_library(source: Path, library: Path, flags: tuple[str, ...] = FLAGS) -> str:
    """Compile a C file to a shared library.

    Args:
        source: the C file.
        library: what to write; complete or not at all.
        flags: the compiler's.

    Returns:
        Why there is no library, or an empty string.
    """
    try:
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".maxsim-") as folder:
            made = Path(folder) / LIBRARY
            arguments = [*flags, str(source), "-o", str(made), *([] if platform.system() == "Windows" else ["-lm"])]
            ended = subprocess.run(_compiler(arguments), capture_output=True, text=True, timeout=600, check=False)
            if ended.returncode or not made.exists():
                return ended.stderr.strip() or f"the compiler ended with {ended.returncode}"
            # In one step: a process that runs may have the old one mapped.
            made.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


def _compiler(arguments: list[str]) -> list[str]:
    """The command that compiles. The shell knows CC, CFLAGS and LDFLAGS and splits them, as make would."""
    if shutil.which("sh"):
        return ["sh", "-c", '${CC:-cc} $CFLAGS "$@" $LDFLAGS', "cc", *arguments]
    return ["gcc", *arguments]


def platform_tag() -> str:
    """Platform tag of a wheel with the library."""
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return "py3-none-" + name.replace("-", "_").replace(".", "_")


class KernelHook(BuildHookInterface):
    """Hook that hatchling calls before it writes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the library into the wheel or, for an editable installation, into the tree."""
        if self.target_name != "wheel":
            return
        kernel = Path(self.root) / KERNEL
        self._folder = tempfile.mkdtemp(prefix="clamr-kernel-")
        library = (kernel if version == "editable" else Path(self._folder)) / LIBRARY
        trouble = compile_library(kernel / "maxsim.c", library)
        if trouble:
            self.app.display_warning(f"clamr's kernel was not compiled, numpy will serve instead: {trouble}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = platform_tag()
        if version != "editable":
            build_data["force_include"][str(library)] = str(KERNEL / LIBRARY)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was compiled aside."""
        shutil.rmtree(getattr(self, "_folder", ""), ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(compile_library(Path(__file__).with_name("maxsim.c"), Path(__file__).with_name(LIBRARY)) or 0)
