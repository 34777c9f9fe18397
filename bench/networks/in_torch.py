"""The networks in PyTorch, as people write them.

``compiled`` is torch.compile of the model, ``low`` the dtype of a torch.autocast around its forward
pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from networks.problems import Problem

__all__ = [
    *("conv3x3", "conv_stack", "dense", "embedding", "gpt", "gru", "lenet5", "lenet5_model"),
    *("lstm", "mlp", "mlp_model", "resnet", "rnn", "transformer"),
]


def _tensor(x: Any) -> Any:
    """Return an array where PyTorch makes new tensors: on the CPU, unless the bench says a GPU."""
    return torch.from_numpy(x).to(torch.get_default_device())


def _fill(parameter: Any, value: Any) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _dense(layer: Any, weight: Any, bias: Any) -> Any:
    _fill(layer.weight, weight.T)
    _fill(layer.bias, bias)
    return layer


def _linear(weight: Any, bias: Any) -> Any:
    return _dense(nn.Linear(*weight.shape), weight, bias)


def _flat(weight: Any, bias: Any, channels: int) -> Any:
    """Return a linear layer behind nn.Flatten, for which channels come first."""
    side = int((weight.shape[0] // channels) ** 0.5)
    there = weight.reshape(side, side, channels, -1).transpose(2, 0, 1, 3)
    return _linear(there.reshape(weight.shape), bias)


def _conv(weight: Any, bias: Any = None, padding: int = 0, stride: int = 1) -> Any:
    size, _, n_in, n_out = weight.shape
    layer = nn.Conv2d(n_in, n_out, size, stride, padding, bias=bias is not None)
    _fill(layer.weight, weight.transpose(3, 2, 0, 1))
    if bias is not None:
        _fill(layer.bias, bias)
    return layer


def _images(x: Any, channels_last: bool) -> Any:
    """Return images (N, C, H, W), in memory as PyTorch has them by default, or channels last."""
    there = _tensor(x).permute(0, 3, 1, 2)
    return there if channels_last else there.contiguous()


def _casts(x: Any, low: str | None) -> Any:
    """Return the block in which products are computed in 16 bits, or one that changes nothing."""
    return torch.autocast(x.device.type, getattr(torch, low or "bfloat16"), enabled=low is not None)


def _classifier(
    model: Any, problem: Problem, *,
    fused: bool = False, compiled: bool = False, channels_last: bool = False,
    low: str | None = None,
) -> Any:  # fmt: skip
    """Return a training step of a classifier."""
    images = problem.x.ndim == 4
    x = _images(problem.x, channels_last) if images else _tensor(problem.x)
    y = _tensor(problem.y)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    if compiled:
        model = torch.compile(model)

    def step() -> Any:
        optimizer.zero_grad()
        with _casts(x, low):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _layer(
    layer: Any, x: Any, dy: Any, *,
    update: bool = True, fused: bool = False, compiled: bool = False, low: str | None = None,
) -> Any:  # fmt: skip
    """Return a step of a layer: output, gradients of input and weights, and the update."""
    x = x.requires_grad_(x.dtype.is_floating_point)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-3, fused=fused)
    run = torch.compile(layer) if compiled else layer

    def step() -> Any:
        nonlocal dy
        optimizer.zero_grad()
        x.grad = None
        with _casts(x, low):
            y = run(x)
        y = y[0] if isinstance(y, tuple) else y
        dy = dy.to(y.dtype)  # which is itself from the second step on
        y.backward(dy)
        if update:
            optimizer.step()
        return (y, x.grad) if x.requires_grad else y

    return step


def mlp_model(problem: Problem) -> Any:
    """Return the perceptron."""
    parts: list[Any] = []
    for weight, bias in zip(problem.weights[::2], problem.weights[1::2], strict=True):
        parts += [_linear(weight, bias), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def mlp(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the perceptron."""
    return _classifier(mlp_model(problem), problem, **options)


def lenet5_model(problem: Problem) -> Any:
    """Return LeNet-5."""
    w = problem.weights
    return nn.Sequential(
        _conv(w[0], w[1]), nn.ReLU(), nn.MaxPool2d(2),
        _conv(w[2], w[3]), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        _flat(w[4], w[5], w[2].shape[-1]), nn.ReLU(), _linear(w[6], w[7]),
    )  # fmt: skip


def lenet5(problem: Problem, **options: Any) -> Any:
    """Prepare a step of LeNet-5."""
    return _classifier(lenet5_model(problem), problem, **options)


