"""Linear algebra of the standard, differentiable."""

from __future__ import annotations

from xpnn.ops._lift import lift
from xpnn.primitives import linalg as _l
from xpnn.primitives import products as _p
from xpnn.primitives import shape as _s
from xpnn.primitives.base import Primitive

matmul, tensordot, vecdot = lift(_p.matmul), lift(_p.tensordot), lift(_p.vecdot)
matrix_transpose = lift(_s.matrix_transpose)

_lifted = {n: lift(p) for n in _l.__all__ if isinstance(p := getattr(_l, n), Primitive)}

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot", *_lifted]

globals().update(_lifted)
