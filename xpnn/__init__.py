"""xpnn: deep learning in the array-API standard."""

from __future__ import annotations

from xpnn import (
    activations,
    callbacks,
    data,
    datasets,
    functional,
    initializers,
    layers,
    losses,
    metrics,
    ops,
    optim,
    plot,
    search,
    training,
)
from xpnn.autograd import (
    Tensor,
    autocast,
    check_grad,
    checkpoint,
    grad,
    no_grad,
    value_and_grad,
    vjp,
)
from xpnn.backend import (
    array_namespace,
    asarray,
    available_devices,
    device,
    get_device,
    get_dtype,
    set_device,
    set_dtype,
    to_device,
    to_numpy,
)
from xpnn.layers import functional_call
from xpnn.machine import device_report
from xpnn.memory import free_memory, memory_stats
from xpnn.parallel import get_num_threads, num_threads, set_num_threads
from xpnn.precision import get_matmul_precision, matmul_precision, set_matmul_precision
from xpnn.random import get_rng, set_rng, set_seed
from xpnn.training import Model, Sequential, capture, load, pretrain

__version__ = "0.1.0.dev0"

__all__ = [
    "Model",
    "Sequential",
    "Tensor",
    "activations",
    "array_namespace",
    "asarray",
    "autocast",
    "available_devices",
    "callbacks",
    "capture",
    "check_grad",
    "checkpoint",
    "data",
    "datasets",
    "device",
    "device_report",
    "free_memory",
    "functional",
    "functional_call",
    "get_device",
    "get_dtype",
    "get_matmul_precision",
    "get_num_threads",
    "get_rng",
    "grad",
    "initializers",
    "layers",
    "load",
    "losses",
    "matmul_precision",
    "memory_stats",
    "metrics",
    "no_grad",
    "num_threads",
    "ops",
    "optim",
    "plot",
    "pretrain",
    "search",
    "set_device",
    "set_dtype",
    "set_matmul_precision",
    "set_num_threads",
    "set_rng",
    "set_seed",
    "to_device",
    "to_numpy",
    "training",
    "value_and_grad",
    "vjp",
]
