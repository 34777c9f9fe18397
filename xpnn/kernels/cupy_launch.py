"""CUDA sources, compiled for a dtype when one of their kernels is first launched.

A :class:`Source` is a file of ``kernels/cuda``. It is written once for all dtypes: ``T`` is that of
the arrays and ``A`` the one in which they are computed, float for half precision. Nothing here
needs CUDA before a launch, so that all of it imports, and is compiled by a test, without a GPU.
"""

from __future__ import annotations

import importlib
from functools import cache, cached_property
from pathlib import Path
from typing import Any

__all__ = [
    *("DTYPES", "Source", "contiguous", "cupy", "kernel", "module", "outside", "prelude"),
    *("threads_for", "wide"),
]

Array = Any

_FOLDER = Path(__file__).with_name("cuda")
_TYPES = {
    "float16": ("__half", "float", "#include <cuda_fp16.h>\n"),
    "bfloat16": ("__nv_bfloat16", "float", "#include <cuda_bf16.h>\n"),
    "float32": ("float", "float", ""),
    "float64": ("double", "double", ""),
    "int32": ("int", "int", ""),
    "int64": ("long long", "long long", ""),
}
DTYPES = ("float16", "bfloat16", "float32", "float64")  # of arrays that kernels take
_WIDE = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


@cache
def cupy() -> Any:
    """Return CuPy, imported now."""
    return importlib.import_module("cupy")


def outside() -> Any:
    """Return the context in which memory does not come from that of a recording.

    The host writes there before a replay. In the memory of the recording, kernels of the same
    replay could write before it is read: what they needed has been let go of, and given again.
    """
    return cupy().cuda.using_allocator(cupy().get_default_memory_pool().malloc)


@cache
def module(code: str) -> Any:
    """Return the kernels of a source, compiled when one is first asked for, or by ``compile()``."""
    return cupy().RawModule(code=code, options=("--std=c++17",))


@cache
def kernel(code: str, name: str) -> Any:
    """Return a kernel of a source, which is compiled when it is first asked for."""
    return module(code).get_function(name)


@cache
def _common() -> str:
    return (_FOLDER / "common.cuh").read_text()


def prelude(dtype: str) -> str:
    """Return what stands before kernels of arrays of a dtype: their types, and what all share."""
    array, arithmetic, headers = _TYPES[dtype]
    return f"{headers}typedef {array} T;\ntypedef {arithmetic} A;\n{_common()}\n"


class Source:
    """A file of kernels.

    Parameters
    ----------
    file : str
        Its name in ``kernels/cuda``, without the suffix.
    dtypes : sequence of str
        What it is compiled for: real numbers by default.
    headers : sequence of str
        Files that stand before it.
    """

    def __init__(
        self, file: str, dtypes: tuple[str, ...] = DTYPES, headers: tuple[str, ...] = ()
    ) -> None:
        self.file, self.dtypes = file, dtypes
        self._files = (*headers, f"{file}.cu")
        self._kernels: dict[tuple[str, Any], Any] = {}

    @cached_property
    def _text(self) -> str:
        return "\n".join((_FOLDER / file).read_text() for file in self._files)

    def code(self, dtype: str) -> str:
        """Return the source for arrays of a dtype."""
        return prelude(dtype) + self._text

    def codes(self) -> dict[str, str]:
        """Return the sources for all dtypes by name, for the compile check."""
        return {f"{self.file} {dtype}": self.code(dtype) for dtype in self.dtypes}

    def launch(
        self, name: str, dtype: Any, grid: int | tuple[int, ...], block: int, *args: Any
    ) -> None:
        """Run a kernel of this file for arrays of a dtype.

        Arguments are contiguous arrays, or None for a null pointer; integers, which kernels take as
        ``i64``; and floats, which they take as ``double``.
        """
        sizes = grid if isinstance(grid, tuple) else (grid,)
        self.kernel(name, dtype)(sizes, (block,), tuple(0 if arg is None else arg for arg in args))

    def kernel(self, name: str, dtype: Any) -> Any:
        """Return a kernel of this file for arrays of a dtype, as CuPy calls it."""
        found = self._kernels.get((name, dtype))
        if found is None:
            found = self._kernels[name, dtype] = kernel(self.code(str(dtype)), name)
        return found


def wide(dtype: Any) -> str:
    """Return the dtype in which arrays of a dtype are computed."""
    return _WIDE[str(dtype)]


def threads_for(n: int, most: int = 512) -> int:
    """Return how many threads, whole warps, a block takes for ``n`` things."""
    return max(32, min(most, -(-n // 32) * 32))


def contiguous(x: Array) -> Array:
    """Return an array whose elements lie in their order; None as it is."""
    return x if x is None or x.flags.c_contiguous else cupy().ascontiguousarray(x)
