"""Greedy layer-wise pre-training: every layer on its own input, before there are targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xpnn import backend, optim
from xpnn.autograd.transforms import no_grad
from xpnn.backend import array_namespace, unwrap
from xpnn.callbacks import Callback, EpochLines, ProgressBar
from xpnn.data import Batches, as_arrays
from xpnn.errors import ConfigError, DataError, NonFiniteError
from xpnn.layers import RBM, AutoEncoder, Layer, Unsupervised
from xpnn.training.history import History
from xpnn.training.model import Model
from xpnn.training.run import listed

__all__ = ["pretrain"]


def pretrain(
    model: Layer,
    x: Any,
    *,
    epochs: int | list[int] = 15,
    batch_size: int = 20,
    lr: Any = None,
    optimizer: Any = None,
    validation_data: Any = None,
    shuffle: bool = True,
    callbacks: Sequence[Callback] | Callable[[str], Sequence[Callback]] = (),
    verbose: int = 1,
) -> dict[str, History]:
    r"""Train the unsupervised layers of a model one by one, from the input upwards.

    .. math:: \theta_k \leftarrow \arg\min_\theta \operatorname{mean}_n
              L_k(h_{k-1}(x_n); \theta)

    where :math:`h_{k-1}(x)` is what layer k is given when the model is called on x, with the layers
    trained so far, in prediction mode. All other layers stay as they are, and so does the optimizer
    of the model: ``fit`` then trains the whole of it on targets.

    Parameters
    ----------
    model : Layer
        A model with :class:`~xpnn.layers.Unsupervised` layers, at any depth. Built if it is not.
        Frozen layers are passed over.
    x : array or tuple of arrays
        Inputs of the model, examples along the first axis, as for ``fit``.
    epochs : int, or list of one an unsupervised layer
    batch_size : int
    lr : float or schedule, or list of one an unsupervised layer, optional
        The learning rate, in place of the optimizer's own.
    optimizer : str or Optimizer, or list of one an unsupervised layer, optional
        ``SGD(0.01)`` if not given. Every layer gets a new one of the same hyperparameters.
    validation_data : array or tuple of arrays, optional
        Inputs on which the loss is measured after every epoch, in prediction mode.
    shuffle : bool
    callbacks : sequence of Callback, or function of a layer's name that returns one
        Called for every layer, one run a layer; ``run.model.layer`` is the layer. With a function
        each has its own, such as ``lambda name: [CSVLogger(f"{name}.csv")]``.
    verbose : {0, 1, 2}
        Nothing, a progress bar (on a terminal), or a line an epoch.

    Returns
    -------
    dict of History
        By the names of the layers, such as ``"1"``, in the order in which they were trained. The
        means of every epoch: ``loss``, and for an :class:`~xpnn.layers.RBM` ``pseudo_likelihood``.

    Raises
    ------
    ConfigError
        If there is no unsupervised layer, or the model does not call it; if a list of settings has
        not one for each.
    DataError
        If a layer that takes probabilities is given other numbers.
    NonFiniteError
        If a loss becomes NaN or infinite; the message names the layer.

    Notes
    -----
    What a layer is given is found by calling the model up to there, so that ``forward`` of a model
    of one's own may be anything; a layer that it calls twice is trained on what it is given first.
    The layers below are computed anew for every batch: for two layers of 500 units on MNIST that is
    a twentieth of the time, and no more than a batch of activations is ever held. Those of a chain
    can be kept instead: ``pretrain(model[2:], model[:2].predict(x))``.

    Bengio, Lamblin, Popovici & Larochelle, "Greedy layer-wise training of deep networks", 2007;
    Hinton, Osindero & Teh, "A fast learning algorithm for deep belief nets", 2006.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers
    >>> xpnn.set_seed(0)
    >>> x = np.asarray([[1, 1, 0, 0], [0, 0, 1, 1]] * 50, np.float32)
    >>> model = xpnn.Sequential([layers.RBM(8), layers.AutoEncoder(4), layers.Dense(2)])
    >>> found = xpnn.pretrain(model, x, epochs=[40, 10], lr=0.5, verbose=0)
    >>> found
    {'0': History(40 epochs: ...), '1': History(10 epochs: loss=...)}
    >>> found["0"]["pseudo_likelihood"][-1] > found["0"]["pseudo_likelihood"][0]
    True
    """
    named = dict(_unsupervised(model))
    if not named:
        msg = (
            f"pretrain: {type(model).__name__} has no unsupervised layers. Give it some, such as"
            " layers.AutoEncoder(500) or layers.RBM(500), in the place of Dense layers."
        )
        raise ConfigError(msg)
    x = as_arrays(x)
    few = _first_batch(model, x, batch_size)
    before = [(layer, layer.training) for layer in model.layers()]
    model.eval()
    try:
        named = _in_order_of_calls(model, named, few)
        settings = zip(
            named.items(),
            _one_a_layer("epochs", epochs, named),
            _one_a_layer("optimizer", optimizer, named),
            _one_a_layer("lr", lr, named),
            strict=True,
        )
        stages = [
            (_Stage(model, layer, name, _optimizer(given, rate)), name, n)
            for (name, layer), n, given, rate in settings
            if any(p.requires_grad for p in layer.parameters())
        ]
        if not stages:
            msg = f"pretrain: {', '.join(named)}: every unsupervised layer is frozen. Unfreeze one."
            raise ConfigError(msg)
        histories: dict[str, History] = {}
        for stage, name, n in stages:
            stage.look(few)
            shown = _progress(f"{stage.title}: ", verbose)
            own = listed("pretrain", callbacks(name) if callable(callbacks) else callbacks)
            histories[name] = stage.learn(
                x,
                epochs=n,
                batch_size=batch_size,
                shuffle=shuffle,
                validation_data=None if validation_data is None else (validation_data, None),
                callbacks=[*own, *shown],
            )
            if histories[name].interrupted:
                break
    finally:
        model.train(before[0][1])  # also what was built meanwhile
        for layer, mode in before:
            layer.training = mode
    return histories


class _Stage(Model):
    """A layer as a model that learns from what it is given when the whole is called.

    The whole is no part of it, so that only the layer is trained, saved and switched to training.
    """

    def __init__(self, whole: Layer, layer: Unsupervised, name: str, optimizer: Any) -> None:
        self.layer = layer
        self.title = f"layer {name}, {type(layer).__name__}"
        self.optimizer = optimizer
        self.below = functools.partial(_given, whole, layer)

    def forward(self, *x: Any) -> Any:
        return self.layer(*self.below(x))

    def objective(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        x = self.below(batch.x if isinstance(batch.x, tuple) else (batch.x,))
        loss, penalty = self.layer.loss(*x), self.layer.penalties()
        return loss if penalty is None else loss + penalty, self.layer.measures(*x)

    def learn(self, x: Any, **options: Any) -> History:
        """Train the layer; afterwards it is in prediction mode."""
        try:
            return self.fit(x, **options, verbose=0)
        except NonFiniteError as error:
            msg = f"pretrain: {self.title}: {error}"
            raise NonFiniteError(msg) from None
        finally:
            self.eval()

    def look(self, few: tuple[Any, ...]) -> None:
        """Refuse inputs that are no probabilities, where the loss takes them for such."""
        layer = self.layer
        cure = "Use units between 0 and 1 below, such as those of activation='sigmoid'"
        if isinstance(layer, AutoEncoder) and layer.compared_by == "binary_cross_entropy":
            cure += ", or loss='mean_squared_error' with output_activation='linear' here."
        elif isinstance(layer, RBM):
            cure += "."
        else:
            return
        for x in self.below(few):
            xp = array_namespace(x)
            low, high = float(xp.min(x)), float(xp.max(x))
            if not (low >= 0.0 and high <= 1.0):
                msg = (
                    f"pretrain: {self.title}: expected inputs in [0, 1], got values from {low:.4g}"
                    f" to {high:.4g}. Scale the data to [0, 1]. {cure}"
                )
                raise DataError(msg)


def _progress(title: str, verbose: int) -> list[Callback]:
    """Return what shows the progress of a layer, as ``fit`` would, with its title."""
    if verbose == 1:
        return [ProgressBar(title=title)]
    return [EpochLines(title)] if verbose == 2 else []


# --------------------------------------------------------------------------- what a layer is given


class _ReachedError(Exception):
    """Carries what a layer is given out of the call of the whole, which need not go on."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.inputs = inputs


