"""The Tensor: an array-API array that remembers where it came from."""

from __future__ import annotations

import math
import operator
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.autograd import tape
from xpnn.autograd.indexing import assign, get
from xpnn.autograd.operators import Operators
from xpnn.autograd.record import apply, backward, bind, namespace, wrap
from xpnn.autograd.tape import Leaf
from xpnn.backend import Device, array_namespace
from xpnn.errors import DTypeError, GraphError, ShapeError
from xpnn.primitives import shape as shapes

__all__ = ["API_VERSIONS", "Tensor", "seed"]

API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


class Tensor(Operators):
    """An array-API array that can be differentiated.

    Parameters
    ----------
    array : array, Tensor, scalar or nested sequence
        What is not an array becomes one on the default device, floats in the default dtype.
    requires_grad : bool
        Whether to make it a variable, to which ``backward`` brings gradients.

    Attributes
    ----------
    data : array
        The raw array, of the library it came from.
    grad : Tensor or None
        The gradient that has arrived, for a variable.

    Raises
    ------
    DTypeError
        If a gradient is asked for an integer or boolean array.

    Examples
    --------
    >>> import xpnn
    >>> x = xpnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).backward(xpnn.Tensor([1.0, 10.0]))
    >>> x.grad
    Tensor([ 2., 40.], dtype=float32)
    """

    __slots__ = ()
    # NumPy, CuPy: leave an operation with a Tensor to the Tensor.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        self.data = backend.asarray(backend.unwrap(array))
        self.vertex = None
        if requires_grad:
            self.requires_grad = True

    # ---------------------------------------------------------------------- the tape

    @property
    def requires_grad(self) -> bool:
        """Whether the tape knows this Tensor: it is a variable, or was computed from one."""
        return self.vertex is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and self.vertex is None:
            if not self.dtype.is_inexact:
                msg = (
                    f"only floating-point Tensors can require a gradient, this one is {self.dtype}."
                )
                raise DTypeError(msg)
            self.vertex = Leaf()
        elif not wanted and self.vertex is not None:
            if type(self.vertex) is not Leaf:
                msg = "requires_grad of a computed Tensor cannot be switched off; use detach()."
                raise GraphError(msg)
            self.vertex = None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` brought to this variable, or None."""
        leaf = self.vertex
        if type(leaf) is not Leaf or leaf.grad is None:
            return None
        if not isinstance(leaf.grad, Tensor):
            leaf.grad = wrap(leaf.grad)
        return leaf.grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if type(self.vertex) is Leaf:
            if value is not None and tuple(value.shape) != self.shape:
                msg = f"grad: expected shape {self.shape}, got {tuple(value.shape)}."
                raise ShapeError(msg)
            self.vertex.grad = value
        elif value is not None:
            msg = "only a variable, Tensor(..., requires_grad=True), has a gradient to set."
            raise GraphError(msg)

    def backward(
        self, grad: Any = None, *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this Tensor to ``grad`` of every variable it was computed from.

        Parameters
        ----------
        grad : array or Tensor, optional
            The gradient with respect to this Tensor, of its shape; 1 for a Tensor of one element.
        retain_graph : bool, optional
            Keep what the operations saved, so that ``backward`` can be called again.
        create_graph : bool
            Record the backward pass, so that gradients can be differentiated themselves.

        Raises
        ------
        GraphError
            If there is no graph, or it was freed by an earlier call.
        ShapeError
            If ``grad`` is missing for more than one element, or has another shape.
        """
        if self.vertex is None:
            msg = (
                "backward(): this Tensor was not computed from a variable, so there is no graph."
                " Was it made under no_grad(), or from Tensors without requires_grad?"
            )
            raise GraphError(msg)
        backward([self], [seed(self, grad)], create_graph=create_graph, retain_graph=retain_graph)

    def detach(self) -> Tensor:
        """Return a Tensor over the same array, off the tape."""
        return wrap(self.data)

    def item(self) -> Any:
        """Return the value of a Tensor of one element as a Python scalar."""
        if self.size != 1:
            msg = f"item(): expected one element, got shape {self.shape}."
            raise ShapeError(msg)
        return backend.to_numpy(self.data).item()

    # -------------------------------------------------------------------- attributes

    @property
    def dtype(self) -> Any:
        """The dtype, equal to the array library's own dtype of that name."""
        return as_dtype(self.data.dtype)

    @property
    def device(self) -> Device:
        """The device on which the array lies."""
        return backend.device_of(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.data.shape)

    @property
    def mT(self) -> Tensor:
        """Transpose of the last two axes."""
        if self.ndim < 2:
            msg = f"mT: expected at least two axes, got shape {self.shape}."
            raise ShapeError(msg)
        return apply(shapes.matrix_transpose, (self,))

    @property
    def T(self) -> Tensor:
        """Transpose of a matrix."""
        if self.ndim != 2:
            msg = f"T: expected two axes, got shape {self.shape}; use mT or permute_dims."
            raise ShapeError(msg)
        return self.mT

    # ---------------------------------------------------------------------- indexing

    def __getitem__(self, key: Any, /) -> Tensor:
        return get(self, key)

    def __setitem__(self, key: Any, value: Any, /) -> None:
        if type(self.vertex) is Leaf and tape.is_recording():
            msg = (
                "assigning into a variable would lose its value on the tape. Compute a new Tensor"
                " with ops.where(...), or assign under no_grad()."
            )
            raise GraphError(msg)
        assign(self, key, value)

    def __len__(self) -> int:
        if not self.shape:
            msg = "len() of a Tensor without axes."
            raise TypeError(msg)
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.shape:
            msg = "iteration over a Tensor without axes."
            raise TypeError(msg)
        return (self[i, ...] for i in range(self.shape[0]))

    # ------------------------------------------------------------ to other worlds

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *API_VERSIONS):
            msg = f"api_version {api_version!r} is not one of {', '.join(API_VERSIONS)}."
            raise ValueError(msg)
        return namespace()

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """Move to a device, also one of another library; gradients travel back."""
        source, target = self.device, backend.as_device(device)
        if source == target:
            return self
        moved = apply(shapes.to_device, (self,), {"source": source, "target": target})
        return moved

    def _off_tape(self, what: str) -> Any:
        if self.vertex is not None:
            msg = (
                f"{what} of a Tensor that requires a gradient would leave the tape unnoticed."
                " Use x.detach() first, or xpnn.to_numpy(x)."
            )
            raise GraphError(msg)
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        host = backend.to_numpy(self._off_tape("a NumPy array"))
        return host.__array__(dtype or host.dtype, copy=copy)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        given = {"max_version": max_version, "dl_device": dl_device, "copy": copy}
        given = {name: value for name, value in given.items() if value is not None}
        return self._off_tape("a DLPack capsule").__dlpack__(stream=stream, **given)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __complex__(self) -> complex:
        return complex(self.data)

    def __index__(self) -> int:
        if hasattr(self.data, "__index__"):
            return int(self.data.__index__())
        return operator.index(self.data.item())  # CuPy's arrays have none

    def __repr__(self) -> str:
        return _describe(self)

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else str(self), spec)  # f"{loss:.3f}"

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Tensor:
        raw = array_namespace(self.data).asarray(self.data, copy=True)
        return _rebuilt(type(self), raw, type(self.vertex) is Leaf)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.data, type(self.vertex) is Leaf)


bind(tensor=Tensor)


def _rebuilt(cls: type[Tensor], data: Any, variable: bool) -> Tensor:
    """Return a copy: a variable if it was one, else off the tape."""
    tensor = object.__new__(cls)
    tensor.data = data
    tensor.vertex = Leaf() if variable else None
    return tensor


def seed(y: Tensor, grad: Any) -> Any:
    """Return the gradient that a backward pass from ``y`` starts with, checked against it."""
    if grad is None:
        if y.size != 1:
            msg = (
                f"backward() of a Tensor of shape {y.shape} needs the gradient with respect to it,"
                " backward(grad); only a Tensor of one element starts with 1."
            )
            raise ShapeError(msg)
        with backend.on_device_of(y):
            return array_namespace(y.data).ones_like(y.data)
    grad = grad if hasattr(grad, "shape") else backend.asarray(grad, dtype=y.dtype, device=y.device)
    if tuple(grad.shape) != y.shape:
        msg = f"backward(grad): expected shape {y.shape}, got {tuple(grad.shape)}."
        raise ShapeError(msg)
    xp = array_namespace(y.data, grad)  # one library only
    with backend.elsewhere("backward(grad)", (y, grad)) or backend.on_device_of(y):
        return grad if as_dtype(grad.dtype) == y.dtype else xp.astype(grad, y.data.dtype)


def _describe(x: Tensor) -> str:
    text = repr(backend.to_numpy(x.data))
    text = text.removeprefix("array(").removesuffix(")")
    text = text.split(", dtype=")[0].replace("\n      ", "\n       ")
    extra = f", dtype={x.dtype}"
    if x.device != "cpu":
        extra += f", device='{x.device}'"
    if x.requires_grad:
        extra += ", requires_grad=True"
    return f"Tensor({text}{extra})"
