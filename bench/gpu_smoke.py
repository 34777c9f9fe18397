"""Whether a GPU does anything at all: versions, every CUDA source compiled, a step of each kind.

What the kernels' modules list in ``sources()`` is compiled for the card that is there, through
CuPy, which keeps the binaries for the processes that follow. Then a small network of each kind
takes four steps, as it is and recorded. It exits with 1 if anything fails, and goes on until then.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import gpu_child
import gpu_libraries
from gpu_rows import TINY

__all__ = ["main", "sources"]

_PACKAGES = (
    *("numpy", "cupy-cuda13x", "cupy-cuda12x", "ml_dtypes", "cuda-pathfinder", "pytest"),
    *("nvidia-cublas", "nvidia-cuda-nvrtc", "nvidia-cudnn-frontend", "nvidia-cudnn-cu13"),
    *("torch", "jax"),
)
_PROCESSES = 8  # NVRTC compiles one source at a time in each


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and text of every CUDA source that modules of ``xpnn.kernels`` list."""
    package = importlib.import_module("xpnn.kernels")
    for info in pkgutil.iter_modules(package.__path__, "xpnn.kernels."):
        if "cupy_" in info.name:
            listed: Any = getattr(importlib.import_module(info.name), "sources", dict)
            yield from listed().items()


def _versions() -> None:
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    for package in _PACKAGES:
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package}: not installed")
    print(importlib.import_module("xpnn").device_report(), flush=True)


def _begin() -> None:
    gpu_libraries.start("xpnn")


def _compile(name: str, code: str) -> str:
    """Compile a source for the current device; return what is wrong with it."""
    try:
        importlib.import_module("xpnn.kernels.cupy_launch").module(code).compile()
    except Exception as error:  # whatever NVRTC, or the loader, has to say
        return f"{name}: {' '.join(str(error).split())[:2000]}"
    return ""


def _compiled() -> None:
    """Compile all sources, several at a time; raise an error that names those that fail."""
    every = list(sources())
    workers = min(_PROCESSES, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:
        failures = [text for text in pool.map(_compile, *zip(*every, strict=True)) if text]
    if failures:
        raise RuntimeError("\n".join(failures))
    print(f"  {len(every)} sources", end="")


def _steps(network: str) -> None:
    """Take four steps of a small network, as it is and recorded, and wait for them."""
    row = next(row for row in TINY.values() if row.network == network)
    for options in ({}, {"captured": True}):
        step = gpu_child.step_of("xpnn", row, options)
        for _ in range(4):
            step()
        importlib.import_module("cupy").cuda.Device().synchronize()


def main() -> None:
    """Run all, and say what failed."""
    try:
        gpu_libraries.start("xpnn")
    except gpu_libraries.Absent as error:
        sys.exit(f"no GPU: {error}")
    parts: dict[str, Callable[[], None]] = {"versions": _versions, "compiling": _compiled}
    for network in dict.fromkeys(row.network for row in TINY.values()):
        if network != "fit":
            parts[network] = lambda network=network: _steps(network)  # type: ignore[misc]
    failed = []
    for name, part in parts.items():
        begun = time.perf_counter()
        try:
            part()
        except Exception:
            failed.append(name)
            traceback.print_exc()
        print(f"  {name}: {time.perf_counter() - begun:.1f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
