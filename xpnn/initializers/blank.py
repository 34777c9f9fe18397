"""Layers without initial values: those of a model whose weights come from a file.

Nothing is drawn, so the random stream stays where it is. And because the sizes come from the file
as well, what is made is counted: a file of a kilobyte that speaks of a matrix of terabytes is
refused before there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xpnn.errors import DataError

__all__ = ["active", "blank", "spend"]

# What may be made beside what a file holds: most layers make their parameters once, and some put
# them together from parts.
_TIMES = 4
_ELEMENTS = 2**24
_PARTS = 2**12


class _Allowance:
    """How many elements and how many parts may still be made."""

    def __init__(self, elements: int, arrays: int) -> None:
        self.held = f"{elements:,} numbers in {arrays:,} arrays"
        self.elements = _TIMES * elements + _ELEMENTS
        self.parts = _TIMES * arrays + _PARTS


_allowance: ContextVar[_Allowance | None] = ContextVar("xpnn_allowance", default=None)


@contextmanager
def blank(elements: int, arrays: int) -> Iterator[None]:
    """Have initializers return zeros within the ``with`` block.

    Parameters
    ----------
    elements, arrays : int
        What there are values for; not much more may be made.

    Raises
    ------
    DataError
        Where a layer or a parameter is made, if it is more.

    Examples
    --------
    >>> from xpnn import initializers
    >>> from xpnn.initializers.blank import blank
    >>> with blank(elements=3, arrays=1):
    ...     initializers.ones((3,))
    array([0., 0., 0.], dtype=float32)
    """
    token = _allowance.set(_Allowance(elements, arrays))
    try:
        yield
    finally:
        _allowance.reset(token)


def active() -> bool:
    """Return whether this is such a block."""
    return _allowance.get() is not None


def spend(who: str, shape: tuple[int, ...] = (0,)) -> bool:
    """Count a part and its elements if this is such a block, and return whether it is."""
    left = _allowance.get()
    if left is None:
        return False
    left.parts -= 1
    left.elements -= math.prod(shape)
    if left.parts < 0 or left.elements < 0:
        what = f"{who} of shape {shape}" if left.elements < 0 else f"one more {who}"
        msg = f"the layers need far more than the {left.held} that there are, such as {what}."
        raise DataError(msg)
    return True
