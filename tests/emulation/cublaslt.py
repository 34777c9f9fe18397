"""A library with the C interface of cuBLASLt, which computes with NumPy what lies at addresses.

It is a real shared library: g++ builds functions with the prototypes of ``cublasLt.h``, which call
back. So an argument of a wrong width arrives as garbage here too. What cuBLASLt answers with a
status is answered with it; ``refused`` then says why. A product on a stream that is captured is
noted, with all that it was launched with, to be replayed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emulation import arrays, streams

__all__ = ["calls", "epilogues", "path", "refused", "run"]

INVALID_VALUE, NOT_SUPPORTED = 7, 15
refused: list[str] = []  # why, the last one last
calls: dict[str, int] = {}  # how often each function was called
run: list[dict[str, Any]] = []  # what products were launched with
epilogues: set[int] = {1, 2, 4, 6}  # what the heuristic finds algorithms for

_C_TYPES = {
    "void*": ctypes.c_void_p, "int": ctypes.c_int, "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64, "size_t": ctypes.c_size_t,
}  # fmt: skip
_SETTER = "void* int void* size_t"
_PROTOTYPES = {
    "cublasLtCreate": "void*",
    "cublasLtMatmulDescCreate": "void* int int",
    "cublasLtMatmulDescSetAttribute": _SETTER,
    "cublasLtMatmulDescDestroy": "void*",
    "cublasLtMatrixLayoutCreate": "void* int uint64_t uint64_t int64_t",
    "cublasLtMatrixLayoutSetAttribute": _SETTER,
    "cublasLtMatrixLayoutDestroy": "void*",
    "cublasLtMatmulPreferenceCreate": "void*",
    "cublasLtMatmulPreferenceSetAttribute": _SETTER,
    "cublasLtMatmulPreferenceDestroy": "void*",
    "cublasLtMatmulAlgoGetHeuristic": "void* void* void* void* void* void* void* int void* void*",
    "cublasLtMatmul": " ".join(["void*"] * 14 + ["size_t", "void*"]),
}

# Of attributes, the sizes; and what they are if they are not set.
_OPERATION = {0: 4, 1: 4, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 4, 8: 8, 10: 8, 26: 4}
_LAYOUT = {0: 4, 1: 4, 2: 8, 3: 8, 4: 8, 5: 4, 6: 8, 7: 8}
_PREFERENCE = {0: 4, 1: 8, 3: 4, 5: 4, 6: 4, 7: 4, 8: 4, 9: 4, 12: 8}
_DEFAULTS = {
    id(_OPERATION): {2: 0, 3: 0, 4: 0, 5: 0, 7: 1, 8: 0, 10: 0},
    id(_LAYOUT): {1: 0, 5: 1, 6: 0},
    id(_PREFERENCE): {0: 0, 1: 0, 3: 7, 5: 256, 6: 256, 7: 256, 8: 256},
}
_TRANSA, _TRANSB, _EPILOGUE, _BIAS = 3, 4, 7, 8
_TYPE, _ORDER, _ROWS, _COLUMNS, _LEADING, _COUNT, _STRIDE = range(7)
_OF_OUTPUT = 1 | 4  # schemes which keep parts of a sum in the dtype of the result
_DTYPES = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}
_COMPUTE = {68: {0, 2, 14}, 77: {0}, 70: {1}}  # dtypes of factors


class _Object:
    """What a handle points to: attributes by their numbers."""

    def __init__(self, sizes: dict[int, int], **values: int) -> None:
        self.sizes = sizes
        self.values: dict[int, int] = dict(_DEFAULTS.get(id(sizes), {}))


_objects: dict[int, _Object] = {}
_address = itertools.count(0x7E5500000040, 64)  # more than 32 bits


class Refusal(Exception):
    """What cuBLASLt answers with a status."""

    def __init__(self, why: str, status: int = INVALID_VALUE) -> None:
        super().__init__(why)
        self.status = status


def _new(at: int, made: _Object) -> None:
    address = next(_address)
    _objects[address] = made
    ctypes.c_uint64.from_address(at).value = address


def _of(address: int | None, sizes: dict[int, int] | None) -> _Object:
    found = _objects.get(address or 0)
    if found is None or (sizes is not None and found.sizes is not sizes):
        raise Refusal(f"{address} is not such a descriptor")
    return found


def _create(at: int) -> None:
    _new(at, _Object({}))


def _create_operation(at: int, compute: int, scale: int) -> None:
    if compute not in _COMPUTE or scale not in (0, 1):
        raise Refusal(f"compute type {compute} with scale type {scale}")
    made = _Object(_OPERATION)
    made.values |= {0: compute, 1: scale}
    _new(at, made)


def _create_layout(at: int, dtype: int, rows: int, columns: int, leading: int) -> None:
    made = _Object(_LAYOUT)
    made.values |= {_TYPE: dtype, _ROWS: rows, _COLUMNS: columns, _LEADING: leading}
    _new(at, made)


def _create_preference(at: int) -> None:
    _new(at, _Object(_PREFERENCE))


def _setter(sizes: dict[int, int]) -> Callable[..., None]:
    def set_attribute(address: int, attribute: int, value: int, size: int) -> None:
        found = _of(address, sizes)
        if sizes.get(attribute) != size:
            raise Refusal(f"attribute {attribute} of {size} bytes")
        number = int.from_bytes(ctypes.string_at(value, size), "little", signed=size == 8)
        if sizes is _OPERATION and attribute in (_TRANSA, _TRANSB) and number not in (0, 1, 2):
            raise Refusal(f"operation {number}")
        found.values[attribute] = number

    return set_attribute


def _destroy(address: int) -> None:
    _of(address, None)
    del _objects[address]


# ------------------------------------------------------------------------------- checks


def _checked(operation: _Object, layouts: list[_Object]) -> str:
    """Return what a plan depends on as a string, after its parts were checked."""
    a, b, c, d = (x.values for x in layouts)
    o = operation.values
    for x in (a, b, c, d):
        if x[_TYPE] not in _DTYPES or x[_ORDER] != 0:
            raise Refusal(f"a layout of type {x[_TYPE]} and order {x[_ORDER]}")
        if x[_LEADING] < x[_ROWS] or not x[_ROWS] or not x[_COLUMNS]:
            raise Refusal(f"{x[_ROWS]} rows, {x[_COLUMNS]} columns, leading {x[_LEADING]}")
    if a[_TYPE] not in _COMPUTE[o[0]] or a[_TYPE] != b[_TYPE] or o[1] != (o[0] == 70):
        raise Refusal(f"types {a[_TYPE]}, {b[_TYPE]} in {o[0]}, {o[1]}", NOT_SUPPORTED)
    if d[_TYPE] not in ({1} if a[_TYPE] == 1 else {a[_TYPE], 0}) or c != d:
        raise Refusal(f"a product of type {d[_TYPE]} of factors of {a[_TYPE]}", NOT_SUPPORTED)
    m, k = (a[_COLUMNS], a[_ROWS]) if o[_TRANSA] else (a[_ROWS], a[_COLUMNS])
    k2, n = (b[_COLUMNS], b[_ROWS]) if o[_TRANSB] else (b[_ROWS], b[_COLUMNS])
    if k != k2 or (m, n) != (d[_ROWS], d[_COLUMNS]):
        raise Refusal(f"({m}, {k}) @ ({k2}, {n}) into ({d[_ROWS]}, {d[_COLUMNS]})")
    count = d[_COUNT]
    if count > 65535:
        raise Refusal(f"a stack of {count}", NOT_SUPPORTED)
    if {x[_COUNT] for x in (a, b, c)} != {count}:
        raise Refusal("stacks of several lengths")
    apart = d[_STRIDE] >= d[_LEADING] * (d[_COLUMNS] - 1) + d[_ROWS]
    beside = d[_STRIDE] >= d[_ROWS] and d[_STRIDE] * (count - 1) + d[_ROWS] <= d[_LEADING]
    if count > 1 and not apart and not beside:
        raise Refusal("the products of a stack overlap")
    if o[_EPILOGUE] not in epilogues or (count > 1 and o[_EPILOGUE] & 4):
        raise Refusal(f"epilogue {o[_EPILOGUE]}", NOT_SUPPORTED)
    if o[_EPILOGUE] & 4 and not o[_BIAS]:
        raise Refusal("an epilogue with a bias, and no bias")
    fixed = {key: value for key, value in o.items() if key != _BIAS}
    return repr([sorted(fixed.items()), *(sorted(x.items()) for x in (a, b, c, d))])


def _algorithm(kind: str, needed: int, schemes: int, alignments: list[int]) -> bytes:
    words = np.asarray([needed, schemes, *alignments], np.uint64).tobytes()
    return hashlib.sha256(kind.encode()).digest()[:16] + words  # 64 bytes


def _heuristic(handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int,
               wanted: int, results: int, number: int) -> None:  # fmt: skip
    ctypes.c_int.from_address(number).value = 0
    _of(handle, None)
    if wanted < 1:
        raise Refusal(f"{wanted} algorithms")
    kind = _checked(_of(operation, _OPERATION), [_of(x, _LAYOUT) for x in (a, b, c, d)])
    wishes = _of(preference, _PREFERENCE).values
    needed = 4096 if wishes[1] >= 4096 else 0
    algorithm = _algorithm(kind, needed, wishes[3], [wishes[i] for i in (5, 6, 7, 8)])
    ctypes.memmove(results, algorithm, 64)
    ctypes.c_size_t.from_address(results + 64).value = needed
    ctypes.c_int.from_address(results + 72).value = 0
    ctypes.c_float.from_address(results + 76).value = 1.0
    ctypes.c_int.from_address(number).value = 1


# ----------------------------------------------------------------------------- products


def _matrices(pointer: int, layout: dict[int, int]) -> np.ndarray:
    """Return what lies at an address, as (count, rows, columns)."""
    dtype = np.dtype(_DTYPES[layout[_TYPE]])
    shape = (layout[_COUNT], layout[_ROWS], layout[_COLUMNS])
    steps = (layout[_STRIDE], 1, layout[_LEADING])
    span = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1
    memory = (ctypes.c_char * (span * dtype.itemsize)).from_address(pointer)
    strides = tuple(step * dtype.itemsize for step in steps)
    return np.lib.stride_tricks.as_strided(np.frombuffer(memory, dtype), shape, strides)


def _rounded(x: np.ndarray) -> np.ndarray:
    """Return float32 rounded to ten bits behind the point, as TF32 has them."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & ~np.uint64(0x1FFF)).astype(np.uint32).view("f4")


