// Pooling of images, channels last: window (h, w) sees the pixels (h s + i - p, w s + j - p).
//
// A row of blocks takes a row of windows, or of pixels, of one image. V is how many neighbouring
// channels a thread moves at once, and I the type of a place within a window.

template <int V>
struct alignas(V * sizeof(T)) Some { T at[V]; };

template <typename I, int V>
struct alignas(V * sizeof(I)) Places { I at[V]; };

// One axis of images and of windows.
struct Line {
    int length, windows, taps, stride, before;

    // What window h sees of the axis: [first, stop).
    __device__ __forceinline__ int first(int h) const { return max(h * stride - before, 0); }
    __device__ __forceinline__ int stop(int h) const {
        return min(h * stride - before + taps, length);
    }

    // The windows that see element u: [from, to).
    __device__ __forceinline__ int from(int u) const {
        const int late = u + before - taps + 1;
        return late <= 0 ? 0 : (late + stride - 1) / stride;
    }
    __device__ __forceinline__ int to(int u) const {
        return min((u + before) / stride + 1, windows);
    }

    // How many elements window h counts; the padding, which ends at `end`, may be among them.
    __device__ __forceinline__ int count(int h, int end, bool padding) const {
        if (!padding) return stop(h) - first(h);
        return min(h * stride - before + taps, end) - (h * stride - before);
    }
};

struct Sizes {
    i64 channels;
    Line down, across;
    int end_down, end_across;
};

#define EACH_IN_ROW(j, n) \
    for (u32 j = blockIdx.y * blockDim.x + threadIdx.x; j < (u32)(n); j += gridDim.y * blockDim.x)

// The largest of each window, and which it is: the first of equals, the first of all for a NaN.
template <typename I, int V>
__device__ __forceinline__ void max_pool_by(const T* from, T* to, I* places, const Sizes s) {
    const u32 c = s.channels / V;
    const i64 image = blockIdx.x / s.down.windows;
    const int h = blockIdx.x - image * s.down.windows;
    const Some<V>* x = (const Some<V>*)from + image * s.down.length * s.across.length * c;
    const i64 row = (i64)blockIdx.x * s.across.windows * c;
    EACH_IN_ROW(j, s.across.windows * c) {
        const int w = j / c;
        const u32 channel = j - w * c;
        const int top = h * s.down.stride - s.down.before, left = w * s.across.stride - s.across.before;
        A best[V];
        Places<I, V> place;
        #pragma unroll
        for (int k = 0; k < V; ++k) best[k] = -INFINITY, place.at[k] = 0;
        for (int u = s.down.first(h); u < s.down.stop(h); ++u)
            for (int v = s.across.first(w); v < s.across.stop(w); ++v) {
                const Some<V> value = x[((i64)u * s.across.length + v) * c + channel];
                const I tap = (u - top) * s.across.taps + (v - left);
                #pragma unroll
                for (int k = 0; k < V; ++k) {
                    const A found = A(value.at[k]);
                    if (found > best[k]) best[k] = found, place.at[k] = tap;
                    if (found != found) best[k] = found, place.at[k] = 0;
                }
            }
        Some<V> largest;
        #pragma unroll
        for (int k = 0; k < V; ++k) largest.at[k] = T(best[k]);
        ((Some<V>*)to)[row + j] = largest;
        ((Places<I, V>*)places)[row + j] = place;
    }
}

// Calls f(window, tap, h, w) for the windows that see pixel j of a row, in their order.
template <typename F>
__device__ __forceinline__ void each_window(const Sizes& s, i64 image, int u, int v, F f) {
    for (int h = s.down.from(u); h < s.down.to(u); ++h)
        for (int w = s.across.from(v); w < s.across.to(v); ++w) {
            const int i = u - h * s.down.stride + s.down.before;
            const int k = v - w * s.across.stride + s.across.before;
            f((image * s.down.windows + h) * s.across.windows + w, i * s.across.taps + k, h, w);
        }
}

template <typename I, int V>
__device__ __forceinline__ void max_pool_dx_by(
    const T* from, const I* places, T* to, const Sizes s) {
    const u32 c = s.channels / V;
    const i64 image = blockIdx.x / s.down.length;
    const int u = blockIdx.x - image * s.down.length;
    const Some<V>* g = (const Some<V>*)from;
    const i64 row = (i64)blockIdx.x * s.across.length * c;
    EACH_IN_ROW(j, s.across.length * c) {
        const int v = j / c;
        const u32 channel = j - v * c;
        A sums[V] = {};
        each_window(s, image, u, v, [&](i64 window, int tap, int, int) {
            const Places<I, V> place = ((const Places<I, V>*)places)[window * c + channel];
            const Some<V> value = g[window * c + channel];
            #pragma unroll
            for (int k = 0; k < V; ++k)
                if ((int)place.at[k] == tap) sums[k] += A(value.at[k]);
        });
        Some<V> total;
        #pragma unroll
        for (int k = 0; k < V; ++k) total.at[k] = T(sums[k]);
        ((Some<V>*)to)[row + j] = total;
    }
}

