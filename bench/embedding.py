"""One training step of an embedding of 50,000 x 128 with 8,192 ids.

Forward, backward, Adam on the whole table, as all libraries do by default; float32. The floor is a
pass over the bytes: rows that are read and added to, and the four arrays of Adam.
"""

from __future__ import annotations

from contest import main
from networks import contestants

FULL = {"50,000 x 128, 8,192 ids": contestants("embedding")}
TINY = {"50,000 x 128, 8,192 ids": contestants("embedding", rows=20, width=4, ids=8)}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
