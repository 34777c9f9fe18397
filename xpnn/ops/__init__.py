"""The array-API standard 2025.12, differentiable: the namespace of Tensors.

``xp = array_namespace(x)`` is this package when ``x`` is a Tensor, so functions written against the
standard run on Tensors as they run on raw arrays, and have gradients. Everything here also takes
raw arrays; given no Tensor, an operation returns raw arrays. Creation functions make Tensors.

Examples
--------
>>> from xpnn import ops, Tensor
>>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> ops.sum(ops.sqrt(x * x)).backward()
>>> x.grad
Tensor([1., 1., 1.], dtype=float32)
"""

from __future__ import annotations

import math
import sys

from xpnn._dtypes import DTYPES
from xpnn.autograd.record import apply as _apply_primitive  # noqa: F401, for rules that call one
from xpnn.autograd.record import bind
from xpnn.autograd.tensor import API_VERSIONS
from xpnn.ops import fft, linalg
from xpnn.ops._lift import lift
from xpnn.ops.composite import broadcast_arrays, clip, concat, diff, moveaxis, sign, stack, tile
from xpnn.ops.creation import (
    arange,
    asarray,
    astype,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    tril,
    triu,
    zeros,
    zeros_like,
)
from xpnn.ops.inspection import (
    __array_namespace_info__,
    broadcast_shapes,
    can_cast,
    finfo,
    iinfo,
    isdtype,
    result_type,
)
from xpnn.primitives import elementwise as _e
from xpnn.primitives import indexing as _i
from xpnn.primitives import products as _p
from xpnn.primitives import reductions as _r
from xpnn.primitives import shape as _s

__array_api_version__ = API_VERSIONS[-1]

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

# dtypes
bool = DTYPES["bool"]
complex64 = DTYPES["complex64"]
complex128 = DTYPES["complex128"]
float32 = DTYPES["float32"]
float64 = DTYPES["float64"]
int8 = DTYPES["int8"]
int16 = DTYPES["int16"]
int32 = DTYPES["int32"]
int64 = DTYPES["int64"]
uint8 = DTYPES["uint8"]
uint16 = DTYPES["uint16"]
uint32 = DTYPES["uint32"]
uint64 = DTYPES["uint64"]
# beyond the standard, where the array library has them
float16 = DTYPES["float16"]
bfloat16 = DTYPES["bfloat16"]

# element-wise
abs = lift(_e.abs)
acos = lift(_e.acos)
acosh = lift(_e.acosh)
add = lift(_e.add)
asin = lift(_e.asin)
asinh = lift(_e.asinh)
atan = lift(_e.atan)
atan2 = lift(_e.atan2)
atanh = lift(_e.atanh)
conj = lift(_e.conj)
copysign = lift(_e.copysign)
cos = lift(_e.cos)
cosh = lift(_e.cosh)
divide = lift(_e.divide)
exp = lift(_e.exp)
expm1 = lift(_e.expm1)
hypot = lift(_e.hypot)
imag = lift(_e.imag)
log = lift(_e.log)
log10 = lift(_e.log10)
log1p = lift(_e.log1p)
log2 = lift(_e.log2)
logaddexp = lift(_e.logaddexp)
maximum = lift(_e.maximum)
minimum = lift(_e.minimum)
multiply = lift(_e.multiply)
negative = lift(_e.negative)
positive = lift(_e.positive)
pow = lift(_e.pow)
real = lift(_e.real)
reciprocal = lift(_e.reciprocal)
remainder = lift(_e.remainder)
sin = lift(_e.sin)
sinh = lift(_e.sinh)
sqrt = lift(_e.sqrt)
square = lift(_e.square)
subtract = lift(_e.subtract)
tan = lift(_e.tan)
tanh = lift(_e.tanh)
where = lift(_e.where)

