r"""cuBLASLt, called directly: ``out = scale A B + plus out``, with a bias and a ReLU if wanted.

CuPy's own calls of cuBLAS refuse a stream that is being captured, lack stacks of bfloat16 and take
those of float16 as float32. These need no more of CuPy than memory and the current stream.

cuBLASLt reads matrices column by column, so it sees the transpose of an array. It is asked for

.. math:: C^\top = B^\top A^\top.

A product is planned once: descriptors, and the algorithm that cuBLASLt's heuristic prefers, are
kept for everything they depend on, and a second product of the kind is one look-up and one call.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import threading
import weakref
from functools import cache
from typing import Any

from xpnn.errors import DeviceError, MissingLibraryError
from xpnn.kernels.cupy_launch import cupy
from xpnn.precision import get_matmul_precision

__all__ = ["lies", "multiply", "plans", "trouble"]

Array = Any
_Pointer, _Int, _Size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_Out = ctypes.POINTER(ctypes.c_void_p)


class _Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


_SETTER = (_Pointer, _Int, _Pointer, _Size)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_Out,),
    "cublasLtMatmulDescCreate": (_Out, _Int, _Int),
    "cublasLtMatmulDescSetAttribute": _SETTER,
    "cublasLtMatmulDescDestroy": (_Pointer,),
    "cublasLtMatrixLayoutCreate": (_Out, _Int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatrixLayoutSetAttribute": _SETTER,
    "cublasLtMatrixLayoutDestroy": (_Pointer,),
    "cublasLtMatmulPreferenceCreate": (_Out,),
    "cublasLtMatmulPreferenceSetAttribute": _SETTER,
    "cublasLtMatmulPreferenceDestroy": (_Pointer,),
    "cublasLtMatmulAlgoGetHeuristic": (
        *(_Pointer,) * 7, _Int, ctypes.POINTER(_Heuristic), ctypes.POINTER(_Int),
    ),
    "cublasLtMatmul": (*(_Pointer,) * 14, _Size, _Pointer),
}  # fmt: skip

_DATA = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType_t
_FLOAT32, _TF32, _FLOAT64 = 68, 77, 70  # cublasComputeType_t
_STATUS = {
    1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}  # fmt: skip
_NOT_SUPPORTED = 15
# cublasLtMatmulDescAttributes_t, cublasLtMatrixLayoutAttribute_t, ...PreferenceAttributes_t
_FIRST_TRANSPOSED, _SECOND_TRANSPOSED, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8
_BATCH, _BATCH_STRIDE = 5, 6
_MOST_WORKSPACE, _SCHEMES = 1, 3
_ALIGNMENTS = (5, 6, 7, 8)  # of factors, what is added, the result
_PLAIN, _RELU, _BIAS = 1, 2, 4  # cublasLtEpilogue_t; the latter two add up
_WIDE_SUMS = 2  # cublasLtReductionScheme_t: partial sums in the dtype that is computed in

_WORKSPACE = 32 << 20  # bytes at most; what NVIDIA recommends for its H100
_ALIGNED = 256  # bytes; what more than that does not matter
_MOST_PLANS = 4096
_MOST_MATRICES = 32768  # of a stack; for more than 65535 there may be no algorithm


# ----------------------------------------------------------------------------- the library


def _path() -> str:
    """Return where the library is: with CuPy's, or where the system looks."""
    try:
        finder = importlib.import_module("cuda.pathfinder")
        found = finder.load_nvidia_dynamic_lib("cublasLt").abs_path
    except (ImportError, RuntimeError, OSError):
        # An older CuPy; or there is none; or the finder cannot start the process that it looks with
        found = None
    if found := found or ctypes.util.find_library("cublasLt"):
        return str(found)
    msg = (
        "Products of matrices on CUDA need cuBLASLt, which was not found. Install it, for"
        " example: pip install 'cupy-cuda13x[ctk]'"
    )
    raise MissingLibraryError(msg)


def trouble() -> str:
    """Return why matrices cannot be multiplied on CUDA, with the cure, or an empty string."""
    try:
        _library()
    except (MissingLibraryError, OSError) as error:
        return str(error)
    return ""


@cache
def _library() -> Any:
    library = ctypes.CDLL(_path())
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, _Int
    return library


def _check(status: int, call: str, about: Any) -> None:
    if status:
        name = _STATUS.get(status, "an unknown status")
        shapes = " @ ".join(f"{x.shape} of {x.dtype}" for x in about) or "a new handle"
        msg = f"{call}: CUBLAS_STATUS_{name} ({status}) for {shapes}."
        raise DeviceError(msg)


def _create(kind: str, *args: int, about: Any = ()) -> Any:
    made = ctypes.c_void_p()
    call = f"cublasLt{kind}Create"
    _check(getattr(_library(), call)(ctypes.byref(made), *args), call, about)
    return made


