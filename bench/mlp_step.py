"""One training step of the 784-500-500-10 network, batch 500, Adam, float32.

Forward, cross-entropy, backward, update. The floor is the matrix products alone through NumPy's
BLAS.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"784-500-500-10, batch 500": contestants("mlp", batch=500, sizes=(784, 500, 500, 10))}
TINY = {"784-500-500-10, batch 500": contestants("mlp", batch=4, sizes=(5, 6, 6, 3))}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
