r"""Convolution by NVIDIA's cuDNN.

Plans that round float32 are left out, unless TF32 was asked for. Images lie as they do here,
channels last; of the weight, which cuDNN wants as (O, kh, kw, C), a copy is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn.kernels import cudnn
from xpnn.kernels.cupy_launch import contiguous, cupy
from xpnn.kernels.cupy_windows import Window
from xpnn.precision import get_matmul_precision

__all__ = ["convolve", "input_gradient", "weight_gradient"]

Array = Any
Shape = tuple[int, ...]

_IMAGE, _WEIGHT, _MAP = 1, 2, 3  # uids of x, of the weight, and of y, or of their gradients
_RESULTS = {"fprop": _MAP, "dgrad": _IMAGE, "wgrad": _WEIGHT}


class _Convolution(NamedTuple):
    """One of three arrays, of shapes in the order of their uids, from the others."""

    kind: str
    dtype: str
    precision: str
    shapes: tuple[Shape, ...]
    window: Window

    def declare(self, library: Any, graph: Any) -> None:
        real = cudnn.data_type(library, self.dtype)

        def given(uid: int) -> Any:
            dim, stride = _lies(self.shapes[uid - 1])
            return graph.tensor(dim=dim, stride=stride, data_type=real, uid=uid)

        options: dict[str, Any] = {
            "pre_padding": list(self.window.before), "post_padding": list(self.window.after),
            "stride": list(self.window.stride), "dilation": list(self.window.dilation),
        }  # fmt: skip
        if self.kind == "fprop":
            out = graph.conv_fprop(image=given(_IMAGE), weight=given(_WEIGHT), **options)
        elif self.kind == "dgrad":
            out = graph.conv_dgrad(loss=given(_MAP), filter=given(_WEIGHT), **options)
        else:
            out = graph.conv_wgrad(image=given(_IMAGE), loss=given(_MAP), **options)
        uid = _RESULTS[self.kind]
        dim, stride = _lies(self.shapes[uid - 1])
        out.set_output(True).set_uid(uid).set_data_type(real).set_dim(dim).set_stride(stride)

    def choose(self, library: Any, graph: Any) -> None:
        note = library.numerical_note
        unwanted = [note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION]
        if self.dtype == "float32" and self.precision == "highest":
            unwanted += [note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS]
        graph.deselect_numeric_notes(unwanted)

    def __str__(self) -> str:
        image, weight, _ = self.shapes
        return f"{self.kind} of {image} with {weight} in {self.dtype}"


def _lies(shape: Shape) -> tuple[list[int], list[int]]:
    """Return dimensions and strides of a contiguous array (N, H, W, C), as cuDNN: N, C, H, W."""
    n, h, w, c = shape
    return [n, c, h, w], [h * w * c, 1, w * c, c]


def _run(kind: str, x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Compute one of three arrays from the others, if cuDNN has a plan for it."""
    if min(window.before + window.after) < 0:
        return False
    shapes = (x.shape, weight.shape, y.shape)
    operation = _Convolution(kind, x.dtype.name, get_matmul_precision(), shapes, window)
    return cudnn.run(operation, {_IMAGE: x, _WEIGHT: weight, _MAP: y})


def _turned(weight: Array) -> Array:
    """(kh, kw, C, O) -> (O, kh, kw, C)."""
    return contiguous(weight.transpose(3, 0, 1, 2))


def convolve(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Write the convolution of contiguous images into ``y``; return whether cuDNN did it."""
    if isinstance(cudnn.library(), str):  # before a copy is made
        return False
    return _run("fprop", x, _turned(weight), y, window)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> bool:
    """Write the gradient with respect to the images into ``dx``; return whether cuDNN did it."""
    if isinstance(cudnn.library(), str):
        return False
    return _run("dgrad", dx, _turned(weight), g, window)


def weight_gradient(g: Array, x: Array, shape: Shape, window: Window) -> Array | None:
    """Return the gradient with respect to a weight of a shape, or None if cuDNN has no plan."""
    if isinstance(cudnn.library(), str):
        return None
    kh, kw, channels, features = shape
    turned = cupy().empty((features, kh, kw, channels), x.dtype)
    if not _run("wgrad", x, turned, g, window):
        return None
    return contiguous(turned.transpose(1, 2, 3, 0))
