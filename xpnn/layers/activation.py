"""Activations as layers, and those that have parameters."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.dense import Dense

__all__ = ["Activation", "Maxout", "PReLU", "Softmax"]

Array = Any


class Activation(Layer):
    """An activation function as a layer.

    Parameters
    ----------
    activation : str, pair or callable
        A name, a pair of a name and its arguments, or a function of one array. The names: linear,
        affine, sigmoid, ultra_fast_sigmoid, hard_sigmoid, tanh, relu, leaky_relu, elu, selu, gelu,
        silu, mish, softplus, softsign, elliot, symmetric_elliot, exponential, softmax, log_softmax;
        see :mod:`xpnn.activations`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Activation("relu")(np.asarray([-1.0, 2.0])).data
    array([0., 2.])
    >>> layers.Activation(("leaky_relu", {"alpha": 0.5}))(np.asarray([-1.0, 2.0])).data
    array([-0.5,  2. ])
    """

    functions: ClassVar[tuple[str, ...]] = ("softmax", "log_softmax")

    def __init__(self, activation: Any) -> None:
        self.activation = activations.get(activation)

    def forward(self, x: Array) -> Array:
        require_floats("Activation", x)
        return self.activation(x)


class Softmax(Layer):
    r"""Positive numbers that add up to 1, :math:`y_i = e^{x_i} / \sum_j e^{x_j}`.

    A classifier that is trained needs none: the loss ``cross_entropy`` takes its logits.

    Parameters
    ----------
    axis : int
        Along which they add up.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Softmax()(np.zeros((1, 4))).data
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, axis: int = -1) -> None:
        (self.axis,) = integers("Softmax", None, axis=axis)

    def forward(self, x: Array) -> Array:
        if not -x.ndim <= self.axis < x.ndim:
            msg = f"Softmax(axis={self.axis}): got x of shape {tuple(x.shape)}, without that axis."
            raise ShapeError(msg)
        require_floats("Softmax", x)
        return F.softmax(x, axis=self.axis)


class PReLU(Layer):
    r"""ReLU with slopes that are learnt, :math:`y = \max(x, 0) + \alpha \min(x, 0)`.

    Parameters
    ----------
    alpha_init : float, str, pair or Initializer
        What the slopes begin with: a number, or an initializer.
    shared_axes : tuple of int, optional
        Axes along which one slope serves all elements; the batch always shares. By default there is
        one slope a channel, all but the last axis sharing it, as in the paper and in PyTorch.
        ``()`` gives one slope an element, as Keras does by default.

    Attributes
    ----------
    alpha : Parameter of shape (channels,)
        Or, with ``shared_axes``, of the shape of one example, 1 where shared.

    Notes
    -----
    (N, ..., channels) -> (N, ..., channels). Decay of the weights should leave :math:`\alpha`
    alone, it would pull it towards ReLU. Source: He, Zhang, Ren and Sun, "Delving deep into
    rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.PReLU()(np.asarray([[-1.0, 2.0]], np.float32)).data
    array([[-0.25,  2.  ]], dtype=float32)
    """

    def __init__(
        self, alpha_init: Any = 0.25, shared_axes: int | tuple[int, ...] | None = None
    ) -> None:
        number = isinstance(alpha_init, Real)
        self.alpha_init = (
            initializers.Constant(float(alpha_init)) if number else initializers.get(alpha_init)
        )
        axes = (shared_axes,) if isinstance(shared_axes, int) else shared_axes
        if axes is not None and not all(isinstance(a, int) and a != 0 for a in axes):
            msg = (
                "PReLU: 'shared_axes' must be axes other than 0, that of the batch, which is always"
                f" shared; got {shared_axes!r}."
            )
            raise ConfigError(msg)
        self.shared_axes = None if axes is None else tuple(axes)

    def build(self, shape: tuple[int, ...]) -> None:
        if not shape:
            msg = "PReLU: expected x with at least one axis, got a scalar."
            raise ShapeError(msg)
        if self.shared_axes is None:
            sizes: tuple[int, ...] = (shape[-1],)
        else:
            shared = {a % len(shape) for a in self.shared_axes if -len(shape) < a < len(shape)}
            if len(shared) < len(set(self.shared_axes)):
                msg = (
                    f"PReLU(shared_axes={self.shared_axes}): got x of shape {shape}, which does not"
                    " have these axes behind that of the batch, each once."
                )
                raise ShapeError(msg)
            sizes = tuple(1 if i in shared else n for i, n in enumerate(shape) if i)
            self._free = tuple(i in shared for i in range(1, len(shape)))
        self.alpha = Parameter(self.alpha_init(sizes))

    def forward(self, x: Array) -> Array:
        require_floats("PReLU", x)
        sizes = tuple(self.alpha.shape)
        if self.shared_axes is None:
            if x.ndim < 1 or x.shape[-1] != sizes[0]:
                msg = f"PReLU: expected x with last axis {sizes[0]}, got shape {tuple(x.shape)}."
                raise ShapeError(msg)
        elif x.ndim != len(sizes) + 1 or any(
            n != size and not free
            for n, size, free in zip(x.shape[1:], sizes, self._free, strict=True)
        ):
            wanted = ["any" if free else str(n) for n, free in zip(sizes, self._free, strict=True)]
            msg = (
                f"PReLU(shared_axes={self.shared_axes}): expected x of shape"
                f" (N, {', '.join(wanted)}), got {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return F.prelu(x, self.alpha)


class Maxout(Dense):
    r"""The largest of several affine maps, :math:`y_j = \max_k\, (x W_k + b_k)_j`.

    A convex piecewise linear function of x is learnt together with the weights.

    Parameters
    ----------
    out_features : int
    pieces : int
        How many maps, at least 2.
    in_features : int, optional
        The length of the last axis of x; taken from the first input if not given.
    bias : bool
    weight_init, bias_init : str, pair or Initializer
        Of each :math:`W_k` (in_features, out_features) and each :math:`b_k` by itself.
    l1, l2 : float
        As for :class:`Dense`.

    Attributes
    ----------
    weight : Parameter of shape (in_features, pieces * out_features)
        :math:`W_1, W_2, \dots` side by side.
    bias : Parameter of shape (pieces * out_features,), or None

    Notes
    -----
    (..., in_features) -> (..., out_features). Source: Goodfellow, Warde-Farley, Mirza, Courville
    and Bengio, "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Maxout(10, pieces=5)(np.ones((32, 784), np.float32)).shape
    (32, 10)
    """

    def __init__(
        self,
        out_features: int,
        pieces: int = 2,
        in_features: int | None = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        (pieces,) = integers("Maxout", pieces=pieces)
        if pieces < 2:
            msg = f"Maxout: 'pieces' must be at least 2, got {pieces}. One piece is a Dense layer."
            raise ConfigError(msg)
        self.pieces = pieces
        super().__init__(
            out_features, in_features, bias=bias, weight_init=weight_init, bias_init=bias_init,
            l1=l1, l2=l2,
        )  # fmt: skip

    def _initial(self, initializer: Any, shape: tuple[int, ...]) -> Array:
        maps = [initializer(shape) for _ in range(self.pieces)]
        return array_namespace(maps[0]).concat(maps, axis=-1)

    def forward(self, x: Array) -> Array:
        y = super().forward(x)
        xp = array_namespace(y)
        maps = xp.reshape(y, (*y.shape[:-1], self.pieces, self.out_features))
        return xp.max(maps, axis=-2)
