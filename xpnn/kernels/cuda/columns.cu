// Windows of images, channels last: as columns, back again, and depthwise convolution.
//
// Tap (i, j) of window (h, w) sees the pixel (h s + i d - p, w s + j d - p). A block takes some
// places at a time, windows or pixels; the lanes of a place stride over what belongs to it. V is
// how many neighbouring channels a thread moves at once.

// One axis of images and of windows.
struct Line {
    int length, windows, taps, stride, dilation, before;

    // The element that tap i of window h sees, or -1 in the padding.
    __device__ __forceinline__ int seen(int h, int i) const {
        const int u = h * stride + i * dilation - before;
        return u < 0 || u >= length ? -1 : u;
    }

    // The window that sees element u with tap i, or -1.
    __device__ __forceinline__ int seer(int u, int i) const {
        const int from = u + before - i * dilation, h = stride == 1 ? from : from / stride;
        return from < 0 || h >= windows || h * stride != from ? -1 : h;
    }
};

struct Sizes {
    i64 places;
    u32 lanes, channels, groups;
    Line down, across;

    // Calls f(tap, h, w) for each window that sees a pixel, tap by tap.
    template <typename F>
    __device__ __forceinline__ void each_seer(int u, int v, F f) const {
        for (int i = 0; i < down.taps; ++i) {
            const int h = down.seer(u, i);
            if (h < 0) continue;
            for (int j = 0; j < across.taps; ++j) {
                const int w = across.seer(v, j);
                if (w >= 0) f((u32)(i * across.taps + j), h, w);
            }
        }
    }

    // Calls f(tap, u, v) for each pixel that a window sees, tap by tap.
    template <typename F>
    __device__ __forceinline__ void each_seen(int h, int w, F f) const {
        for (int i = 0; i < down.taps; ++i) {
            const int u = down.seen(h, i);
            if (u < 0) continue;
            for (int j = 0; j < across.taps; ++j) {
                const int v = across.seen(w, j);
                if (v >= 0) f((u32)(i * across.taps + j), u, v);
            }
        }
    }
};

// Where a place lies among images of a height and a width.
struct Place {
    i64 image;
    int h, w;
    __device__ __forceinline__ Place(i64 place, u32 height, u32 width) {
        const u32 row = (u32)place / width;
        w = (u32)place - row * width;
        image = row / height;
        h = row - (u32)image * height;
    }
};

template <int V>
struct alignas(V * sizeof(T)) Some { T at[V]; };

template <int V>
__device__ __forceinline__ Some<V> rounded(const A* sums) {
    Some<V> result;
    #pragma unroll
    for (int k = 0; k < V; ++k) result.at[k] = T(sums[k]);
    return result;
}

template <int V>
__device__ __forceinline__ void add_products(A* sums, const Some<V>& a, const Some<V>& b) {
    #pragma unroll
    for (int k = 0; k < V; ++k) sums[k] += A(a.at[k]) * A(b.at[k]);
}

#define EACH_PLACE(place, s)                                                              \
    const u32 lane = threadIdx.x % s.lanes, together = blockDim.x / s.lanes;              \
    for (i64 place = (i64)blockIdx.x * together + threadIdx.x / s.lanes; place < s.places; \
         place += (i64)gridDim.x * together)

// ---------------------------------------------------------------------------- columns

// x (N, H, W, groups c) -> (groups, places, taps c)
template <int V>
__device__ __forceinline__ void im2col_by(const T* from, T* to, const Sizes s) {
    const Some<V>* x = (const Some<V>*)from;
    Some<V>* y = (Some<V>*)to;
    const u32 all = s.channels / V, c = all / s.groups, row = s.down.taps * s.across.taps * c;
    EACH_PLACE(place, s) {
        const Place at(place, s.down.windows, s.across.windows);
        for (u32 r = lane; r < row * s.groups; r += s.lanes) {
            const u32 group = r / row, rest = r - group * row, tap = rest / c;
            const int i = tap / (u32)s.across.taps, j = tap - i * s.across.taps;
            const int u = s.down.seen(at.h, i), v = s.across.seen(at.w, j);
            const A nothing[V] = {};
            Some<V> value = rounded<V>(nothing);
            if (u >= 0 && v >= 0) {
                const i64 pixel = (at.image * s.down.length + u) * s.across.length + v;
                value = x[pixel * all + group * c + (rest - tap * c)];
            }
            y[(group * s.places + place) * row + rest] = value;
        }
    }
}

// The transpose: each pixel adds up, tap by tap, what the windows that see it have for it.
template <int V>
__device__ __forceinline__ void col2im_by(const T* from, T* to, const Sizes s) {
    const Some<V>* x = (const Some<V>*)from;
    Some<V>* y = (Some<V>*)to;
    const u32 all = s.channels / V, c = all / s.groups, row = s.down.taps * s.across.taps * c;
    const i64 pixels = (i64)s.down.length * s.across.length;
    const i64 windows = s.places / pixels * s.down.windows * s.across.windows;
    EACH_PLACE(place, s) {
        const Place at(place, s.down.length, s.across.length);
        for (u32 r = lane; r < all; r += s.lanes) {
            const u32 group = r / c, channel = r - group * c;
            A sums[V] = {};
            s.each_seer(at.h, at.w, [&](u32 tap, int h, int w) {
                const i64 window = (at.image * s.down.windows + h) * s.across.windows + w;
                const Some<V> value = x[(group * windows + window) * row + tap * c + channel];
                #pragma unroll
                for (int k = 0; k < V; ++k) sums[k] += A(value.at[k]);
            });
            y[place * all + r] = rounded<V>(sums);
        }
    }
}

