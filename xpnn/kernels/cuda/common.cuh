// What all kernels share. T is the dtype of arrays, A the one in which they are computed.

typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef INFINITY  // NVRTC has no <math.h>
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

// Sixteen bytes: what a thread best reads and writes at once.
constexpr int WIDTH = 16 / sizeof(T);
struct alignas(16) Pack { T at[WIDTH]; };

constexpr u32 ALL = 0xffffffffu;

struct Sum {
    static __device__ __forceinline__ A first() { return 0; }
    static __device__ __forceinline__ A join(A a, A b) { return a + b; }
};

struct Max {  // a NaN stays one
    static __device__ __forceinline__ A first() { return -INFINITY; }
    static __device__ __forceinline__ A join(A a, A b) { return a > b || a != a ? a : b; }
};

template <typename Join>
__device__ __forceinline__ A over_warp(A x) {
    #pragma unroll
    for (int bits = 16; bits; bits /= 2) x = Join::join(x, __shfl_xor_sync(ALL, x, bits));
    return x;
}

// Join the values of all threads of a block, for all of them. Always in the same order.
template <typename Join>
__device__ __forceinline__ A over_block(A x) {
    __shared__ A parts[32];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = over_warp<Join>(x);
    __syncthreads();  // nobody still reads the parts of a call before
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    x = lane < blockDim.x / 32 ? parts[lane] : Join::first();
    return over_warp<Join>(x);
}

// Count, mean, and sum of the squared deviations from it (Welford; Chan, Golub & LeVeque).
struct Moments {
    A count, mean, squares;

    static __device__ __forceinline__ Moments nothing() { return {0, 0, 0}; }

    __device__ __forceinline__ void add(A x, A one_over_count) {
        const A deviation = x - mean;
        mean += deviation * one_over_count;
        squares += deviation * (x - mean);
    }

    static __device__ __forceinline__ Moments join(const Moments& a, const Moments& b) {
        const A count = a.count + b.count, between = b.mean - a.mean;
        if (count == 0) return a;
        const A share = b.count / count;
        return {count, a.mean + between * share,
                a.squares + b.squares + between * between * a.count * share};
    }

    __device__ __forceinline__ Moments shuffled(int by) const {
        return {__shfl_xor_sync(ALL, count, by), __shfl_xor_sync(ALL, mean, by),
                __shfl_xor_sync(ALL, squares, by)};
    }
};

#define FOR_EACH(i, n) \
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x)
