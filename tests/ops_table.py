"""One row a call of a function of ``xpnn.ops``, for the tests that go through them all.

A row's call is written against the standard, so the same one runs on Tensors, on raw arrays of any
library, under torch's autograd and under JAX. ``DIFFERENTIABLE`` holds the functions that have a
derivative, ``STEPS`` those that have none or zero; the rest of the namespace is listed below them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CREATION", "DIFFERENTIABLE", "INSPECTION", "STEPS", "Row"]

Input = Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class Row:
    """A call ``call(xp, *arrays)`` of the function ``name``, and how to make its arrays."""

    name: str
    call: Callable[..., Any]
    inputs: tuple[Input, ...]
    note: str = ""
    order: int = 2  # highest derivative that is checked
    without: tuple[str, ...] = ()  # libraries that cannot run the call
    no_oracle: tuple[str, ...] = ()  # libraries whose own derivative is missing or wrong

    def __str__(self) -> str:
        return f"{self.name}-{self.note}" if self.note else self.name

    def arrays(self) -> list[Any]:
        """Return the arrays of the call, in double precision: read-only, and always the same."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        xs = [np.asarray(make(rng)) for make in self.inputs]
        for x in xs:
            x.flags.writeable = False
        return xs


# ------------------------------------------------------------------------------- the inputs


def normal(*shape: int) -> Input:
    return lambda rng: rng.normal(size=shape)


def between(low: float, high: float, *shape: int) -> Input:
    return lambda rng: rng.uniform(low, high, size=shape)


def complex_(*shape: int) -> Input:
    return lambda rng: rng.normal(size=shape) + 1j * rng.normal(size=shape)


