"""The optimizer: everything but the equations.

A subclass writes its equations once, in standard functions, for one parameter:
:meth:`Optimizer.rule`. Here gradients are matched with parameters and with the state that belongs
to them, and kernels are used where a library has one.

An update never changes an array that somebody else can see. It gives the parameter a new array, or
writes into the old one if, by its reference count, the parameter is its only holder. So a
``state_dict()`` taken before a step, or a graph that was kept, still holds the old values after it,
on NumPy as on JAX, and the usual training loop allocates nothing large.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from xpnn.backend import ArrayWrapper, array_namespace, unwrap
from xpnn.errors import ConfigError, DeviceError, DTypeError, GraphError, ShapeError
from xpnn.optim.config import build, lookup, number, registry
from xpnn.optim.saving import Saveable
from xpnn.optim.slots import Slot, State, as_array

__all__ = ["Optimizer", "get"]

Array = Any


class Optimizer(Saveable):
    """Base of all optimizers.

    A subclass names its hyperparameters as arguments of ``__init__``, keeps each in the attribute
    of that name, names its state arrays in :meth:`state_names`, and writes :meth:`rule`.

    Parameters
    ----------
    learning_rate : float
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient (L2 penalty); with ``decoupled`` the parameter
        shrinks by the factor ``1 - learning_rate * weight_decay`` instead.

    Attributes
    ----------
    learning_rate : float
        May be set at any time; it is read once a step.
    steps : int
        Updates made so far. The equations use each parameter's own count, which starts with its
        first gradient: a layer that is unfrozen late has its bias correction from the start.
    decoupled : bool
        Whether weight decay bypasses the equations; a class attribute.
    kernel : str or None
        Name of the native kernel that stands in for ``rule``; a class attribute, not inherited by a
        class that writes a rule of its own.
    hyperparameter_names : tuple of str
        The arguments of ``__init__``; a class attribute that is filled in.

    Notes
    -----
    Parameters keep their dtype. State has the dtype of its parameter; for float16 and bfloat16,
    state and arithmetic are float32. Gradients are cast to the dtype of the arithmetic, and never
    changed.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> class SignSGD(optim.Optimizer):
    ...     def rule(self, xp, lr, step, p, g, state):
    ...         return p - lr * xp.sign(g), {}
    >>> w = xpnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).backward(xpnn.Tensor([1.0, 1.0]))
    >>> SignSGD(0.5).step([w])
    >>> w
    Tensor([0.5, 1.5], dtype=float32, requires_grad=True)
    """

    decoupled: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.hyperparameter_names = tuple(inspect.signature(cls).parameters)
        if "rule" in vars(cls):
            cls.kernel = vars(cls).get("kernel")
        registry[cls.__name__.lower()] = cls

    def __init__(self, learning_rate: float, *, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.learning_rate = number(self, "learning_rate", learning_rate)
        self.weight_decay = number(self, "weight_decay", weight_decay)

    # --------------------------------------------------------------- what a subclass writes

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        """Return a parameter and its state after a step; nothing that is given is changed.

        Parameters
        ----------
        xp : namespace
        lr : float
            The learning rate.
        step : int
            1 for the first update of this parameter.
        p, g : array
            The parameter and its gradient, of one shape and dtype.
        state : dict of arrays
            By the names of :meth:`state_names`, of the same shape and dtype.
        """
        msg = f"{type(self).__name__} has no rule."
        raise NotImplementedError(msg)

    # ----------------------------------------------------------------------------- updating

    def step(self, model: Any) -> None:
        """Update the parameters of a model from the gradients that ``backward`` brought.

        The gradients are used up: afterwards they are None, so a loop needs no ``zero_grad``, and
        the gradients of several ``backward`` calls before a step add up. Frozen parameters
        (``requires_grad`` False) and those that no gradient reached stay as they are.

        Parameters
        ----------
        model : Layer or iterable of Parameter
            What has ``parameters()``, or the parameters themselves; one that appears twice is
            updated once.

        Raises
        ------
        GraphError
            If no parameter has a gradient.

        Examples
        --------
        >>> import xpnn
        >>> from xpnn import optim
        >>> w = xpnn.Tensor([1.0], requires_grad=True)
        >>> optimizer = optim.SGD(learning_rate=0.25)
        >>> for _ in range(3):
        ...     (w * w).backward()
        ...     optimizer.step([w])
        >>> w
        Tensor([0.125], dtype=float32, requires_grad=True)
        """
        params = self._listed(model)
        try:
            grads = [p.grad if p.requires_grad else None for p in params]
        except AttributeError:
            for i, param in enumerate(params):
                self._meet(i, param)  # says which is no Tensor
            raise
        if all(g is None for g in grads):
            frozen = sum(not p.requires_grad for p in params)
            msg = (
                f"{type(self).__name__}.step: none of {len(params)} parameters has a gradient"
                f" ({frozen} are frozen). Call backward() on the loss first."
            )
            raise GraphError(msg)
        self.update(params, grads)
        for param, grad in zip(params, grads, strict=True):
            if grad is not None:
                param.grad = None
        if hasattr(model, "after_update"):
            model.after_update()

    def update(self, params: Any, grads: Any) -> None:
        """Update parameters with given gradients; all are checked before the first is changed.

        Parameters
        ----------
        params : iterable or dict of Tensor
            Parameters or Tensors; a new array is put in their ``data``.
        grads : iterable or dict of Tensor, array or None
            The gradient of each, in the same order or by the same names. None leaves a parameter
            as it is.

        Raises
        ------
        ShapeError
            If a gradient has another shape than its parameter, or their numbers differ.
        DeviceError
            If a gradient lies on another device than its parameter.
        DTypeError
            If something is not a Tensor of real floating-point numbers.

        Examples
        --------
        >>> import xpnn
        >>> from xpnn import optim
        >>> w = xpnn.Tensor([1.0, 2.0])
        >>> optim.SGD(learning_rate=0.5).update([w], [xpnn.Tensor([2.0, 0.0])])
        >>> w
        Tensor([0., 2.], dtype=float32)
        """
        keys, params, grads = self._paired(params, grads)
        if self._loaded is not None:
            self._match(self._loaded, params)
        names, slots = self.state_names(), self._slots
        alike: dict[Any, list[tuple[Slot, Array]]] = {}
        kind, updates = None, 0
        for key, param, grad in zip(keys, params, grads, strict=True):
            slot = slots.get(id(param)) or self._meet(key, param)
            if grad is None:
                continue
            g = grad.data if isinstance(grad, ArrayWrapper) else grad
            if not slot.fits(param.data, g, names):
                g = self._fit(key, slot, g)
            if kind is not slot.kind or updates != slot.updates:
                kind, updates = slot.kind, slot.updates
                group = alike.setdefault((kind, updates), [])
            group.append((slot, g))
        if alike:
            lr = float(self.learning_rate)
            for group in alike.values():
                kernel = group[0][0].kernel
                if kernel is None:
                    for slot, g in group:
                        self._apply_rule(lr, slot, g)
                else:
                    self._apply_kernel(kernel, lr, *zip(*group, strict=True))
            self.steps += 1

    def _meet(self, key: Any, param: Any) -> Slot:
        """Note a parameter that was not seen before; one without a gradient too, for the order."""
        tensor = isinstance(param, ArrayWrapper) or not hasattr(param, "__dlpack__")
        if not (tensor and hasattr(param, "data")):
            cls = type(param)
            msg = (
                f"{self._label(key)} is a {cls.__module__}.{cls.__qualname__}; an optimizer updates"
                " Tensors. Write w = xpnn.Tensor(w) before."
            )
            raise DTypeError(msg)
        slot = self._slots[id(param)] = Slot(param)
        return slot

    def _fit(self, key: Any, slot: Slot, g: Any) -> Array:
        """Fit the state to the parameter as it is now, and return the gradient in its dtype."""
        label, data = self._label(key), slot.param.data
        if not hasattr(g, "shape"):
            msg = f"{label} has a {type(g).__name__} for a gradient; expected an array or a Tensor."
            raise DTypeError(msg)
        array_namespace(data, g)  # one library
        if g.device != data.device:
            msg = f"{label} is on {data.device}, but its gradient is on {g.device}. Move one."
            raise DeviceError(msg)
        if tuple(g.shape) != tuple(data.shape):
            msg = f"{label} has shape {tuple(data.shape)}, but its gradient has {tuple(g.shape)}."
            raise ShapeError(msg)
        slot.settle(self.state_names(), self.kernel, label)
        return slot.cast(g)

    def _apply_kernel(
        self, kernel: Any, lr: float, slots: tuple[Slot, ...], grads: tuple[Array, ...]
    ) -> None:
        for slot in slots:
            slot.updates += 1
        options = self.hyperparameters()
        options.update(learning_rate=lr, step=slots[0].updates, decoupled=self.decoupled)
        reuse = [slot.owns_data() for slot in slots]
        params = [slot.param.data for slot in slots]
        states = [slot.state for slot in slots]
        new = kernel(params, grads, states, reuse, self._workspace, **options)
        for slot, data in zip(slots, new, strict=True):
            slot.data = slot.param.data = data

    def _apply_rule(self, lr: float, slot: Slot, g: Array) -> None:
        slot.updates += 1
        p = slot.cast(slot.param.data)
        if self.weight_decay and self.decoupled:
            p = (1 - lr * self.weight_decay) * p
        elif self.weight_decay:
            g = g + self.weight_decay * p
        p, state = self.rule(slot.xp, lr, slot.updates, p, g, slot.state)
        slot.state = {name: as_array(x) for name, x in state.items()}
        slot.data = slot.param.data = slot.cast(as_array(p), slot.dtype)

    def _paired(self, params: Any, grads: Any) -> tuple[Any, list[Any], list[Any]]:
        """Return names or numbers of the pairs, parameters and gradients; no parameter twice."""
        keys: Any = None
        if isinstance(grads, Mapping) and isinstance(params, Mapping):
            if odd := params.keys() ^ grads.keys():
                msg = (
                    f"{type(self).__name__}: only the parameters or only the gradients have"
                    f" {', '.join(sorted(map(repr, odd)))}."
                )
                raise ConfigError(msg)
            keys = list(params)
            grads = [grads[key] for key in keys]
        params, grads = self._listed(params), self._listed(grads)
        if len(params) != len(grads):
            msg = (
                f"{type(self).__name__}: got {len(params)} parameters and {len(grads)} gradients."
                " Give None for a parameter that has none."
            )
            raise ShapeError(msg)
        keys = keys or range(len(params))
        if len(set(map(id, params))) < len(params):
            return self._once(keys, params, grads)
        return keys, params, grads

    def _once(
        self, keys: Any, params: list[Any], grads: list[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Return every parameter once; it must have been given the same gradient everywhere."""
        triples: dict[int, tuple[Any, Any, Any]] = {}
        for key, param, grad in zip(keys, params, grads, strict=True):
            _, _, first = triples.setdefault(id(param), (key, param, grad))
            if unwrap(grad) is not unwrap(first):
                msg = f"{self._label(key)} is given twice, with two gradients. Add them first."
                raise ConfigError(msg)
        once = zip(*triples.values(), strict=True)
        return tuple(map(list, once))  # type: ignore[return-value]

    def _label(self, key: Any) -> str:
        return f"{type(self).__name__}: params[{key!r}]"

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Optimizer:
        """Return a new optimizer, without state, from :meth:`to_config`.

        Raises
        ------
        ConfigError
            If the class or a hyperparameter is unknown, or a value is out of range.

        Examples
        --------
        >>> from xpnn import optim
        >>> optim.Optimizer.from_config({"class": "SGD", "momentum": 0.9}).momentum
        0.9
        """
        options = dict(config)
        return build(lookup(options.pop("class", None)), options)


def get(optimizer: Any) -> Optimizer:
    """Return an optimizer: as it is, by its name, or by its configuration.

    Parameters
    ----------
    optimizer : Optimizer, str or dict
        Names are those of the classes, in any case; ``Optimizer.to_config`` makes the dict.

    Raises
    ------
    ConfigError
        If there is no optimizer of that name.

    Examples
    --------
    >>> from xpnn import optim
    >>> optim.get("sgd")
    SGD(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0)
    >>> optim.get({"class": "Adam", "learning_rate": 0.01}).learning_rate
    0.01
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    config = optimizer if isinstance(optimizer, Mapping) else {"class": optimizer}
    return Optimizer.from_config(config)
