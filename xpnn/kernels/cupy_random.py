"""Philox4x64-10 in CUDA: the random stream made where it is used, on the GPU.

Each function is pure in ``(seed, counter, n)`` and gives the bits that
:mod:`xpnn.kernels.numpy_random` gives on the host, without the host ever waiting. One thread makes
one block of 256 bits and writes it with 16-byte stores.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from xpnn.kernels.cupy_launch import outside

__all__ = [
    "bernoulli",
    "discrete",
    "integers",
    "normal",
    "place",
    "put",
    "sources",
    "uniform",
    "words",
]

Array = Any

_WORD = 2**64
_THREADS = 256  # a thread block
_GRID = 4096  # at most; the kernels stride over what is left

SOURCE = r"""
typedef unsigned long long u64;
typedef unsigned int u32;

// Philox4x64-10: ten rounds of two 64 x 64 -> 128-bit products; x is the counter, then the bits.
__device__ __forceinline__ void philox(u64 key0, u64 key1, u64 x[4]) {
    const u64 M0 = 0xD2E7470EE14C6C93ull, M1 = 0xCA5A826395121157ull;
    #pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 low0 = M0 * x[0], high0 = __umul64hi(M0, x[0]);
        const u64 low1 = M1 * x[2], high1 = __umul64hi(M1, x[2]);
        x[0] = high1 ^ x[1] ^ key0;
        x[1] = low1;
        x[2] = high0 ^ x[3] ^ key1;
        x[3] = low0;
        key0 += 0x9E3779B97F4A7C15ull;  // golden ratio
        key1 += 0xBB67AE8584CAA73Bull;  // sqrt(3) - 1
    }
}

// Block k of the stream is Philox(counter + k + 1): NumPy counts up before it makes a block. What a
// stream has moved on by since a step was recorded is read from memory, if there is such a place.
__device__ __forceinline__ void draw(
    u64 seed_lo, u64 seed_hi, u64 counter, const u64* moved, u64 k, u64 x[4]) {
    x[0] = counter + (moved ? *moved : 0) + k + 1;  // the host keeps counters below 2^64
    x[1] = x[2] = x[3] = 0;
    philox(seed_lo, seed_hi, x);
}

// Write the N values of block k, the last block only as far as the array goes.
template <int N, typename T>
__device__ __forceinline__ void store(T* out, u64 k, u64 n, const T (&value)[N]) {
    constexpr int per_store = 16 / sizeof(T);
    if ((k + 1) * N <= n) {
        #pragma unroll
        for (int i = 0; i < N; i += per_store) {
            uint4 chunk;
            memcpy(&chunk, value + i, 16);
            *reinterpret_cast<uint4*>(out + k * N + i) = chunk;
        }
    } else {
        #pragma unroll
        for (int i = 0; i < N; ++i)
            if (k * N + i < n) out[k * N + i] = value[i];
    }
}

#define STREAM u64 seed_lo, u64 seed_hi, u64 counter, const u64* moved, u64 n
#define DRAW(k, x) draw(seed_lo, seed_hi, counter, moved, k, x)

#define FOR_EACH_BLOCK(k, n, per_block)                                      \
    for (u64 k = (u64)blockIdx.x * blockDim.x + threadIdx.x; k * per_block < n; \
         k += (u64)gridDim.x * blockDim.x)

extern "C" __global__ void xpnn_words(STREAM, u64* out) {
    FOR_EACH_BLOCK(k, n, 4) {
        u64 x[4];
        DRAW(k, x);
        store<4>(out, k, n, x);
    }
}

// low + (high - low) u in two roundings, as NumPy does it: __f*_rn and __d*_rn are never fused.
extern "C" __global__ void xpnn_uniform_float32(
    STREAM, float low, float width, float* out) {
    FOR_EACH_BLOCK(k, n, 8) {
        u64 x[4];
        DRAW(k, x);
        float value[8];
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
            const u32 lane = (u32)(x[i / 2] >> 32 * (i % 2));
            value[i] = __fadd_rn(__fmul_rn((lane >> 8) * 0x1p-24f, width), low);
        }
        store<8>(out, k, n, value);
    }
}

extern "C" __global__ void xpnn_uniform_float64(
    STREAM, double low, double width, double* out) {
    FOR_EACH_BLOCK(k, n, 4) {
        u64 x[4];
        DRAW(k, x);
        double value[4];
        #pragma unroll
        for (int i = 0; i < 4; ++i)
            value[i] = __dadd_rn(__dmul_rn((x[i] >> 11) * 0x1p-53, width), low);
        store<4>(out, k, n, value);
    }
}

// True where a 16-bit lane < threshold = round(65536 p): integers, so every device agrees.
extern "C" __global__ void xpnn_bernoulli(
    STREAM, u32 threshold, unsigned char* out) {
    FOR_EACH_BLOCK(k, n, 16) {
        u64 x[4];
        DRAW(k, x);
        unsigned char value[16];
        #pragma unroll
        for (int i = 0; i < 16; ++i)
            value[i] = (u32)((x[i / 4] >> 16 * (i % 4)) & 0xffff) < threshold;
        store<16>(out, k, n, value);
    }
}

