// CUDA's words for plain C++. A block runs at a time, and its threads take turns: each is a
// coroutine that gives way where it has to wait, at a barrier of its block or of its warp.
//
// What CUDA leaves undefined is an error here: a barrier that some threads of a block never reach,
// a shuffle from a lane that has ended.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#undef INFINITY  // macros of <math.h>, which NVRTC does not have
#undef NAN
#undef M_PI
#undef HUGE_VAL

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) ulonglong2 { unsigned long long x, y; };

static dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace simt {

struct Barrier {
    unsigned long epoch = 0;
    unsigned arrived = 0, alive = 0;
};

struct Warp {
    Barrier barrier;
    unsigned live = 0;  // a bit a lane
    alignas(16) unsigned char slot[32][16];
};

#if defined(__x86_64__)
// Leaves one stack for another: a tenth of the time of swapcontext, which asks the system.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
    .text
    .type simt_switch, @function
    .hidden simt_switch
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
struct Context {
    void* stack;
    void begin(char* memory, std::size_t size, void (*entry)()) {
        void** top = reinterpret_cast<void**>((reinterpret_cast<std::uintptr_t>(memory) + size) & ~15ul);
        *(top -= 2) = reinterpret_cast<void*>(entry);  // where it returns to, on a stack as after a call
        stack = top -= 6;  // the registers
    }
    void go_to(Context& other) { simt_switch(&stack, other.stack); }
};
#else
struct Context {
    ucontext_t context;
    void begin(char* memory, std::size_t size, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = memory;
        context.uc_stack.ss_size = size;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void go_to(Context& other) { swapcontext(&context, &other.context); }
};
#endif

struct Thread {
    Context context;
    std::unique_ptr<char[]> stack;
    dim3 index;
    unsigned rank = 0;
    bool done = false;
};

static Context scheduler;
static std::vector<Thread> threads;
static std::vector<Warp> warps;
static Barrier block;
static Thread* current;
static std::function<void()> body;
static const char* error;
constexpr std::size_t STACK = 1 << 16;

static void give_way() { current->context.go_to(scheduler); }

static void wait(Barrier& barrier) {
    const unsigned long epoch = barrier.epoch;
    if (++barrier.arrived == barrier.alive) {
        barrier.arrived = 0;
        ++barrier.epoch;
        return;
    }
    while (barrier.epoch == epoch) give_way();
}

static void leave(Barrier& barrier) {
    --barrier.alive;
    if (barrier.arrived) error = "a thread ended before a barrier at which others wait";
}

static void enter() {
    body();
    leave(block);
    Warp& warp = warps[current->rank / 32];
    warp.live &= ~(1u << current->rank % 32);
    leave(warp.barrier);
    current->done = true;
    current->context.go_to(scheduler);
}

static bool run_block() {
    const unsigned n = blockDim.x * blockDim.y * blockDim.z;
    threads.resize(n);
    warps.assign((n + 31) / 32, Warp());
    block = Barrier();
    block.alive = n;
    for (unsigned i = 0; i < n; ++i) {
        Thread& t = threads[i];
        t.rank = i;
        t.done = false;
        t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        ++warps[i / 32].barrier.alive;
        warps[i / 32].live |= 1u << i % 32;
        if (!t.stack) t.stack.reset(new char[STACK]);
        t.context.begin(t.stack.get(), STACK, enter);
    }
    for (unsigned left = n; left && !error;) {
        const unsigned before = left;
        const unsigned long epoch = block.epoch;
        unsigned long warp_epochs = 0, warp_epochs_after = 0;
        for (Warp& w : warps) warp_epochs += w.barrier.epoch;
        for (unsigned i = 0; i < n && !error; ++i) {
            if (threads[i].done) continue;
            current = &threads[i];
            threadIdx = current->index;
            scheduler.go_to(current->context);
            left -= current->done;
        }
        for (Warp& w : warps) warp_epochs_after += w.barrier.epoch;
        if (left == before && epoch == block.epoch && warp_epochs == warp_epochs_after)
            error = "the threads wait for one another";
    }
    return !error;
}

// Run a kernel; `threads_wait` says whether it has barriers, so that it needs coroutines.
static const char* launch(
    const unsigned* grid, const unsigned* size, bool threads_wait, std::function<void()> kernel) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {size[0], size[1], size[2]};
    error = nullptr;
    body = std::move(kernel);
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) {
                if (threads_wait) {
                    if (!run_block()) return error;
                    continue;
                }
                for (threadIdx.z = 0; threadIdx.z < size[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < size[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < size[0]; ++threadIdx.x) body();
            }
    return nullptr;
}

template <typename T>
T exchange(T value, unsigned from) {
    static_assert(sizeof(T) <= 16, "a shuffle moves up to 16 bytes");
    Warp& warp = warps[current->rank / 32];
    std::memcpy(warp.slot[current->rank % 32], &value, sizeof(T));
    wait(warp.barrier);
    if (!(warp.live >> from & 1)) error = "a shuffle from a lane that has ended";
    std::memcpy(&value, warp.slot[from], sizeof(T));
    wait(warp.barrier);
    return value;
}

inline unsigned lane() { return current->rank % 32; }

}  // namespace simt

// ------------------------------------------------------------------ barriers and shuffles

inline void __syncthreads() { simt::wait(simt::block); }
inline void __syncwarp(unsigned = ~0u) { simt::wait(simt::warps[simt::current->rank / 32].barrier); }
inline void __threadfence() {}

template <typename T>
T __shfl_sync(unsigned, T value, int from, int width = 32) {
    return simt::exchange(value, simt::lane() / width * width + from % width);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int bits, int = 32) {
    return simt::exchange(value, simt::lane() ^ bits);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned by, int = 32) {
    return simt::exchange(value, std::min(simt::lane() + by, 31u));
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned by, int = 32) {
    return simt::exchange(value, simt::lane() >= by ? simt::lane() - by : simt::lane());
}

// ------------------------------------------------------------------------------ atomics

template <typename T>
T atomicAdd(T* at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
template <typename T>
T atomicMax(T* at, T value) {
    const T old = *at;
    *at = std::max(old, value);
    return old;
}

// --------------------------------------------------------------------------- arithmetic

using std::max;
using std::min;

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
namespace simt { constexpr double PI = 3.14159265358979323846; }
inline void sincospi(double x, double* sine, double* cosine) {
    *sine = std::sin(simt::PI * x), *cosine = std::cos(simt::PI * x);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
template <typename T>
T __ldg(const T* at) { return *at; }
template <typename T>
void __stcg(T* at, T value) { *at = value; }
using std::abs;
using std::acos;
using std::acosh;
using std::asin;
using std::asinh;
using std::atan;
using std::atanh;
using std::ceil;
using std::cos;
using std::cosh;
using std::erf;
using std::erfc;
using std::exp;
using std::expm1;
using std::fabs;
using std::floor;
using std::fma;
using std::fmax;
using std::fmin;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::log;
using std::log10;
using std::log1p;
using std::log2;
using std::pow;
using std::rint;
using std::round;
using std::signbit;
using std::sin;
using std::sinh;
using std::sqrt;
using std::tan;
using std::tanh;
using std::trunc;

inline float __int_as_float(int x) { float y; std::memcpy(&y, &x, 4); return y; }
inline int __float_as_int(float x) { int y; std::memcpy(&y, &x, 4); return y; }
inline unsigned __float_as_uint(float x) { unsigned y; std::memcpy(&y, &x, 4); return y; }
inline float __uint_as_float(unsigned x) { float y; std::memcpy(&y, &x, 4); return y; }

// ------------------------------------------------------------------- sixteen-bit floats

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) {
        const unsigned u = __float_as_uint(x);
        // to the nearest, of two the even; a NaN stays one
        bits = std::isnan(x) ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float x) {
        const unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
        if (magnitude >= 0x7f800000) bits = (uint16_t)(sign | 0x7c00 | (magnitude > 0x7f800000) * 0x200);
        else if (magnitude >= 0x477ff000) bits = (uint16_t)(sign | 0x7c00);  // rounds to infinity
        else if (magnitude >= 0x38800000) {
            const unsigned scaled = magnitude - 0x38000000;
            bits = (uint16_t)(sign | ((scaled + 0xfff + (scaled >> 13 & 1)) >> 13));
        } else bits = (uint16_t)(sign | (unsigned)std::nearbyint(std::fabs(x) * 0x1p24f));  // subnormal
    }
    operator float() const {
        const unsigned sign = (unsigned)(bits & 0x8000) << 16, exponent = bits >> 10 & 31;
        const unsigned fraction = bits & 0x3ff;
        if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
        if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
        return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
    }
};

inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }

// NVRTC compiles without the headers of the host, so it has none of their constants.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef HUGE_VALF
#undef M_E
#undef M_LN2
#undef M_LN10
#undef M_PI
#undef M_PI_2
#undef M_PI_4
#undef M_1_PI
#undef M_2_PI
#undef M_2_SQRTPI
#undef M_SQRT2
#undef M_SQRT1_2