def _summed(x: np.ndarray, y: np.ndarray, kept: str, schemes: int) -> np.ndarray:
    """Return products, halves of their sums rounded to the dtype of the result if that may be."""
    half = x.shape[-1] // 2
    if not schemes & _OF_OUTPUT or not half or kept not in ("float16", "bfloat16"):
        return np.matmul(x, y)
    parts = np.matmul(x[..., :half], y[:, :half]), np.matmul(x[..., half:], y[:, half:])
    return sum(part.astype(np.dtype(kept)).astype(x.dtype) for part in parts)


def _scalar(address: int, double: bool) -> float:
    return float((ctypes.c_double if double else ctypes.c_float).from_address(address).value)


def _matmul(handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int,
            beta: int, c: int, c_layout: int, d: int, d_layout: int, algorithm: int,
            workspace: int | None, size: int, stream: int | None) -> None:  # fmt: skip
    _of(handle, None)
    o = dict(_of(operation, _OPERATION).values)
    layouts = [_of(x, _LAYOUT) for x in (a_layout, b_layout, c_layout, d_layout)]
    kind = _checked(_of(operation, _OPERATION), layouts)
    chosen = ctypes.string_at(algorithm, 64)
    needed, schemes, *alignments = (int(x) for x in np.frombuffer(chosen[16:], np.uint64))
    if chosen != _algorithm(kind, needed, schemes, alignments):
        raise Refusal("the algorithm is for another product")
    if needed and (not workspace or workspace % 256 or size < needed):
        raise Refusal(f"a workspace of {size} bytes at {workspace}")
    for pointer, alignment in zip((a, b, c, d), alignments, strict=True):
        if not pointer or pointer % alignment:
            raise Refusal(f"address {pointer}, said to be a multiple of {alignment}")
    if (stream or 0) != streams.current_stream().ptr:
        raise Refusal(f"stream {stream} is not the current one")
    shapes = [dict(x.values) for x in layouts]  # CUDA copies what it launches with
    double = o[0] == 70
    factor, plus = _scalar(alpha, double), _scalar(beta, double)

    def compute() -> None:
        wide = np.float64 if double else np.float32
        x, y = (_matrices(p, s).astype(wide) for p, s in zip((a, b), shapes, strict=False))
        if o[0] == 77:
            x, y = _rounded(x), _rounded(y)
        x = x.swapaxes(1, 2) if o[_TRANSA] else x
        y = y.swapaxes(1, 2) if o[_TRANSB] else y
        with np.errstate(all="ignore"):
            product = wide(factor) * _summed(x, y, _DTYPES[shapes[3][_TYPE]], schemes)
        if plus:
            product += wide(plus) * _matrices(c, shapes[2]).astype(wide)
        result = _matrices(d, shapes[3])
        if o[_EPILOGUE] & 4:
            rows = shapes[3][_ROWS]
            bias = _matrices(o[_BIAS], {**shapes[3], _COLUMNS: 1, _LEADING: rows, _COUNT: 1})
            product += bias.astype(wide)
        if o[_EPILOGUE] & 2:
            product = np.maximum(product, 0)
        with np.errstate(over="ignore"):
            result[...] = product.astype(result.dtype)

    run.append({"compute": o[0], "epilogue": o[_EPILOGUE], "alpha": factor, "beta": plus,
                "transposed": (o[_TRANSB], o[_TRANSA]), "count": shapes[3][_COUNT]})  # fmt: skip
    del run[:-100]
    arrays.launches.count += 1
    compute()
    if (capture := streams.current_stream().captures) is not None:
        capture.note(compute)