// Box-Muller: (u1, u2) -> sqrt(-2 ln u1) (cos 2 pi u2, sin 2 pi u2), with 0 < u1 <= 1, 0 <= u2 < 1.
__device__ __forceinline__ void box_muller(
    double u1, double u2, double mean, double std, double& z0, double& z1) {
    double sine, cosine;
    sincospi(2.0 * u2, &sine, &cosine);
    const double radius = sqrt(-2.0 * log(u1));
    z0 = __dadd_rn(__dmul_rn(radius * cosine, std), mean);
    z1 = __dadd_rn(__dmul_rn(radius * sine, std), mean);
}

extern "C" __global__ void xpnn_normal_float32(
    STREAM, double mean, double std, float* out) {
    FOR_EACH_BLOCK(k, n, 8) {
        u64 x[4];
        DRAW(k, x);
        float value[8];
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            double z0, z1;
            const double u1 = ((u32)x[i] + 1.0) * 0x1p-32, u2 = (u32)(x[i] >> 32) * 0x1p-32;
            box_muller(u1, u2, mean, std, z0, z1);
            value[2 * i] = (float)z0;
            value[2 * i + 1] = (float)z1;
        }
        store<8>(out, k, n, value);
    }
}

extern "C" __global__ void xpnn_normal_float64(
    STREAM, double mean, double std, double* out) {
    FOR_EACH_BLOCK(k, n, 4) {
        u64 x[4];
        DRAW(k, x);
        double value[4];
        #pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const double u1 = ((x[i] >> 11) + 1.0) * 0x1p-53, u2 = (x[i + 1] >> 11) * 0x1p-53;
            box_muller(u1, u2, mean, std, value[i], value[i + 1]);
        }
        store<4>(out, k, n, value);
    }
}

// Set the number that is added to a counter. It is an argument: launches copy theirs.
extern "C" __global__ void xpnn_put(u64* moved, u64 value) { *moved = value; }
"""

Moved = Any  # an array of one number that is added to the counter when a kernel runs, or None


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return {"philox": SOURCE}


def place() -> Array:
    """Return an array for a number that is added to a counter; :func:`put` sets it.

    It is made while a step is recorded, where zeros would be written at each replay, and outside
    of the memory of the recording.
    """
    with outside():
        return _cupy().empty(1, "uint64")


def put(moved: Array, value: int) -> None:
    """Set the number that is added to a counter, without waiting."""
    _kernel("xpnn_put")((1,), (1,), (moved, np.uint64(value % _WORD)))


def words(seed: int, counter: int, n: int, *, moved: Moved = None) -> Array:
    """Return ``n`` words of 64 bits (uint64)."""
    return _launch("xpnn_words", seed, counter, moved, n, 4, "uint64")


def integers(seed: int, counter: int, n: int, low: int, span: int, *, moved: Moved = None) -> Array:
    """Return ``low + word mod span`` (int64)."""
    drawn = words(seed, counter, n, moved=moved)
    return (drawn % np.uint64(span) + np.uint64(low % _WORD)).view(np.int64)


def discrete(seed: int, counter: int, n: int, ends: Array, *, moved: Moved = None) -> Array:
    """Return how many of the sorted ``ends`` (uint64) are not beyond each word (int64)."""
    drawn = words(seed, counter, n, moved=moved)
    found = _cupy().searchsorted(ends, drawn, side="right")
    return found.astype("int64", copy=False)


def uniform(
    seed: int,
    counter: int,
    n: int,
    dtype: str,
    low: float,
    high: float,
    *,
    moved: Moved = None,
) -> Array:
    """Return ``low + (high - low) u`` as float32 (8 a block) or float64 (4 a block)."""
    per_block = 4 if dtype == "float64" else 8
    real = np.dtype(dtype).type
    name = f"xpnn_uniform_{dtype}"
    bounds = real(low), real(high - low)
    return _launch(name, seed, counter, moved, n, per_block, dtype, *bounds)


def bernoulli(seed: int, counter: int, n: int, threshold: int, *, moved: Moved = None) -> Array:
    """Return ``lane < threshold`` of 16-bit lanes (bool, 16 a block)."""
    return _launch("xpnn_bernoulli", seed, counter, moved, n, 16, "bool", np.uint32(threshold))


def normal(
    seed: int,
    counter: int,
    n: int,
    dtype: str,
    mean: float,
    std: float,
    *,
    moved: Moved = None,
) -> Array:
    """Return Box-Muller normals as float32 (8 a block) or float64 (4 a block)."""
    per_block = 4 if dtype == "float64" else 8
    name = f"xpnn_normal_{dtype}"
    moments = np.float64(mean), np.float64(std)
    return _launch(name, seed, counter, moved, n, per_block, dtype, *moments)


@cache
def _cupy() -> Any:
    return importlib.import_module("cupy")


@cache
def _kernel(name: str) -> Any:
    return _cupy().RawKernel(SOURCE, name, options=("--std=c++17",))


def _launch(
    name: str,
    seed: int,
    counter: int,
    moved: Moved,
    n: int,
    per_block: int,
    dtype: str,
    *args: np.generic,
) -> Array:
    """Run kernel ``name`` into a new array of ``n`` values, ``per_block`` of them a thread."""
    out = _cupy().empty(n, dtype=dtype)
    if n:
        threads = -(-n // per_block)
        grid = min(-(-threads // _THREADS), _GRID)
        stream = map(np.uint64, (seed % _WORD, seed // _WORD, counter))
        where = np.uint64(0) if moved is None else moved
        _kernel(name)((grid,), (_THREADS,), (*stream, where, np.uint64(n), *args, out))
    return out
