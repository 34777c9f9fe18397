"""One training step of a transformer's encoder layer: batch 32, T 128, 256 features, 8 heads.

1024 units between, no dropout. Forward, backward from the gradient of the output, that of the input
as well, and Adam; float32. The floor is the matrix products alone.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"encoder layer, batch 32": contestants("transformer", batch=32)}
TINY = {
    "encoder layer, batch 32": contestants(
        "transformer", batch=2, length=4, features=8, heads=2, hidden=6
    )
}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