# element-wise, without a derivative or with derivative zero
bitwise_and = lift(_e.STEPS["bitwise_and"])
bitwise_invert = lift(_e.STEPS["bitwise_invert"])
bitwise_left_shift = lift(_e.STEPS["bitwise_left_shift"])
bitwise_or = lift(_e.STEPS["bitwise_or"])
bitwise_right_shift = lift(_e.STEPS["bitwise_right_shift"])
bitwise_xor = lift(_e.STEPS["bitwise_xor"])
ceil = lift(_e.STEPS["ceil"])
equal = lift(_e.STEPS["equal"])
floor = lift(_e.STEPS["floor"])
floor_divide = lift(_e.STEPS["floor_divide"])
greater = lift(_e.STEPS["greater"])
greater_equal = lift(_e.STEPS["greater_equal"])
isfinite = lift(_e.STEPS["isfinite"])
isinf = lift(_e.STEPS["isinf"])
isnan = lift(_e.STEPS["isnan"])
less = lift(_e.STEPS["less"])
less_equal = lift(_e.STEPS["less_equal"])
logical_and = lift(_e.STEPS["logical_and"])
logical_not = lift(_e.STEPS["logical_not"])
logical_or = lift(_e.STEPS["logical_or"])
logical_xor = lift(_e.STEPS["logical_xor"])
nextafter = lift(_e.STEPS["nextafter"])
not_equal = lift(_e.STEPS["not_equal"])
round = lift(_e.STEPS["round"])
signbit = lift(_e.STEPS["signbit"])
trunc = lift(_e.STEPS["trunc"])

# reductions
all = lift(_r.all)
any = lift(_r.any)
argmax = lift(_r.argmax)
argmin = lift(_r.argmin)
count_nonzero = lift(_r.count_nonzero)
cumulative_prod = lift(_r.cumulative_prod)
cumulative_sum = lift(_r.cumulative_sum)
max = lift(_r.max)
mean = lift(_r.mean)
min = lift(_r.min)
prod = lift(_r.prod)
std = lift(_r.std)
sum = lift(_r.sum)
var = lift(_r.var)

# shapes
broadcast_to = lift(_s.broadcast_to)
expand_dims = lift(_s.expand_dims)
flip = lift(_s.flip)
matrix_transpose = lift(_s.matrix_transpose)
permute_dims = lift(_s.permute_dims)
reshape = lift(_s.reshape)
roll = lift(_s.roll)
squeeze = lift(_s.squeeze)
unstack = lift(_s.unstack)

# indexing, searching, sorting
argsort = lift(_i.argsort)
isin = lift(_i.isin)
nonzero = lift(_i.nonzero)
repeat = lift(_i.repeat)
searchsorted = lift(_i.searchsorted)
sort = lift(_i.sort)
take = lift(_i.take)
take_along_axis = lift(_i.take_along_axis)
unique_all = lift(_i.unique_all)
unique_counts = lift(_i.unique_counts)
unique_inverse = lift(_i.unique_inverse)
unique_values = lift(_i.unique_values)

# products
matmul = lift(_p.matmul)
tensordot = lift(_p.tensordot)
vecdot = lift(_p.vecdot)

__all__ = [
    "__array_api_version__",
    "__array_namespace_info__",
    "abs",
    "acos",
    "acosh",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bfloat16",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bool",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "can_cast",
    "ceil",
    "clip",
    "complex128",
    "complex64",
    "concat",
    "conj",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "divide",
    "e",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "fft",
    "finfo",
    "flip",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "from_dlpack",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "hypot",
    "iinfo",
    "imag",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "isdtype",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan",
    "negative",
    "newaxis",
    "nextafter",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "permute_dims",
    "pi",
    "positive",
    "pow",
    "prod",
    "real",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "result_type",
    "roll",
    "round",
    "searchsorted",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sort",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "trunc",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "var",
    "vecdot",
    "where",
    "zeros",
    "zeros_like",
]

bind(namespace=sys.modules[__name__])
