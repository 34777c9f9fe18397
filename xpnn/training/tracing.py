"""Running a model to see what its layers give, and leaving it as it was."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnn import backend, random
from xpnn._dtypes import as_dtype
from xpnn.autograd.transforms import no_grad
from xpnn.backend import unwrap
from xpnn.errors import ConfigError

__all__ = ["batch_shapes", "first_examples", "nbytes", "trace", "unchanged", "zeros_for"]

Array = Any


def _home(model: Any) -> tuple[Any, Any]:
    """Return the device and the dtype in which a model computes."""
    for p in model.parameters():
        return p.device, p.dtype
    return model._device or backend.get_device(), backend.get_dtype()


def first_examples(model: Any, x: Any) -> tuple[Array, ...]:
    """Return the first example of inputs, where and as the model computes."""
    home, dtype = _home(model)
    found = []
    for part in x if isinstance(x, tuple) else (x,):
        first = backend.asarray(part)[:1]
        floats = as_dtype(first.dtype).kind == "f"
        found.append(backend.asarray(unwrap(first), device=home, dtype=dtype if floats else None))
    return tuple(found)


def batch_shapes(given: Any) -> list[tuple[int, ...]]:
    """Return batch shapes for one shape of an example, or for several."""
    several = isinstance(given, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in given)
    shapes = list(given) if several else [given]
    for shape in shapes:
        if not isinstance(shape, (list, tuple)) or not all(
            hasattr(n, "__index__") and n > 0 for n in shape
        ):
            msg = (
                "summary: 'input_shape' must be the shape of one example, such as (28, 28), or a"
                f" list of shapes for a model of several inputs, got {given!r}."
            )
            raise ConfigError(msg)
    return [(1, *shape) for shape in shapes]


def zeros_for(model: Any, shapes: Any, dtypes: Any = None) -> tuple[Array, ...]:
    """Return zeros of these shapes, where the model computes and, if not told, in its dtype."""
    home, dtype = _home(model)
    xp = home.xp
    return tuple(
        xp.zeros(tuple(shape), dtype=backend.native_dtype(xp, given), device=home.native)
        for shape, given in zip(shapes, dtypes or [dtype] * len(shapes), strict=True)
    )


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Put the attributes of all layers and the random stream back at the end.

    A model that is built inside is so no more: a run is the same as if nothing had been done here.
    """
    before = [(layer, dict(vars(layer))) for layer in model.layers()]
    stream = random.get_rng()
    random.set_rng(stream.copy())
    try:
        yield
    finally:
        random.set_rng(stream)
        for layer, attributes in before:
            layer._forget(attributes)


def trace(model: Any, inputs: tuple[Array, ...]) -> dict[int, list[Any]]:
    """Run a model, and return what every layer's forward gave, as shapes and bytes.

    Each layer is left with a ``forward`` of its own that takes notes, so that calling layers costs
    nothing otherwise; :func:`unchanged` takes it away.
    """
    traced: dict[int, list[Any]] = {}
    with no_grad():
        model.eval()
        if model._shapes is None or model._unbuilt():
            model(*inputs)  # builds it: the layers inside are there only then
        for layer in list(model.eval().layers()):
            vars(layer)["forward"] = _noting(layer.forward, traced.setdefault(id(layer), []))
        model(*inputs)
    return traced


def _noting(forward: Any, calls: list[Any]) -> Any:
    @functools.wraps(forward)  # the signature, which Layer asks for
    def noting(*inputs: Any, **options: Any) -> Any:
        outputs = forward(*inputs, **options)
        calls.append(_sizes(outputs))
        return outputs

    return noting


def _sizes(outputs: Any) -> Any:
    """Return shapes and bytes in place of arrays, in nested tuples."""
    if isinstance(outputs, (tuple, list)):
        return [_sizes(x) for x in outputs]
    if isinstance(outputs, dict):
        return [_sizes(x) for x in outputs.values()]
    shape = getattr(outputs, "shape", None)
    if shape is None:
        return type(outputs).__name__
    return tuple(shape), nbytes(outputs)


def nbytes(array: Any) -> int:
    """Return how many bytes an array takes."""
    return math.prod(array.shape) * as_dtype(array.dtype).itemsize
