"""Groups of parameters that have hyperparameters of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn.errors import ConfigError, GraphError
from xpnn.layers.base import Layer
from xpnn.optim.clipping import CLIPS
from xpnn.optim.config import build
from xpnn.optim.parameters import check_tensor, listed

__all__ = ["Group", "members"]


class Group:
    """Parameters, and the hyperparameters that an optimizer has for them.

    :meth:`xpnn.optim.Optimizer.add_group` makes it, ``optimizer.groups`` shows it.

    Attributes
    ----------
    params : list of Tensor
    hyperparameters : dict
        What was given for the group; everything else is the optimizer's.
    """

    def __init__(self, owner: Any, hyperparameters: Mapping[str, Any]) -> None:
        # The equations are methods of an optimizer: one of the same class has those of the group.
        self._rules = build(type(owner), _with(owner, hyperparameters))
        own = self._rules.hyperparameters()
        self.params: list[Any] = []
        self.hyperparameters = {name: own[name] for name in hyperparameters}

    def rules(self, owner: Any) -> Any:
        """Return the optimizer that has the equations, with the hyperparameters as they are now."""
        values = _with(owner, self.hyperparameters)
        lr = values.pop("lr", owner._lr)
        vars(self._rules).update(_lr=lr, steps=owner.steps, elementwise=owner.elementwise)
        for name, value in values.items():
            setattr(self._rules, name, value)
        return self._rules

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters.items())
        return f"Group({len(self.params)} parameters: {given})"


def _with(owner: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of a group: another way of clipping takes the owner's place."""
    values = owner.hyperparameters()
    if any(own.get(name) is not None for name in CLIPS):
        values |= dict.fromkeys(CLIPS)
    return values | dict(own)


def members(who: str, params: Any) -> list[Any]:
    """Return the parameters for a group, each once.

    Raises
    ------
    GraphError
        If a layer has no parameters yet, or only a part of them.
    ConfigError
        If there are none.
    DTypeError
        If something is not a Tensor.
    """
    if isinstance(params, Layer) and (unbuilt := params._unbuilt()):
        msg = (
            f"{who}: {unbuilt[0]!r} has no parameters yet. Call the model once, or give the layer"
            " the sizes of its inputs, before its parameters are put in a group."
        )
        raise GraphError(msg)
    found = {id(p): p for p in listed(who, params)}
    if not found:
        msg = f"{who}: got no parameters."
        raise ConfigError(msg)
    for key, param in enumerate(found.values()):
        check_tensor(f"{who}: params[{key}]", param)
    return list(found.values())
