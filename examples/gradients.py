"""Differentiate functions that know nothing of xpnn, to any order, on any array library.

python examples/gradients.py    # 1 second
"""

import numpy as np

import xpnn


def energy(x):
    """Sum of the squared differences of neighbours, plus a determinant: standard functions only."""
    xp = x.__array_namespace__()
    return xp.sum(xp.diff(x, axis=0) ** 2) + xp.linalg.det(x)


x = np.random.default_rng(0).normal(size=(3, 3))
print("gradient:\n", xpnn.grad(energy)(x))  # NumPy in, NumPy out
xpnn.check_grad(energy, x, order=2)  # random directions against finite differences

# The product of the Hessian with a vector, without the Hessian.
v = np.ones((3, 3))
product = xpnn.grad(lambda x: xpnn.ops.sum(xpnn.grad(energy)(x) * v))(x)
print("Hessian times ones:\n", product)

# Third derivative of a polynomial at 2: 24 x = 48.
third = xpnn.grad(xpnn.grad(xpnn.grad(lambda x: x**4)))
print("third derivative of x^4 at 2:", float(third(np.asarray(2.0))))
