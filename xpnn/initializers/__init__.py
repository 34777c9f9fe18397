r"""Initial values of parameters.

An initializer is called with a shape, ``he_normal((784, 500))``. A layer takes one by its name,
with its arguments as a pair: ``weight_init="he_normal"``,
``weight_init=("orthogonal", {"gain": "relu"})``. Weights are written (in, out), kernels (height,
width, in, out). Values are drawn on the host and moved, so that one seed gives the same bits on
every device.

===============================  ===============================================================
zeros, ones, constant            :class:`Constant`
uniform, normal                  :class:`Uniform`, U(-0.05, 0.05); :class:`Normal`, N(0, 0.01**2)
truncated_normal                 :class:`TruncatedNormal`, within two standard deviations
glorot_uniform, glorot_normal    variance :math:`2 / (in + out)`: Glorot and Bengio 2010
he_uniform, he_normal            variance :math:`2 / in`, for ReLU: He et al. 2015
lecun_uniform, lecun_normal      variance :math:`1 / in`, for SELU: LeCun et al. 1998
orthogonal, identity             :class:`Orthogonal`, :class:`Identity`
===============================  ===============================================================

The six with a variance are :class:`VarianceScaling`, with ``gain`` and ``fan`` as arguments; in and
out are the fans, :func:`xpnn.functional.fans`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from xpnn._names import by_name
from xpnn.functional import fans
from xpnn.initializers.base import Constant, Initializer, Normal, TruncatedNormal, Uniform
from xpnn.initializers.matrices import Identity, Orthogonal
from xpnn.initializers.scaling import VarianceScaling, gain_of

__all__ = [
    "Constant",
    "Identity",
    "Initializer",
    "Normal",
    "Orthogonal",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "constant",
    "fans",
    "gain_of",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "zeros",
]

zeros = constant = Constant(0.0)
ones = Constant(1.0)
uniform = Uniform()
normal = Normal()
truncated_normal = TruncatedNormal()
glorot_uniform = VarianceScaling(1.0, "average", "uniform")
glorot_normal = VarianceScaling(1.0, "average", "normal")
he_uniform = VarianceScaling(2.0, "fan_in", "uniform")
he_normal = VarianceScaling(2.0, "fan_in", "normal")
lecun_uniform = VarianceScaling(1.0, "fan_in", "uniform")
lecun_normal = VarianceScaling(1.0, "fan_in", "normal")
orthogonal = Orthogonal()
identity = Identity()

_BY_NAME: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "constant": constant,
    "uniform": uniform,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
    "identity": identity,
}


def get(initializer: Any) -> Any:
    """Return the initializer of a name, or of a pair of a name and its arguments.

    What can be called is an initializer already.

    Raises
    ------
    ConfigError
        If the name is unknown, or an argument is: by its name, or out of its range.

    Examples
    --------
    >>> from xpnn import initializers
    >>> initializers.get("zeros")((2,))
    array([0., 0.], dtype=float32)
    >>> initializers.get(("constant", {"value": 0.5}))((2,))
    array([0.5, 0.5], dtype=float32)
    """
    return by_name("initializer", initializer, _BY_NAME, dataclasses.replace)