// -------------------------------------------------------------------------- depthwise

// Each channel is a group. Feature o sees channel o / times; with V > 1, times is 1.
template <int V>
__device__ __forceinline__ void depthwise_by(
    const T* from, const T* weight, const T* bias, T* to, bool relu, u32 times, const Sizes s) {
    const Some<V>*x = (const Some<V>*)from, *factor = (const Some<V>*)weight;
    Some<V>* y = (Some<V>*)to;
    const u32 c = s.channels / V, features = c * times;
    EACH_PLACE(place, s) {
        const Place at(place, s.down.windows, s.across.windows);
        for (u32 o = lane; o < features; o += s.lanes) {
            A sums[V] = {};
            s.each_seen(at.h, at.w, [&](u32 tap, int u, int v) {
                const i64 pixel = (at.image * s.down.length + u) * s.across.length + v;
                add_products<V>(sums, x[pixel * c + o / times], factor[tap * features + o]);
            });
            #pragma unroll
            for (int k = 0; k < V; ++k) {
                if (bias) sums[k] += A(bias[o * V + k]);
                if (relu && sums[k] < 0) sums[k] = 0;  // a NaN stays one
            }
            y[place * features + o] = rounded<V>(sums);
        }
    }
}

template <int V>
__device__ __forceinline__ void depthwise_dx_by(
    const T* from, const T* weight, T* to, u32 times, const Sizes s) {
    const Some<V>*g = (const Some<V>*)from, *factor = (const Some<V>*)weight;
    Some<V>* dx = (Some<V>*)to;
    const u32 c = s.channels / V, features = c * times;
    EACH_PLACE(place, s) {
        const Place at(place, s.down.length, s.across.length);
        for (u32 channel = lane; channel < c; channel += s.lanes) {
            A sums[V] = {};
            s.each_seer(at.h, at.w, [&](u32 tap, int h, int w) {
                const i64 window = (at.image * s.down.windows + h) * s.across.windows + w;
                for (u32 o = channel * times; o < (channel + 1) * times; ++o)
                    add_products<V>(sums, g[window * features + o], factor[tap * features + o]);
            });
            dx[place * c + channel] = rounded<V>(sums);
        }
    }
}

#define SIZES                                                                             \
    i64 places, i64 lanes, i64 channels, i64 groups, i64 height, i64 width, i64 down,     \
    i64 across, i64 taps_down, i64 taps_across, i64 stride_down, i64 stride_across,       \
    i64 dilation_down, i64 dilation_across, i64 before_down, i64 before_across
#define GIVEN                                                                             \
    Sizes{places, (u32)lanes, (u32)channels, (u32)groups,                                 \
          {(int)height, (int)down, (int)taps_down, (int)stride_down, (int)dilation_down,  \
           (int)before_down},                                                             \
          {(int)width, (int)across, (int)taps_across, (int)stride_across,                 \
           (int)dilation_across, (int)before_across}}

// A kernel of a channel a thread, and one of as many as sixteen bytes hold.
#define KERNEL(name, parameters, arguments)                                               \
    extern "C" __global__ void name parameters { name##_by<1> arguments; }                \
    extern "C" __global__ void name##_wide parameters { name##_by<WIDTH> arguments; }

KERNEL(im2col, (const T* x, T* y, SIZES), (x, y, GIVEN))
KERNEL(col2im, (const T* x, T* y, SIZES), (x, y, GIVEN))
KERNEL(depthwise,
       (const T* x, const T* weight, const T* bias, T* y, i64 relu, i64 times, SIZES),
       (x, weight, bias, y, relu, times, GIVEN))
KERNEL(depthwise_dx, (const T* g, const T* weight, T* dx, i64 times, SIZES),
       (g, weight, dx, times, GIVEN))

// sum over places of x and g for TAPS taps of a feature: a part of the places a row of blocks.
constexpr int TAPS = 9;

extern "C" __global__ void depthwise_dw(const T* x, const T* g, A* dw, i64 times, SIZES) {
    const Sizes s = GIVEN;
    __shared__ A box[256];
    const u32 features = s.channels * (u32)times, lane = threadIdx.x % s.lanes;
    const u32 o = blockIdx.x * s.lanes + lane, row = threadIdx.x / s.lanes;
    const u32 together = blockDim.x / s.lanes;
    const int taps = s.down.taps * s.across.taps, first = blockIdx.z * TAPS;
    A sums[TAPS] = {};
    for (i64 place = (i64)blockIdx.y * together + row; o < features && place < s.places;
         place += (i64)gridDim.y * together) {
        const Place at(place, s.down.windows, s.across.windows);
        const A value = A(g[place * features + o]);
        const T* from = x + at.image * s.down.length * s.across.length * s.channels + o / (u32)times;
        #pragma unroll
        for (int k = 0; k < TAPS; ++k) {
            const int tap = first + k, i = tap / s.across.taps, j = tap - i * s.across.taps;
            const int u = tap < taps ? s.down.seen(at.h, i) : -1, v = s.across.seen(at.w, j);
            if (u >= 0 && v >= 0)
                sums[k] += value * A(from[((i64)u * s.across.length + v) * s.channels]);
        }
    }
    #pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        __syncthreads();  // nobody still reads the sums of the tap before
        box[threadIdx.x] = sums[k];
        __syncthreads();
        if (row == 0 && o < features && first + k < taps) {
            A total = 0;
            for (u32 r = 0; r < together; ++r) total += box[r * s.lanes + lane];
            dw[((i64)blockIdx.y * taps + first + k) * features + o] = total;
        }
    }
}
