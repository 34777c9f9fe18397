"""One 3 x 3 convolution, 64 to 64 channels: forward, and all gradients, that of its input as well.

No update. The floor is the products of windows and filters, which are not gathered for it: an
algorithm with fewer products than the definition has, such as Winograd's, can go below it.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {
    "32 x 32, batch 32": contestants("conv3x3", batch=32, side=32),
    "56 x 56, batch 16": contestants("conv3x3", batch=16, side=56),
}
TINY = {name: contestants("conv3x3", batch=2, side=6, channels=4) for name in FULL}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
