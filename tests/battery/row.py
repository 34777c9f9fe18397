"""A row of the table of layers, and the arrays that its checks run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from helpers import make, on

__all__ = ["Bools", "Ints", "Row"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Ints:
    """An input of integers in [0, high)."""

    shape: Shape
    high: int
    dtype: str = "int64"


@dataclass(frozen=True)
class Bools:
    """An input of booleans; True with probability ``p``, and in the first place of every row."""

    shape: Shape
    p: float = 0.6


@dataclass(frozen=True)
class Row:
    """A layer: how to make it, what it takes and gives, and what it should compute.

    Parameters
    ----------
    name : str
    make : callable
        Returns a new layer.
    shape : shape, or list of shapes, Ints and Bools
        Of its inputs, examples along their first axes; plain shapes are of floating-point numbers.
    output : shape or list of shapes
    torch : callable, optional
        ``f(torch, p, *inputs)``: an independent formula in PyTorch's functions; ``p`` holds the
        layer's parameters and buffers by name, in xpnn's layout. Compared with all gradients, in
        training mode.
    random : bool
        Whether calls in training differ.
    batch : bool
        Whether it normalizes over the batch: in training not for less than two examples.
    keywords : tuple of str
        Names by which the last inputs are given.
    options : dict
        Other keyword arguments of the call.
    wrong : dict
        Shapes (a list for several inputs) that are refused, by the pattern of the message.
    any_dtype : bool
        Whether the layer takes integers too: it computes nothing.
    order : int
        Up to which derivative the gradients are checked; 1 where the second does not exist.
    unused : tuple of str
        Parameters that the output does not depend on, and that get no gradient from it.
    """

    name: str
    make: Callable[[], Any]
    shape: Any
    output: Any
    torch: Callable[..., Any] | None = None
    random: bool = False
    batch: bool = False
    keywords: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, Any] = field(default_factory=dict)
    any_dtype: bool = False
    order: int = 2
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def specs(self) -> list[Any]:
        """What each input is."""
        return self.shape if isinstance(self.shape, list) else [self.shape]

    @property
    def outputs(self) -> list[Shape]:
        """The shape of each output."""
        return self.output if isinstance(self.output, list) else [self.output]

    @property
    def floats(self) -> list[int]:
        """Which of the inputs are floating-point numbers."""
        return [i for i, spec in enumerate(self.specs) if isinstance(spec, tuple)]

    @property
    def batched(self) -> bool:
        """Whether the first axis is that of the examples."""
        return all(len(s if isinstance(s, tuple) else s.shape) > 1 for s in self.specs)

    def inputs(self, device: str = "cpu", dtype: str = "float32", shape: Any = None) -> list[Any]:
        """Return arrays for the layer, or of other shapes."""
        specs = self.specs if shape is None else shape if isinstance(shape, list) else [shape]
        return [_draw(spec, device, dtype, i) for i, spec in enumerate(specs)]

    def upstream(self, device: str = "cpu", dtype: str = "float32") -> list[Any]:
        """Return random gradients of the outputs."""
        return [make(s, device, dtype, seed=70 + i) for i, s in enumerate(self.outputs)]

    def call(self, layer: Any, inputs: list[Any]) -> Any:
        """Call a layer with its inputs, the last ones by their keywords."""
        n = len(inputs) - len(self.keywords)
        named = dict(zip(self.keywords, inputs[n:], strict=True))
        return layer(*inputs[:n], **named, **self.options)

    @property
    def positional(self) -> list[int]:
        """Which floating-point inputs are given by their places: those that backward() answers."""
        return [i for i in self.floats if i < len(self.specs) - len(self.keywords)]


def _draw(spec: Any, device: str, dtype: str, i: int) -> Any:
    if isinstance(spec, tuple):
        return make(spec, device, dtype, seed=i)
    rng = np.random.default_rng(40 + i)
    if isinstance(spec, Ints):
        return on(device, rng.integers(0, spec.high, spec.shape).astype(spec.dtype))
    bools = rng.random(spec.shape) < spec.p
    bools[..., 0] = True
    return on(device, bools)
