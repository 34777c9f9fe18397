r"""How precisely NVIDIA GPUs multiply matrices of float32.

Tensor cores multiply numbers of 19 bits, TF32, some eight times as fast as other units multiply
float32. A product of matrices is then

.. math:: c_{ij} = \sum_k t(a_{ik}) \, t(b_{kj}),

where t rounds a number of float32, with 23 bits behind the point of its mantissa, to 10: a relative
error of up to :math:`2^{-11}` for each factor. Products of two such are exact in float32, in which
they are added up, and the range of numbers stays that of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xpnn.errors import ConfigError

__all__ = ["get_matmul_precision", "matmul_precision", "set_matmul_precision"]

_PRECISIONS = ("highest", "tf32")
_precision: ContextVar[str] = ContextVar("xpnn_matmul_precision", default="highest")


def get_matmul_precision() -> str:
    """Return how precisely NVIDIA GPUs multiply matrices of float32; "highest" unless set.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.get_matmul_precision()
    'highest'
    """
    return _precision.get()


def set_matmul_precision(precision: str) -> None:
    r"""Set how precisely NVIDIA GPUs multiply matrices of float32 from now on, in this context.

    With ``"tf32"`` the factors keep 10 of the 23 bits of their mantissas, and sums are taken in
    float32: :math:`c_{ij} = \sum_k t(a_{ik}) \, t(b_{kj})` with
    :math:`|t(x) - x| \le 2^{-11} |x|`. That is precise enough to train most networks, and several
    times as fast. It concerns the products inside layers too: fully connected ones, attention.

    On the CPU, on GPUs of other makers and for other dtypes it changes nothing.

    Parameters
    ----------
    precision : str
        ``"highest"``: factors and sums in float32. ``"tf32"``: factors in TF32.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_matmul_precision("tf32")
    >>> xpnn.get_matmul_precision()
    'tf32'
    >>> xpnn.set_matmul_precision("highest")
    """
    _precision.set(_checked(precision))


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of products inside the block, as :func:`set_matmul_precision` does.

    What is carried back through the products outside the block has the precision of outside.

    Examples
    --------
    >>> import xpnn
    >>> with xpnn.matmul_precision("tf32"):
    ...     y = xpnn.ops.matmul(xpnn.asarray([[1.0, 2.0]]), xpnn.asarray([[3.0], [4.0]]))
    """
    token = _precision.set(_checked(precision))
    try:
        yield
    finally:
        _precision.reset(token)


def _checked(precision: str) -> str:
    if precision not in _PRECISIONS:
        msg = f"set_matmul_precision: expected 'highest' or 'tf32', got {precision!r}."
        raise ConfigError(msg)
    return precision
