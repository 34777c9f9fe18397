"""Gradients that are too large, made smaller: by value, by norm, by the norm of all together.

Everything is computed where the gradients lie, and nothing is waited for. Given gradients are not
changed; of Tensors, new Tensors are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from xpnn import backend, kernels
from xpnn._dtypes import as_dtype
from xpnn.backend import ArrayWrapper, array_namespace
from xpnn.errors import ConfigError, DTypeError
from xpnn.optim.config import number
from xpnn.optim.slots import as_array
from xpnn.primitives.shape import stack

__all__ = [
    "CLIPS",
    "beside",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "clip_together",
    "clipped",
    "is_beside",
    "moved_to",
]

Array = Any
CLIPS = ("clip_value", "clip_norm", "clip_global_norm")
_TINY = 1e-6  # is added to norms, as PyTorch does: a gradient of zeros stays one


def clip_by_value(grads: Any, bound: float) -> Any:
    r"""Return gradients with every element in [-bound, bound].

    Parameters
    ----------
    grads : iterable or dict of array, Tensor or None
        None stays None.
    bound : float
        Greater than 0.

    Returns
    -------
    list or dict
        New gradients.

    Notes
    -----
    ``torch.nn.utils.clip_grad_value_``. NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optim.clip_by_value([np.asarray([-3.0, 0.5]), None], 1.0)
    [array([-1. ,  0.5]), None]
    """
    bound = number("clip_by_value", "bound", bound, above=0)
    return _put(grads, [_by_value(g, bound) for g in _arrays("clip_by_value", grads)])


def clip_by_norm(grads: Any, bound: float) -> Any:
    r"""Return gradients that are each scaled down to a norm of at most ``bound``.

    .. math:: g \min\left(1, \frac{b}{\|g\|_2 + 10^{-6}}\right)

    Parameters
    ----------
    grads : iterable or dict of array, Tensor or None
        None stays None.
    bound : float
        Greater than 0.

    Returns
    -------
    list or dict
        New gradients.

    Notes
    -----
    numpy-ml's ``clip_norm``, and ``torch.nn.utils.clip_grad_norm_`` on one parameter, from which
    the small number is. NaN stays NaN, and spreads over the gradient it is in.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optim.clip_by_norm([np.asarray([3.0, 4.0])], 1.0)[0].round(3)
    array([0.6, 0.8])
    """
    bound = number("clip_by_norm", "bound", bound, above=0)
    return _put(grads, [_by_norm(g, bound) for g in _arrays("clip_by_norm", grads)])


def clip_by_global_norm(grads: Any, bound: float) -> tuple[Any, Any]:
    r"""Return gradients scaled down together to a norm of at most ``bound``, and the norm they had.

    .. math::
        g_i \min\left(1, \frac{b}{n + 10^{-6}}\right),
        \qquad n = \sqrt{\textstyle\sum_i \|g_i\|_2^2}

    Parameters
    ----------
    grads : iterable or dict of array, Tensor or None
        None stays None. Those on other devices than the first send it their norms.
    bound : float
        Greater than 0.

    Returns
    -------
    grads : list or dict
        New gradients.
    norm : array
        n, on the device of the first gradient, at least in float32; 0.0 if all are None.

    Notes
    -----
    ``torch.nn.utils.clip_grad_norm_``. If one element is NaN, all become NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> grads, norm = optim.clip_by_global_norm([np.asarray([3.0]), np.asarray([4.0])], 2.5)
    >>> float(norm), [float(g[0].round(3)) for g in grads]
    (5.0, [1.5, 2.0])
    """
    bound = number("clip_by_global_norm", "bound", bound, above=0)
    new, norm = _by_global_norm(_arrays("clip_by_global_norm", grads), bound)
    return _put(grads, new), norm


def clipped(rules: Any, grads: list[Array], times: Array = None) -> tuple[list[Array], Array]:
    """Return gradients as the hyperparameters of an optimizer, or of a group, say.

    What is clipped is their product with ``times``, a 0-d array, if it is given. By value they are
    clipped later, by the optimizer's rule: that takes no pass over them of its own.

    Returns
    -------
    grads : list
        New gradients; those given where a factor does it.
    factor : array or None
        What all of them are still to be multiplied with, in the optimizer's pass over them.

    Raises
    ------
    ConfigError
        If more than one way is said.
    """
    chosen = [name for name in CLIPS if getattr(rules, name) is not None]
    if len(chosen) > 1:
        msg = f"{type(rules).__name__}: give one of {', '.join(chosen)}: clipping is done one way."
        raise ConfigError(msg)
    if chosen in ([], ["clip_value"]) or not grads:
        return grads, times
    bound = getattr(rules, chosen[0])
    if chosen == ["clip_global_norm"]:
        return _global_factor(grads, bound, rules._workspace, times)[:2]
    return [_by_norm(g, bound) for g in _multiplied(grads, times)], None


def _multiplied(grads: list[Array], times: Array) -> list[Array]:
    if times is None:
        return grads
    new = []
    for g in grads:
        near = moved_to(g, times)
        with backend.on_device_of(g):
            new.append(as_array(g * near))
    return new


def clip_together(
    alike: Mapping[Any, tuple[Any, list[Array]]], rules: Any, times: Array = None
) -> dict[Any, Array]:
    """Clip gradients in their lists: those of an optimizer together, as those of a group.

    Parameters
    ----------
    alike : dict
        By keys that begin with a group, or None: something, and a list of gradients.
    rules : dict
        By group: who has the hyperparameters, and something.
    times : array, optional
        What all gradients are multiplied with before: a 0-d array.

    Returns
    -------
    dict
        By group what the gradients are still to be multiplied with, if anything.
    """
    together: dict[Any, list[Any]] = {}
    for (group, *_), (_, grads) in alike.items():
        alone = group is not None and not group.hyperparameters.keys().isdisjoint(CLIPS)
        together.setdefault(group if alone else None, []).append((group, grads))
    factors = {}
    for key, members in together.items():
        new, factor = clipped(rules[key][0], [g for _, grads in members for g in grads], times)
        found = iter(new)
        for group, grads in members:
            grads[:] = islice(found, len(grads))
            factors[group] = factor
    return factors


def beside(g: Array, factor: Array, dtype: Any) -> Array:
    """Return a factor as a gradient can be multiplied with it: on its device, in that dtype."""
    near = moved_to(g, factor)
    with backend.on_device_of(g):
        return as_array(array_namespace(near).astype(near, dtype, copy=False))


def _by_value(g: Array, bound: float) -> Array:
    if g is None:
        return None
    xp = array_namespace(g)
    with backend.on_device_of(g):
        return as_array(xp.minimum(xp.maximum(g, -bound), bound))


def _by_norm(g: Array, bound: float) -> Array:
    if g is None:
        return None
    xp = array_namespace(g)
    with backend.on_device_of(g):
        return _scaled(xp, g, _factor(xp, _norm(xp, g), bound))


def _by_global_norm(grads: list[Array], bound: float) -> tuple[list[Array], Any]:
    there = [g for g in grads if g is not None]
    if not there:
        return list(grads), 0.0
    _, factor, norm = _global_factor(there, bound, {})
    new = []
    for g in grads:
        if g is not None:
            near = moved_to(g, factor)
            with backend.on_device_of(g):
                g = _scaled(array_namespace(g, near), g, near)
        new.append(g)
    return new, norm


def _global_factor(
    grads: list[Array], bound: float, workspace: dict[Any, Any], times: Array = None
) -> tuple[list[Array], Array, Array]:
    """Return gradients, what they are to be multiplied with, and the norm that they have together.

    What is clipped is their product with ``times``: it is made here, or is left to the factor.
    """
    first = grads[0]
    native = getattr(kernels.load(array_namespace(first).__name__), "global_factor", None)
    if native is not None and all(is_beside(first, g) and g.dtype == first.dtype for g in grads):
        near = None if times is None else moved_to(first, times)
        with backend.on_device_of(first):
            return grads, *native(grads, bound, _TINY, workspace, near)
    grads, norms = _multiplied(grads, times), []
    for g in grads:
        with backend.on_device_of(g):
            norms.append(_norm(array_namespace(g), g))
    with backend.on_device_of(first):
        norm = _joined(norms)
        return grads, as_array(_factor(array_namespace(norm), norm, bound)), norm


def _joined(norms: list[Array]) -> Array:
    """Return the norm of norms, on the device of the first, in the widest of their dtypes."""
    moved = [moved_to(norms[0], n) for n in norms]
    xp = array_namespace(*moved)
    wide = any(as_dtype(n.dtype).itemsize == 8 for n in moved)
    dtype = backend.native_dtype(xp, "float64" if wide else "float32")
    stacked = stack(xp, *(xp.astype(n, dtype, copy=False) for n in moved))
    return as_array(xp.linalg.vector_norm(stacked))


def moved_to(home: Array, x: Array) -> Array:
    """Return ``x`` on the device of ``home``, where it mostly is."""
    if is_beside(home, x):
        return x
    return backend.to_device(x, backend.device_of(home))


def is_beside(home: Array, x: Array) -> bool:
    """Return whether two arrays are of one library, and lie on one device."""
    return type(x) is type(home) and x.device == home.device


def _norm(xp: Any, g: Array) -> Array:
    """Return the norm; of half precision in float32, in which squares do not overflow."""
    if as_dtype(g.dtype).itemsize < 4:
        g = xp.astype(g, backend.native_dtype(xp, "float32"))
    native = getattr(kernels.load(xp.__name__), "gradient_norm", None) if g.ndim else None
    return as_array(xp.linalg.vector_norm(g) if native is None else native(g))


def _factor(xp: Any, norm: Array, bound: float) -> Array:
    return xp.minimum(bound / (norm + _TINY), 1.0)


def _scaled(xp: Any, g: Array, factor: Array) -> Array:
    """Return ``g * factor``, without asking whether it is 1: the answer would be waited for."""
    if as_dtype(g.dtype).itemsize < 4:  # a small factor would be rounded to few bits
        return as_array(xp.astype(xp.astype(g, factor.dtype) * factor, g.dtype))
    return as_array(g * xp.astype(factor, g.dtype, copy=False))


def _arrays(who: str, grads: Any) -> list[Array]:
    if isinstance(grads, ArrayWrapper) or hasattr(grads, "shape"):
        msg = f"{who}: expected a list of gradients, got one array: write [g]."
        raise DTypeError(msg)
    found = list(grads.values() if isinstance(grads, Mapping) else grads)
    for i, g in enumerate(found):
        if g is None:
            continue
        if not hasattr(g, "shape") or as_dtype(g.dtype).kind != "f":
            got = g.dtype if hasattr(g, "shape") else type(g).__name__
            msg = f"{who}: expected gradients of real floating-point numbers, got {got} at {i}."
            raise DTypeError(msg)
    return found


def _put(grads: Any, new: Sequence[Array]) -> Any:
    """Return new gradients in the form in which the old ones were given."""
    return dict(zip(grads, new, strict=True)) if isinstance(grads, Mapping) else list(new)
