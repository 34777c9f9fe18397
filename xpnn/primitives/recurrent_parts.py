"""What the recurrent scans share: time, masks, gates, and looking at what they are given.

Sequences are (N, T, ...). A scan walks over time in one direction and keeps lists, an array a step;
what lies along time as one array is taken apart once and put together once, so that no step costs
more than its own elements, in a recorded backward pass either.
"""

from __future__ import annotations

from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.errors import DTypeError, ShapeError
from xpnn.primitives.neural import linear
from xpnn.primitives.shape import stack

__all__ = [
    "blocks",
    "clipped",
    "gradients_in_time",
    "held",
    "in_time",
    "masks_in_time",
    "product_over_time",
    "projected_back",
    "require_mask",
    "require_sequence",
    "require_state",
    "states_before",
    "together",
]

Array = Any


def in_time(xp: Any, x: Array, reverse: bool) -> list[Array]:
    """Return (N, T, ...) step by step in the direction of the walk."""
    parts = list(xp.unstack(x, axis=1))
    return parts[::-1] if reverse else parts


def gradients_in_time(xp: Any, g: Array | None, reverse: bool, steps: int) -> list[Any]:
    """Return the gradient of a sequence step by step, or as many Nones if none has arrived."""
    return [None] * steps if g is None else in_time(xp, g, reverse)


def masks_in_time(xp: Any, mask: Array | None, reverse: bool, steps: int) -> list[Any]:
    """Return a mask (N, T) as an array (N, 1) a step, or as many Nones if there is none."""
    return [None] * steps if mask is None else in_time(xp, xp.expand_dims(mask, axis=-1), reverse)


def together(xp: Any, parts: list[Array], reverse: bool) -> Array:
    """Return what a walk has made step by step as one array in the order of time."""
    return stack(xp, *(parts[::-1] if reverse else parts), axis=1)


def states_before(xp: Any, y: Array, first: Array, reverse: bool) -> Array:
    """Return the states before each step, (N, T, H), of the states ``y`` after them."""
    first = xp.expand_dims(first, axis=1)
    return xp.concat([y[:, 1:, :], first] if reverse else [first, y[:, :-1, :]], axis=1)


def product_over_time(xp: Any, states: Array, gradients: Array) -> Array:
    """Return the sum over examples and steps of outer products: the gradient of a weight."""
    n = states.shape[0] * states.shape[1]
    rows = xp.reshape(states, (n, states.shape[2]))
    return rows.T @ xp.reshape(gradients, (n, gradients.shape[2]))


def projected_back(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    """Return the gradients of x, weight and bias, the inputs' share, given that of the gates.

    ``needs`` are those of a scan, whose arguments are x, two weights and a bias first.
    """
    rule = linear.on(xp).joint
    assert rule is not None
    return tuple(rule(xp, g, [*needs[:2], needs[3]], x, weight))


def blocks(x: Array, hidden: int) -> list[Array]:
    """Return the parts of the last axis of (N, gates * hidden), a gate each."""
    return [x[:, k : k + hidden] for k in range(0, x.shape[1], hidden)]


def held(xp: Any, mask: Array | None, new: Array, old: Array) -> Array:
    """Return ``new`` where the step counts, (N, 1), and ``old`` where it does not."""
    return new if mask is None else xp.where(mask, new, old)


def clipped(xp: Any, g: Array, limit: float | None) -> Array:
    """Return ``g`` with every element clipped to [-limit, limit]; None clips nothing."""
    if limit is None:
        return g
    if as_dtype(g.dtype).name == "float16":
        limit = min(limit, 65504.0)  # it has no larger number
    return xp.minimum(xp.maximum(g, -limit), limit)


# -------------------------------------------------------------------------- what they are given


def require_sequence(who: str, shape: tuple[int, ...], size: int | None, cell: str) -> None:
    """Raise an error unless ``shape`` is (N, T, size) with at least one step."""
    letters = f"(N, T, {'D' if size is None else size})"
    if len(shape) != 3 or (size is not None and shape[2] != size):
        msg = f"{who}: expected x of shape {letters}, got {tuple(shape)}."
        if len(shape) == 2:
            msg += f" For one sequence write x[None, ...]; for one step use {cell}."
        raise ShapeError(msg)
    if shape[1] < 1:
        msg = f"{who}: expected x of shape {letters} with at least one step, got {tuple(shape)}."
        raise ShapeError(msg)


def require_state(who: str, name: str, state: Array | None, shape: tuple[int, ...]) -> None:
    """Raise an error unless ``state`` is None or floating-point numbers of ``shape``."""
    if state is None:
        return
    if tuple(state.shape) != shape:
        letters = "(N, H)" if len(shape) == 2 else "(N, num_layers, H)"
        msg = f"{who}: expected {name} of shape {letters} = {shape}, got {tuple(state.shape)}."
        raise ShapeError(msg)
    dtype = as_dtype(state.dtype)
    if not dtype.is_inexact:
        msg = f"{who}: expected floating-point {name}, got {dtype}."
        raise DTypeError(msg)


def require_mask(who: str, mask: Array | None, shape: tuple[int, ...]) -> None:
    """Raise an error unless ``mask`` is None or booleans of ``shape``, (N, T)."""
    if mask is None:
        return
    if tuple(mask.shape) != shape:
        msg = f"{who}: expected a mask of shape (N, T) = {shape}, got {tuple(mask.shape)}."
        raise ShapeError(msg)
    dtype = as_dtype(mask.dtype)
    if dtype.name != "bool":
        msg = (
            f"{who}: expected a mask of booleans, True where a step counts, got {dtype}."
            " Write mask != 0."
        )
        raise DTypeError(msg)