def _given(whole: Layer, layer: Layer, x: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a layer is given when the whole is called on x, as raw arrays."""

    def stop(*inputs: Any, **options: Any) -> Any:
        raise _ReachedError((*inputs, *options.values()))

    vars(layer)["forward"] = stop
    try:
        with no_grad():
            whole(*x)
    except _ReachedError as reached:
        return tuple(map(unwrap, reached.inputs))
    finally:
        del vars(layer)["forward"]
    msg = f"pretrain: {type(whole).__name__} did not call {type(layer).__name__} this time."
    raise ConfigError(msg)


def _first_batch(model: Layer, x: Any, batch_size: int) -> tuple[Any, ...]:
    """Return a batch on the device and in the dtype of a model."""
    parameters = model.parameters()
    home = parameters[0].device if parameters else model._device or backend.get_device()
    dtype = parameters[0].dtype if parameters else backend.get_dtype()
    (first,) = next(iter(Batches(x, batch_size=batch_size, device=home, dtype=dtype)))
    return first if isinstance(first, tuple) else (first,)


def _in_order_of_calls(
    whole: Layer, named: dict[str, Unsupervised], x: tuple[Any, ...]
) -> dict[str, Unsupervised]:
    """Call the whole, which builds it, and return its layers in the order of their first calls."""
    order: dict[str, Unsupervised] = {}

    def note(name: str, layer: Unsupervised, forward: Any) -> None:
        @functools.wraps(forward)
        def noted(*inputs: Any, **options: Any) -> Any:
            order.setdefault(name, layer)
            return forward(*inputs, **options)

        vars(layer)["forward"] = noted

    for name, layer in named.items():
        note(name, layer, layer.forward)
    try:
        with no_grad():
            whole(*x)
    finally:
        for layer in named.values():
            vars(layer).pop("forward", None)
    if missing := named.keys() - order.keys():
        msg = (
            f"pretrain: {type(whole).__name__}.forward does not call {', '.join(sorted(missing))},"
            " so that nothing says what they are given. Call layer(x), or train them by themselves:"
            " pretrain(layer, x)."
        )
        raise ConfigError(msg)
    return order


def _unsupervised(layer: Any, name: str = "") -> Iterator[tuple[str, Unsupervised]]:
    """Yield the unsupervised layers with their names; what is inside them is theirs."""
    seen: set[int] = set()
    stack = [(name, layer)]
    while stack:
        name, layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, Unsupervised):
            yield name or type(layer).__name__, layer
        else:
            inside = [(f"{name}.{n}".strip("."), p) for n, p in layer._parts()]
            stack += [(n, p) for n, p in inside if isinstance(p, Layer)][::-1]


# ---------------------------------------------------------------------------------- its settings


def _one_a_layer(what: str, given: Any, named: dict[str, Any]) -> list[Any]:
    """Return a setting for every layer: a list has one for each, anything else is for all."""
    values = given if isinstance(given, list) else [given] * len(named)
    if len(values) != len(named):
        msg = (
            f"pretrain: {what!r} has {len(values)} values, and there are {len(named)} unsupervised"
            f" layers: {', '.join(named)}. Give one for each, or one for all."
        )
        raise ConfigError(msg)
    if what == "epochs" and any(not hasattr(n, "__index__") or n < 0 for n in values):
        msg = (
            f"pretrain: 'epochs' must not be negative, got {given!r}. It is a whole number, or a"
            " list of one for each layer."
        )
        raise ConfigError(msg)
    return values


def _optimizer(given: Any, lr: Any) -> Any:
    """Return a new optimizer, so that no layer goes on with the steps of another."""
    found = optim.SGD(0.01) if given is None else optim.get(given)
    new = type(found).from_config(found.to_config())
    if lr is not None:
        new.lr = lr
    return new