def _create_for(owner: Any, kind: str, *args: int, about: Any = ()) -> Any:
    """Create what is destroyed when its owner goes; not at exit, which frees everything."""
    made = _create(kind, *args, about=about)
    destroy = getattr(_library(), f"cublasLt{kind}Destroy")
    weakref.finalize(owner, destroy, made).atexit = False
    return made


def _set(kind: str, what: Any, attribute: int, value: Any, about: Any) -> None:
    call = f"cublasLt{kind}SetAttribute"
    size = ctypes.sizeof(value)
    _check(getattr(_library(), call)(what, attribute, ctypes.byref(value), size), call, about)


# -------------------------------------------------------------------------------- matrices


def lies(x: Array) -> tuple[bool, int] | None:
    """Return how the matrices of an array lie in memory, or None if cuBLASLt cannot read them.

    That is whether they are transposed, their columns one after the other, and how many elements
    lie between the beginnings of two rows, or of two columns.
    """
    (rows, columns), (down, across), size = x.shape[-2:], x.strides[-2:], x.itemsize
    if (across == size or columns == 1) and (rows == 1 or _are_apart(down, columns, size)):
        return False, columns if rows == 1 else down // size
    if (down == size or rows == 1) and (columns == 1 or _are_apart(across, rows, size)):
        return True, rows if columns == 1 else across // size
    return None


def _are_apart(stride: int, n: int, size: int) -> bool:
    return stride >= n * size and stride % size == 0


class _Plan:
    """Descriptors of a product and how it is computed; not ``found`` if it has no such epilogue."""

    def __init__(self, handle: Any, a: Array, b: Array, out: Array, epilogue: int, bias: Any,
                 compute: int) -> None:  # fmt: skip
        self.handle, self._about = handle, (a, b)
        double = compute == _FLOAT64
        self.scalar: Any = ctypes.c_double if double else ctypes.c_float
        batch = out.shape[0] if out.ndim == 3 else 1
        scalars = _DATA["float64" if double else "float32"]
        self.operation = _create_for(self, "MatmulDesc", compute, scalars, about=self._about)
        self.layouts = []
        for x, turned in ((b, _FIRST_TRANSPOSED), (a, _SECOND_TRANSPOSED), (out, None)):
            self.layouts.append(self._layout(x, batch, turned))
        if epilogue != _PLAIN:
            _set("MatmulDesc", self.operation, _EPILOGUE, ctypes.c_uint32(epilogue), self._about)
        if bias is not None:
            self.add(bias)
        self.found = self._decide((b, a, out, out), may_fail=epilogue != _PLAIN)
        del self._about  # arrays are not kept

    def _layout(self, x: Array, batch: int, turned: int | None) -> Any:
        transposed, leading = lies(x)  # type: ignore[misc]
        rows, columns = x.shape[-2:] if transposed else x.shape[:-3:-1]
        size = (_DATA[x.dtype.name], rows, columns, leading)
        made = _create_for(self, "MatrixLayout", *size, about=self._about)
        if batch > 1:
            stride = x.strides[0] // x.itemsize if x.ndim == 3 else 0
            for attribute, value in (
                (_BATCH, ctypes.c_int32(batch)),
                (_BATCH_STRIDE, ctypes.c_int64(stride)),
            ):
                _set("MatrixLayout", made, attribute, value, self._about)
        if transposed and turned is not None:
            _set("MatmulDesc", self.operation, turned, ctypes.c_int32(1), self._about)
        return made

    def _decide(self, arrays: tuple[Array, ...], may_fail: bool) -> bool:
        preference = _create("MatmulPreference", about=self._about)
        settings: list[Any] = [(_MOST_WORKSPACE, ctypes.c_uint64(_WORKSPACE))]
        for place, x in zip(_ALIGNMENTS, arrays, strict=True):
            settings.append((place, ctypes.c_uint32(_alignment(x))))
        if arrays[-1].itemsize == 2:  # or parts of a sum may be rounded to 16 bits
            settings.append((_SCHEMES, ctypes.c_uint32(_WIDE_SUMS)))
        for attribute, value in settings:
            _set("MatmulPreference", preference, attribute, value, self._about)
        heuristic, number = _Heuristic(), ctypes.c_int()
        b, a, out = self.layouts
        status = _library().cublasLtMatmulAlgoGetHeuristic(
            self.handle, self.operation, b, a, out, out, preference, 1,
            ctypes.byref(heuristic), ctypes.byref(number),
        )  # fmt: skip
        _library().cublasLtMatmulPreferenceDestroy(preference)
        status = status or heuristic.status or (0 if number.value else _NOT_SUPPORTED)
        if status and may_fail:
            return False
        _check(status, "cublasLtMatmulAlgoGetHeuristic", self._about)
        self.algorithm, self.workspace = heuristic.algorithm, heuristic.workspace
        return True

    def add(self, bias: Array) -> None:
        place = ctypes.c_uint64(bias.data.ptr)
        _set("MatmulDesc", self.operation, _BIAS_POINTER, place, (bias,))

    def run(self, a: Array, b: Array, out: Array, scale: float, plus: float) -> int:
        # Memory that is let go after the launch: who is given it next comes later in the stream.
        space = cupy().empty(self.workspace, "uint8") if self.workspace else None
        first, second, result = self.layouts
        status: int = _library().cublasLtMatmul(
            self.handle, self.operation,
            ctypes.byref(self.scalar(scale)), b.data.ptr, first, a.data.ptr, second,
            ctypes.byref(self.scalar(plus)), out.data.ptr, result, out.data.ptr, result,
            self.algorithm, None if space is None else space.data.ptr, self.workspace,
            cupy().cuda.get_current_stream().ptr,
        )  # fmt: skip
        return status


