"""Layer and Parameter: what every layer and every model is.

A layer is written forward only::

    class Scale(Layer):
        def build(self, shape):                   # once, when the input shape is known
            self.scale = Parameter(initializers.ones((shape[-1],)))

        def forward(self, x):
            return x * self.scale

Its parts are its attributes: a :class:`Parameter`, another layer, a list of layers. Arrays that are
no parameters but belong to its state (running statistics) are named in ``buffers``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.autograd import tape
from xpnn.autograd.record import backward, wrap
from xpnn.autograd.tape import Leaf
from xpnn.autograd.tensor import Tensor, seed
from xpnn.errors import ConfigError, DataError, GraphError
from xpnn.layers.config import decode, encode, registry

__all__ = ["Layer", "Parameter"]

Array = Any


class Parameter(Tensor):
    """A Tensor that a layer owns and an optimizer changes.

    Parameters
    ----------
    array : array
    trainable : bool
        Whether it collects gradients.

    Examples
    --------
    >>> from xpnn.layers import Parameter
    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, array: Any, trainable: bool = True) -> None:
        super().__init__(array, requires_grad=trainable)


class Layer:
    """Base of all layers.

    Subclasses write ``forward(self, *inputs)`` and, if they have parameters whose sizes depend on
    the input, ``build(self, *shapes)``. The arguments of ``__init__`` are the configuration.

    Attributes
    ----------
    training : bool
        Whether the layer behaves as in training (dropout, batch statistics); see :meth:`train`.
    buffers : tuple of str
        Names of the attributes that hold state besides parameters; a class attribute.
    """

    buffers: ClassVar[tuple[str, ...]] = ()
    training: bool = True
    _config: dict[str, Any]
    _shapes: tuple[tuple[int, ...], ...] | None = None
    _dtypes: tuple[str, ...] = ()
    _tracks: bool = True
    _device: Any = None
    _frozen: bool = False
    _call: Any = None  # inputs and outputs of the last outermost call, for backward()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        registry[cls.__name__] = cls

    def __new__(cls, *args: Any, **params: Any) -> Any:
        layer = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(layer, *args, **params)
        except TypeError as error:
            msg = f"{cls.__name__}: {error}"
            raise TypeError(msg) from None
        layer._config = dict(list(bound.arguments.items())[1:])
        return layer

    # -------------------------------------------------------------------------- computing

    def _build_nothing(self, *shapes: tuple[int, ...]) -> None:
        """Make the parameters for inputs of these shapes; called once, before the first forward."""

    # Declared so that a subclass may name its shapes: `def build(self, shape)`.
    build: Callable[..., None] = _build_nothing

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the layer. Written by subclasses."""
        msg = f"{type(self).__name__} has no forward method."
        raise NotImplementedError(msg)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Compute the layer, after building it at the first call."""
        if self._shapes is None:
            arrays = [x for x in inputs if hasattr(x, "shape")]
            self.ensure_built(*(tuple(x.shape) for x in arrays))
            self._dtypes = tuple(as_dtype(x.dtype).name for x in arrays)
        if self._tracks and inputs and tape._recording.get() and _off_tape(inputs[0]):
            return self._outermost(inputs, options)
        return self.forward(*inputs, **options)

    def ensure_built(self, *shapes: tuple[int, ...]) -> None:
        """Build for inputs of these shapes, unless that has been done."""
        if self._shapes is None:
            target = self._device or backend.get_device()
            with backend.device(target):
                self.build(*shapes)
            self._shapes = shapes
            if self._frozen:
                self.freeze()

    def _outermost(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # The inputs are noted on the tape as places from which nobody wants a gradient, unless
        # backward() of this layer asks for it: an ordinary training step pays nothing for it.
        self._call = None
        tracked = tuple(_track(x) for x in inputs)
        outputs = self.forward(*tracked, **options)
        self._call = (inputs, tracked, outputs)
        return outputs

    def backward(self, *gradients: Any) -> Any:
        """Carry gradients of the outputs of the last call back through the layer.

        Adds to the gradients of the parameters, and returns the gradient of the input: a raw array
        for a raw array, a tuple for several inputs, None for an integer input.

        Parameters
        ----------
        *gradients : array
            One for each output, of its shape.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnn import layers
        >>> layer = layers.Dense(2, weight_init="ones")
        >>> y = layer(np.ones((1, 3), np.float32))
        >>> layer.backward(np.ones((1, 2), np.float32))
        array([[2., 2., 2.]], dtype=float32)
        """
        if self._call is None:
            msg = (
                f"{type(self).__name__}.backward(): call the layer on a raw array first, outside"
                " no_grad(); one call serves one backward()."
            )
            raise GraphError(msg)
        (inputs, tracked, outputs), self._call = self._call, None
        outs = outputs if isinstance(outputs, tuple) else (outputs,)
        parameters = [p for p in self.parameters() if p.requires_grad]
        on_tape = [x for x in tracked if isinstance(x, Tensor) and x.requires_grad]
        found = backward(
            [y for y in outs if y.requires_grad],
            [seed(y, g) for y, g in zip(outs, gradients, strict=True) if y.requires_grad],
            [*on_tape, *parameters],
        )
        for p, g in zip(parameters, found[len(on_tape) :], strict=True):
            if g is not None:
                p.grad = g if p.grad is None else p.grad + g
        at = {id(x): g for x, g in zip(on_tape, found, strict=False)}
        dx = tuple(
            wrap(at[id(t)])
            if isinstance(x, Tensor) and at.get(id(t)) is not None
            else at.get(id(t))
            for x, t in zip(inputs, tracked, strict=True)
        )
        return dx[0] if len(dx) == 1 else dx

    # ------------------------------------------------------------------------------ parts

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield own parameters, layers and buffers by name, in the order they were set."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Layer)) or name in self.buffers:
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, (Parameter, Layer)):
                        yield f"{name}.{i}", item

    def layers(self) -> Iterator[Layer]:
        """Yield this layer and every layer inside it, outermost first, each once."""
        seen: set[int] = set()
        stack: list[Layer] = [self]
        while stack:
            layer = stack.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                stack.extend(reversed([p for _, p in layer._parts() if isinstance(p, Layer)]))

    def _named(self, prefix: str = "") -> Iterator[tuple[str, Layer, str, Any]]:
        """Yield name, owner, attribute and value of every parameter and buffer."""
        for name, value in self._parts():
            if isinstance(value, Layer):
                yield from value._named(f"{prefix}{name}.")
            else:
                yield prefix + name, self, name, value

    def named_parameters(self) -> dict[str, Parameter]:
        """Return the parameters by name, such as ``"0.weight"``, each once."""
        seen: set[int] = set()
        found = {}
        for name, _, _, value in self._named():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                found[name] = value
        return found

    def parameters(self) -> list[Parameter]:
        """Return all parameters, each once, in the order in which they were made."""
        return list(self.named_parameters().values())

    @property
    def params(self) -> list[Parameter]:
        """All parameters."""
        return self.parameters()

    @property
    def grads(self) -> list[Any]:
        """The gradient of each parameter, or None."""
        return [p.grad for p in self.parameters()]

    @property
    def param_grads(self) -> list[tuple[Parameter, Any]]:
        """Pairs of a parameter and its gradient."""
        return [(p, p.grad) for p in self.parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients that have arrived."""
        for p in self.parameters():
            p.grad = None

    # ----------------------------------------------------------------------------- switches

    def train(self, on: bool = True) -> Any:
        """Behave as in training, or not; returns the layer."""
        for layer in self.layers():
            layer.training = on
        return self

    def eval(self) -> Any:
        """Behave as in prediction: no dropout, running statistics; returns the layer."""
        return self.train(False)

    def freeze(self) -> Any:
        """Leave the parameters as they are; gradients still flow through to the input."""
        return self._set_frozen(True)

    def unfreeze(self) -> Any:
        """Train the parameters again."""
        return self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> Any:
        for layer in self.layers():
            layer._frozen = frozen
        for p in self.parameters():
            p.requires_grad = not frozen
        return self

    def to(self, device: Any) -> Any:
        """Move parameters, gradients and buffers to a device; returns the layer."""
        target = backend.as_device(device)
        for layer in self.layers():
            layer._device = target
        for _, owner, name, value in self._named():
            if isinstance(value, Parameter):
                value.data = backend.to_device(value.data, target)
                if value.grad is not None:
                    value.grad = backend.to_device(value.grad.detach(), target)
            elif value is not None:
                setattr(owner, name, backend.to_device(value, target))
        return self

    # -------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """Return parameters and buffers by name: raw arrays, not copies."""
        return {name: backend.unwrap(value) for name, _, _, value in self._named()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values into parameters and buffers, each to the device and dtype it has there.

        Raises
        ------
        DataError
            If names are missing or unexpected (with ``strict``), or shapes differ: all are listed,
            and nothing is loaded.
        """
        own = {name: (owner, attribute, v) for name, owner, attribute, v in self._named()}
        wrong = [f"missing {name}" for name in own if name not in state] if strict else []
        wrong += [f"unexpected {name}" for name in state if name not in own] if strict else []
        for name in own.keys() & state.keys():
            expected, got = tuple(own[name][2].shape), tuple(state[name].shape)
            if expected != got:
                wrong.append(f"{name}: expected shape {expected}, got {got}")
        if wrong:
            hint = "" if own else " The layer has no parameters yet: call it once to build it."
            msg = f"{type(self).__name__}.load_state_dict: {'; '.join(sorted(wrong))}.{hint}"
            raise DataError(msg)
        for name in own.keys() & state.keys():
            owner, attribute, old = own[name]
            raw = backend.unwrap(old)
            new = backend.asarray(
                backend.to_numpy(state[name]),
                device=backend.device_of(raw), dtype=raw.dtype, copy=True,
            )  # fmt: skip
            if isinstance(old, Parameter):
                old.data = new
            else:
                setattr(owner, attribute, new)

    def to_config(self) -> dict[str, Any]:
        """Return class, arguments and input shapes as a JSON dict, from which it can be rebuilt."""
        config: dict[str, Any] = {"class": type(self).__name__}
        config["config"] = {k: encode(v, type(self).__name__, k) for k, v in self._config.items()}
        if self._shapes is not None:
            config["shapes"] = [list(shape) for shape in self._shapes]
            config["dtypes"] = list(self._dtypes)
        return config

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Any:
        """Rebuild a layer from :meth:`to_config`; its parameters have new initial values."""
        cls = registry.get(config.get("class", ""))
        if cls is None:
            msg = f"no layer class {config.get('class')!r} is defined; import its module first."
            raise ConfigError(msg)
        layer = cls(**{name: decode(v) for name, v in config["config"].items()})
        if not isinstance(layer, Layer):
            msg = f"{config['class']!r} is not a layer."
            raise ConfigError(msg)
        if "shapes" in config:
            layer._rebuild(config["shapes"], config["dtypes"])
        return layer

    def _rebuild(self, shapes: Any, dtypes: Any) -> None:
        """Build as for inputs of these shapes and dtypes, and with it the layers inside."""
        self.ensure_built(*(tuple(shape) for shape in shapes))
        self._dtypes = tuple(dtypes)
        if any(layer._shapes is None for layer in self.layers()):
            # Only a forward pass knows what the layers inside a model are given: one row of zeros.
            xp = backend.get_device().xp
            rows = [
                xp.zeros((1, *shape[1:]), dtype=backend.native_dtype(xp, dtype))
                for shape, dtype in zip(shapes, dtypes, strict=True)
            ]
            with tape.recording(False):
                self.eval()(*rows)
            self.train()

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles do not pass __init__ again, and leave the last call behind.
        state = {name: value for name, value in vars(self).items() if name != "_call"}
        return object.__new__, (type(self),), state

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._config.items())
        return f"{type(self).__name__}({given})"


registry["Layer"] = Layer


def _off_tape(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.vertex is None
    return hasattr(x, "shape")


def _track(x: Any) -> Any:
    """Return ``x`` at a place of its own on the tape from which no gradient is wanted by itself."""
    if not _off_tape(x):
        return x
    raw = backend.unwrap(x)
    return wrap(raw, Leaf(wanted=False) if as_dtype(raw.dtype).is_inexact else None)
