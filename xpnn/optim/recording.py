"""An optimizer in a step that is recorded, to be replayed on a GPU."""

from __future__ import annotations

from xpnn import replay
from xpnn.errors import GraphError

__all__ = ["refuse"]


def refuse(who: str) -> None:
    """Raise an error in a step that is recorded."""
    if replay.current() is not None:
        msg = f"{who}: its step counts in Python, and cannot be recorded."
        raise GraphError(msg)