def _alignment(x: Array | None) -> int:
    """Return by what power of two the address of an array can be divided."""
    if x is None:
        return _ALIGNED
    pointer = x.data.ptr
    return min(pointer & -pointer, _ALIGNED)


# -------------------------------------------------------------------------------- products

plans: dict[Any, _Plan] = {}
_handles: dict[int, Any] = {}
_lock = threading.Lock()  # of what is kept here, and of a plan's bias


def _planned(device: int, a: Array, b: Array, out: Array, epilogue: int, bias: Any) -> _Plan:
    precision = get_matmul_precision()
    key = (
        device, a.dtype, a.shape, a.strides, b.dtype, b.shape, b.strides, out.dtype, out.strides,
        _alignment(a), _alignment(b), _alignment(out), _alignment(bias), epilogue, precision,
    )  # fmt: skip
    if (plan := plans.get(key)) is not None:
        return plan
    name = a.dtype.name
    compute = _FLOAT64 if name == "float64" else _FLOAT32
    if name == "float32" and precision == "tf32":
        compute = _TF32
    with _lock:
        if (plan := plans.get(key)) is None:  # no other thread has made it since
            if device not in _handles:
                _handles[device] = _create("")
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plan = plans[key] = _Plan(_handles[device], a, b, out, epilogue, bias, compute)
    return plan


def multiply(
    a: Array,
    b: Array,
    out: Array,
    *,
    scale: float = 1.0,
    plus: float = 0.0,
    bias: Array | None = None,
    relu: bool = False,
) -> bool:
    r"""Write :math:`s A B + p C`, and perhaps its ReLU with a bias, into C, on the current stream.

    Parameters
    ----------
    a, b : array
        (m, k) and (k, n), or stacks (N, m, k) and (N, k, n), or a matrix and a stack; of one dtype,
        which is float16, bfloat16, float32 or float64, and nothing of them empty. Their matrices
        lie as :func:`lies` can tell.
    out : array
        (m, n) or (N, m, n), row by row, of the same dtype, or of float32 for factors of 16 bits.
        With ``plus`` zero its content does not matter.
    scale, plus : float
        s and p.
    bias : array, optional
        (n,), contiguous, of the dtype of ``out``.
    relu : bool

    Returns
    -------
    bool
        Whether bias and ReLU are in C: cuBLASLt may not have them for such a product.

    Raises
    ------
    DeviceError
        If cuBLASLt refuses.
    """
    if out.ndim == 3 and len(out) > _MOST_MATRICES:
        pieces = [slice(i, i + _MOST_MATRICES) for i in range(0, len(out), _MOST_MATRICES)]
        done = [
            multiply(
                *(x[at] if x.ndim == 3 else x for x in (a, b, out)),
                scale=scale, plus=plus, bias=bias, relu=relu,
            )
            for at in pieces
        ]  # fmt: skip
        return all(done)  # a ReLU that some have is taken again, and changes nothing
    device = cupy().cuda.runtime.getDevice()
    epilogue = (_RELU if relu else 0) + (0 if bias is None else _BIAS)
    if epilogue and (out.ndim == 2 or bias is None):
        plan = _planned(device, a, b, out, epilogue, bias)
        if plan.found:
            with _lock:  # the bias belongs to the plan
                if bias is not None:
                    plan.add(bias)
                status = plan.run(a, b, out, scale, plus)
            plan.found = status != _NOT_SUPPORTED
            if plan.found:
                _check(status, "cublasLtMatmul", (a, b))
                return True
    plan = _planned(device, a, b, out, _PLAIN, None)
    _check(plan.run(a, b, out, scale, plus), "cublasLtMatmul", (a, b))
    return not epilogue
