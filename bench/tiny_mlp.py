"""One training step of a 10-32-32-10 network, batch 32: what a library costs beside arithmetic.

Forward, cross-entropy, backward, Adam, in float32, on one thread: more of them only wait here.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"10-32-32-10, batch 32": contestants("mlp", batch=32, sizes=(10, 32, 32, 10))}
TINY = {"10-32-32-10, batch 32": contestants("mlp", batch=2, sizes=(3, 4, 4, 3))}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, threads=1)
