"""Data sets that load on the host, as NumPy arrays or text: checked by SHA-256, without pickle."""

from xpnn.datasets.archive import load_npz
from xpnn.datasets.digits import load_digits
from xpnn.datasets.fashion_mnist import load_fashion_mnist
from xpnn.datasets.mnist import load_mnist
from xpnn.datasets.text import load_shakespeare

__all__ = ["load_digits", "load_fashion_mnist", "load_mnist", "load_npz", "load_shakespeare"]