def conv_stack(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the convolutions with normalization."""
    parts: list[Any] = []
    for i, kernel in enumerate(problem.weights[:9:3]):
        channels = kernel.shape[-1]
        parts += [_conv(kernel, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        parts += [nn.MaxPool2d(2)] if i else []
    out = _flat(*problem.weights[9:], channels)
    return _classifier(nn.Sequential(*parts, nn.Flatten(), out), problem, **options)


class _Block(nn.Module):
    """Two convolutions around which x takes a shortcut."""

    def __init__(self, weights: list[Any], stride: int) -> None:
        super().__init__()
        n_out = weights[0].shape[-1]
        self.convolution1 = _conv(weights[0], padding=1, stride=stride)
        self.convolution2 = _conv(weights[3], padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.shortcut: Any = nn.Identity()
        if len(weights) > 6:
            convolution = _conv(weights[6], stride=stride)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(n_out))

    def forward(self, x: Any) -> Any:
        y = nn.functional.relu(self.norm1(self.convolution1(x)))
        return nn.functional.relu(self.norm2(self.convolution2(y)) + self.shortcut(x))


def resnet(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the residual network."""
    *w, out, bias = problem.weights
    channels = w[0].shape[-1]
    parts: list[Any] = [_conv(w[0], padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    at = 3
    while at < len(w):
        n_in, n_out = w[at].shape[2:]
        n = 6 if n_in == n_out else 9
        parts.append(_Block(w[at : at + n], 1 if n_in == n_out else 2))
        at += n
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _linear(out, bias)]
    return _classifier(nn.Sequential(*parts), problem, **options)


def dense(problem: Problem, **options: Any) -> Any:
    """Prepare forward and backward of an affine map, whose input has as few bits as its product."""
    layer, x, dy = _linear(*problem.weights), _tensor(problem.x), _tensor(problem.y)
    if (low := options.get("low")) is not None:
        x = x.to(getattr(torch, low))
    return _layer(layer, x, dy, update=False, **options)


def conv3x3(problem: Problem, *, channels_last: bool = False, **options: Any) -> Any:
    """Prepare forward and backward of a convolution."""
    layer = _conv(*problem.weights, padding=1)
    if channels_last:
        layer = layer.to(memory_format=torch.channels_last)
    x, dy = (_images(a, channels_last) for a in (problem.x, problem.y))
    return _layer(layer, x, dy, update=False, **options)


def _recurrent(kind: Any, problem: Problem, **options: Any) -> Any:
    w, u, bias, *inner = problem.weights
    layer = kind(w.shape[0], u.shape[0], batch_first=True)
    _fill(layer.weight_ih_l0, w.T)
    _fill(layer.weight_hh_l0, u.T)
    _fill(layer.bias_ih_l0, bias)
    zeros = np.zeros(bias.size - sum(b.size for b in inner), np.float32)
    _fill(layer.bias_hh_l0, np.concatenate([zeros, *inner]))
    return _layer(layer, _tensor(problem.x), _tensor(problem.y), **options)


def rnn(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an RNN layer, which has a second bias here."""
    return _recurrent(nn.RNN, problem, **options)


def gru(problem: Problem, **options: Any) -> Any:
    """Prepare a step of a GRU layer, which has three inner biases here."""
    return _recurrent(nn.GRU, problem, **options)


def lstm(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an LSTM layer, which has a second bias here."""
    return _recurrent(nn.LSTM, problem, **options)


def transformer(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an encoder layer."""
    w = problem.weights
    features, hidden = w[8].shape
    layer = nn.TransformerEncoderLayer(
        features, problem.heads, hidden, dropout=0.0, batch_first=True
    )
    _fill(layer.self_attn.in_proj_weight, np.concatenate([a.T for a in w[:6:2]]))
    _fill(layer.self_attn.in_proj_bias, np.concatenate(w[1:6:2]))
    _dense(layer.self_attn.out_proj, *w[6:8])
    _dense(layer.linear1, *w[8:10])
    _dense(layer.linear2, *w[10:12])
    for norm, (scale, shift) in ((layer.norm1, w[12:14]), (layer.norm2, w[14:16])):
        _fill(norm.weight, scale)
        _fill(norm.bias, shift)
    return _layer(layer, _tensor(problem.x), _tensor(problem.y), **options)


class _Gpt(nn.Module):
    """A block of a language model, with one product for queries, keys and values."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        w, self.heads = problem.weights, problem.heads
        features = w[6].shape[-1]
        self.inner = _linear(np.concatenate(w[:6:2], axis=1), np.concatenate(w[1:6:2]))
        self.out, self.hidden, self.back = _linear(*w[6:8]), _linear(*w[8:10]), _linear(*w[10:12])
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)

    def forward(self, x: Any) -> Any:
        n, length, features = x.shape
        parts = self.inner(self.norm1(x)).split(features, 2)
        q, k, v = (part.view(n, length, self.heads, -1).transpose(1, 2) for part in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, length, features))
        return x + self.back(nn.functional.gelu(self.hidden(self.norm2(x))))


def gpt(problem: Problem, **options: Any) -> Any:
    """Prepare a step of a block of a language model."""
    return _layer(_Gpt(problem), _tensor(problem.x), _tensor(problem.y), **options)


def embedding(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an embedding, with a dense gradient, as is the default."""
    layer = nn.Embedding(*problem.weights[0].shape)
    _fill(layer.weight, problem.weights[0])
    return _layer(layer, _tensor(problem.x), _tensor(problem.y), **options)
