"""What recurrent cells share, and how a layer walks over a sequence with one."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import backend, initializers
from xpnn import functional as F
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats
from xpnn.primitives.recurrent_parts import require_mask, require_sequence, require_state

__all__ = ["Cell", "Unrolled", "sequence_mask"]

Array = Any
Shape = tuple[int, ...]


class Cell(Layer):
    """Base of the recurrent cells: sizes, initial values, and a look at what they are given.

    A subclass names its ``state_names`` and says how many ``gates`` it has.
    """

    functions: ClassVar[tuple[str, ...]] = ("sequence_mask",)
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    gates: int = 1

    def _set_up(
        self,
        hidden_size: int,
        input_size: int | None,
        bias: bool,
        weight_init: Any,
        recurrent_init: Any,
        bias_init: Any,
        grad_clip: float | None,
    ) -> None:
        who = type(self).__name__
        if grad_clip is not None and not grad_clip > 0.0:
            msg = f"{who}: 'grad_clip' must be positive, or None for no clipping, got {grad_clip}."
            raise ConfigError(msg)
        self.hidden_size, self.input_size = integers(
            who, hidden_size=hidden_size, input_size=input_size
        )
        self.use_bias, self.grad_clip = bias, grad_clip
        self.weight_init = initializers.get(weight_init)
        self.recurrent_init = initializers.get(recurrent_init)
        self.bias_init = initializers.get(bias_init)

    def _build_if_sized(self) -> None:
        if self.input_size is not None:
            self.ensure_built((1, self.input_size))

    def build(self, shape: Shape, *states: Shape) -> None:
        self._require_shape(shape)
        self.input_size = shape[-1]
        self._make()

    def _make(self) -> None:
        """Make the parameters."""
        assert self.input_size is not None
        inputs, hidden = (self.input_size, self.hidden_size), (self.hidden_size, self.hidden_size)
        self.weight_input = Parameter(self._for_each_gate(self.weight_init, inputs))
        self.weight_hidden = Parameter(self._for_each_gate(self.recurrent_init, hidden))
        self.bias = Parameter(self._initial_bias()) if self.use_bias else None

    def _for_each_gate(self, initializer: Any, shape: Shape) -> Array:
        """Return a matrix for each gate side by side: each has the fans of a matrix of its own."""
        matrices = [initializer(shape) for _ in range(self.gates)]
        return array_namespace(*matrices).concat(matrices, axis=-1)

    def _initial_bias(self) -> Array:
        return self.bias_init((self.gates * self.hidden_size,))

    def _require_shape(self, shape: Shape) -> None:
        size = self.input_size
        if len(shape) != 2 or (size is not None and shape[1] != size):
            letters = f"(N, {'D' if size is None else size})"
            who = type(self).__name__
            msg = f"{who}: expected x of shape {letters}, got {tuple(shape)}."
            if len(shape) == 3:
                msg += f" For a whole sequence use {who.removesuffix('Cell')}."
            raise ShapeError(msg)

    def _begin(self, x: Array, *states: Array | None) -> list[Array]:
        """Return the input's share of the gates, and the states: zeros where there are none."""
        who = type(self).__name__
        self._require_shape(tuple(x.shape))
        require_floats(who, x)
        for name, state in zip(self.state_names, states, strict=True):
            require_state(who, name, state, (x.shape[0], self.hidden_size))
        p = F.linear(x, self.weight_input, self.bias)
        raw = unwrap(p)
        zeros = array_namespace(raw).zeros_like(raw[:, : self.hidden_size])
        return [p, *(zeros if state is None else state for state in states)]


