"""The networks in JAX: functions of jax.numpy, one compiled step, and Adam by hand.

Batch normalization keeps no running statistics here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from networks.problems import Problem

__all__ = [
    *("conv3x3", "conv_stack", "dense", "embedding", "gpt", "gru", "lenet5", "lenet5_logits"),
    *("lstm", "mlp", "mlp_logits", "resnet", "rnn", "transformer"),
]


def _adam(w: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)

    def moved(w: Any, m: Any, v: Any) -> Any:
        return w - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return jax.tree.map(moved, w, m, v), m, v


def _step(gradients: Any, problem: Problem, *, update: bool = True) -> Any:
    """Return a training step from ``gradients(weights, x, y) -> (output, of the weights)``."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    weights = [jnp.asarray(w) for w in problem.weights]
    if not update:
        compiled = jax.jit(gradients)
        return lambda: jax.block_until_ready(compiled(weights, x, y))[0]

    def one(state: Any, t: Any, x: Any, y: Any) -> Any:
        w, m, v = state
        found, g = gradients(w, x, y)
        return found, _adam(w, g, m, v, t)

    compiled = jax.jit(one, donate_argnums=0)
    state = (weights, *([jnp.zeros_like(w) for w in weights] for _ in range(2)))
    t = 0

    def step() -> Any:
        nonlocal state, t
        t += 1
        found, state = jax.block_until_ready(compiled(state, jnp.float32(t), x, y))
        return found

    return step


