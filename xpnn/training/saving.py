"""Models in files: with their architecture, or their weights alone.

The configuration beside the arrays of a file, :mod:`xpnn.io`, is a dict with

===========  =====================================================================================
``model``    the architecture, :meth:`xpnn.layers.Layer.to_config`; or
``weights``  the name of the model's class, if the architecture is left out
``dtype``    that of the first parameter, in which layers make what is no parameter
``layers``   for each layer that was called, by name: shapes and dtypes for which it was built
``frozen``   the names of the layers that are frozen, and
``fixed``    of the parameters that get no gradient
===========  =====================================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xpnn import backend, io, random
from xpnn.errors import ConfigError, DataError, XpnnError
from xpnn.initializers.blank import blank
from xpnn.layers.base import Layer
from xpnn.layers.parts import Parts, Unmatched, put_all

__all__ = ["Saveable", "load"]

Path = str | os.PathLike[str]
Arrays = Mapping[str, Any]

_DEFAULTS = ("float16", "float32", "float64")  # the dtypes that set_dtype takes


class Saveable:
    """What of a :class:`xpnn.Model` writes and reads files."""

    def save(self: Any, path: Path) -> None:
        """Write architecture, parameters and buffers to one ``.safetensors`` file, atomically.

        :func:`xpnn.load` makes the model anew, with what was frozen. A model of a class of one's
        own is loaded where that class is defined, under its name.

        Raises
        ------
        DataError
            If the model, or a layer of it, has no parameters yet.
        ConfigError
            If the architecture holds what JSON cannot, such as functions of one's own.

        Examples
        --------
        >>> import numpy as np, tempfile, xpnn
        >>> model = xpnn.Sequential([xpnn.layers.Dense(2, in_features=3)])
        >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
        >>> model.save(path)
        >>> x = np.ones((1, 3), np.float32)
        >>> bool((xpnn.load(path).predict(x) == model.predict(x)).all())
        True
        """
        arrays, described = _describe(self, "save")
        try:
            architecture = self.to_config()
        except ConfigError as error:
            error.args = (f"{error} save_weights(path) writes the weights without the layers.",)
            raise
        io.write(path, arrays, {"model": architecture, **described})

    def save_weights(self: Any, path: Path) -> None:
        """Write parameters and buffers by name to one ``.safetensors`` file, atomically.

        For :meth:`load_weights` of a model that the same code made; it may hold what ``save``
        cannot write down.

        Raises
        ------
        DataError
            If the model, or a layer of it, has no parameters yet.
        """
        arrays, described = _describe(self, "save_weights")
        io.write(path, arrays, {"weights": type(self).__name__, **described})

    def load_weights(self: Any, path: Path, strict: bool = True) -> Unmatched:
        """Put the parameters and buffers of a file into this model, by name.

        Parameters
        ----------
        path : path
            A file of :meth:`save_weights` or :meth:`save`.
        strict : bool
            False takes those whose names are in both, and leaves the rest as it is.

        Returns
        -------
        Unmatched
            The names that were ``missing`` in the file, and those that were ``unexpected``.

        Raises
        ------
        DataError
            If the file is damaged; if names are missing or unexpected (with ``strict``), shapes
            differ, or numbers are of another kind: all are listed, and nothing is loaded.

        Notes
        -----
        A model that was not called yet is built as the one that was saved. Values go to the device
        and the dtype that parameters have here; what is frozen here stays so.

        Examples
        --------
        >>> import numpy as np, tempfile, xpnn
        >>> model, twin = (xpnn.Sequential([xpnn.layers.Dense(2)]) for _ in range(2))
        >>> x = np.ones((1, 3), np.float32)
        >>> y, path = model.predict(x), f"{tempfile.mkdtemp()}/weights.safetensors"
        >>> model.save_weights(path)
        >>> twin.load_weights(path)
        Unmatched(missing=[], unexpected=[])
        >>> bool((twin.predict(x) == y).all())
        True
        """
        arrays, config = _read(path, "weights", "model")
        before = [(layer, dict(vars(layer))) for layer in self.layers()]
        try:
            with _errors_name(path), _without_values(arrays), backend.device(self._home()):
                _build_inside(self, _shapes(config))
                return self.load_state_dict(arrays, strict)
        except BaseException:
            for layer, was in before:
                layer._forget(was)
            raise


def load(path: Path, *, device: Any = None) -> Any:
    """Rebuild a model that ``model.save`` wrote.

    It predicts at once, and what was frozen is. Loss, optimizer and metrics are not in the file:
    ``compile`` it to train it further or to evaluate it. The random stream stays where it is.

    Parameters
    ----------
    path : path
    device : str or Device, optional
        Where the parameters go; the default device if not given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is damaged or is not a model of xpnn.
    ConfigError
        If the model is of a class of one's own that has not been defined, or that takes other
        arguments now.

    Examples
    --------
    >>> import numpy as np, tempfile, xpnn
    >>> model = xpnn.Sequential([xpnn.layers.Dense(2, in_features=3)])
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> model.save(path)
    >>> xpnn.load(path)
    Sequential(layers=[Dense(out_features=2, in_features=3)])
    """
    target = backend.get_device() if device is None else backend.as_device(device)
    arrays, config = _read(path, "model")
    default = backend.get_dtype()
    try:
        with _errors_name(path), _without_values(arrays), backend.device("cpu"):
            backend.set_dtype(config["dtype"])
            model = rebuilt = Layer.from_config(config["model"])
            if not isinstance(rebuilt, Saveable):
                msg = f"it holds a {type(model).__name__}, which is no model."
                raise DataError(msg)
            _build_inside(model, _shapes(config))
            places, _ = model._match(arrays, True, type(model).__name__)
            put_all((owner, at, old, arrays[name]) for name, owner, at, old in places)
            _freeze(model, config)
    finally:
        backend.set_dtype(default)
    return model.to(target)


# --------------------------------------------------------------------------------- writing


def _describe(model: Any, who: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a model, and what a file says of it beside its architecture."""
    parameters = model.named_parameters()
    unbuilt = model._unbuilt() if model._shapes is None else []
    if unbuilt or not parameters:
        what = f"its layer {unbuilt[0]!r}" if unbuilt and parameters else "the model"
        msg = f"{who}: {what} has no parameters yet. Call the model once, or fit it, to build it."
        raise DataError(msg)
    model._complete()
    parameters = model.named_parameters()
    named, dtypes = _named_layers(model), [str(p.dtype) for p in parameters.values()]
    return {k: x for k, x in model.state_dict().items() if x is not None}, {
        "dtype": next((d for d in dtypes if d in _DEFAULTS), str(backend.get_dtype())),
        "layers": {
            name: [[list(shape) for shape in layer._shapes], list(layer._dtypes)]
            for name, layer in named.items()
            if layer._shapes is not None
        },
        "frozen": [name for name, layer in named.items() if layer._frozen],
        "fixed": [name for name, p in parameters.items() if not p.requires_grad],
    }


