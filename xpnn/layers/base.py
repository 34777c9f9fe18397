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
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, ClassVar

from xpnn import backend, replay
from xpnn._dtypes import as_dtype
from xpnn.autograd import tape
from xpnn.autograd.casting import full_dtype, suspended
from xpnn.autograd.record import backward, wrap
from xpnn.autograd.tape import Leaf
from xpnn.autograd.tensor import Tensor, seed
from xpnn.backend import SEVERAL, elsewhere
from xpnn.errors import ConfigError, DTypeError, GraphError, XpnnError
from xpnn.initializers import blank
from xpnn.layers import config
from xpnn.layers.parts import Parameter, Parts

__all__ = ["Layer", "Parameter"]

Array = Any


class Layer(Parts):
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

    training: bool = True
    functions: ClassVar[tuple[str, ...]] = ()  # of xpnn.functional, whose errors are this layer's
    _taken: ClassVar[frozenset[str]] = frozenset()  # names of methods and properties
    _config: dict[str, Any]
    _shapes: tuple[tuple[int, ...], ...] | None = None
    _dtypes: tuple[str, ...] = ()
    _tracks: bool = True
    _frozen: bool = False
    _call: Any = None  # inputs and outputs of the last outermost call, for backward()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        config.register(cls)
        cls._taken = _methods(cls)

    def __new__(cls, *args: Any, **params: Any) -> Any:
        layer = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            bound = signature.bind(layer, *args, **params)
        except TypeError as error:
            takes = list(signature.parameters)[1:]
            unknown = [name for name in params if name not in takes]
            what = f"got an unexpected keyword argument {unknown[0]!r}" if unknown else str(error)
            msg = f"{cls.__name__}: {what}. It takes {', '.join(takes) or 'no arguments'}."
            if len(args) > 1 and takes[:1] == ["layers"]:
                msg += f" The layers go into a list, {cls.__name__}([a, b])."
            raise TypeError(msg) from None
        layer._config = dict(list(bound.arguments.items())[1:])
        blank.spend(cls.__name__)
        return layer

    def __setattr__(self, name: str, value: Any) -> None:
        # A function may take a method's place: nothing else can be called there.
        if name in self._taken and (isinstance(value, Parts) or not callable(value)):
            msg = (
                f"{type(self).__name__}: {name!r} is a method or a property of the class, so an"
                f" attribute cannot have this name. Take another one, such as 'my_{name}'."
            )
            raise ConfigError(msg)
        super().__setattr__(name, value)

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
        if SEVERAL and inputs and hasattr(inputs[0], "shape"):
            # Statistics, masks and the like are raw arrays, which are computed on one device.
            if (there := elsewhere(type(self).__name__, inputs[:1])) is not None:
                with there:
                    return self(*inputs, **options)
        before = dict(vars(self)) if self._shapes is None else None
        if (called := replay.called.get()) is not None:
            called[id(self)] = self
        try:
            if before is not None:
                self._build_for(inputs, options)
            if self._tracks and inputs and tape._recording.get() and not _on_tape(inputs[0]):
                return self._outermost(inputs, options)
            return self.forward(*inputs, **options)
        except (AttributeError, XpnnError) as error:
            if before is not None:
                self._forget(before)
            self._explain(error, inputs, options)
            raise

    def _needed(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
        """Return the inputs given by name that forward cannot do without."""
        signature = inspect.signature(self.forward)
        try:
            signature.bind(*inputs, **options)
        except TypeError as error:
            msg = f"{type(self).__name__}: {error}"
            raise TypeError(msg) from None
        needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
        return tuple(options[name] for name in needed if name in options)

    def _forget(self, before: dict[str, Any]) -> None:
        """Be as before a build whose input was refused: it leaves no sizes behind."""
        vars(self).clear()
        vars(self).update(before)

    def _explain(self, error: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Put an error in the words of this layer, which costs nothing where there is none."""
        if isinstance(error, XpnnError):
            name, colon, message = str(error).partition(":")
            if name in self.functions:
                error.args = (f"{type(self).__name__}{colon}{message}",)
            elif name.startswith(("expected ", "dtype(")):  # of an array, whoever was given it
                error.args = (f"{type(self).__name__}: {error}",)
            return
        given = [x for x in (*inputs[1:], *options.values()) if x is not None]
        if error.name and any(error.obj is x for x in (*inputs[:1], *given)):
            raise _no_array(self, error.obj) from error  # a list has no shape, nor has a number

    def _build_for(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Build for the inputs of a first call."""
        inputs += self._needed(inputs, options)
        arrays = [x for x in inputs if hasattr(x, "shape") and hasattr(x, "dtype")]
        if not arrays and type(self).build is not Layer.build:
            raise _no_array(self, inputs[0])
        self.ensure_built(*(tuple(x.shape) for x in arrays))
        self._dtypes = tuple(full_dtype(x.dtype).name for x in arrays)

    def ensure_built(self, *shapes: tuple[int, ...]) -> None:
        """Build for inputs of these shapes, unless that has been done."""
        if self._shapes is None:
            target, before = self._device or backend.get_device(), dict(vars(self))
            known = {id(layer) for layer in self.layers()}
            try:
                with backend.device(target), suspended():
                    self.build(*shapes)
            except Exception:
                self._forget(before)
                raise
            self._shapes = shapes
            for layer in self.layers():
                if id(layer) not in known:
                    layer.training = self.training
            if self._frozen:
                self.freeze()

    def penalty(self) -> Any:
        """Return what the layer adds to a loss in training, such as weight decay, or None.

        Of this layer alone; :meth:`penalties` adds up those of the layers inside.
        """
        return None

    def penalties(self) -> Any:
        """Return the sum of the penalties of this layer and of those inside, or None.

        ``fit`` and ``evaluate`` add it to the loss; a loop of one's own does so itself.

        Examples
        --------
        >>> from xpnn import layers
        >>> layer = layers.Dense(2, in_features=3, weight_init="ones", l2=0.5)
        >>> float(layer.penalties())
        3.0
        """
        found = [p for p in (layer.penalty() for layer in self.layers()) if p is not None]
        return sum(found[1:], found[0]) if found else None

    def on_update(self) -> None:
        """See to the layer's own parameters after an optimizer has changed them."""

    def after_update(self) -> None:
        """Call :meth:`on_update` of this layer and of those inside; ``optimizer.step`` does."""
        for layer in self.layers():
            layer.on_update()

    def _outermost(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # The inputs are noted on the tape as places from which nobody wants a gradient, unless
        # backward() of this layer asks for it: an ordinary training step pays nothing for it.
        own = self.__dict__  # noting a call changes no part, as setting an attribute might
        own["_call"] = None
        tracked = tuple([_track(x) for x in inputs])
        outputs = self.forward(*tracked, **options)
        own["_call"] = (inputs, tracked, outputs if isinstance(outputs, tuple) else (outputs,))
        return outputs

    def backward(self, *gradients: Any) -> Any:
        """Carry gradients of the outputs of the last call back through the layer.

        Adds to the gradients of the parameters, and returns the gradient of the input: a raw array
        for a raw array, a tuple for several inputs, None for an integer input.

        Parameters
        ----------
        *gradients : array
            One for each output, of its shape.

        Raises
        ------
        GraphError
            If there was no call, or not as many outputs.

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
        if len(gradients) != (count := len(self._call[2])):
            msg = (
                f"{type(self).__name__}.backward(): expected {count} gradients, one for each output"
                f" of the last call, got {len(gradients)}."
            )
            raise GraphError(msg)
        (inputs, tracked, outs), self._call = self._call, None
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

    # ------------------------------------------------------------------------ configuration

    def to_config(self) -> dict[str, Any]:
        """Return class, arguments and input shapes as a JSON dict, from which it can be rebuilt."""
        return config.encode_layer(self)

    @staticmethod
    def from_config(config_dict: Mapping[str, Any]) -> Any:
        """Rebuild a layer from :meth:`to_config`; its parameters have new initial values."""
        return config.decode_layer(config_dict)

    def _rebuild(self, shapes: Any, dtypes: Any) -> None:
        """Build as for inputs of these shapes and dtypes, and with it the layers inside."""
        self.ensure_built(*(tuple(shape) for shape in shapes))
        self._dtypes = tuple(dtypes)
        if not blank.active():  # a file has the shapes of all layers inside
            self._complete()

    def _complete(self) -> None:
        """Build what is not built inside, if this layer has been called."""
        unbuilt = any(layer._shapes is None for layer in self.layers())
        if self._shapes is None or not unbuilt:
            return
        # Only a forward pass knows what the layers inside a model are given: one row of zeros.
        home = next((p.device for p in self.parameters()), self._device or backend.get_device())
        rows = [
            home.xp.zeros(
                (1, *shape[1:]), dtype=backend.native_dtype(home.xp, dtype), device=home.native
            )
            for shape, dtype in zip(self._shapes, self._dtypes, strict=True)
        ]
        modes = [(layer, layer.training) for layer in self.layers()]
        with tape.recording(False):
            self.eval()(*rows)
        self.train(modes[0][1])
        for layer, mode in modes:
            layer.training = mode

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles do not pass __init__ again, and leave the last call behind.
        state = {name: value for name, value in vars(self).items() if name != "_call"}
        return object.__new__, (type(self),), state

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._config.items())
        return f"{type(self).__name__}({given})"


def _methods(cls: type) -> frozenset[str]:
    """Return the names of a class under which an attribute would be found in their place."""
    of_class = {name: getattr(cls, name) for name in dir(cls)}
    return frozenset(
        name
        for name, value in of_class.items()
        if isinstance(value, (FunctionType, MethodType))
        or (isinstance(value, property) and value.fset is None)
    )


def _no_array(layer: Layer, x: Any) -> DTypeError:
    msg = (
        f"{type(layer).__name__}: expected an array, got {type(x).__name__}."
        " Make one with xpnn.asarray(...)."
    )
    return DTypeError(msg)


def _on_tape(x: Any) -> bool:
    return isinstance(x, Tensor) and x.vertex is not None


def _track(x: Any) -> Any:
    """Return ``x`` at a place of its own on the tape from which no gradient is wanted by itself."""
    if _on_tape(x) or not hasattr(x, "shape"):
        return x
    raw = backend.unwrap(x)
    return wrap(raw, Leaf(wanted=False) if as_dtype(raw.dtype).is_inexact else None)