def _classifier(logits: Any, problem: Problem) -> Any:
    def loss(weights: Any, x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(logits(weights, x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    return _step(jax.value_and_grad(loss), problem)


def _layer(forward: Any, problem: Problem, *, update: bool = True) -> Any:
    def gradients(weights: Any, x: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(forward, weights, x)
        dw, dx = pullback(dy)
        return (y, dx), dw

    return _step(gradients, problem, update=update)


def mlp_logits(w: Any, x: Any) -> Any:
    """Return the logits of the perceptron."""
    for i in range(0, len(w) - 2, 2):
        x = jax.nn.relu(x @ w[i] + w[i + 1])
    return x @ w[-2] + w[-1]


def _conv(x: Any, kernel: Any, padding: Any, stride: int = 1) -> Any:
    dimensions, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet5_logits(w: Any, x: Any) -> Any:
    """Return the logits of LeNet-5."""
    for i in (0, 2):
        x = _pool(jax.nn.relu(_conv(x, w[i], "VALID") + w[i + 1]))
    return mlp_logits(w[4:], x.reshape(x.shape[0], -1))


def _conv_stack_logits(w: Any, x: Any) -> Any:
    for i in range(3):
        kernel, scale, shift = w[3 * i : 3 * i + 3]
        x = jax.nn.relu(_batch_norm(_conv(x, kernel, "SAME"), scale, shift))
        x = _pool(x) if i else x
    return mlp_logits(w[9:], x.reshape(x.shape[0], -1))


def _batch_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    return (x - mean) * lax.rsqrt(var + 1e-5) * scale + shift


def _resnet_logits(w: Any, x: Any) -> Any:
    def normalized(x: Any, at: int, stride: int = 1) -> Any:
        around = (w[at].shape[0] - 1) // 2  # a stride of "SAME" would begin elsewhere
        return _batch_norm(_conv(x, w[at], [(around, around)] * 2, stride), w[at + 1], w[at + 2])

    x, at = jax.nn.relu(normalized(x, 0)), 3
    while at < len(w) - 2:
        n_in, n_out = w[at].shape[2:]
        stride = 1 if n_in == n_out else 2
        y = normalized(jax.nn.relu(normalized(x, at, stride)), at + 3)
        if n_in != n_out:
            x = normalized(x, at + 6, stride)
        x, at = jax.nn.relu(x + y), at + (6 if n_in == n_out else 9)
    return mlp_logits(w[-2:], jnp.mean(x, (1, 2)))


def _scan(cell: Any, w: Any, x: Any) -> Any:
    """Return the states of all steps; the first of the carry is the output."""
    p = jnp.swapaxes(x @ w[0] + w[2], 0, 1)
    zeros = jnp.zeros((x.shape[0], w[1].shape[0]), x.dtype)

    def one(carry: Any, p: Any) -> Any:
        carry = cell(w, carry, p)
        return carry, carry[0]

    return jnp.swapaxes(lax.scan(one, (zeros, zeros), p)[1], 0, 1)


def _rnn_cell(w: Any, carry: Any, p: Any) -> Any:
    h = jnp.tanh(p + carry[0] @ w[1])
    return h, h


def _gru_cell(w: Any, carry: Any, p: Any) -> Any:
    h, _ = carry
    p_r, p_z, p_n = jnp.split(p, 3, axis=1)
    q_r, q_z, q_n = jnp.split(h @ w[1], 3, axis=1)
    r, z = jax.nn.sigmoid(p_r + q_r), jax.nn.sigmoid(p_z + q_z)
    n = jnp.tanh(p_n + r * (q_n + w[3]))
    h = (1 - z) * n + z * h
    return h, h


def _lstm_cell(w: Any, carry: Any, p: Any) -> Any:
    h, c = carry
    i, f, g, o = jnp.split(p + h @ w[1], 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _norm(x: Any, scale: Any, shift: Any) -> Any:
    mean, var = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * scale + shift


def _attention(heads: int, w: Any, x: Any, causal: bool) -> Any:
    q, k, v = (
        (x @ w[i] + w[i + 1]).reshape(*x.shape[:2], heads, x.shape[2] // heads) for i in (0, 2, 4)
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(x.shape)
    return y @ w[6] + w[7]


def _encoder(heads: int, w: Any, x: Any) -> Any:
    x = _norm(x + _attention(heads, w, x, causal=False), w[12], w[13])
    y = jax.nn.relu(x @ w[8] + w[9]) @ w[10] + w[11]
    return _norm(x + y, w[14], w[15])


def _gpt(heads: int, w: Any, x: Any) -> Any:
    x = x + _attention(heads, w, _norm(x, w[12], w[13]), causal=True)
    y = jax.nn.gelu(_norm(x, w[14], w[15]) @ w[8] + w[9], approximate=False)
    return x + y @ w[10] + w[11]


def mlp(problem: Problem) -> Any:
    """Prepare a step of the perceptron."""
    return _classifier(mlp_logits, problem)


def lenet5(problem: Problem) -> Any:
    """Prepare a step of LeNet-5."""
    return _classifier(lenet5_logits, problem)


def conv_stack(problem: Problem) -> Any:
    """Prepare a step of the convolutions with normalization."""
    return _classifier(_conv_stack_logits, problem)


def resnet(problem: Problem) -> Any:
    """Prepare a step of the residual network."""
    return _classifier(_resnet_logits, problem)


def dense(problem: Problem) -> Any:
    """Prepare forward and backward of an affine map."""
    return _layer(lambda w, x: x @ w[0] + w[1], problem, update=False)


def conv3x3(problem: Problem) -> Any:
    """Prepare forward and backward of a convolution."""
    return _layer(lambda w, x: _conv(x, w[0], "SAME") + w[1], problem, update=False)


def rnn(problem: Problem) -> Any:
    """Prepare a step of an RNN layer."""
    return _layer(lambda w, x: _scan(_rnn_cell, w, x), problem)


def gru(problem: Problem) -> Any:
    """Prepare a step of a GRU layer."""
    return _layer(lambda w, x: _scan(_gru_cell, w, x), problem)


def lstm(problem: Problem) -> Any:
    """Prepare a step of an LSTM layer."""
    return _layer(lambda w, x: _scan(_lstm_cell, w, x), problem)


def transformer(problem: Problem) -> Any:
    """Prepare a step of an encoder layer."""
    return _layer(lambda w, x: _encoder(problem.heads, w, x), problem)


def gpt(problem: Problem) -> Any:
    """Prepare a step of a block of a language model."""
    return _layer(lambda w, x: _gpt(problem.heads, w, x), problem)


def embedding(problem: Problem) -> Any:
    """Prepare a step of an embedding."""

    def gradients(weights: Any, ids: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(lambda w: w[0][ids], weights)
        return y, pullback(dy)[0]

    return _step(gradients, problem)
