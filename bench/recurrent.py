"""One training step of a recurrent layer: 64 sequences of 100 steps, 64 features, 256 units.

Forward, backward from the gradient of all states, that of the input as well, and Adam; float32. The
floor is the products alone, those of the states one step after another.
"""

from __future__ import annotations

from contest import main
from networks import contestants

KINDS = ("RNN", "GRU", "LSTM")
FULL = {kind: contestants(kind.lower()) for kind in KINDS}
TINY = {kind: contestants(kind.lower(), batch=2, length=4, inputs=3, hidden=5) for kind in KINDS}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