def sequence_mask(who: str, shape: Shape, mask: Any, lengths: Any, home: Any) -> Array | None:
    """Return which steps of (N, T, ...) count, by a mask or by lengths; None if all do."""
    if mask is not None and lengths is not None:
        msg = f"{who}: 'mask' and 'lengths' say the same in two ways; give one of them."
        raise ConfigError(msg)
    if lengths is not None:
        here = lengths
        if not hasattr(lengths, "shape"):  # an empty list would be one of floats
            dtype = None if len(lengths) else "int64"
            here = backend.asarray(lengths, device="cpu", dtype=dtype)
        if tuple(here.shape) != (shape[0],):
            msg = (
                f"{who}: expected 'lengths' to be one integer a sequence, shape ({shape[0]},), got"
                f" {tuple(here.shape)}."
            )
            raise ShapeError(msg)
        mask = F.sequence_mask(here, shape[1])
        return mask if here is lengths else backend.to_device(mask, home)
    require_mask(who, mask, (shape[0], shape[1]))
    return unwrap(mask)


class Unrolled(Cell):
    """A cell as a layer: walks over sequences, with layers of the same kind above it.

    A subclass is a cell as well, and gives ``_scan``.
    """

    def _set_up_layers(
        self,
        cls: Any,
        options: dict[str, Any],
        num_layers: int,
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
        dropout: float,
    ) -> None:
        who = type(self).__name__
        (num_layers,) = integers(who, num_layers=num_layers)
        if not 0.0 <= dropout <= 1.0:
            msg = f"{who}: 'dropout' must be in [0, 1], got {dropout}."
            raise ConfigError(msg)
        if dropout and num_layers == 1:
            msg = (
                f"{who}: 'dropout' acts between layers, and num_layers=1 has none between. Put a"
                " layers.Dropout before or after it."
            )
            raise ConfigError(msg)
        self.num_layers, self.dropout, self.go_backwards = num_layers, dropout, go_backwards
        self.return_sequences, self.return_state = return_sequences, return_state
        self._of_one_layer = (cls, options)

    def _build_if_sized(self) -> None:
        if self.input_size is not None:
            self.ensure_built((1, 1, self.input_size))

    def _require_shape(self, shape: Shape) -> None:
        who = type(self).__name__
        require_sequence(who, shape, self.input_size, f"{who}Cell")

    def _make(self) -> None:
        super()._make()
        cls, options = self._of_one_layer
        hidden = self.hidden_size
        self.above = [
            cls(hidden, hidden, go_backwards=self.go_backwards, **options)
            for _ in range(self.num_layers - 1)
        ]
        for layer in self.above:
            layer.train(self.training)

    def _scan(self, x: Array, states: list[Array | None], mask: Array | None) -> tuple[Array, ...]:
        """Return the states (N, T, H) of this layer alone, and the last of each."""
        raise NotImplementedError

    def _run(self, x: Array, states: tuple[Array | None, ...], mask: Any, lengths: Any) -> Any:
        who, count = type(self).__name__, self.num_layers
        self._require_shape(tuple(x.shape))
        require_floats(who, x)
        n = x.shape[0]
        mask = sequence_mask(who, tuple(x.shape), mask, lengths, backend.device_of(x))
        shape = (n, self.hidden_size) if count == 1 else (n, count, self.hidden_size)
        for name, state in zip(self.state_names, states, strict=True):
            require_state(who, f"{name}0", state, shape)
        begin = [_by_layer(state, count) for state in states]
        ends = []
        for i, layer in enumerate([self, *self.above]):
            if i:
                x = F.dropout(x, self.dropout, training=self.training)
            x, *end = layer._scan(x, [state[i] for state in begin], mask)
            ends.append(end)
        y = x if self.return_sequences else ends[-1][0]
        if not self.return_state:
            return y
        if count == 1:
            return (y, *ends[0])
        xp = array_namespace(x)
        return (y, *(xp.stack(list(state), axis=1) for state in zip(*ends, strict=True)))


def _by_layer(state: Array | None, count: int) -> list[Array | None]:
    """Return a state (N, num_layers, H) layer by layer."""
    if state is None or count == 1:
        return [state] * count
    return list(array_namespace(state).unstack(state, axis=1))
