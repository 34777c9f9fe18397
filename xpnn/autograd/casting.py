"""Mixed precision: products in 16 bits, what needs range or digits in float32.

A table says what becomes of the floating-point arguments of a primitive inside a block:

- *low*: products and convolutions, which hardware computes many times as fast in 16 bits;
- *wide*: sums of many numbers, exponentials, logarithms, losses, decompositions;
- everything else follows its arguments.

A cast is an operation on the tape, so a gradient arrives in the dtype of its variable. While no
block is open anywhere, operations see an empty list and look no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from xpnn._dtypes import DTYPES, DType, as_dtype
from xpnn.autograd.tape import Leaf, Vertex, _needed, _recording, next_id
from xpnn.backend import ArrayWrapper, array_namespace, native_dtype, on_device_of
from xpnn.errors import ConfigError, DTypeError
from xpnn.primitives import (
    activations,
    attention,
    convolution,
    decompositions,
    elementwise,
    fft,
    linalg,
    losses,
    neural,
    normalization,
    products,
    recurrent,
    recurrent_gru,
    reductions,
    special,
)
from xpnn.primitives.base import Primitive, cast

__all__ = [
    "arguments",
    "autocast",
    "full_dtype",
    "get_autocast_dtype",
    "resumed",
    "rounded",
    "suspended",
    "widened",
]

Array = Any
_HALVES = frozenset((DTYPES["float16"], DTYPES["bfloat16"]))
_SINGLE = DTYPES["float32"]


def _of(module: ModuleType, names: str) -> list[Primitive]:
    return [getattr(module, name) for name in names.split()]


def _all_of(module: ModuleType, but: str = "") -> list[Primitive]:
    found = {name: x for name, x in vars(module).items() if isinstance(x, Primitive)}
    return [x for name, x in found.items() if name not in but.split()]


_LOW = [
    *_of(neural, "linear"),
    *_of(products, "matmul tensordot vecdot"),
    *_of(convolution, "conv2d conv_transpose2d"),
    *_of(attention, "attention"),
    *_of(recurrent, "rnn_scan lstm_scan"),
    *_of(recurrent_gru, "gru_scan gru_scan_reset_before"),
    *_of(activations, "prelu"),
]
_WIDE = [
    *_of(reductions, "sum mean var std prod cumulative_sum cumulative_prod"),
    *_of(elementwise, "exp expm1 log log1p log2 log10 logaddexp pow reciprocal hypot"),
    *_of(elementwise, "acos acosh asin atanh cosh sinh tan"),
    *_of(activations, "softmax log_softmax softplus exponential"),
    *_of(neural, "logsumexp"),
    *_of(normalization, "normalize"),
    *_all_of(losses),
    *_all_of(special),
    *_all_of(fft, but="fftshift ifftshift"),
    *_all_of(decompositions),
    *_all_of(linalg, but="outer cross diagonal"),
]
_POLICY: dict[Primitive, str | None] = {
    **dict.fromkeys(_WIDE, "wide"),
    **dict.fromkeys(_LOW, "low"),
}

# One entry for every block that is open, in whatever thread. (A list: it grows and shrinks in one
# step of the interpreter, which a number does not.)
blocks: list[None] = []


class _Block:
    """What is in force: the low dtype, or None where it is switched off; and the casts so far."""

    __slots__ = ("cache", "low")

    def __init__(self, low: DType | None, cache: dict[Any, Any]) -> None:
        self.low, self.cache = low, cache


_block: ContextVar[_Block | None] = ContextVar("xpnn_autocast", default=None)


class autocast:
    """Compute products and convolutions in 16 bits inside the block.

    Linear maps, products of matrices, convolutions, recurrent layers and attention cast their
    arguments to the low dtype, each variable once in a block. Sums, exponentials, logarithms,
    softmax, losses, layer normalization and decompositions compute in float32. The rest computes in
    the dtypes it is given. Parameters stay as they are, and gradients come in their dtype. What is
    float64 stays so. Raw arrays are treated as Tensors are.

    Run the model and the loss inside, ``backward`` and the step of the optimizer after the block.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"}
        bfloat16 has the range of float32, and needs nothing else. Gradients of float16 become 0
        below 6e-8: scale the loss with :class:`xpnn.optim.LossScaler`.
    enabled : bool
        False computes the inside of an outer block as if there were none. What comes from outside
        may be of the low dtype: cast it.

    Raises
    ------
    ConfigError
        If the dtype is another one.
    DTypeError
        At the first product, if the array library has no such dtype.

    Notes
    -----
    It holds for the current thread or task. Blocks may be nested; the innermost one counts. Weights
    that are changed in place inside a block are cast again in the next outermost one.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, losses
    >>> layer = layers.Dense(2, in_features=3)
    >>> with xpnn.autocast("float16"):
    ...     y = layer(np.ones((4, 3), "float32"))
    ...     loss = losses.cross_entropy(y, np.zeros(4, int))
    >>> loss.backward()
    >>> y.dtype, loss.dtype, layer.weight.grad.dtype
    (xpnn.float16, xpnn.float32, xpnn.float32)
    """

    def __init__(self, dtype: Any = "bfloat16", *, enabled: bool = True) -> None:
        try:
            low = as_dtype(dtype)
        except DTypeError:
            low = None
        if low not in _HALVES:
            msg = f"autocast: 'dtype' must be 'bfloat16' or 'float16', got {dtype!r}."
            raise ConfigError(msg)
        self.dtype, self.enabled = low, enabled
        self._entered: list[Any] = []

    def __enter__(self) -> None:
        outer = _block.get()
        cache = {} if outer is None else outer.cache
        self._entered.append(
            (_block.set(_Block(self.dtype if self.enabled else None, cache)), outer)
        )
        blocks.append(None)

    def __exit__(self, *exception: object) -> None:
        token, outer = self._entered.pop()
        if outer is None:
            _block.get().cache.clear()  # type: ignore[union-attr]
        _block.reset(token)
        blocks.pop()


def get_autocast_dtype() -> DType | None:
    """Return the dtype in which products are computed here, None outside of :class:`autocast`."""
    block = _block.get()
    return None if block is None else block.low


def full_dtype(dtype: Any) -> DType:
    """Return what a dtype would be without the block: float32 for one of half precision."""
    found = as_dtype(dtype)
    return _SINGLE if found in _HALVES and get_autocast_dtype() is not None else found


@contextmanager
def suspended() -> Iterator[None]:
    """Compute in the dtypes of the arguments, as for a backward pass, or to make weights."""
    token = _block.set(None)
    try:
        yield
    finally:
        _block.reset(token)


@contextmanager
def resumed() -> Iterator[None]:
    """Go on in a copied context, whose block may have ended, as if it had not."""
    block = _block.get()
    token = _block.set(None if block is None else _Block(block.low, {}))
    blocks.append(None)
    try:
        yield
    finally:
        blocks.pop()
        _block.reset(token)


# ------------------------------------------------------------------------- what apply asks for


def arguments(primitive: Primitive, args: Any, tensor: type[Any]) -> tuple[Any, Any]:
    """Return the arguments of a primitive as the block here wants them, and the dtype to round to.

    ``tensor`` is the class of Tensors. The second is None if the result is to stay as it is.
    """
    block = _block.get()
    if block is None or block.low is None:
        return args, None
    try:
        policy = _POLICY[primitive]
    except KeyError:  # that of the first of two in one
        policy = _POLICY[primitive] = _POLICY.get(getattr(primitive, "first", primitive))
    if policy is None:
        return args, None
    dtypes: list[DType | None] = [_dtype(x) for x in args]
    if policy == "wide":
        return [
            _cast(x, _SINGLE, block, tensor) if dtype in _HALVES else x
            for x, dtype in zip(args, dtypes, strict=True)
        ], None
    if primitive is attention.attention:
        dtypes[3:] = [None, None]  # what is added to scores, which are of float32, and may be large
    if any(dtype is not None and dtype.itemsize > 4 for dtype in dtypes):
        return args, None  # float64, or complex numbers
    new = [
        x if dtype is None or dtype is block.low else _cast(x, block.low, block, tensor)
        for x, dtype in zip(args, dtypes, strict=True)
    ]
    given = next((x for x, dtype in zip(new, dtypes, strict=True) if dtype is not None), None)
    if given is None:
        return args, None
    return new, (given.data if isinstance(given, ArrayWrapper) else given).dtype


def widened(x: Any) -> Any:
    """Return a Tensor or array of half precision in float32, inside a block; else as it is."""
    if not blocks or get_autocast_dtype() is None or _dtype(x) not in _HALVES:
        return x
    return array_namespace(x).astype(x, native_dtype(array_namespace(x), _SINGLE))


def rounded(xp: Any, out: Any, low: Any) -> Any:
    """Return the results of a product in the low dtype; NumPy gives float32 for bfloat16."""
    if isinstance(out, tuple):
        return tuple([rounded(xp, x, low) for x in out])
    return out if out.dtype == low else xp.astype(out, low)


def _dtype(x: Any) -> DType | None:
    """Return the dtype of an array of inexact numbers; None for anything else."""
    raw = getattr(x, "data", None) if isinstance(x, ArrayWrapper) else x
    dtype = getattr(raw, "dtype", None)
    if dtype is None:
        return None
    found = as_dtype(dtype)
    return found if found.is_inexact else None


class _Cast(Vertex):
    """A cast on the tape. It keeps nothing but a dtype, so it can be gone back through again."""

    __slots__ = ("dtype", "parent", "xp")

    def __init__(self, xp: Any, parent: Vertex, dtype: Any) -> None:
        self.id = next_id()
        self.wanted = parent.wanted
        self.xp, self.parent, self.dtype = xp, parent, dtype

    def behind(self) -> Iterable[Vertex]:
        return (self.parent,)

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        if not _needed(self.parent, only):
            return ()
        xp = self.xp if lift is None else lift.namespace
        return ((self.parent, cast(xp, g, self.dtype)),)


def _cast(x: Any, dtype: DType, block: _Block, tensor: type[Any]) -> Any:
    if not isinstance(x, ArrayWrapper):
        return _converted(array_namespace(x), x, dtype)
    raw, vertex = x.data, x.vertex  # type: ignore[attr-defined]
    if not _recording.get():
        vertex = None
    key = None
    # A variable, or a parameter: it will be used again, as the next layers' inputs will not.
    if type(x) is not tensor or (type(vertex) is Leaf and vertex.wanted):
        key = id(raw), dtype.name, id(vertex)
        found = block.cache.get(key)
        if found is not None:
            return found[1]
    xp = array_namespace(raw)
    y = object.__new__(tensor)
    y.data = _converted(xp, raw, dtype)
    y.vertex = None if vertex is None else _Cast(xp, vertex, raw.dtype)
    if key is not None:
        block.cache[key] = x, y, raw  # which keeps the ids from being those of others
    return y


def _converted(xp: Any, x: Array, dtype: DType) -> Array:
    try:
        native = native_dtype(xp, dtype)
    except DTypeError as error:
        msg = (
            f"autocast: {error} Mixed precision runs on NumPy, CuPy, PyTorch and JAX; here compute"
            " in float32, without autocast or 'precision'."
        )
        raise DTypeError(msg) from error
    with on_device_of(x):
        return xp.astype(x, native)
