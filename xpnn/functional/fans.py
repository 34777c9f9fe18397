"""How many inputs and outputs a weight connects."""

from __future__ import annotations

import math

from xpnn.errors import ShapeError

__all__ = ["fans"]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    r"""Return how many inputs reach an output of a weight, and how many outputs an input.

    .. math:: (\text{in} \cdot \prod_i k_i,\ \text{out} \cdot \prod_i k_i)

    for a kernel :math:`k_1, k_2, \dots` of any number of axes, none for a matrix.

    Parameters
    ----------
    shape : tuple of int
        (in, out) of a matrix, (kernel..., in, out) of a convolution. PyTorch writes the last two
        first and the other way round.

    Returns
    -------
    fan_in, fan_out : int

    Raises
    ------
    ShapeError
        If there are fewer than two axes: a bias has no fans.

    Examples
    --------
    >>> from xpnn import functional as F
    >>> F.fans((784, 500)), F.fans((5, 5, 3, 20))
    ((784, 500), (75, 500))
    """
    if len(shape) < 2:
        msg = (
            f"fans: expected a weight of shape (..., in, out), got {tuple(shape)}: it has no fans."
            " Give an initializer of such a vector its fan=."
        )
        raise ShapeError(msg)
    kernel = math.prod(shape[:-2])
    return shape[-2] * kernel, shape[-1] * kernel
