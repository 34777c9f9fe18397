r"""Sliding windows: the whole numbers that convolution and pooling share.

A window of ``kernel`` elements, ``dilation`` apart, moves over an axis of n elements in steps of
``stride``. With :math:`p_0` and :math:`p_1` elements of padding before and after it stops at

.. math:: n' = \lfloor (n + p_0 + p_1 - d (k - 1) - 1) / s \rfloor + 1

places. Its *tap* i is the slice of the axis that element i of the window sees at all of them.
"""

from __future__ import annotations

import itertools
from numbers import Integral
from typing import Any

from xpnn.errors import ConfigError, ShapeError

__all__ = [
    "LAYOUTS",
    "Pairs",
    "as_pairs",
    "as_tuple",
    "resolve_padding",
    "spans",
    "tap_keys",
    "window_outputs",
]

Array = Any
Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

# How sequences and images lie, by their number of spatial axes.
LAYOUTS = {1: "(N, T, C)", 2: "(N, H, W, C)"}


def as_tuple(value: Any, name: str, *, who: str, n: int = 2, least: int = 1) -> Sizes:
    """Return a size given as one integer, or as one an axis, as a tuple of ``n``.

    Raises
    ------
    ConfigError
        If it is neither, or if an integer is smaller than ``least``, which is 1 or 0.

    Examples
    --------
    >>> as_tuple(3, "kernel", who="conv2d"), as_tuple((1, 2), "stride", who="conv2d")
    ((3, 3), (1, 2))
    """
    sizes = (value,) * n if _is_int(value) else tuple(value) if _is_sequence(value) else ()
    if len(sizes) != n or not all(_is_int(s) and s >= least for s in sizes):
        what = "a positive integer" if least else "an integer that is not negative"
        msg = f"{who}: expected {name} to be {what}, or {n} of them, got {value!r}."
        raise ConfigError(msg)
    return tuple(int(s) for s in sizes)


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def resolve_padding(
    padding: Any,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    dilation: Sizes | None = None,
    *,
    who: str,
) -> Pairs:
    """Return the padding before and after each axis.

    Parameters
    ----------
    padding : int, tuple, list or str
        A number for all sides; a number an axis; a pair (before, after) an axis (for one axis the
        pair itself); ``"valid"`` for none; ``"same"`` for ``ceil(size / stride)`` outputs, the odd
        element after, as TensorFlow and Keras have it (numpy-ml keeps ``size`` outputs at any
        stride); ``"full"`` for every place at which the window meets an element; or, for one axis,
        ``"causal"``, everything before.
    size, kernel, stride, dilation : tuple of int
        Of each axis; ``dilation`` is 1 if it is not given.
    who : str
        Whose name an error should begin with.

    Returns
    -------
    tuple of pairs

    Raises
    ------
    ConfigError
        If ``padding`` is none of these.

    Examples
    --------
    >>> resolve_padding("same", (5, 4), (3, 3), (2, 2), who="conv2d")
    ((1, 1), (0, 1))
    """
    n = len(size)
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        totals = [
            max((-(-length // s) - 1) * s + span - length, 0)
            for length, s, span in zip(size, stride, spans(kernel, dilation), strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if padding == "full":
        return tuple((span - 1, span - 1) for span in spans(kernel, dilation))
    if padding == "causal" and n == 1:
        return ((spans(kernel, dilation)[0] - 1, 0),)
    words = "'valid', 'same', 'full' or 'causal'" if n == 1 else "'valid', 'same' or 'full'"
    return as_pairs(padding, n, who=who, words=f"{words}, ")


def as_pairs(padding: Any, n: int, *, who: str, words: str = "") -> Pairs:
    """Return a padding that is given in numbers as a pair (before, after) for each of n axes.

    Raises
    ------
    ConfigError
        If it is anything else; ``words`` are the names that could have been given as well.
    """
    sides = (padding,) * n if _is_int(padding) else padding if _is_sequence(padding) else ()
    if n == 1 and len(sides) == 2 and all(_is_int(p) for p in sides):
        sides = (sides,)
    pairs = tuple((p, p) if _is_int(p) else tuple(p) if _is_sequence(p) else () for p in sides)
    numbers = [q for pair in pairs for q in pair]
    if [len(pair) for pair in pairs] != [2] * n or not all(_is_int(q) and q >= 0 for q in numbers):
        msg = (
            f"{who}: expected padding to be {words}a number that is not negative, one an axis"
            f" ({n}), or a pair (before, after) an axis, got {padding!r}."
        )
        raise ConfigError(msg)
    return pairs


def spans(kernel: Sizes, dilation: Sizes | None) -> Sizes:
    """Return how many elements a window covers from its first to its last, on each axis."""
    if dilation is None:
        return kernel
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def window_outputs(
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes | None = None,
    *,
    ceil_mode: bool = False,
    who: str,
) -> Sizes:
    """Return at how many places a window stops on each axis.

    With ``ceil_mode`` a window that begins inside and ends beyond the padded axis counts as well
    (one that would begin in the padding after the axis does not: PyTorch's rule).

    Raises
    ------
    ShapeError
        If the window does not fit once.

    Examples
    --------
    >>> window_outputs((7,), (2,), (2,), ((0, 0),), who="max_pool1d")
    (3,)
    >>> window_outputs((7,), (2,), (2,), ((0, 0),), ceil_mode=True, who="max_pool1d")
    (4,)
    """
    window = spans(kernel, dilation)
    outputs = []
    for n, span, s, (before, after) in zip(size, window, stride, padding, strict=True):
        room = n + before + after - span
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        if room < 0 or n < 1:
            msg = (
                f"{who}: expected spatial axes that hold a window of {window} at least once, got"
                f" {tuple(size)} with padding {padding}: the window is larger than the input, or"
                f" the axes are not in the order {LAYOUTS.get(len(size), '(N, ..., C)')}. Use a"
                " smaller window, or more padding, for example padding='same'."
            )
            raise ShapeError(msg)
        outputs.append(count)
    return tuple(outputs)


def tap_keys(
    kernel: Sizes, outputs: Sizes, stride: Sizes, dilation: Sizes | None = None
) -> list[tuple[Any, ...]]:
    """Return for each element of the window, row by row, the key of what it sees.

    Of a padded array (N, ..., C), at all places where the window stops.

    Examples
    --------
    >>> tap_keys((2,), (3,), (2,))[1]
    (slice(None, None, None), slice(1, 6, 2), Ellipsis)
    """
    axes = zip(kernel, outputs, stride, dilation or (1,) * len(kernel), strict=True)
    slices = [[slice(i * d, i * d + (m - 1) * s + 1, s) for i in range(k)] for k, m, s, d in axes]
    return [(slice(None), *at, ...) for at in itertools.product(*slices)]
