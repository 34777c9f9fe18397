"""Data sets that load as NumPy arrays on the host: checked by SHA-256, without pickle."""

from xpnn.datasets.digits import load_digits
from xpnn.datasets.mnist import load_mnist

__all__ = ["load_digits", "load_mnist"]
