"""Layers made of layers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterable, Iterator
from typing import Any, overload

from xpnn import activations
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.merge import MERGES, add

__all__ = ["Chain", "Parallel", "Residual"]

Array = Any


class _Numbered(Layer):
    """A layer whose parts are layers with numbers for names."""

    members: list[Layer]

    def _parts(self) -> Iterator[tuple[str, Any]]:
        return ((str(i), layer) for i, layer in enumerate(self.members))

    def _inside(self) -> list[Layer]:
        return self.members

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, i: int) -> Layer: ...
    @overload
    def __getitem__(self, i: slice) -> _Numbered: ...
    def __getitem__(self, i: int | slice) -> Layer:
        if isinstance(i, slice):
            return self._of(self.members[i])
        return self.members[i]

    def _of(self, members: list[Layer]) -> _Numbered:
        """Return such a layer of some of the members."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.members)


class Chain(_Numbered):
    """Layers one after another: the output of each is the input of the next.

    :class:`xpnn.Sequential` is this as a model that can be trained.

    Parameters
    ----------
    layers : iterable of Layer

    Notes
    -----
    Several inputs are those of the first layer, and a layer of several outputs gives the next one
    as many inputs. Keyword arguments, such as masks, are not handed on: a network with masks is a
    class of its own.

    ``chain[1]`` is a layer, ``chain[:2]`` a chain of the same layers.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> block = layers.Chain([layers.Dense(4, activation="relu"), layers.Dense(2)])
    >>> block(np.ones((3, 5), np.float32)).shape
    (3, 2)
    >>> both = layers.Chain([layers.Add(), layers.Dense(2)])
    >>> both(np.ones((3, 5), np.float32), np.ones((3, 5), np.float32)).shape
    (3, 2)
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.members = _members(type(self).__name__, layers)
        self._config["layers"] = self.members

    def add(self, layer: Layer) -> None:
        """Put a layer after the others.

        It trains even where those before it were frozen: a new head on an old network.

        Examples
        --------
        >>> from xpnn import layers
        >>> chain = layers.Chain([])
        >>> chain.add(layers.Flatten())
        >>> len(chain)
        1
        """
        (layer,) = _members(type(self).__name__, [layer], len(self))
        layer.train(self.training)
        if self._device is not None:
            layer.to(self._device)
        self.members.append(layer)
        self._frozen = False  # those that are stay so by themselves

    def forward(self, *inputs: Array, **options: Any) -> Array:
        if options:
            msg = (
                f"{type(self).__name__}: {', '.join(options)}: a chain hands no keyword arguments"
                " on, as it cannot tell to which of its layers. Write a Model with a forward."
            )
            raise ConfigError(msg)
        return _one_after_another(type(self).__name__, self.members, inputs)

    def _of(self, members: list[Layer]) -> Chain:
        cls = type(self) if type(self).__init__ is Chain.__init__ else Chain
        return cls(members)


class Residual(Layer):
    r"""What layers add to their input, :math:`y = a(x + f(x))` (He et al. 2016).

    Parameters
    ----------
    layers : Layer or iterable of Layer
        The function f, one layer or several one after another.
    shortcut : Layer or iterable of Layer, optional
        What x goes through before it is added to f(x), where f changes its shape.
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    With a normalization first among the layers it is the block of a pre-norm transformer or of
    ResNet v2; with an activation, that of the first ResNet. Nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> block = layers.Residual([layers.LayerNorm(), layers.Dense(5)])
    >>> block(np.ones((3, 5), np.float32)).shape
    (3, 5)
    >>> wider = layers.Residual(layers.Dense(8), shortcut=layers.Dense(8), activation="relu")
    >>> wider(np.ones((3, 5), np.float32)).shape
    (3, 8)
    """

    def __init__(
        self,
        layers: Layer | Iterable[Layer],
        shortcut: Layer | Iterable[Layer] | None = None,
        activation: Any = None,
    ) -> None:
        self.body = self._config["layers"] = _members("Residual", layers)
        self.shortcut = _members("Residual", () if shortcut is None else shortcut)
        if shortcut is not None:
            self._config["shortcut"] = self.shortcut
        self.activation = activations.get(activation)

    def forward(self, x: Array) -> Array:
        y = _one_after_another("Residual", self.body, (x,))
        kept = _one_after_another("Residual", self.shortcut, (x,))
        if isinstance(y, tuple) or isinstance(kept, tuple):
            msg = "Residual: the layers and the shortcut must have one output each to be added."
            raise ConfigError(msg)
        if tuple(y.shape) != tuple(kept.shape):
            what = "the shortcut" if self.shortcut else "x itself"
            msg = (
                f"Residual: the layers give shape {tuple(y.shape)} and {what} has"
                f" {tuple(kept.shape)}, for x of shape {tuple(x.shape)}; they cannot be added. Give"
                " a shortcut that changes the shape as the layers do, for example"
                f" shortcut=layers.Dense({y.shape[-1] if y.ndim else 1})."
            )
            raise ShapeError(msg)
        return self.activation(add("Residual", (kept, y)))


class Parallel(_Numbered):
    """Layers side by side, each called with the same inputs.

    Parameters
    ----------
    layers : iterable of Layer
        The branches; one of several layers is a :class:`Chain`.
    merge : {"concat", "sum", "multiply", "average", "maximum"}, optional
        What is made of their outputs, as the layers :class:`Concatenate`, :class:`Add` and so on
        do; "add" is "sum" too. None returns them in one flat tuple.
    axis : int
        Along which outputs are joined, for "concat".

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> wide = layers.Parallel([layers.Dense(4), layers.Dense(3, activation="tanh")])
    >>> wide(np.ones((2, 5), np.float32)).shape
    (2, 7)
    >>> gate = layers.Dense(4, activation="sigmoid")
    >>> gated = layers.Parallel([layers.Dense(4), gate], "multiply")
    >>> gated(np.ones((2, 5), np.float32)).shape
    (2, 4)
    """

    def __init__(
        self, layers: Iterable[Layer], merge: str | None = "concat", axis: int = -1
    ) -> None:
        self.members = self._config["layers"] = _members("Parallel", layers)
        if not self.members:
            msg = "Parallel: expected at least one layer."
            raise ConfigError(msg)
        if merge is not None and merge not in MERGES:
            msg = f"Parallel: 'merge' must be one of {', '.join(MERGES)} or None, got {merge!r}."
            raise ConfigError(msg)
        if axis == 0 or (axis != -1 and merge != "concat"):
            msg = (
                "Parallel: 'axis' is that along which outputs are joined by merge='concat', not 0,"
                f" the axis of the examples; got axis={axis} and merge={merge!r}."
            )
            raise ConfigError(msg)
        self.merge, self.axis = merge, axis

    def forward(self, *inputs: Array) -> Any:
        outputs = [layer(*inputs) for layer in self.members]
        if self.merge is None:
            flat: list[Array] = []
            for y in outputs:
                flat += y if isinstance(y, tuple) else (y,)
            return tuple(flat)
        for i, y in enumerate(outputs):
            if isinstance(y, tuple):
                msg = (
                    f"Parallel: branch {i}, {type(self.members[i]).__name__}, has {len(y)} outputs"
                    f" and merge={self.merge!r} takes one of each. Say merge=None for all of them."
                )
                raise ConfigError(msg)
        who, options = f"Parallel(merge={self.merge!r})", {}
        if self.merge == "concat":
            options["axis"] = self.axis
        return MERGES[self.merge](who, tuple(outputs), **options)

    def _of(self, members: list[Layer]) -> Parallel:
        return Parallel(members, self.merge, self.axis)


# -------------------------------------------------------------------------- what they share


def _members(who: str, layers: Layer | Iterable[Layer], first: int = 0) -> list[Layer]:
    """Return layers as a list, after looking at each; their numbers begin with ``first``."""
    if not isinstance(layers, (Layer, Iterable)):
        msg = f"{who}: expected layers, such as [layers.Dense(2)], got {layers!r}."
        raise ConfigError(msg)
    members = [layers] if isinstance(layers, Layer) else list(layers)
    for i, layer in enumerate(members, first):
        if not isinstance(layer, Layer):
            msg = f"{who}: item {i} is not a layer but {type(layer).__name__}."
            if isinstance(layer, type) and issubclass(layer, Layer):
                msg += f" Write layers.{layer.__name__}(...)."
            elif callable(layer):
                msg += " A function goes into layers.Activation or layers.Lambda."
            raise ConfigError(msg)
    return members


def _one_after_another(who: str, layers: list[Layer], inputs: tuple[Any, ...]) -> Any:
    """Call each layer with what the one before it returned."""
    for i, layer in enumerate(layers):
        if len(inputs) > 1 and len(inputs) > (most := _most_inputs(type(layer).forward)):
            source = f"layer {i - 1}, {type(layers[i - 1]).__name__}, gives" if i else "there are"
            msg = (
                f"{who}: {source} {len(inputs)} arrays, and layer {i}, {type(layer).__name__},"
                f" takes {most}. Merge them in between, for example with layers.Concatenate()."
            )
            raise ConfigError(msg)
        y = layer(*inputs)
        inputs = y if isinstance(y, tuple) else (y,)
    return inputs[0] if len(inputs) == 1 else inputs


@functools.cache
def _most_inputs(forward: Any) -> float:
    """Return how many positional arguments a layer's forward takes at most."""
    _, *kinds = (p.kind for p in inspect.signature(forward).parameters.values())
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds)
