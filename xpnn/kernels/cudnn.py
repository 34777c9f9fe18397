r"""Convolution by NVIDIA's cuDNN, where its Python package and library are installed.

A graph of one operation is planned for each kind of convolution: for its shapes, dtype and
precision. Plans whose sums change from run to run are left out, and those that round float32 are,
unless TF32 was asked for. Images lie as they do here, channels last; of the weight, which cuDNN
wants as (O, kh, kw, C), a copy is made.

What cuDNN is not there for, or has no plan for, is computed by products of columns;
:func:`status` says which it is.
"""

from __future__ import annotations

import importlib
import threading
from functools import cache
from typing import Any

from xpnn.kernels.cupy_launch import contiguous, cupy
from xpnn.kernels.cupy_windows import Window
from xpnn.precision import get_matmul_precision

__all__ = ["convolve", "input_gradient", "status", "weight_gradient"]

Array = Any
Shape = tuple[int, ...]

_IMAGE, _WEIGHT, _MAP = 1, 2, 3  # uids of x, of the weight, and of y, or of their gradients
_NAMES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
_ALIGNED = 16  # bytes, to which cuDNN trusts that arrays begin
_MOST_PLANS = 4096

_plans: dict[Any, tuple[Any, int] | None] = {}  # None for what has no plan
_refusals: list[str] = []
_of_thread = threading.local()  # handles by device: threads must not share one


@cache
def _library() -> Any:
    """Return the package, or why there is none, as a string."""
    try:
        library = importlib.import_module("cudnn")
        library.backend_version()
    except ImportError as error:
        return f"not installed ({error}); pip install 'xpnn[cudnn]' brings it"
    except Exception as error:  # of the library that the package looks for
        return f"the package finds no library: {error}"
    return library


def status() -> str:
    """Return whether cuDNN computes convolutions on CUDA devices, which version, or why not.

    Examples
    --------
    >>> from xpnn.kernels import cudnn
    >>> print(cudnn.status())  # doctest: +SKIP
    9.13.0, for convolutions
    """
    library = _library()
    if isinstance(library, str):
        return library
    text = f"{library.backend_version_string()}, for convolutions"
    if _refusals:
        text += f", but not for {len(_refusals)} kinds of them (the last: {_refusals[-1]})"
    return text


def _handle(library: Any) -> Any:
    """Return the handle of this thread and the current device, set to the current stream."""
    device = cupy().cuda.runtime.getDevice()
    handles = _of_thread.__dict__
    if device not in handles:
        handles[device] = library.create_handle()
    library.set_stream(handle=handles[device], stream=cupy().cuda.get_current_stream().ptr)
    return handles[device]


# ---------------------------------------------------------------------------------- plans


def _lies(shape: Shape) -> tuple[list[int], list[int]]:
    """Return dimensions and strides of a contiguous array (N, H, W, C), as cuDNN: N, C, H, W."""
    n, h, w, c = shape
    return [n, c, h, w], [h * w * c, 1, w * c, c]


def _build(
    library: Any, handle: Any, kind: str, dtype: str, precision: str, shapes: dict[int, Shape],
    window: Window,
) -> tuple[Any, int]:  # fmt: skip
    """Return a planned graph, and how many bytes of workspace it takes."""
    real, note = getattr(library.data_type, _NAMES[dtype]), library.numerical_note
    graph = library.pygraph(
        io_data_type=real,
        intermediate_data_type=library.data_type.FLOAT,
        compute_data_type=library.data_type.FLOAT,
        handle=handle,
    )

    def given(uid: int) -> Any:
        dim, stride = _lies(shapes[uid])
        return graph.tensor(dim=dim, stride=stride, data_type=real, uid=uid)

    options: dict[str, Any] = {
        "pre_padding": list(window.before), "post_padding": list(window.after),
        "stride": list(window.stride), "dilation": list(window.dilation),
    }  # fmt: skip
    if kind == "fprop":
        out = graph.conv_fprop(image=given(_IMAGE), weight=given(_WEIGHT), **options)
    elif kind == "dgrad":
        out = graph.conv_dgrad(loss=given(_MAP), filter=given(_WEIGHT), **options)
    else:
        out = graph.conv_wgrad(image=given(_IMAGE), loss=given(_MAP), **options)
    uid = _RESULTS[kind]
    dim, stride = _lies(shapes[uid])
    out.set_output(True).set_uid(uid).set_data_type(real).set_dim(dim).set_stride(stride)

    unwanted = [note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION]
    if dtype == "float32" and precision == "highest":
        unwanted += [note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS]
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
    graph.deselect_numeric_notes(unwanted)
    graph.check_support()
    graph.build_plans()
    return graph, graph.get_workspace_size()


_RESULTS = {"fprop": _MAP, "dgrad": _IMAGE, "wgrad": _WEIGHT}


def _run(kind: str, arrays: dict[int, Array], window: Window) -> bool:
    """Compute one of three arrays from the others, if cuDNN has a plan for it."""
    library = _library()
    dtype = arrays[_IMAGE].dtype.name
    if isinstance(library, str) or dtype not in _NAMES or min(window.before + window.after) < 0:
        return False
    if any(x.data.ptr % _ALIGNED for x in arrays.values()):
        return False
    precision, shapes = get_matmul_precision(), {uid: x.shape for uid, x in arrays.items()}
    device = cupy().cuda.runtime.getDevice()
    key = (device, kind, dtype, precision, *shapes.values(), window)
    if key not in _plans:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        try:
            handle = _handle(library)
            _plans[key] = _build(library, handle, kind, dtype, precision, shapes, window)
        except Exception as error:  # what the package raises has no common class
            _plans[key] = None
            what = f"{kind} of {shapes[_IMAGE]} with {shapes[_WEIGHT]} in {dtype}"
            _refusals.append(f"{what}: {' '.join(str(error).split())}")
    plan = _plans[key]
    if plan is None:
        return False
    graph, size = plan
    workspace = cupy().empty(max(size, 1), "uint8")
    places = {uid: x.data.ptr for uid, x in arrays.items()}
    graph.execute(places, workspace.data.ptr, handle=_handle(library))
    return True


# --------------------------------------------------------------------------- convolutions


def _turned(weight: Array) -> Array:
    """(kh, kw, C, O) -> (O, kh, kw, C)."""
    return contiguous(weight.transpose(3, 0, 1, 2))


def convolve(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Write the convolution of contiguous images into ``y``; return whether cuDNN did it."""
    if isinstance(_library(), str):  # before a copy is made
        return False
    return _run("fprop", {_IMAGE: x, _WEIGHT: _turned(weight), _MAP: y}, window)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> bool:
    """Write the gradient with respect to the images into ``dx``; return whether cuDNN did it."""
    if isinstance(_library(), str):
        return False
    return _run("dgrad", {_IMAGE: dx, _WEIGHT: _turned(weight), _MAP: g}, window)


def weight_gradient(g: Array, x: Array, shape: Shape, window: Window) -> Array | None:
    """Return the gradient with respect to a weight of a shape, or None if cuDNN has no plan."""
    if isinstance(_library(), str):
        return None
    kh, kw, channels, features = shape
    turned = cupy().empty((features, kh, kw, channels), x.dtype)
    if not _run("wgrad", {_IMAGE: x, _WEIGHT: turned, _MAP: g}, window):
        return None
    return contiguous(turned.transpose(1, 2, 3, 0))