# --------------------------------------------------------------------------- the library

_IMPLEMENTED: dict[str, Callable[..., None]] = {
    "cublasLtCreate": _create,
    "cublasLtMatmulDescCreate": _create_operation,
    "cublasLtMatmulDescSetAttribute": _setter(_OPERATION),
    "cublasLtMatmulDescDestroy": _destroy,
    "cublasLtMatrixLayoutCreate": _create_layout,
    "cublasLtMatrixLayoutSetAttribute": _setter(_LAYOUT),
    "cublasLtMatrixLayoutDestroy": _destroy,
    "cublasLtMatmulPreferenceCreate": _create_preference,
    "cublasLtMatmulPreferenceSetAttribute": _setter(_PREFERENCE),
    "cublasLtMatmulPreferenceDestroy": _destroy,
    "cublasLtMatmulAlgoGetHeuristic": _heuristic,
    "cublasLtMatmul": _matmul,
}
_held: list[Any] = []  # what C points to


def _answering(name: str) -> Callable[..., int]:
    def answer(*args: Any) -> int:
        calls[name] = calls.get(name, 0) + 1
        try:
            _IMPLEMENTED[name](*args)
        except Refusal as refusal:
            refused.append(f"{name}: {refusal}")
            return refusal.status
        return 0

    return answer


