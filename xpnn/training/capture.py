"""A training step as one CUDA graph: recorded once, replayed without Python in between.

A small network keeps a GPU waiting for Python: a launch costs the host some microseconds, and a
step has a hundred of them. A graph launches all of them at once.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xpnn import backend, kernels, random, replay
from xpnn.autograd.casting import autocast, get_autocast_dtype, suspended
from xpnn.autograd.tape import is_recording
from xpnn.autograd.tensor import Tensor
from xpnn.backend import unwrap
from xpnn.errors import ConfigError, GraphError
from xpnn.precision import get_matmul_precision

__all__ = ["Captured", "capture"]

Array = Any


def capture(step: Callable[..., Any], *, warmup: int = 2) -> Captured:
    """Return a function that does what ``step`` does, on a GPU as one launch.

    The first ``warmup`` calls run ``step`` as it is. The next one records what it tells the device
    (a CUDA graph), and this and all later calls replay the recording on the new inputs: they take
    steps like any others, with the learning rate and the random numbers of their turn. Inputs of
    other shapes or dtypes get a recording of their own. Where arrays lie on no CUDA device,
    ``step`` is called as it is.

    What Python decides is decided once, in the recording: an ``if``, a ``print``, a count of your
    own happen no more. A change that the library can see (weights or random streams put in place of
    those there were, ``train()`` or ``eval()``) leads to a new recording.

    Parameters
    ----------
    step : callable
        Of arrays or Tensors, also in tuples, lists and dicts. It must use up the gradients that it
        makes, as ``optimizer.step`` does, and may wait for no value: see the errors.
    warmup : int
        At least 1: the first call makes weights, state and compiled kernels.

    Returns
    -------
    Captured
        Called as ``step`` is; arrays that it returns are copies, off the tape.

    Raises
    ------
    GraphError
        When recording, if the step does what cannot be replayed; the message says what and where.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> model = xpnn.Sequential([xpnn.layers.Dense(3)])
    >>> optimizer = xpnn.optim.Adam(1e-3)
    >>> @xpnn.capture
    ... def step(x, y):
    ...     loss = xpnn.losses.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     optimizer.step(model)
    ...     return loss
    >>> step(np.ones((2, 4), np.float32), np.asarray([0, 2])).shape
    ()
    """
    return Captured(step, warmup)


class Captured:
    """A step that is replayed; see :func:`capture`.

    Attributes
    ----------
    recordings : int
        How many were made so far.
    """

    def __init__(self, step: Callable[..., Any], warmup: int = 2) -> None:
        if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 1:
            msg = f"capture: 'warmup' must be a whole number, at least 1, got {warmup!r}."
            raise ConfigError(msg)
        functools.update_wrapper(self, step)
        self._step, self._warmup = step, warmup
        self._calls: dict[Any, int] = {}
        self._layers: dict[Any, list[Any]] = {}
        self._own = _Own()
        self._replays: dict[Any, _Replay] = {}
        self._room: Any = None
        self.recordings = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        leaves: list[Any] = []
        tree = _flattened((args, options), leaves)
        arrays = [x for x in leaves if _is_array(x)]
        graphs = _graphs_of(arrays)
        if graphs is None:
            return self._step(*args, **options)
        ways = str(get_autocast_dtype()), get_matmul_precision(), is_recording()
        key = (tree, *ways, *map(_kind, leaves))
        done = self._calls.get(key, 0)
        if done < self._warmup:
            self._calls[key] = done + 1
            with _calls_noted() as called:
                result = self._step(*args, **options)
            self._layers[key] = list(called.values())
            return result
        found = self._replays.get(key)
        if found is None or not found.holds():
            self._replays.pop(key, None)
            layers = self._layers[key]
            self._own.take(layers, graphs.address)
            self._room = self._room or graphs.Room()
            graph = graphs.Graph(self._room)
            found = _Replay(graphs, graph, self._step, leaves, (args, options), layers)
            self._own.note(layers, graphs.address)
            self._replays[key] = found
            self.recordings += 1
        return found.run(arrays)


class _Replay:
    """A recording, and what has to be done for each replay of it."""

    def __init__(
        self, graphs: Any, graph: Any, step: Any, leaves: list[Any], call: Any, layers: list[Any]
    ) -> None:
        self._graph = graph
        places = [_like(x, _copied(unwrap(x))) if _is_array(x) else x for x in leaves]
        args, options = _rebuilt(call, places)
        self._inputs = [unwrap(x) for x in places if _is_array(x)]
        rng = random.get_rng()
        with replay.recording() as made:
            try:
                result = self._graph.record(lambda: _recorded(step, args, options, made, layers))
            finally:
                for undo in reversed(made.undone):
                    undo()
        self._outputs: list[Any] = []
        self._result = result
        _flattened(result, self._outputs)
        self._looks, self._renewals, self._afterwards = made.looks, made.renewals, made.afterwards
        self._guards: list[Callable[[], bool]] = [
            lambda: random.get_rng() is rng,
            *made.guards,
            *_unchanged(layers, graphs.address),
            _Unseen([(owner, name) for owner, name, _ in made.states.values()]),
        ]

    def holds(self) -> bool:
        """Return whether what was recorded is still what the step would do."""
        for look in self._looks:
            look()
        return all(guard() for guard in self._guards)

    def run(self, inputs: list[Any]) -> Any:
        self._graph.enter()
        for place, x in zip(self._inputs, inputs, strict=True):
            place[...] = unwrap(x)
        for renew in self._renewals:
            renew()
        self._graph.launch()
        for follow in self._afterwards:
            follow()
        copies = [_like(x, _copied(unwrap(x))) if _is_array(x) else x for x in self._outputs]
        return _rebuilt(self._result, copies)


@contextmanager
def _own_autocast() -> Iterator[None]:
    """Be in an autocast block that is new, if in any: the casts of another are not recorded."""
    low = get_autocast_dtype()
    if low is None:
        yield
        return
    with suspended(), autocast(low):
        yield


@contextmanager
def _calls_noted() -> Iterator[dict[int, Any]]:
    token = replay.called.set({})
    try:
        yield replay.called.get()  # type: ignore[misc]
    finally:
        replay.called.reset(token)


class _Own:
    """The arrays of layers that replays write into: each is copied once, for nobody to hold it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], tuple[int, int]] = {}

    def take(self, layers: list[Any], address: Callable[[Array], int]) -> None:
        """Copy those that others may hold; where they lie otherwise is where recordings look."""
        for owner, name in _places(layers):
            at, holders = self._known.get((id(owner), name), (0, 0))
            x = getattr(owner, name)
            if address(x) != at or sys.getrefcount(x) - 1 > holders:  # one of them is x
                object.__setattr__(owner, name, _copied(x))

    def note(self, layers: list[Any], address: Callable[[Array], int]) -> None:
        """Note how many hold each array when nobody else does."""
        for owner, name in _places(layers):
            at = address(getattr(owner, name))
            self._known[id(owner), name] = at, sys.getrefcount(getattr(owner, name))


