r"""Sliding windows: what convolution and pooling share.

A window of ``kernel`` elements, ``dilation`` apart, moves over an axis of n elements in steps of
``stride``. With :math:`p_0` and :math:`p_1` elements of padding before and after it stops at

.. math:: n' = \lfloor (n + p_0 + p_1 - d (k - 1) - 1) / s \rfloor + 1

places. Its *tap* i is the slice of the axis that element i of the window sees at all of them.
"""

from __future__ import annotations

from typing import Any

from xpnn.errors import ConfigError, ShapeError

__all__ = ["as_tuple", "pad", "resolve_padding", "tap", "window_outputs"]

Array = Any
Pairs = tuple[tuple[int, int], ...]


def as_tuple(value: Any, name: str, *, n: int = 2, who: str = "conv2d") -> tuple[int, ...]:
    """Return a size given as one positive integer, or as one an axis, as a tuple of ``n``.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> as_tuple(3, "kernel"), as_tuple((1, 2), "stride")
    ((3, 3), (1, 2))
    """
    sizes = (value,) * n if _is_int(value) else tuple(value) if _is_sequence(value) else ()
    if len(sizes) != n or not all(_is_int(s) and s > 0 for s in sizes):
        msg = f"{who}: expected {name} to be a positive integer, or {n} of them, got {value!r}."
        raise ConfigError(msg)
    return sizes


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def resolve_padding(
    padding: Any,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
    *,
    who: str = "conv2d",
) -> Pairs:
    """Return the padding before and after each axis.

    Parameters
    ----------
    padding : int, tuple, list or str
        A number for all sides; a number an axis; a pair (before, after) an axis; ``"valid"`` for
        none; ``"same"`` for ``ceil(size / stride)`` outputs, the odd element after, as TensorFlow
        and Keras have it; or for one axis ``"causal"``, everything before.
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
    >>> resolve_padding("same", (5, 4), (3, 3), (2, 2))
    ((1, 1), (0, 1))
    """
    n = len(size)
    spans = _spans(kernel, dilation)
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        totals = [
            max((-(-length // s) - 1) * s + span - length, 0)
            for length, s, span in zip(size, stride, spans, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if padding == "causal" and n == 1:
        return ((spans[0] - 1, 0),)
    sides = (padding,) * n if _is_int(padding) else padding if _is_sequence(padding) else ()
    if n == 1 and len(sides) == 2 and all(_is_int(p) for p in sides):
        sides = (sides,)
    pairs = tuple((p, p) if _is_int(p) else tuple(p) if _is_sequence(p) else () for p in sides)
    numbers = [q for pair in pairs for q in pair]
    if [len(pair) for pair in pairs] != [2] * n or not all(_is_int(q) and q >= 0 for q in numbers):
        words = "'valid', 'same' or 'causal'" if n == 1 else "'valid' or 'same'"
        msg = (
            f"{who}: expected padding to be {words}, a number that is not negative, one an axis"
            f" ({n}), or a pair (before, after) an axis, got {padding!r}."
        )
        raise ConfigError(msg)
    return pairs


def _spans(kernel: tuple[int, ...], dilation: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return how many elements a window covers from its first to its last, on each axis."""
    dilation = dilation or (1,) * len(kernel)
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def window_outputs(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...] | None = None,
    *,
    ceil_mode: bool = False,
    who: str = "conv2d",
) -> tuple[int, ...]:
    """Return at how many places a window stops on each axis.

    With ``ceil_mode`` a window that begins inside and ends beyond the padded axis counts as well
    (one that would begin in the padding after the axis does not: PyTorch's rule).

    Raises
    ------
    ShapeError
        If the window does not fit once.

    Examples
    --------
    >>> window_outputs((7,), (2,), (2,), ((0, 0),)), window_outputs(
    ...     (7,), (2,), (2,), ((0, 0),), ceil_mode=True)
    ((3,), (4,))
    """
    spans = _spans(kernel, dilation)
    outputs = []
    for n, span, s, (before, after) in zip(size, spans, stride, padding, strict=True):
        room = n + before + after - span
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        if room < 0 or n < 1:
            msg = (
                f"{who}: expected spatial axes that hold a window of {spans} at least once, got"
                f" {tuple(size)} with padding {padding}: the window is larger than the image, or"
                " the axes are not in the order (N, H, W, C). Use a smaller window, or more"
                " padding, for example padding='same'."
            )
            raise ShapeError(msg)
        outputs.append(count)
    return tuple(outputs)


def pad(xp: Any, x: Array, padding: Pairs, value: float = 0.0) -> Array:
    """Put ``value`` before and after the axes 1, 2, ... of ``x``; a negative number takes away."""
    for axis, (before, after) in enumerate(padding, 1):
        n = x.shape[axis]
        if before == after == 0:
            continue
        start, stop = max(-before, 0), min(n + after, n)
        at = (slice(None),) * axis
        parts = []
        if start < stop:
            x = x if stop - start == n else x[(*at, slice(start, stop), ...)]
            parts = [_border(xp, x, axis, before, value), x, _border(xp, x, axis, after, value)]
        else:  # nothing of x is left
            parts = [_border(xp, x, axis, n + before + after, value)]
        parts = [part for part in parts if part is not None]
        x = parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)
    return x


def _border(xp: Any, x: Array, axis: int, length: int, value: float) -> Array | None:
    if length <= 0:
        return None
    # made from x itself, so that it lies on the same device
    line = xp.full_like(x[((slice(None),) * axis + (slice(0, 1), ...))], value)
    return xp.broadcast_to(line, (*x.shape[:axis], length, *x.shape[axis + 1 :]))


def tap(
    at: tuple[int, int],
    outputs: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1),
) -> tuple[Any, ...]:
    """Return the key of what element ``at`` of the window sees in a padded (N, H, W, C)."""
    slices = [
        slice(i * d, i * d + (n - 1) * s + 1, s)
        for i, n, s, d in zip(at, outputs, stride, dilation, strict=True)
    ]
    return (slice(None), *slices, ...)
