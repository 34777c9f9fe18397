"""``python -m xpnn`` is the command ``xpnn``."""

from __future__ import annotations

import sys

from xpnn.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