def _places(layers: list[Any]) -> list[tuple[Any, str]]:
    """Return owner and attribute of every array that belongs to layers."""
    tensors = {id(p): p for layer in layers for p in layer.parameters()}
    buffers = [(layer, name) for layer in layers for name in layer.buffers]
    found = [(p, "data") for p in tensors.values()]
    return found + [(layer, name) for layer, name in buffers if vars(layer).get(name) is not None]


class _Unseen:
    """Whether attributes that a replay writes into are still held by their owners alone."""

    def __init__(self, places: list[tuple[Any, str]]) -> None:
        self._places = places
        self._before = self._holders()

    def _holders(self) -> list[int]:
        return [sys.getrefcount(vars(owner)[name]) for owner, name in self._places]

    def __call__(self) -> bool:
        return all(map(operator.le, self._holders(), self._before))


def _graphs_of(arrays: list[Any]) -> Any:
    """Return the module that records what is told to the device of arrays, or None."""
    found = {id(xp): xp for xp in (backend.array_namespace(unwrap(x)) for x in arrays)}
    if len(found) != 1:
        return None
    module = kernels.load(next(iter(found.values())).__name__)
    return module if hasattr(module, "Graph") else None


def _recorded(step: Any, args: Any, options: Any, made: replay.Recording, layers: list[Any]) -> Any:
    """Take a step, and leave new state where the next one looks for it."""
    with _own_autocast():
        result = step(*args, **options)
    for owner, name, before in made.states.values():
        new = vars(owner)[name]
        if new is before:
            continue
        if before is None:
            msg = f"capture: {type(owner).__name__}.{name} was first made in the recorded step."
            raise GraphError(msg)
        before[...] = new
        vars(owner)[name] = before
    _refuse_gradients(layers)
    return result


def _unchanged(layers: list[Any], address: Callable[[Array], int]) -> list[Callable[[], bool]]:
    """Return guards: each layer in its mode, with its parameters and buffers where they are."""
    modes = [(layer, layer.training) for layer in layers]
    places = [(owner, name, address(getattr(owner, name))) for owner, name in _places(layers)]
    return [
        lambda: all(layer.training is mode for layer, mode in modes),
        lambda: all(address(getattr(owner, name)) == at for owner, name, at in places),
    ]


def _refuse_gradients(layers: list[Any]) -> None:
    """Raise an error if a recorded step leaves gradients, which a replay would not add to."""
    left = sum(p.grad is not None for layer in layers for p in layer.parameters())
    if left:
        msg = (
            f"capture: the step leaves gradients in {left} parameters. It has to use up those that"
            " it makes, with optimizer.step(model) for example."
        )
        raise GraphError(msg)


# ------------------------------------------------------------------- arrays in structures


def _is_array(x: Any) -> bool:
    return isinstance(x, Tensor) or (hasattr(x, "shape") and hasattr(x, "dtype"))


def _kind(x: Any) -> Any:
    """Return what a recording depends on: of an array, not its values."""
    if not _is_array(x):
        return type(x), x
    raw = unwrap(x)
    return type(x), type(raw), tuple(raw.shape), str(raw.dtype), str(backend.device_of(raw))


def _copied(x: Array) -> Array:
    return backend.array_namespace(x).asarray(x, copy=True)


def _like(x: Any, data: Array) -> Any:
    return Tensor(data) if isinstance(x, Tensor) else data


def _flattened(x: Any, leaves: list[Any]) -> Any:
    """Append the leaves of nested tuples, lists and dicts; return what is hashable of the rest."""
    if isinstance(x, dict):
        return dict, tuple((key, _flattened(value, leaves)) for key, value in x.items())
    if isinstance(x, (tuple, list)):
        return type(x), tuple(_flattened(value, leaves) for value in x)
    leaves.append(x)
    return None


def _rebuilt(x: Any, leaves: list[Any]) -> Any:
    """Return nested tuples, lists and dicts like ``x``, with other leaves."""
    return _with(x, iter(leaves))


def _with(x: Any, leaves: Any) -> Any:
    if isinstance(x, dict):
        return {key: _with(value, leaves) for key, value in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_with(value, leaves) for value in x))
    if isinstance(x, (tuple, list)):
        return type(x)(_with(value, leaves) for value in x)
    return next(leaves)