@functools.cache
def path() -> str:
    """Build the library, and return where it is."""
    code = ["#include <cstdint>", "#include <cstddef>", 'extern "C" {']
    for name, prototype in _PROTOTYPES.items():
        kinds = prototype.split()
        declared = ", ".join(f"{kind} x{i}" for i, kind in enumerate(kinds))
        passed = ", ".join(f"x{i}" for i in range(len(kinds)))
        code.append(f"int (*to_{name})({', '.join(kinds)}) = nullptr;")
        code.append(f"int {name}({declared}) {{ return to_{name}({passed}); }}")
    folder = Path(tempfile.mkdtemp(prefix="cublaslt-"))
    source, built = folder / "cublasLt.cpp", folder / "libcublasLt.so.13"
    source.write_text("\n".join([*code, "}"]))
    subprocess.run(["g++", "-shared", "-fPIC", "-O1", "-o", built, source], check=True)
    library = ctypes.CDLL(str(built))
    for name, prototype in _PROTOTYPES.items():
        kinds = [_C_TYPES[kind] for kind in prototype.split()]
        function = ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(_answering(name))
        _held.append(function)
        pointer = ctypes.c_void_p.in_dll(library, f"to_{name}")
        pointer.value = ctypes.cast(function, ctypes.c_void_p).value
    _held.append(library)
    return str(built)
