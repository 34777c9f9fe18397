"""What is minimised and what is reported: losses of one or several outputs, weights, metrics."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from xpnn import losses, metrics
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, DataError, ShapeError
from xpnn.training.precision import widened

__all__ = ["Objective", "named_metrics", "refuse_missing_targets"]

Array = Any

# Options of a loss with which it divides by a number of its own, which weights would not meet.
_OWN_MEANS = ("class_weights", "ignore_index")


class _Part(NamedTuple):
    """What belongs to one output."""

    name: str  # under which it is reported; empty if it is the only one
    loss: Any
    factor: float
    metrics: dict[str, Any]


class Objective:
    r"""The loss of a model's outputs, and its metrics.

    .. math:: L = \sum_o \lambda_o L_o, \qquad
              L_o = \frac{\sum_i w_i \ell_{oi}}{\sum_i w_i}
              \quad\text{if examples have weights } w

    Parameters
    ----------
    loss : str, pair, callable, list or dict
        As in :meth:`Model.compile`.
    metrics : iterable, or dict of iterables
    loss_weights : list or dict of float, optional
        The :math:`\lambda`, 1 if not given.
    """

    def __init__(self, loss: Any, metrics: Any = (), loss_weights: Any = None) -> None:
        if loss is None:
            msg = (
                "compile: 'metrics' and 'loss_weights' belong to a loss, and there is none. A model"
                " that overrides objective returns there what it reports."
            )
            raise ConfigError(msg)
        several = isinstance(loss, (list, dict))
        self.by_name = isinstance(loss, dict)
        if isinstance(loss, dict):
            names, given = [str(name) for name in loss], list(loss.values())
        else:
            given = loss if isinstance(loss, list) else [loss]
            names = [f"output_{i}" for i in range(len(given))] if several else [""]
        if not given:
            msg = "compile: 'loss' is empty; there must be one for each output."
            raise ConfigError(msg)
        factors = _by_output("loss_weights", loss_weights, names, 1.0)
        measures = metrics
        if not isinstance(metrics, Mapping):
            measures = dict.fromkeys(names, () if metrics is None else metrics)
        measures = _by_output("metrics", measures, names, ())
        self.parts = [
            _Part(name, losses.get(one), _factor(factor), named_metrics(few))
            for name, one, factor, few in zip(names, given, factors, measures, strict=True)
        ]
        self._apart: dict[str, tuple[Any, str]] = {}  # losses that give values one by one
        if len({part.name for part in self.parts}) < len(self.parts):
            msg = f"compile: two outputs have one name: {', '.join(names)}."
            raise ConfigError(msg)

    def __call__(self, predictions: Any, targets: Any, weight: Any = None) -> tuple[Any, Any]:
        """Return the loss, and by their names the losses of several outputs and the metrics."""
        if len(self.parts) == 1 and not self.parts[0].name:
            part = self.parts[0]
            value = self._value(part, predictions, targets, weight)
            if part.factor != 1.0:
                value = part.factor * value
            return value, {name: f(predictions, targets) for name, f in part.metrics.items()}
        total, values = None, {}
        for part, p, t in self._pairs(predictions, targets):
            value = self._value(part, p, t, weight)
            values[f"{part.name}_loss"] = value
            values |= {f"{part.name}_{name}": f(p, t) for name, f in part.metrics.items()}
            value = part.factor * value if part.factor != 1.0 else value
            total = value if total is None else total + value
        return total, values

    def _value(self, part: _Part, predictions: Any, targets: Any, weight: Any) -> Any:
        if weight is None:
            return part.loss(predictions, targets)
        if part.name not in self._apart:
            self._apart[part.name] = _unreduced(part.loss)
        apart, reduction = self._apart[part.name]
        return _weighted(apart(predictions, targets), unwrap(weight), reduction)

    def _pairs(self, predictions: Any, targets: Any) -> list[tuple[_Part, Any, Any]]:
        """Return every part with its predictions and targets."""
        names = [part.name for part in self.parts]
        if self.by_name and isinstance(predictions, Mapping):
            if set(predictions) != set(names):
                msg = f"the model returned {', '.join(predictions)}; compiled were losses for"
                msg += f" {', '.join(names)}."
                raise ConfigError(msg)
            predictions = [predictions[name] for name in names]
        for what, given in (("outputs", predictions), ("targets", targets)):
            n = len(given) if isinstance(given, (tuple, list)) else 1
            if n != len(self.parts):
                msg = (
                    f"losses for {len(self.parts)} outputs were compiled ({', '.join(names)}), but"
                    f" there are {n} {what}. Several are a tuple, in the order of the losses."
                )
                raise ConfigError(msg)
        if len(self.parts) == 1:
            predictions = predictions if isinstance(predictions, (tuple, list)) else (predictions,)
            targets = targets if isinstance(targets, (tuple, list)) else (targets,)
        return list(zip(self.parts, predictions, targets, strict=True))

    def refuse_sums(self) -> None:
        """Raise an error for a loss that is a sum, as sums of batches have no mean to be taken."""
        for part in self.parts:
            if _opened(part.loss)[1].get("reduction") == "sum":
                msg = (
                    f"fit: 'accumulate' gathers means, and {metrics.name_of(part.loss)} is a sum."
                    " Leave its reduction='sum' out, and multiply the learning rate by the"
                    " examples of a step."
                )
                raise ConfigError(msg)

    def check(self, targets: tuple[Any, ...], predictions: Any) -> None:
        """Look at all targets once, before a run; the predictions are those of some batch."""
        if len(self.parts) == 1 and not self.parts[0].name:
            for one in targets:
                losses.check_targets(self.parts[0].loss, one, predictions)
        elif targets:
            for part, p, t in self._pairs(predictions, targets):
                losses.check_targets(part.loss, t, p)


def _weighted(values: Any, weight: Any, reduction: str) -> Any:
    """Return the weighted mean (or sum) of the values of a loss; 0 if no example has a weight."""
    values = widened(values)
    raw = unwrap(values)
    xp = array_namespace(raw)
    shape, found = tuple(values.shape), tuple(weight.shape)
    if found != shape[: len(found)]:
        msg = (
            f"the loss has values of shape {shape}, the weights shape {found}. Give one weight an"
            f" example, of shape {shape[:1]}, or one a value."
        )
        raise ShapeError(msg)
    weight = xp.astype(xp.reshape(weight, found + (1,) * (len(shape) - len(found))), raw.dtype)
    total = xp.sum(xp.broadcast_to(weight, shape))
    summed = array_namespace(values).sum(values * weight)
    if reduction == "sum":
        return summed
    return summed / xp.where(total == 0, xp.ones_like(total), total)


def _unreduced(loss: Any) -> tuple[Any, str]:
    """Return a loss that gives its values one by one, and how it would have reduced them."""
    name, (inner, options) = metrics.name_of(loss), _opened(loss)
    try:
        takes = "reduction" in inspect.signature(inner).parameters
    except (TypeError, ValueError):
        takes = False
    if not takes:
        msg = (
            f"fit: weights of examples need a loss that takes reduction='none'; {name} does not."
            " Write it so, or weigh the examples in the loss itself."
        )
        raise ConfigError(msg)
    if inner is losses.root_mean_squared_error:
        msg = (
            "fit: root_mean_squared_error is no mean over examples that could be weighed. Minimise"
            " mean_squared_error, whose minimum is the same."
        )
        raise ConfigError(msg)
    if own := [option for option in _OWN_MEANS if options.get(option) is not None]:
        msg = (
            f"fit: {name} with {own[0]!r} has weights of its own. Put them into sample_weight: 0"
            " for what does not count."
        )
        raise ConfigError(msg)
    return functools.partial(loss, reduction="none"), options.get("reduction", "mean")


def _opened(loss: Any) -> tuple[Any, dict[str, Any]]:
    """Return the function of a loss, and the arguments that were given with it."""
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        loss, options = loss.func, {**loss.keywords, **options}
    return loss, options


# ------------------------------------------------------------------------------- what is given


def _by_output(what: str, given: Any, names: list[str], default: Any) -> list[Any]:
    """Return a value for every output, from a list or a dict."""
    if given is None:
        return [default] * len(names)
    if isinstance(given, Mapping):
        if odd := [name for name in given if name not in names]:
            known = ", ".join(filter(None, names)) or "one without a name"
            msg = f"compile: {what!r} names {odd[0]!r}; the outputs are {known}."
            raise ConfigError(msg)
        return [given.get(name, default) for name in names]
    if not isinstance(given, (list, tuple)) or len(given) != len(names):
        msg = f"compile: expected {what!r} for {len(names)} outputs, got {given!r}."
        raise ConfigError(msg)
    return list(given)


def _factor(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        msg = f"compile: expected numbers in 'loss_weights', got {value!r}."
        raise ConfigError(msg) from None


def named_metrics(given: Any) -> dict[str, Any]:
    """Return metrics by the names under which they are reported; one may be given by itself.

    Raises
    ------
    ConfigError
        If two would be reported under one name.
    """
    found: dict[str, Any] = {}
    alone = isinstance(given, str) or not isinstance(given, Iterable)
    for metric in (given,) if alone else given:
        if isinstance(metric, list) and not any(isinstance(part, Mapping) for part in metric):
            msg = (
                f"compile: expected names, pairs or functions in 'metrics', got the list {metric}."
                " For several outputs give a dict, with the names of the outputs."
            )
            raise ConfigError(msg)
        name, f = metrics.name_of(metric), metrics.get(metric)
        if name == "loss" or found.get(name, f) is not f:
            msg = f"compile: two values would be reported as {name!r}. Give one of them a __name__."
            raise ConfigError(msg)
        found[name] = f
    return found


def refuse_missing_targets(targets: Any) -> None:
    """Raise an error for a batch without targets, which the compiled losses need."""
    if targets is None:
        msg = (
            "the compiled loss needs targets, and there are none: fit(x, y). A model that learns"
            " from x alone overrides Model.objective."
        )
        raise DataError(msg)