def spread(*shape: int) -> Input:
    """Numbers of both signs, of which no two are near each other, or near zero."""

    def make(rng: np.random.Generator) -> Any:
        n = int(np.prod(shape))
        return ((rng.permutation(n) - n // 2 + 0.4) * 0.7).reshape(shape)

    return make


def ints(low: int, high: int, *shape: int) -> Input:
    return lambda rng: rng.integers(low, high, size=shape)


def bools(*shape: int) -> Input:
    return lambda rng: rng.random(size=shape) < 0.5


def const(values: Any, dtype: str = "int64") -> Input:
    return lambda rng: np.asarray(values, dtype=dtype)


def same(name: str, **params: Any) -> Callable[..., Any]:
    """Return the call of the function ``name`` with all arrays, and these parameters."""
    return lambda xp, *xs: getattr(xp, name)(*xs, **params)


# ------------------------------------------------------------- element-wise, of one array

_EVERYWHERE = (-2.0, 2.0)
_UNARY: dict[str, tuple[tuple[float, float], str]] = {  # a domain; "c" if complex numbers too
    "abs": ((0.3, 2.0), "c"),
    "acos": ((-0.8, 0.8), "c"),
    "acosh": ((1.3, 3.0), "c"),
    "asin": ((-0.8, 0.8), "c"),
    "asinh": (_EVERYWHERE, "c"),
    "atan": (_EVERYWHERE, "c"),
    "atanh": ((-0.8, 0.8), "c"),
    "conj": (_EVERYWHERE, "c"),
    "cos": (_EVERYWHERE, "c"),
    "cosh": (_EVERYWHERE, "c"),
    "exp": (_EVERYWHERE, "c"),
    "expm1": (_EVERYWHERE, "c"),
    "log": ((0.3, 3.0), "c"),
    "log10": ((0.3, 3.0), "c"),
    "log1p": ((-0.7, 3.0), "c"),
    "log2": ((0.3, 3.0), "c"),
    "negative": (_EVERYWHERE, "c"),
    "positive": (_EVERYWHERE, "c"),
    "real": (_EVERYWHERE, "c"),
    "reciprocal": ((0.4, 2.0), "c"),
    "sin": (_EVERYWHERE, "c"),
    "sinh": (_EVERYWHERE, "c"),
    "sqrt": ((0.3, 3.0), "c"),
    "square": (_EVERYWHERE, "c"),
    "tan": ((-1.2, 1.2), "c"),
    "tanh": (_EVERYWHERE, "c"),
}


def _unary_rows() -> list[Row]:
    rows = [Row("imag", same("imag"), (complex_(2, 3),), "complex", 3)]
    for name, (domain, kinds) in _UNARY.items():
        rows.append(Row(name, same(name), (between(*domain, 2, 3),), "real", 3))
        if "c" in kinds:
            rows.append(Row(name, same(name), (complex_(2, 3),), "complex"))
    rows.append(Row("abs", same("abs"), (spread(2, 3),), "both signs"))
    rows.append(Row("exp", same("exp"), (normal(),), "no axes", 3))
    return rows


# ---------------------------------------------------------- element-wise, of several arrays

_POSITIVE = (0.4, 2.0)
_BINARY: dict[str, tuple[tuple[float, float], tuple[float, float], str]] = {
    "add": (_EVERYWHERE, _EVERYWHERE, "c"),
    "atan2": (_POSITIVE, _POSITIVE, ""),
    "copysign": (_POSITIVE, _POSITIVE, ""),
    "divide": (_EVERYWHERE, _POSITIVE, "c"),
    "hypot": (_POSITIVE, _POSITIVE, ""),
    "logaddexp": (_EVERYWHERE, _EVERYWHERE, ""),
    "maximum": (_EVERYWHERE, _EVERYWHERE, ""),
    "minimum": (_EVERYWHERE, _EVERYWHERE, ""),
    "multiply": (_EVERYWHERE, _EVERYWHERE, "c"),
    "pow": (_POSITIVE, _EVERYWHERE, "c"),
    "remainder": (_EVERYWHERE, (2.5, 3.0), ""),
    "subtract": (_EVERYWHERE, _EVERYWHERE, "c"),
}
_SHAPES = {
    "same shape": ((2, 3), (2, 3)),
    "left broadcast": ((3,), (2, 3)),
    "right broadcast": ((2, 3), (2, 1)),
    "both broadcast": ((2, 1, 3), (4, 1)),
    "no axes": ((), (2,)),
}


def _binary_rows() -> list[Row]:
    rows = []
    for name, (d1, d2, kinds) in _BINARY.items():
        call = same(name)
        for note, (s1, s2) in _SHAPES.items():
            order = 3 if note == "same shape" else 2
            rows.append(Row(name, call, (between(*d1, *s1), between(*d2, *s2)), note, order))
        if "c" in kinds:
            rows.append(Row(name, call, (complex_(2, 3), complex_(3)), "complex"))
            rows.append(Row(name, call, (between(*d1, 2, 3), complex_(3)), "real and complex"))
            rows.append(Row(name, call, (complex_(2, 3), between(*d2, 3)), "complex and real"))
        rows.append(Row(name, _with_scalar(name, left=False), (between(*d1, 3),), "scalar right"))
        missing = ("torch",) if name == "remainder" else ()
        call = _with_scalar(name, left=True)
        rows.append(Row(name, call, (between(*d2, 3),), "scalar left", no_oracle=missing))
    return rows


def _with_scalar(name: str, *, left: bool) -> Callable[..., Any]:
    if left:
        return lambda xp, x: getattr(xp, name)(1.5, x)
    return lambda xp, x: getattr(xp, name)(x, 2.75)


_C = const([True, False, True], "bool")
_OTHER_ELEMENTWISE = [
    Row("atan2", same("atan2"), (spread(2, 3), spread(3)), "all quadrants", 3),
    Row("copysign", same("copysign"), (spread(2, 3), spread(3)), "both signs"),
    Row("pow", lambda xp, x: xp.pow(x, 3), (spread(2, 3),), "integer exponent", 3),
    Row("pow", lambda xp, x: xp.pow(x, 2.0), (complex_(2, 3),), "complex to a real power"),
    Row("remainder", same("remainder"), (spread(2, 3), const([-1.1], "float64")), "negative"),
    Row("where", same("where"), (_C, normal(2, 3), normal(2, 3)), "broadcast condition", 3),
    Row("where", same("where"), (bools(2, 3), normal(3), normal(2, 1)), "broadcast values"),
    Row("where", same("where"), (bools(2, 3), complex_(3), normal(2, 1)), "complex and real",
        no_oracle=("torch",)),
    Row("where", lambda xp, c, x: xp.where(c, x, 1.5), (bools(2, 3), normal(3)), "scalar right"),
    Row("where", lambda xp, c, x: xp.where(c, 1.5, x), (bools(2, 3), normal(3)), "scalar left"),
    Row("clip", lambda xp, x: xp.clip(x, -1.0, 1.0), (spread(2, 3),), "scalars"),
    Row("clip", lambda xp, x: xp.clip(x, min=0.1), (spread(2, 3),), "lower"),
    Row("clip", lambda xp, x: xp.clip(x, max=0.1), (spread(2, 3),), "upper"),
    Row("clip", lambda xp, x: xp.clip(x), (spread(2, 3),), "no bounds"),
    Row(
        "clip", same("clip"), (spread(2, 3), between(-1, -0.5, 3), between(0.5, 1, 2, 1)), "arrays"
    ),
    Row("clip", same("clip"), (spread(3), between(-1, -0.5, 2, 3), between(1, 2, 3)), "broadcast",
        no_oracle=("torch",)),
]  # fmt: skip

# --------------------------------------------------------------------------- along axes

_AXES: list[dict[str, Any]] = [
    {},
    {"axis": 0},
    {"axis": -1, "keepdims": True},
    {"axis": (0, 2)},
    {"axis": (1, -1), "keepdims": True},
    {"axis": None, "keepdims": True},
    {"axis": ()},
]


def _words(params: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in params.items()) or "all"


def _reduction_rows() -> list[Row]:
    rows = []
    for params in _AXES:
        note = _words(params)
        for name in ("sum", "mean", "prod"):
            rows.append(Row(name, same(name, **params), (normal(2, 3, 4),), note))
        for name in ("max", "min"):
            rows.append(Row(name, same(name, **params), (spread(2, 3, 4),), note))
        for name in ("var", "std"):
            if params != {"axis": ()}:  # deviations of single elements: no derivative worth a check
                rows.append(Row(name, same(name, **params), (normal(2, 3, 4),), note))
    for name in ("sum", "mean", "prod"):
        rows.append(Row(name, same(name, axis=1), (complex_(2, 3),), "complex"))
        rows.append(Row(name, same(name), (normal(),), "no axes"))
    for name in ("var", "std"):
        rows.append(Row(name, same(name, axis=1, correction=1), (normal(2, 3),), "correction"))
    rows.append(
        Row("prod", same("prod", axis=1), (const([[0, 2, 3], [0, 0, 4]], "float64"),), "zeros")
    )
    rows += [_cast_row(name) for name in ("sum", "prod")]
    return rows


def _cast_row(name: str) -> Row:
    """Return the row of a reduction in a dtype of another kind; torch cannot differentiate it."""
    call = lambda xp, x: getattr(xp, name)(x, dtype=xp.complex128)  # noqa: E731
    return Row(name, call, (normal(3),), "dtype", no_oracle=("torch",))


def _cumulative_rows() -> list[Row]:
    rows = []
    for name in ("cumulative_sum", "cumulative_prod"):
        for params in (
            {"axis": 0},
            {"axis": -1},
            {"axis": 1, "include_initial": True},
            {"axis": -2, "include_initial": True},
        ):
            rows.append(Row(name, same(name, **params), (normal(2, 3, 4),), _words(params)))
        rows.append(Row(name, same(name), (normal(4),), "default axis"))
        rows.append(Row(name, same(name), (complex_(4),), "complex"))
        zeros = const([3, 0, 2, 0, 5], "float64")
        rows.append(Row(name, same(name, include_initial=True), (zeros,), "zeros"))
        rows.append(_cast_row(name))
    return rows


# ---------------------------------------------------------------------------------- shapes

_SHAPE_ROWS = [
    Row("broadcast_to", lambda xp, x: xp.broadcast_to(x, (2, 4, 3)), (normal(4, 1),), "new axis"),
    Row("broadcast_to", lambda xp, x: xp.broadcast_to(x, (2, 3)), (complex_(3),), "complex"),
    Row("broadcast_to", lambda xp, x: xp.broadcast_to(x, (2, 3)), (normal(),), "no axes"),
    Row("broadcast_arrays", same("broadcast_arrays"), (normal(2, 1), normal(3), normal())),
    Row("expand_dims", lambda xp, x: xp.expand_dims(x, axis=1), (normal(2, 3),), "one"),
    Row("expand_dims", lambda xp, x: xp.expand_dims(x, axis=-1), (normal(2, 3),), "last"),
    Row("squeeze", lambda xp, x: xp.squeeze(x, axis=1), (normal(2, 1, 3),), "one"),
    Row("squeeze", lambda xp, x: xp.squeeze(x, axis=(0, -1)), (normal(1, 3, 1),), "tuple"),
    Row("flip", lambda xp, x: xp.flip(x), (normal(2, 3),), "all"),
    Row("flip", lambda xp, x: xp.flip(x, axis=-1), (normal(2, 3),), "one"),
    Row("flip", lambda xp, x: xp.flip(x, axis=(0, 2)), (complex_(2, 3, 2),), "tuple"),
    Row("matrix_transpose", same("matrix_transpose"), (normal(2, 3, 4),), "real"),
    Row("matrix_transpose", same("matrix_transpose"), (complex_(2, 3),), "complex"),
    Row("permute_dims", lambda xp, x: xp.permute_dims(x, (2, 0, 1)), (normal(2, 3, 4),), "cycle"),
    Row("permute_dims", lambda xp, x: xp.permute_dims(x, (-1, 0, -2)), (normal(2, 3, 4),), "minus"),
    Row("moveaxis", lambda xp, x: xp.moveaxis(x, 0, -1), (normal(2, 3, 4),), "one"),
    Row("moveaxis", lambda xp, x: xp.moveaxis(x, (0, 2), (1, 0)), (normal(2, 3, 4),), "tuple"),
    Row("reshape", lambda xp, x: xp.reshape(x, (3, -1)), (normal(2, 3, 4),), "real"),
    Row("reshape", lambda xp, x: xp.reshape(x, ()), (complex_(1, 1),), "to no axes"),
    Row("reshape", lambda xp, x: xp.reshape(x, (6,), copy=True), (normal(2, 3),), "copy"),
    Row("roll", lambda xp, x: xp.roll(x, 4), (normal(2, 3),), "flat"),
    Row("roll", lambda xp, x: xp.roll(x, -1, axis=1), (normal(2, 3),), "one"),
    Row("roll", lambda xp, x: xp.roll(x, (1, -2), axis=(0, 1)), (complex_(2, 3),), "tuple"),
    Row("tile", lambda xp, x: xp.tile(x, (2, 1, 3)), (normal(2, 3),), "more axes"),
    Row("tile", lambda xp, x: xp.tile(x, (2,)), (normal(2, 3),), "fewer axes"),
    Row("tril", lambda xp, x: xp.tril(x), (normal(2, 3, 3),), "main"),
    Row("tril", lambda xp, x: xp.tril(x, k=1), (complex_(3, 4),), "above"),
    Row("triu", lambda xp, x: xp.triu(x), (normal(2, 3, 3),), "main"),
    Row("triu", lambda xp, x: xp.triu(x, k=-1), (complex_(3, 4),), "below"),
    Row("unstack", lambda xp, x: xp.unstack(x), (normal(2, 3),), "first"),
    Row("unstack", lambda xp, x: xp.unstack(x, axis=-1), (complex_(2, 3),), "last"),
    Row("unstack", lambda xp, x: xp.unstack(x, axis=1)[2], (normal(2, 3),), "one of them"),
    Row("concat", lambda xp, *xs: xp.concat(xs), (normal(2, 3), normal(1, 3), normal(4, 3)),
        "first"),
    Row("concat", lambda xp, *xs: xp.concat(xs, axis=-1), (normal(2, 3), normal(2, 1)), "last"),
    Row("concat", lambda xp, *xs: xp.concat(xs, axis=None), (normal(2, 3), normal(2)), "flat"),
    Row("concat", lambda xp, x, y: xp.concat([x, y, x]), (complex_(2), complex_(3)), "twice"),
    Row("concat", lambda xp, *xs: xp.concat(xs), (normal(2), complex_(3)), "real and complex"),
    Row("stack", lambda xp, *xs: xp.stack(xs), (normal(2, 3), normal(2, 3)), "first"),
    Row("stack", lambda xp, *xs: xp.stack(xs, axis=-1), (normal(2, 3), normal(2, 3)), "last"),
    Row("stack", lambda xp, x, y: xp.stack([x, y, x], axis=1), (complex_(2), complex_(2)), "twice"),
    Row("diff", lambda xp, x: xp.diff(x), (normal(2, 4),), "last"),
    Row("diff", lambda xp, x: xp.diff(x, axis=0, n=2), (normal(4, 2),), "twice"),
    Row("diff", lambda xp, x, a, b: xp.diff(x, axis=1, prepend=a, append=b),
        (normal(2, 3), normal(2, 1), normal(2, 2)), "ends"),
    Row("meshgrid", same("meshgrid"), (normal(2), normal(3)), "xy"),
    Row("meshgrid", same("meshgrid", indexing="ij"), (normal(2), normal(3), normal(2)), "ij"),
    Row("asarray", lambda xp, x: xp.asarray(x), (normal(2, 3),), "as it is",
        no_oracle=("torch",)),
    Row("asarray", lambda xp, x: xp.asarray(x, copy=True), (complex_(2, 3),), "copy",
        no_oracle=("torch",)),
    Row("astype", lambda xp, x: xp.astype(x, xp.complex128), (normal(3),), "to complex",
        without=("jax",)),
    Row("astype", lambda xp, x: xp.astype(x, xp.float64, copy=False), (normal(3),), "no copy"),
]  # fmt: skip

# -------------------------------------------------------------------- gathering and sorting

_FAR = const([[0, 2], [2, 2], [1, 0]])
_GATHER_ROWS = [
    Row("take", lambda xp, x, i: xp.take(x, i, axis=1), (normal(2, 3), const([2, 0, 2, 1])),
        "repeated"),
    Row("take", lambda xp, x, i: xp.take(x, i, axis=-2), (normal(2, 3, 2), const([1, 1, 0, 2])),
        "middle"),
    Row("take", lambda xp, x, i: xp.take(x, i), (complex_(4), const([3, 0, 3])), "default axis"),
    Row("take", lambda xp, x, i: xp.take(x, i, axis=0), (normal(3, 2), const([-1, 0, -3])),
        "negative", without=("strict",)),
    Row("take_along_axis", lambda xp, x, i: xp.take_along_axis(x, i, axis=1), (normal(3, 3), _FAR),
        "last"),
    Row("take_along_axis", lambda xp, x, i: xp.take_along_axis(x, i, axis=0), (normal(3, 2), _FAR),
        "first"),
    Row("take_along_axis", lambda xp, x, i: xp.take_along_axis(x, i, axis=0),
        (normal(3, 2), const([[2], [0]])), "broadcast indices"),
    Row("repeat", lambda xp, x: xp.repeat(x, 3, axis=1), (normal(2, 3),), "int"),
    Row("repeat", lambda xp, x, n: xp.repeat(x, n, axis=0), (complex_(3, 2), const([2, 0, 3])),
        "array"),
    Row("repeat", lambda xp, x: xp.repeat(x, 2), (normal(2, 3),), "flat"),
    Row("repeat", lambda xp, x, n: xp.repeat(x, n), (normal(2, 2), const([1, 0, 2, 1])),
        "flat array"),
    Row("sort", lambda xp, x: xp.sort(x), (spread(2, 4),), "last"),
    Row("sort", lambda xp, x: xp.sort(x, axis=0), (spread(3, 2),), "first"),
    Row("sort", lambda xp, x: xp.sort(x, descending=True), (spread(2, 4),), "descending"),
    Row("sort", lambda xp, x: xp.sort(x, axis=-2, descending=True, stable=False), (spread(3, 2),),
        "not stable"),
]  # fmt: skip

# -------------------------------------------------------------------------------- products

_MATMUL = {
    "matrices": ((2, 3), (3, 4)),
    "vectors": ((3,), (3,)),
    "matrix and vector": ((2, 3), (3,)),
    "vector and matrix": ((3,), (3, 2)),
    "stack and matrix": ((2, 4, 3), (3, 2)),
    "matrix and stack": ((4, 3), (2, 3, 2)),
    "stack and vector": ((2, 4, 3), (3,)),
    "vector and stack": ((3,), (2, 3, 4)),
    "broadcast stacks": ((2, 1, 2, 3), (4, 3, 2)),
    "stacks": ((2, 4, 3), (2, 3, 2)),
}


def _product_rows() -> list[Row]:
    call = same("matmul")
    rows = [Row("matmul", call, (normal(*a), normal(*b)), note) for note, (a, b) in _MATMUL.items()]
    rows += [
        Row("matmul", call, (complex_(*a), complex_(*b)), f"complex {note}")
        for note, (a, b) in _MATMUL.items()
    ]
    rows += [
        Row("matmul", call, (normal(2, 3), complex_(3, 2)), "real and complex"),
        Row("tensordot", same("tensordot"), (normal(2, 3, 4), normal(3, 4, 2)), "default"),
        Row("tensordot", same("tensordot", axes=1), (normal(2, 3), complex_(3, 4)),
            "real and complex"),
        Row("tensordot", same("tensordot", axes=0), (normal(2, 3), normal(2)), "outer"),
        Row("tensordot", same("tensordot", axes=((0, 2), (1, 0))),
            (normal(2, 3, 4), normal(4, 2, 5)), "crossed"),
        Row("tensordot", same("tensordot", axes=((-1, 0), (-2, -1))),
            (complex_(2, 3, 4), complex_(3, 4, 2)), "negative"),
        Row("vecdot", same("vecdot"), (normal(2, 3), normal(2, 3)), "same shape"),
        Row("vecdot", same("vecdot"), (normal(3), normal(2, 3)), "left broadcast"),
        Row("vecdot", same("vecdot", axis=-2), (normal(2, 3, 4), normal(3, 1)), "axis"),
        Row("vecdot", same("vecdot"), (complex_(2, 3), complex_(3)), "complex"),
        Row("vecdot", same("vecdot"), (complex_(2, 3), normal(2, 3)), "complex and real"),
        Row("vecdot", same("vecdot"), (normal(3), complex_(2, 3)), "real and complex"),
    ]  # fmt: skip
    return rows


DIFFERENTIABLE: list[Row] = [
    *_unary_rows(),
    *_binary_rows(),
    *_OTHER_ELEMENTWISE,
    *_reduction_rows(),
    *_cumulative_rows(),
    *_SHAPE_ROWS,
    *_GATHER_ROWS,
    *_product_rows(),
]

# ------------------------------------------- without a derivative, or with derivative zero

_TWO_INTS = (ints(0, 7, 2, 3), ints(0, 7, 3))
_TWO_BOOLS = (bools(2, 3), bools(3))
_EQUALS = (const([[1, 2, 3], [4, 5, 6]], "float64"), const([1, 5, 3], "float64"))
_SPECIAL = const([1, np.nan, -np.inf, 0, np.inf], "float64")
_TIED = const([3, 1, 3, 2, 1], "float64")
_SORTED = const([1, 2, 2, 4], "float64")


def _step_rows() -> list[Row]:
    rows = [Row(f"bitwise_{f}", same(f"bitwise_{f}"), _TWO_INTS) for f in ("and", "or", "xor")]
    rows += [
        Row(f"bitwise_{side}_shift", same(f"bitwise_{side}_shift"), _TWO_INTS)
        for side in ("left", "right")
    ]
    rows += [Row(f, same(f), _TWO_BOOLS) for f in ("logical_and", "logical_or", "logical_xor")]
    rows += [Row(f, same(f), _EQUALS) for f in ("equal", "not_equal", "nextafter")]
    rows += [Row(f, same(f), _EQUALS) for f in ("less", "less_equal", "greater", "greater_equal")]
    rows += [Row(f, same(f), (_SPECIAL,)) for f in ("isfinite", "isinf", "isnan", "signbit")]
    rows += [Row(f, same(f), (spread(2, 3),)) for f in ("ceil", "floor", "round", "sign", "trunc")]
    rows += [
        Row(f, same(f, **params), (bools(2, 3),), _words(params))
        for f in ("all", "any", "count_nonzero")
        for params in ({}, {"axis": 0}, {"axis": (0, 1), "keepdims": True})
    ]
    rows += [
        Row(f, same(f, **params), (spread(2, 3),), _words(params))
        for f in ("argmax", "argmin")
        for params in ({}, {"axis": -1, "keepdims": True})
    ]
    rows += [
        Row("bitwise_invert", same("bitwise_invert"), (ints(0, 7, 4),)),
        Row("logical_not", same("logical_not"), (bools(4),)),
        Row("floor_divide", same("floor_divide"), (spread(2, 3), const([2.0, -2, 3], "float64"))),
        Row("argsort", same("argsort"), (_TIED,), "ties"),
        Row("argsort", same("argsort", axis=0, descending=True), (spread(3, 2),), "descending"),
        Row("isin", same("isin"), (ints(0, 5, 2, 3), const([1, 3])), "integers"),
        Row("isin", same("isin", invert=True), (ints(0, 5, 4), const([1, 3])), "invert",
            without=("strict",)),  # array-api-strict 2.6.1 does not hand invert on
        Row("nonzero", same("nonzero"), (ints(0, 2, 3, 4),)),
        Row("searchsorted", same("searchsorted"), (_SORTED, _TIED), "left"),
        Row("searchsorted", same("searchsorted", side="right"), (_SORTED, _TIED), "right"),
        Row("searchsorted", lambda xp, a, x, i: xp.searchsorted(a, x, sorter=i),
            (const([4, 1, 2.0], "float64"), _TIED, const([1, 2, 0])), "sorter"),
        Row("unique_all", same("unique_all"), (_TIED,)),
        Row("unique_counts", same("unique_counts"), (_TIED,)),
        Row("unique_inverse", same("unique_inverse"), (_TIED,)),
        Row("unique_values", same("unique_values"), (_TIED,)),
    ]  # fmt: skip
    return rows


STEPS: list[Row] = _step_rows()

# ------------------------------------------------------------------ what takes no gradient

CREATION = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]
INSPECTION = [
    "__array_namespace_info__",
    "broadcast_shapes",
    "can_cast",
    "finfo",
    "iinfo",
    "isdtype",
    "result_type",
]