// Sums, or averages over what is counted: mode 0 sums, 1 counts pixels, 2 the padding as well.
__device__ __forceinline__ A share(const Sizes& s, int mode, int h, int w) {
    if (mode == 0) return 1;
    const int rows = s.down.count(h, s.end_down, mode == 2);
    return A(1) / (rows * s.across.count(w, s.end_across, mode == 2));
}

template <int V>
__device__ __forceinline__ void avg_pool_by(const T* from, T* to, int mode, const Sizes s) {
    const u32 c = s.channels / V;
    const i64 image = blockIdx.x / s.down.windows;
    const int h = blockIdx.x - image * s.down.windows;
    const Some<V>* x = (const Some<V>*)from + image * s.down.length * s.across.length * c;
    const i64 row = (i64)blockIdx.x * s.across.windows * c;
    EACH_IN_ROW(j, s.across.windows * c) {
        const int w = j / c;
        const u32 channel = j - w * c;
        A sums[V] = {};
        for (int u = s.down.first(h); u < s.down.stop(h); ++u)
            for (int v = s.across.first(w); v < s.across.stop(w); ++v) {
                const Some<V> value = x[((i64)u * s.across.length + v) * c + channel];
                #pragma unroll
                for (int k = 0; k < V; ++k) sums[k] += A(value.at[k]);
            }
        const A part = share(s, mode, h, w);
        Some<V> total;
        #pragma unroll
        for (int k = 0; k < V; ++k) total.at[k] = T(sums[k] * part);
        ((Some<V>*)to)[row + j] = total;
    }
}

template <int V>
__device__ __forceinline__ void avg_pool_dx_by(const T* from, T* to, int mode, const Sizes s) {
    const u32 c = s.channels / V;
    const i64 image = blockIdx.x / s.down.length;
    const int u = blockIdx.x - image * s.down.length;
    const Some<V>* g = (const Some<V>*)from;
    const i64 row = (i64)blockIdx.x * s.across.length * c;
    EACH_IN_ROW(j, s.across.length * c) {
        const int v = j / c;
        const u32 channel = j - v * c;
        A sums[V] = {};
        each_window(s, image, u, v, [&](i64 window, int, int h, int w) {
            const A part = share(s, mode, h, w);
            const Some<V> value = g[window * c + channel];
            #pragma unroll
            for (int k = 0; k < V; ++k) sums[k] += A(value.at[k]) * part;
        });
        Some<V> total;
        #pragma unroll
        for (int k = 0; k < V; ++k) total.at[k] = T(sums[k]);
        ((Some<V>*)to)[row + j] = total;
    }
}

#define SIZES                                                                             \
    i64 channels, i64 height, i64 width, i64 down, i64 across, i64 taps_down,             \
    i64 taps_across, i64 stride_down, i64 stride_across, i64 before_down,                 \
    i64 before_across, i64 end_down, i64 end_across
#define GIVEN                                                                             \
    Sizes{channels,                                                                       \
          {(int)height, (int)down, (int)taps_down, (int)stride_down, (int)before_down},   \
          {(int)width, (int)across, (int)taps_across, (int)stride_across,                 \
           (int)before_across},                                                           \
          (int)end_down, (int)end_across}

typedef unsigned char u8;

#define MAXIMUM(name, I, V)                                                               \
    extern "C" __global__ void max_pool##name(const T* x, T* y, I* places, SIZES) {       \
        max_pool_by<I, V>(x, y, places, GIVEN);                                           \
    }                                                                                     \
    extern "C" __global__ void max_pool_dx##name(                                         \
        const T* g, const I* places, T* dx, SIZES) {                                      \
        max_pool_dx_by<I, V>(g, places, dx, GIVEN);                                       \
    }

MAXIMUM(, u8, 1)
MAXIMUM(_wide, u8, WIDTH)
MAXIMUM(_large, int, 1)
MAXIMUM(_large_wide, int, WIDTH)

#define AVERAGE(name, V)                                                                  \
    extern "C" __global__ void avg_pool##name(const T* x, T* y, i64 mode, SIZES) {        \
        avg_pool_by<V>(x, y, mode, GIVEN);                                                \
    }                                                                                     \
    extern "C" __global__ void avg_pool_dx##name(const T* g, T* dx, i64 mode, SIZES) {    \
        avg_pool_dx_by<V>(g, dx, mode, GIVEN);                                            \
    }

AVERAGE(, 1)
AVERAGE(_wide, WIDTH)
