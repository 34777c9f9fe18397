"""CUDA kernels on the CPU: their sources as plain C++, built by g++, a block at a time.

``Kernel(source, name)(grid, block, args)`` is called as :class:`cupy.RawKernel` is. Threads of a
block are coroutines, so that barriers, shared memory and shuffles work as they do on a GPU; see
``simt.h`` for what is refused.
"""

from __future__ import annotations

import ctypes
import functools
import getpass
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["EmulationError", "Kernel", "library"]

_HEADER = Path(__file__).with_name("simt.h")
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)'
)
_WAITS = re.compile(r"__sync(threads|warp)|__shfl_")
_CUDA_HEADERS = re.compile(r"#include\s*<cuda_\w+\.h>")
_WARNINGS = (
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
    "-Wno-tautological-compare",
)


class EmulationError(Exception):
    """A kernel does what CUDA leaves undefined, or does not compile."""


def has_compiler() -> bool:
    """Return whether kernels can be run here."""
    return shutil.which("g++") is not None


@functools.cache
def _folder() -> Path:
    """Return where built kernels are kept, for other processes and later runs too."""
    folder = Path(tempfile.gettempdir()) / f"xpnn-simt-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _preprocessed(source: str, options: Sequence[str]) -> str:
    """Return a source with its macros resolved: kernels may be written by them."""
    defines = [option for option in options if option.startswith("-D")]
    command = ["g++", "-E", "-P", "-x", "c++", *defines, "-D__launch_bounds__(...)=", "-"]
    plain = _CUDA_HEADERS.sub("", source)
    done = subprocess.run(command, input=plain, capture_output=True, text=True)
    if done.returncode:
        raise EmulationError(done.stderr)
    return done.stdout


def _trampoline(name: str, parameters: str, waits: bool) -> str:
    """Return a C function that takes the addresses of all arguments, as CUDA's driver does."""
    types = []
    for parameter in filter(None, (p.strip() for p in parameters.split(","))):
        declared = re.sub(r"\b__restrict__\b", "", parameter)
        types.append(re.sub(r"\w+\s*$", "", declared).replace("const ", "").strip())
    passed = ", ".join(f"*({kind}*)args[{i}]" for i, kind in enumerate(types))
    return (
        f'extern "C" const char* run_{name}(const unsigned* grid, const unsigned* size,'
        f" void** args) {{ return simt::launch(grid, size, {str(waits).lower()},"
        f" [=] {{ {name}({passed}); }}); }}\n"
        f'extern "C" const char* types_{name}() {{ return "{";".join(types)}"; }}\n'
    )


# Shared memory of a template is that of its library: others have it for another dtype.
_FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-fno-gnu-unique")


@functools.cache
def library(source: str, options: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Build a CUDA source as C++, unless that was done before, and return the loaded library."""
    everything = (source, *options, _HEADER.read_text(), *_FLAGS, Path(__file__).read_text())
    stem = hashlib.sha256("\0".join(everything).encode()).hexdigest()[:32]
    built = _folder() / f"{stem}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = _build(source, options, Path(folder))
            shutil.copy(made, place := built.with_suffix(f".{os.getpid()}"))
            place.replace(built)  # another process may build the same
    return ctypes.CDLL(str(built))


def _build(source: str, options: tuple[str, ...], folder: Path) -> Path:
    code = _preprocessed(source, options)
    waits = _WAITS.search(code) is not None
    trampolines = "".join(_trampoline(*found, waits) for found in _KERNEL.findall(code))
    if not trampolines:
        msg = 'no kernel found: expected extern "C" __global__ void name(...).'
        raise EmulationError(msg)
    file, built = folder / "kernel.cpp", folder / "kernel.so"
    file.write_text(f'#include "{_HEADER}"\n{code}\n{trampolines}')
    command = ["g++", *_FLAGS, *_WARNINGS, "-o", str(built), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EmulationError(done.stderr)
    return built


_one_at_a_time = threading.Lock()  # ctypes lets other threads run, and the coroutines are global
_SCALARS = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned": np.uint32,
    "unsigned int": np.uint32, "long long": np.int64, "unsigned long long": np.uint64,
    "u32": np.uint32, "u64": np.uint64, "i64": np.int64, "bool": np.bool_,
}  # fmt: skip


class Kernel:
    """A kernel of a source, called as ``cupy.RawKernel`` is.

    Arguments are arrays, for pointers, and NumPy scalars, whose width must be that of the
    parameter: CUDA would read what lies beside a narrower one.
    """

    def __init__(self, source: str, name: str, options: tuple[str, ...] = ()) -> None:
        self.name, self.launches = name, 0
        self._source, self._options = source, options

    @functools.cached_property
    def _run(self) -> tuple[Any, list[str]]:
        built = library(self._source, self._options)
        run, types = built[f"run_{self.name}"], built[f"types_{self.name}"]
        run.restype = types.restype = ctypes.c_char_p
        return run, types().decode().split(";")

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], **options: Any
    ) -> None:
        if options.get("shared_mem"):
            msg = f"{self.name}: dynamic shared memory is not emulated; give the array a size."
            raise EmulationError(msg)
        run, types = self._run
        args = [a for a in args]
        if len(args) != len(types):
            msg = f"{self.name} takes {len(types)} arguments, got {len(args)}."
            raise EmulationError(msg)
        held = [self._argument(i, *pair) for i, pair in enumerate(zip(types, args, strict=True))]
        addresses = (ctypes.c_void_p * len(held))(*(x.ctypes.data for x in held))
        shape = [np.asarray([*dims, 1, 1][:3], np.uint32) for dims in (grid, block)]
        large = max(shape[0][1:]) > 65_535 or np.prod(shape[1]) > 1024
        if min(map(np.min, shape)) < 1 or large:
            msg = f"{self.name}: a grid of {grid} blocks of {block} threads cannot be launched."
            raise EmulationError(msg)
        self.launches += 1
        with _one_at_a_time:
            failed = run(*(ctypes.c_void_p(x.ctypes.data) for x in shape), addresses)
        if failed is not None:
            msg = f"{self.name}: {failed.decode()}."
            raise EmulationError(msg)

    def _argument(self, i: int, kind: str, value: Any) -> Any:
        """Return a host array of one element that holds what the kernel is given."""
        if kind.endswith("*"):
            if isinstance(value, (int, np.integer)):
                return np.asarray([int(value)], np.uint64)
            return np.asarray([_address(value)], np.uint64)
        wanted = _SCALARS.get(kind)
        if wanted is None:
            msg = f"{self.name}: parameter {i} has the unknown type {kind!r}."
            raise EmulationError(msg)
        if isinstance(value, (bool, int, float)):  # as CuPy: C long, double
            value = np.asarray(value)[()]
        if not isinstance(value, np.generic) or value.dtype != wanted:
            msg = f"{self.name}: parameter {i} is a {kind}, got {value!r} ({type(value)})."
            raise EmulationError(msg)
        return np.asarray([value])


def _address(value: Any) -> int:
    data = getattr(value, "data", None)
    pointer = getattr(data, "ptr", None)
    return int(value.ctypes.data if pointer is None else pointer)
