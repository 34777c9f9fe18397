"""The network of an estimator: made of sizes, of a function, or of another one's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn import backend, optim
from xpnn.errors import ConfigError
from xpnn.layers import Dense, Flatten, Layer
from xpnn.training import Model, Sequential

__all__ = ["fresh_optimizer", "network", "packed", "unpacked"]


def network(
    given: Any, shape: tuple[int, ...], outputs: int, hidden: Any, activation: Any, last: str
) -> Model:
    """Return a new model with weights of its own, compiled only if what it comes from is.

    Parameters
    ----------
    given : None, callable, Layer or sequence of layers
        None for dense layers; a function of ``shape`` and ``outputs`` that returns a model; or
        layers, of which the configuration is taken and not the weights.
    shape : tuple of int
        That of one example.
    outputs : int
        How many numbers an example the model has to give.
    hidden, activation, last
        The sizes of the dense layers, their activation, and that of the last one.
    """
    if given is None:
        sizes = [hidden] if hasattr(hidden, "__index__") else list(hidden)
        layers: list[Layer] = [Flatten()] if len(shape) > 1 else []
        layers += [Dense(n, activation=activation) for n in sizes]
        return Sequential([*layers, Dense(outputs, activation=last)])
    if isinstance(given, (list, tuple)):
        given = Sequential(given)
    if isinstance(given, Layer):
        model = Layer.from_config(given.to_config())
        model = model if isinstance(model, Model) else Sequential([model])
        if isinstance(given, Model) and given.optimizer is not None:
            if given.optimizer.groups:
                msg = (
                    "the optimizer of 'model' has groups of its parameters, which a new model does"
                    " not have. Give a function that makes model and groups."
                )
                raise ConfigError(msg)
            model.criterion = given.criterion
            model.optimizer = fresh_optimizer(given.optimizer.state_dict())
        return model
    if not callable(given):
        msg = (
            "'model' must be None, a list of layers, a model, or a function of the shape of an"
            f" example and the number of outputs; got {type(given).__name__}."
        )
        raise ConfigError(msg)
    made = given(shape, outputs)
    if not isinstance(made, Model):
        msg = (
            "the function 'model' must return a xpnn.Model, such as xpnn.Sequential([...]), got"
            f" {type(made).__name__}."
        )
        raise ConfigError(msg)
    return made


def fresh_optimizer(state: dict[str, Any]) -> Any:
    """Return an optimizer of the hyperparameters in a state that has not seen any parameter."""
    return optim.get({"class": state["class"], **state["hyperparameters"]})


def packed(model: Model) -> dict[str, Any]:
    """Return a trained model as configuration and arrays on the host, without its tape."""
    model._complete()
    return {
        "classes": list(dict.fromkeys(type(layer) for layer in model.layers())),
        "config": model.to_config(),
        "dtype": next((str(p.dtype) for p in model.parameters()), "float32"),
        "arrays": {
            name: backend.to_numpy(x) for name, x in model.state_dict().items() if x is not None
        },
        "frozen": [n for n, p in model.named_parameters().items() if not p.requires_grad],
        "criterion": model.criterion,
        "optimizer": _on_host(model.optimizer.state_dict()),
    }


def unpacked(parts: dict[str, Any]) -> Model:
    """Return the model of :func:`packed` on the default device."""
    model: Model = Layer.from_config(parts["config"])
    model.load_state_dict(parts["arrays"])
    for name, p in model.named_parameters().items():
        p.requires_grad = name not in parts["frozen"]
    model.criterion = parts["criterion"]
    model.optimizer = fresh_optimizer(parts["optimizer"])
    model.optimizer.load_state_dict(parts["optimizer"], model)
    return model


def _on_host(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _on_host(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_on_host(v) for v in value]
    return backend.to_numpy(value) if hasattr(value, "shape") else value
