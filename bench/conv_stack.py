"""One training step of convolutions with batch normalization on images of 32 x 32 x 3, batch 64.

Three 3 x 3 convolutions to 32, 32 and 64 channels, each with normalization and ReLU, 2 x 2 maxima
after the second and the third, and logits; forward, cross-entropy, backward, Adam, in float32.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"conv-BN-ReLU stack, batch 64": contestants("conv_stack", batch=64)}
TINY = {
    "conv-BN-ReLU stack, batch 64": contestants("conv_stack", batch=2, side=8, channels=(2, 3, 4))
}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
