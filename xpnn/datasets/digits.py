"""The 1,797 handwritten digits that lie inside the package: real data without a download."""

from __future__ import annotations

import io
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load_digits"]

_ARCHIVE = resources.files("xpnn.datasets").joinpath("digits.npz")
_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"


def load_digits(*, normalize: bool = True) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Load 1,797 images of handwritten digits, 8x8 pixels, ten classes.

    This is the test set of "Optical Recognition of Handwritten Digits", the one that
    scikit-learn ships too, in the same order. Each pixel counts the ink in a 4x4 block of a
    32x32 bitmap, hence 17 levels. Thirteen people wrote the digits, each in consecutive rows:
    shuffle before you split, unless the split is meant to be by writer.

    Parameters
    ----------
    normalize : bool, default True
        Divide the pixels by 16. With False they stay whole numbers 0..16.

    Returns
    -------
    x : numpy.ndarray of shape (1797, 8, 8)
        float32 in [0, 1], or uint8 in 0..16 with ``normalize=False``. Dense layers want
        ``x.reshape(1797, 64)``, convolutions ``x[..., None]`` (channels last).
    y : numpy.ndarray of shape (1797,)
        The digits 0..9 as int64.

    Raises
    ------
    DataError
        If the file inside the installed package is damaged.

    Notes
    -----
    E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49. Licence: CC BY 4.0.

    Examples
    --------
    >>> from xpnn.datasets import load_digits
    >>> x, y = load_digits()
    >>> x.shape, x.dtype.name, float(x.max())
    ((1797, 8, 8), 'float32', 1.0)
    >>> y[:5].tolist()
    [0, 1, 2, 3, 4]
    """
    packed = _ARCHIVE.read_bytes()
    import hashlib  # here and not above: with OpenSSL behind it, it is slow to import

    found = hashlib.sha256(packed).hexdigest()
    if found != _SHA256:
        msg = (
            f"load_digits: the embedded file {_ARCHIVE} is damaged: "
            f"expected SHA-256 {_SHA256}, found {found}. Reinstall xpnn."
        )
        raise DataError(msg)
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    x = np.divide(images, 16, dtype=np.float32) if normalize else images
    return x, labels.astype(np.int64)
