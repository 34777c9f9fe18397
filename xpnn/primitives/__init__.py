"""Pure functions and their derivatives: everything that can be put on the tape."""

from __future__ import annotations

__all__: list[str] = []
