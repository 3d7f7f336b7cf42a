"""Disk that an installation takes, and the part of it that is CUDA: ``python -m tests.bench.install``."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from clamr_cli.text import size

_CUDA_PACKAGES: Final = re.compile(r"nvidia-|cuda-|triton$")
_CUDA_FILES: Final = re.compile(r"cuda|cudnn|nccl|nvrtc|cublas|cusparse|nvshmem", re.IGNORECASE)


def requirements(name: str, extras: frozenset[str], met: dict[str, Distribution]) -> None:
    """Add a package and all that it needs here to ``met``."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return
    met[package.name.lower()] = package
    for line in package.requires or ():
        needed = Requirement(line)
        marker = needed.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            continue
        if needed.name.lower() not in met or needed.extras:
            requirements(needed.name, frozenset(needed.extras), met)


def sizes(package: Distribution) -> tuple[int, int]:
    """Bytes of an installed package, and those of them that only CUDA needs."""
    whole = cuda = 0
    is_cuda = bool(_CUDA_PACKAGES.match(package.name.lower()))
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.is_file() and not path.is_symlink():
            count = path.stat().st_size
            whole += count
            is_library = ".so" in path.name or path.suffix == ".dll"
            cuda += count if is_cuda or (is_library and _CUDA_FILES.search(path.name)) else 0
    return whole, cuda


def main() -> int:
    met: dict[str, Distribution] = {}
    requirements("clamr-cli", frozenset({"offline"}), met)
    measured = {name: sizes(package) for name, package in met.items()}
    whole, cuda = (sum(pair[place] for pair in measured.values()) for place in (0, 1))
    for name, (count, _) in sorted(measured.items(), key=lambda item: -item[1][0])[:10]:
        sys.stdout.write(f"{size(count):>9}  {name}\n")
    sys.stdout.write(f"{len(met)} packages, {size(whole)}, of which {size(cuda)} are CUDA\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
