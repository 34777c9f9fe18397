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

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar

from xpnn import parallel, replay
from xpnn.backend import ArrayWrapper
from xpnn.errors import GraphError
from xpnn.optim.clipping import CLIPS, clip_together, clipped
from xpnn.optim.config import number, resolve
from xpnn.optim.hyperparameters import registry
from xpnn.optim.parameters import check_gradient, check_tensor, listed, paired
from xpnn.optim.recording import apply_all, count_step
from xpnn.optim.saving import Saveable
from xpnn.optim.slots import Slot, State, as_array
from xpnn.optim.trial import LATE, Trial

__all__ = ["Optimizer", "get"]

Array = Any
_Alike = dict[Any, tuple[list[Slot], list[Array]]]
_Near = tuple[Array, Array]  # what gradients are multiplied with, and whether to skip; or None


class Optimizer(Saveable):
    """Base of all optimizers.

    A subclass names its hyperparameters as arguments of ``__init__``, keeps each in the attribute
    of that name, names its state arrays in :meth:`state_names`, and writes :meth:`rule`.

    Parameters
    ----------
    lr : float, Schedule, str, (str, dict) or dict
        The learning rate, or what :func:`xpnn.optim.schedules.get` takes.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient (L2 penalty); with ``decoupled`` the parameter
        shrinks by the factor ``1 - lr * weight_decay`` instead.
    clip_value, clip_norm, clip_global_norm : float, optional
        Clip gradients before weight decay is added; at most one of them. See
        :func:`~xpnn.optim.clip_by_value`, :func:`~xpnn.optim.clip_by_norm` (each gradient) and
        :func:`~xpnn.optim.clip_by_global_norm` (all gradients of an update together).

    Attributes
    ----------
    lr : float
        That of the next update. A number or a schedule may be set at any time.
    schedule : Schedule or None
        What ``lr`` comes from, if it is scheduled.
    groups : tuple of Group
        Parameters that have hyperparameters of their own; see :meth:`add_group`.
    steps : int
        Updates made so far, from which a schedule has its step. The equations use each parameter's
        own count, which starts with its first gradient: a layer that is unfrozen late has its bias
        correction from the start.
    decoupled : bool
        Whether weight decay bypasses the equations; a class attribute.
    elementwise : bool
        Whether ``rule`` computes each element from those at the same place alone, and from scalar
        state: then it may be given pieces of arrays, or several side by side, which is faster. A
        class attribute, not inherited by a class that writes a rule of its own.
    scalar_state : tuple of str
        Names of the state that is one number a parameter; a class attribute.
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
    ...     elementwise = True
    ...
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
        registry[cls.__name__.lower()] = cls

    def __init__(
        self,
        lr: Any,
        *,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        clip_global_norm: float | None = None,
    ) -> None:
        super().__init__(lr)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.clip_value, self.clip_norm = clip_value, clip_norm
        self.clip_global_norm = clip_global_norm
        for name in CLIPS:
            if (bound := getattr(self, name)) is not None:
                setattr(self, name, number(self, name, bound, above=0))
        clipped(self, [])  # an error for two of them

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
            If there are no parameters, or none has a gradient.

        Examples
        --------
        >>> import xpnn
        >>> from xpnn import optim
        >>> w = xpnn.Tensor([1.0], requires_grad=True)
        >>> optimizer = optim.SGD(lr=0.25)
        >>> for _ in range(3):
        ...     (w * w).backward()
        ...     optimizer.step([w])
        >>> w
        Tensor([0.125], dtype=float32, requires_grad=True)
        """
        self._step(model, self.update)

    def _step(self, model: Any, update: Any) -> None:
        """Call ``update`` with the parameters of a model and their gradients, and use those up."""
        params = listed(type(self).__name__, model)
        try:
            leaves = [p.vertex for p in params]  # `p.grad` would wrap each gradient first
        except AttributeError:
            for i, param in enumerate(params):
                check_tensor(self._label(i), param)  # says which is no Tensor
            raise
        grads = [getattr(leaf, "grad", None) for leaf in leaves]
        if not params:
            msg = (
                f"{type(self).__name__}.step: there are no parameters. Layers make theirs when they"
                " are first called; some have none."
            )
            raise GraphError(msg)
        if all(g is None for g in grads):
            frozen = sum(not p.requires_grad for p in params)
            msg = (
                f"{type(self).__name__}.step: none of {len(params)} parameters has a gradient"
                f" ({frozen} are frozen). Call backward() on the loss first."
            )
            raise GraphError(msg)
        with parallel.stretch:
            update(params, grads)
        for leaf, grad in zip(leaves, grads, strict=True):
            if grad is not None:
                leaf.grad = None
        if hasattr(model, "after_update"):
            model.after_update()
        parallel.begin_step()

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
        >>> optim.SGD(lr=0.5).update([w], [xpnn.Tensor([2.0, 0.0])])
        >>> w
        Tensor([0., 2.], dtype=float32)
        """
        self._update(params, grads)

    def _update(self, params: Any, grads: Any, trial: Trial | None = None) -> None:
        """Update parameters, or on trial: not if the gradients turn out to be no numbers."""
        counted = trial is not None and trial.skips is not None
        self._settle(LATE if counted and replay.current() is None else 0)
        keys, params, grads = paired(type(self).__name__, params, grads)
        if self._loaded is not None:
            self._check(self._loaded, params)
            self._match(self._loaded, params)
        alike, rules = self._alike(keys, params, grads)
        if not alike:
            return
        if not self._trials.are_of(chain(*(few for few, _ in alike.values()))):
            self._settle()
            alike, rules = self._alike(keys, params, grads)
        factors: dict[Any, Array] = {}
        unclipped = self.clip_value is self.clip_norm is self.clip_global_norm is None
        if not unclipped or self._groups or trial is not None:
            factors = clip_together(alike, rules, None if trial is None else trial.factor)
        apply_all(self, alike, rules, factors, trial)
        count_step(self)

    def _alike(self, keys: Any, params: Any, grads: Any) -> tuple[_Alike, dict[Any, Any]]:
        """Return slots and gradients, by what can be updated together, and the rules by group."""
        slots, rules = self._slots, self._rules()
        alike: _Alike = {}
        group: Any = self  # no group: the first one differs
        kind, updates = None, 0
        for key, param, grad in zip(keys, params, grads, strict=True):
            slot = slots.get(id(param)) or self._meet(key, param)
            if grad is None:
                continue
            g = grad.data if isinstance(grad, ArrayWrapper) else grad
            if slot.group is not group:
                group, kind = slot.group, None
                names = rules[group][0].state_names()
            if not slot.fits(param.data, g, names):
                g = self._fit(key, slot, g, rules[group][0])
            if kind is not slot.kind or updates != slot.updates:
                kind, updates = slot.kind, slot.updates
                batch = alike.setdefault((group, kind, updates), ([], []))
            batch[0].append(slot)
            batch[1].append(g)
        return alike, rules

    def _rules(self) -> dict[Any, tuple[Any, float]]:
        """Return by group, or None, who has the hyperparameters, and the learning rate."""
        rules: dict[Any, tuple[Any, float]] = {None: (self, self.lr)}
        for group in self._groups:
            rules[group] = (own := group.rules(self)), own.lr
        return rules

    def _meet(self, key: Any, param: Any) -> Slot:
        """Note a parameter that was not seen before; one without a gradient too, for the order."""
        check_tensor(self._label(key), param)
        its = [group for group in self._groups if any(p is param for p in group.params)]
        slot = self._slots[id(param)] = Slot(param, group=its[0] if its else None)
        return slot

    def _fit(self, key: Any, slot: Slot, g: Any, rules: Any) -> Array:
        """Fit the state to the parameter as it is now, and return the gradient in its dtype."""
        label, data = self._label(key), slot.param.data
        check_gradient(label, data, g)
        slot.settle(rules.state_names(), rules, label)
        return slot.take(g)

    def _apply_rule(self, rules: Any, lr: float, near: _Near, slot: Slot, g: Array) -> None:
        slot.updates += 1
        p = slot.cast(slot.param.data)
        p, state = rules._whole_rule(lr, slot.updates, near, slot.xp, p, g, slot.state)
        slot.state = {name: as_array(x) for name, x in state.items()}
        slot.data = slot.param.data = slot.cast(as_array(p), slot.dtype)

    def _whole_rule(
        self, lr: float, step: int, near: _Near, xp: Any, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        """Return a parameter and its state by the rule, with clipping and weight decay.

        They are what they were if ``skip``, a flag on the device, is set.
        """
        old, (factor, skip) = p, near
        if factor is not None:
            g = g * factor
        if (bound := self.clip_value) is not None:
            g = xp.minimum(xp.maximum(g, -bound), bound)
        if self.weight_decay and self.decoupled:
            p = (1 - lr * self.weight_decay) * p
        elif self.weight_decay:
            g = g + self.weight_decay * p
        p, new = self.rule(xp, lr, step, p, g, state)
        if skip is None:
            return p, new
        arrays = new.keys() - {*self.scalar_state}  # numbers are put back with the counts
        new |= {name: xp.where(skip, state[name], new[name]) for name in arrays}
        return xp.where(skip, old, p), new

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
        return resolve("optimizer", registry, config, "hyperparameter")


def get(optimizer: Any) -> Optimizer:
    """Return an optimizer: as it is, by its name, or by its configuration.

    Parameters
    ----------
    optimizer : Optimizer, str, (str, dict) or dict
        Names are those of the classes, in any case. The pair is a name and hyperparameters;
        ``Optimizer.to_config`` makes the dict.

    Raises
    ------
    ConfigError
        If there is no optimizer of that name, or it has no such hyperparameters.

    Examples
    --------
    >>> from xpnn import optim
    >>> optim.get("sgd")
    SGD(lr=0.01, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0)
    >>> optim.get(("adam", {"lr": "noam", "clip_norm": 1.0})).clip_norm
    1.0
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    return resolve("optimizer", registry, optimizer, "hyperparameter")
