"""One training step of LeNet-5 on images of 28 x 28, batch 128.

20 and 50 filters of 5 x 5, ReLUs, 2 x 2 maxima, 500 units, as in the tutorials and in the zoo;
forward, cross-entropy, backward, Adam, in float32. The floor is the products of windows and
filters, which are not gathered for it.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"LeNet-5, batch 128": contestants("lenet5", batch=128)}
TINY = {"LeNet-5, batch 128": contestants("lenet5", batch=2, side=16, filters=(2, 3))}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
