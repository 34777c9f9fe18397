"""What NumPy computes with on this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.kernels import fast

__all__ = ["facts", "lacks"]

# OpenBLAS's kernels of 256 bits, which processors that it does not know are given.
_NARROW = ("Haswell", "Zen")


def facts() -> dict[str, Any]:
    """Return processor, version of NumPy, its BLAS with the kernels it chose, and Numba."""
    return {
        "name": _processor(),
        "cores": os.cpu_count(),
        "avx512": _has_avx512(),
        "numpy": np.__version__,
        "blas": _blas(),
        "numba": _numba(),
    }


def lacks(found: dict[str, Any]) -> list[str]:
    """Return what could be better, each with its cure."""
    hints = []
    blas = found["blas"]
    if blas["name"] == "openblas" and found["avx512"] and blas["kernels"] in _NARROW:
        hints.append(
            f"The processor has AVX-512, but OpenBLAS {blas['version']} multiplies with its kernels"
            f" for {blas['kernels']}. Set OPENBLAS_CORETYPE=SkylakeX before Python starts, and"
            " measure: on a Zen 5 products in float32 became 1.9 times as fast."
        )
    if found["numba"] is None:
        hints.append("Numba is not used: pip install 'xpnn[fast]' compiles kernels for the CPU.")
    return hints


def _processor() -> str:
    """Return the name of the processor, which ``platform`` does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _has_avx512() -> bool:
    extensions: Any = np.show_config(mode="dicts")
    known = extensions.get("SIMD Extensions", {})
    names = [*known.get("baseline", ()), *known.get("found", ())]
    return any(name == "X86_V4" or name.startswith("AVX512") for name in names)


def _blas() -> dict[str, Any]:
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it, where that is done late
    pools = importlib.import_module("threadpoolctl").threadpool_info()
    of_blas = [pool for pool in pools if pool["user_api"] == "blas"]
    # Others, such as SciPy's, may be loaded besides.
    own = [pool for pool in of_blas if "numpy" in pool["filepath"]] or of_blas
    if not own:
        return {"name": "unknown", "version": None, "threads": None, "kernels": None}
    return {
        "name": own[0]["internal_api"],
        "version": own[0]["version"],
        "threads": own[0]["num_threads"],
        "kernels": own[0].get("architecture"),
    }


def _numba() -> str | None:
    return importlib.metadata.version("numba") if fast.is_on() else None
