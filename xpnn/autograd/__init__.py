"""Automatic differentiation: the tape, the Tensor, and derivatives of functions."""

from __future__ import annotations

from xpnn.autograd.casting import autocast
from xpnn.autograd.check import GradientError, check_grad
from xpnn.autograd.record import apply
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import checkpoint, grad, no_grad, value_and_grad, vjp

__all__ = [
    "GradientError",
    "Tensor",
    "apply",
    "autocast",
    "check_grad",
    "checkpoint",
    "grad",
    "no_grad",
    "value_and_grad",
    "vjp",
]
