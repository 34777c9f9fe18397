"""What keeps weights small: terms that layers add to the loss."""

from __future__ import annotations

from typing import Any

from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, GraphError

__all__ = ["decay", "decayed"]

Array = Any


def decay(who: str, l1: float, l2: float) -> tuple[float, float]:
    """Return two factors that are not negative."""
    for name, value in (("l1", l1), ("l2", l2)):
        if not value >= 0.0:
            msg = f"{who}: {name!r} must not be negative, got {value}."
            raise ConfigError(msg)
    return float(l1), float(l2)


def decayed(layer: Any, l1: float, l2: float) -> Array | None:
    r"""Return :math:`l_1 \sum |W| + l_2 \sum W^2` of a layer, or None if both factors are zero."""
    if l1 == l2 == 0.0:
        return None
    weight = getattr(layer, "weight", None)
    if weight is None:
        msg = (
            f"{layer!r}: there is no penalty before there is a weight. Call the layer, or the model"
            " that holds it, first: its sizes are those of the first input."
        )
        raise GraphError(msg)
    xp = array_namespace(weight)
    terms = []
    if l1:
        terms.append(l1 * xp.sum(xp.abs(weight)))
    if l2:
        terms.append(l2 * xp.sum(weight * weight))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]