def _named_layers(model: Any) -> dict[str, Any]:
    """Return a layer and those inside by name, such as ``"0.body"``, each once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(name: str, layer: Any) -> None:
        if id(layer) not in seen:
            seen.add(id(layer))
            found[name] = layer
            for part_name, part in layer._parts():
                if isinstance(part, Parts):
                    visit(f"{name}.{part_name}" if name else part_name, part)

    visit("", model)
    return found


# --------------------------------------------------------------------------------- reading


def _read(path: Path, *kinds: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arrays and configuration of a file that is of one of these kinds."""
    arrays, config = io.read(path)
    if not isinstance(config, dict) or not any(kind in config for kind in kinds):
        what = "this file holds no model."
        if isinstance(config, dict) and "checkpoint" in config:
            what = (
                "this is a checkpoint of a training run, not a model. Go on with that run by"
                f" fit(..., resume={os.fspath(path)!r})."
            )
        elif isinstance(config, dict) and "weights" in config:
            what = (
                f"this file holds the weights of a {config['weights']}, not its layers. Make the"
                " model as it was made, and give the path to its load_weights."
            )
        msg = f"{path}: {what}"
        raise DataError(msg)
    return arrays, config


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Put the path into errors, and make those of other classes a DataError."""
    try:
        yield
    except XpnnError as error:
        error.args = (f"{path}: {error}",)
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        msg = f"{path}: the model cannot be rebuilt from this file ({what})."
        raise DataError(msg) from error


@contextmanager
def _without_values(arrays: Arrays) -> Iterator[None]:
    """Make layers that take their values from ``arrays``, without a draw from the stream."""
    stream = random.get_rng()
    random.set_rng(random.Stream(0))
    try:
        with blank(sum(math.prod(x.shape) for x in arrays.values()), len(arrays)):
            yield
    finally:
        random.set_rng(stream)


def _shapes(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (tuple(tuple(shape) for shape in shapes), tuple(dtypes))
        for name, (shapes, dtypes) in config["layers"].items()
    }


def _build_inside(model: Any, shapes: dict[str, Any]) -> None:
    """Build a layer and those inside for the shapes that the file has for them, outermost first."""
    done: set[int] = set()

    def visit(name: str, layer: Any) -> None:
        if id(layer) in done:
            return
        done.add(id(layer))
        if layer._shapes is None and name in shapes:
            sizes, layer_dtypes = shapes[name]
            layer.ensure_built(*sizes)
            layer._dtypes = layer_dtypes
        for part_name, part in layer._parts():
            if isinstance(part, Parts):
                visit(f"{name}.{part_name}" if name else part_name, part)

    visit("", model)


def _freeze(model: Any, config: dict[str, Any]) -> None:
    named, parameters = _named_layers(model), model.named_parameters()
    frozen, fixed = set(config["frozen"]), set(config["fixed"])
    if unknown := (frozen - named.keys()) | (fixed - parameters.keys()):
        msg = f"{', '.join(sorted(map(str, unknown)))}: said to be frozen, and not there."
        raise DataError(msg)
    for name, layer in named.items():
        layer._frozen = name in frozen
    for name, p in parameters.items():
        p.requires_grad = name not in fixed
