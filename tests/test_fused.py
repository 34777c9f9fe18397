"""Activations that are computed with what comes before them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn import functional as F
from xpnn import layers
from xpnn.autograd import check_grad
from xpnn.kernels import fast
from xpnn.primitives import activations as act
from xpnn.primitives import convolution, elementwise, neural
from xpnn.primitives.fused import followed

ACTIVATIONS = [F.relu, F.sigmoid, F.tanh]
needs_numba = pytest.mark.skipif(not fast.is_on(), reason="numba is not installed, or XPNN_FAST=0")
COMPILED = [False, pytest.param(True, marks=needs_numba)]


def arrays(seed=0, dtype=np.float64, rows=7):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in ((rows, 5), (5, 3), (3,))]


def images(dtype=np.float64, n=2):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(dtype) for shape in ((n, 6, 5, 3), (3, 3, 3, 4), (4,))]


def run(f, args, seed=2):
    tensors = [xpnn.Tensor(x, requires_grad=True) for x in args]
    y = f(*tensors)
    g = np.random.default_rng(seed).normal(size=y.shape).astype(args[0].dtype)
    y.backward(g)
    return [y.data, *(t.grad.data for t in tensors)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 7, 600, 40000])
@pytest.mark.parametrize("compiled", COMPILED)
def test_a_map_and_its_activation_are_what_they_are_apart(activation, dtype, rows, compiled):
    args = arrays(dtype=dtype, rows=rows)
    with fast.use(compiled):
        together = run(lambda *xs: F.linear(*xs, activation=activation), args)
        apart = run(lambda *xs: activation(F.linear(*xs)), args)
    if compiled and activation is F.relu and rows == 40000:
        del together[3], apart[3]  # added up in another order: see below
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(70000, 1), (400, 301), (3, 41, 1700)])
@pytest.mark.parametrize("odd", [False, True])
def test_compiled_sweeps_around_a_product(dtype, shape, odd):
    rng = np.random.default_rng(4)
    x, weight = rng.normal(size=(*shape[:-1], 5)), rng.normal(size=(5, shape[-1]))
    args = [a.astype(dtype) for a in (x, weight, rng.normal(size=shape[-1]))]
    if odd:
        args[0][(0,) * len(shape)], args[2][-1:] = np.nan, np.inf
    together, apart = [], []
    for on, found in ((True, together), (False, apart)):
        with fast.use(on):
            found += run(lambda *xs: F.linear(*xs, activation=F.relu), args)
    for a, b in zip(together[:3], apart[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    g = np.random.default_rng(2).normal(size=shape).astype(dtype).astype(float)
    kept = np.where(together[0] > 0, g, 0).reshape(-1, shape[-1])
    bound = 4 * np.finfo(dtype).eps * np.abs(kept).sum(axis=0)
    assert np.all(np.abs(together[3] - kept.sum(axis=0)) <= bound)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [2, 300])
def test_a_convolution_and_its_activation_are_what_they_are_apart(activation, n):
    args = images("float32", n)
    together = run(lambda *xs: F.conv2d(*xs, padding=1, activation=activation), args)
    apart = run(lambda *xs: activation(F.conv2d(*xs, padding=1)), args)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_both_and_their_gradients(activation):
    args = [xpnn.Tensor(x) for x in arrays(3)]
    check_grad(lambda *xs: F.linear(*xs, activation=activation), *args, order=2)
    args = [xpnn.Tensor(x) for x in images()]
    check_grad(lambda *xs: F.conv2d(*xs, activation=activation), *args)


def test_one_operation_is_recorded():
    x, weight, bias = (xpnn.Tensor(x, requires_grad=True) for x in arrays())
    y = F.linear(x, weight, bias, activation=F.relu)
    assert y.vertex.primitive is followed(neural.linear, act.relu)
    assert followed(neural.linear, act.relu) is followed(neural.linear, act.relu)
    names = followed(convolution.conv2d, elementwise.tanh), followed(neural.linear, act.sigmoid)
    assert [p.name for p in names] == ["conv2d_tanh", "linear_sigmoid"]


def test_other_activations_are_called():
    class Twice:
        __hash__ = None

        def __call__(self, x):
            return 2 * x

    x, weight, bias = arrays()
    plain = F.linear(x, weight, bias)
    np.testing.assert_array_equal(F.linear(x, weight, bias, activation=Twice()), 2 * plain)
    np.testing.assert_array_equal(F.linear(x, weight, bias, activation=F.gelu), F.gelu(plain))
    sequences = np.ones((2, 4, 3))
    kernel = -np.ones((2, 3, 1))
    assert (F.conv1d(sequences, kernel, activation=F.relu) == 0).all()


def test_mixed_dtypes():
    x, weight, bias = arrays()
    for args in ([x.astype("float32"), weight, bias], [x, weight, bias.astype("float32")]):
        together = run(lambda *xs: F.linear(*xs, activation=F.relu), args)
        apart = run(lambda *xs: F.relu(F.linear(*xs)), args)
        for a, b in zip(together, apart, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_what_it_is_given_stays_as_it_is():
    args = arrays(dtype="float32", rows=100)
    for x in args:
        x.flags.writeable = False
    y = F.linear(*args, activation=F.relu)
    np.testing.assert_array_equal(y, np.maximum(args[0] @ args[1] + args[2], 0))
    every_other = np.ones((8, 10), np.float32)[::2, ::2]
    assert F.linear(every_other, *args[1:], activation=F.relu).shape == (4, 3)


@pytest.mark.parametrize("place", ["strict", "cpu"])
def test_layers_use_it(place):
    with xpnn.device(place):
        x = xpnn.asarray(
            np.random.default_rng(0).normal(size=(3, 8, 8, 2)), dtype="float32", device=place
        )
        for layer in (layers.Conv2D(3, 3, activation="relu"), layers.Dense(3, activation="tanh")):
            y = layer(x)
            assert y.vertex.primitive.name in ("conv2d_relu", "linear_tanh")
            g = xpnn.asarray(np.ones(y.shape), dtype="float32", device=place)
            assert layer.backward(g).shape == x.shape
