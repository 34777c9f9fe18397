// Batch normalization: sums over all places of a channel, in two steps, and maps of channels.
//
// An array is `rows` packs of V neighbouring elements a channel. With channels last, a pack lies
// across V channels, and the `lanes` of a row take neighbouring packs. Channels first, it lies
// within one channel, and `inner` packs follow each other until the next channel begins. The
// blocks of a column of the grid share out the rows of the same channels.

template <int V>
struct alignas(V * sizeof(T)) Some { T at[V]; };

struct Layout {
    u32 rows, channels, inner, lanes;  // inner is 0 with channels last

    __device__ __forceinline__ u32 pack() const { return blockIdx.x * lanes + threadIdx.x % lanes; }
    __device__ __forceinline__ u32 packs(int V) const { return inner ? channels : channels / V; }
    __device__ __forceinline__ u32 row() const { return threadIdx.x / lanes; }
    __device__ __forceinline__ u32 together() const { return blockDim.x / lanes; }

    // The channel of element k of a pack.
    template <int V>
    __device__ __forceinline__ u32 channel(u32 pack, int k) const {
        return inner ? pack : pack * V + k;
    }

    // Calls f(where a pack of the thread's channels lies) for each of its rows.
    template <int V, typename F>
    __device__ __forceinline__ void each(F f) const {
        const u32 mine = pack(), all = packs(V), step = gridDim.y * together();
        if (mine >= all) return;
        #pragma unroll 4
        for (i64 r = (i64)blockIdx.y * together() + row(); r < rows; r += step) {
            if (inner) {
                const u32 outer = (u32)r / inner;
                f(((i64)outer * all + mine) * inner + ((u32)r - outer * inner));
            } else {
                f(r * all + mine);
            }
        }
    }
};

// Join what the threads of a block have for the same channels, into that of row 0.
template <typename R>
__device__ __forceinline__ R over_rows(R value, R* box, const Layout& at) {
    __syncthreads();  // nobody still reads the box of a call before
    box[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = at.together() / 2; half; half /= 2) {
        if (at.row() < half) box[threadIdx.x] = R::join(box[threadIdx.x], box[threadIdx.x + half * at.lanes]);
        __syncthreads();
    }
    return box[threadIdx.x];
}

// Write what a block found: for each of V channels, or for their one.
template <int V, typename R>
__device__ __forceinline__ void write_part(const R* found, R* parts, const Layout& at) {
    __shared__ R box[256];
    R joined = found[0];
    #pragma unroll
    for (int k = 1; k < V; ++k)
        if (at.inner) joined = R::join(joined, found[k]);
    #pragma unroll  // so that no register of a thread has to be memory
    for (int k = 0; k < V; ++k) {
        if (k > 0 && at.inner) continue;
        const R total = over_rows<R>(at.inner ? joined : found[k], box, at);
        const u32 channel = at.channel<V>(at.pack(), k);
        if (at.row() == 0 && channel < at.channels)
            parts[(i64)channel * gridDim.y + blockIdx.y] = total;
    }
}

// A warp joins the parts of a channel.
template <typename R>
__device__ __forceinline__ R joined_parts(const R* parts, u32 count) {
    R total = R::nothing();
    for (u32 p = threadIdx.x % 32; p < count; p += 32) total = R::join(total, parts[p]);
    for (int by = 16; by; by /= 2) total = R::join(total, total.shuffled(by));
    return total;
}

// ------------------------------------------------------------------------- statistics

template <int V>
__device__ __forceinline__ void moments_by(const T* x, A* parts, const Layout at) {
    Moments found[V];
    A count = 0;
    #pragma unroll
    for (int k = 0; k < V; ++k) found[k] = Moments::nothing();
    at.each<V>([&](i64 i) {
        const Some<V> value = ((const Some<V>*)x)[i];
        count += 1;
        const A one_over_count = 1 / count;
        #pragma unroll
        for (int k = 0; k < V; ++k) found[k].add(A(value.at[k]), one_over_count);
    });
    #pragma unroll
    for (int k = 0; k < V; ++k) found[k].count = count;
    write_part<V>(found, (Moments*)parts, at);
}

extern "C" __global__ void statistics(
    const A* parts, A* mean, A* var, A* inverse, i64 channels, i64 count, double epsilon) {
    const i64 channel = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (channel >= channels) return;
    const Moments all = joined_parts((const Moments*)parts + channel * count, count);
    if (threadIdx.x % 32) return;
    mean[channel] = all.mean;
    var[channel] = all.squares / all.count;
    inverse[channel] = 1 / sqrt(all.squares / all.count + A(epsilon));
}

// ------------------------------------------------------------------------ of channels

// What becomes of x in a channel: (x - mean) factor + shift.
struct Map {
    A mean, factor, shift;

    static __device__ __forceinline__ Map of(
        u32 c, const A* mean, const A* inverse, const A* scale, const A* shift) {
        return {mean[c], scale ? inverse[c] * scale[c] : inverse[c], shift ? shift[c] : A(0)};
    }

    // With a given variance; there may be no mean.
    static __device__ __forceinline__ Map given(
        u32 c, const A* mean, const A* var, const A* scale, const A* shift, A epsilon) {
        const A inverse = 1 / sqrt(var[c] + epsilon);
        return {mean ? mean[c] : A(0), scale ? inverse * scale[c] : inverse,
                shift ? shift[c] : A(0)};
    }

    // The same number in all kernels, which ask for its sign: a fused product is spelt out.
    __device__ __forceinline__ A operator()(A x) const { return fma(x - mean, factor, shift); }
};

template <int V>
__device__ __forceinline__ void load_maps(
    Map* maps, const A* mean, const A* inverse, const A* scale, const A* shift, const Layout& at) {
    #pragma unroll
    for (int k = 0; k < V; ++k) {
        const u32 channel = at.channel<V>(at.pack(), k);
        if (channel < at.channels) maps[k] = Map::of(channel, mean, inverse, scale, shift);
    }
}

template <int V>
__device__ __forceinline__ void mapped_by(
    const T* x, const A* mean, const A* inverse, const A* scale, const A* shift, T* y,
    bool rectified, const Layout at) {
    Map maps[V] = {};
    load_maps<V>(maps, mean, inverse, scale, shift, at);
    at.each<V>([&](i64 i) {
        const Some<V> value = ((const Some<V>*)x)[i];
        Some<V> result;
        #pragma unroll
        for (int k = 0; k < V; ++k) {
            const A mapped = maps[k](A(value.at[k]));
            result.at[k] = T(rectified && mapped < 0 ? A(0) : mapped);  // a NaN stays one
        }
        ((Some<V>*)y)[i] = result;
    });
}

template <int V>
__device__ __forceinline__ void inferred_by(
    const T* x, const A* mean, const A* var, const A* scale, const A* shift, T* y, A epsilon,
    const Layout at) {
    Map maps[V] = {};
    #pragma unroll
    for (int k = 0; k < V; ++k) {
        const u32 channel = at.channel<V>(at.pack(), k);
        if (channel < at.channels) maps[k] = Map::given(channel, mean, var, scale, shift, epsilon);
    }
    at.each<V>([&](i64 i) {
        const Some<V> value = ((const Some<V>*)x)[i];
        Some<V> result;
        #pragma unroll
        for (int k = 0; k < V; ++k) result.at[k] = T(maps[k](A(value.at[k])));
        ((Some<V>*)y)[i] = result;
    });
}

// -------------------------------------------------------------------------- gradients

// Sums of g, and of g (x - mean).
struct Products {
    A sum, product;

    static __device__ __forceinline__ Products nothing() { return {0, 0}; }
    static __device__ __forceinline__ Products join(const Products& a, const Products& b) {
        return {a.sum + b.sum, a.product + b.product};
    }
    __device__ __forceinline__ Products shuffled(int by) const {
        return {__shfl_xor_sync(ALL, sum, by), __shfl_xor_sync(ALL, product, by)};
    }
};

// With g where y is positive, if it was rectified.
template <int V>
__device__ __forceinline__ void products_by(
    const T* g, const T* x, const A* mean, const A* inverse, const A* scale, const A* shift,
    A* parts, bool rectified, const Layout at) {
    Map maps[V] = {};
    load_maps<V>(maps, mean, inverse, scale, shift, at);
    Products found[V];
    #pragma unroll
    for (int k = 0; k < V; ++k) found[k] = Products::nothing();
    at.each<V>([&](i64 i) {
        const Some<V> given = ((const Some<V>*)g)[i], value = ((const Some<V>*)x)[i];
        #pragma unroll
        for (int k = 0; k < V; ++k) {
            if (rectified && !(maps[k](A(value.at[k])) > 0)) continue;
            found[k].sum += A(given.at[k]);
            found[k].product += A(given.at[k]) * (A(value.at[k]) - maps[k].mean);
        }
    });
    write_part<V>(found, (Products*)parts, at);
}

// dx = factor g - slope (x - mean) - level; there are no parts if y got no gradient.
extern "C" __global__ void slopes(
    const A* parts, const A* inverse, const A* scale, const A* g_mean, const A* g_var, A* d_scale,
    A* d_shift, A* slope, A* level, i64 channels, i64 count, double places) {
    const i64 c = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (c >= channels) return;
    const Products all = joined_parts((const Products*)parts + c * count, count);
    if (threadIdx.x % 32) return;
    d_shift[c] = all.sum;
    d_scale[c] = all.product * inverse[c];
    const A factor = scale ? inverse[c] * scale[c] : inverse[c], n = A(places);
    slope[c] = (factor * inverse[c] * inverse[c] * all.product - (g_var ? 2 * g_var[c] : A(0))) / n;
    level[c] = (factor * all.sum - (g_mean ? g_mean[c] : A(0))) / n;
}

// Where mean and variance were given.
extern "C" __global__ void inferred_sums(
    const A* parts, const A* var, const A* scale, A* d_mean, A* d_var, A* d_scale, A* d_shift,
    i64 channels, i64 count, double epsilon) {
    const i64 c = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (c >= channels) return;
    const Products all = joined_parts((const Products*)parts + c * count, count);
    if (threadIdx.x % 32) return;
    const A inverse = 1 / sqrt(var[c] + A(epsilon)), factor = scale ? inverse * scale[c] : inverse;
    d_mean[c] = -factor * all.sum;
    d_var[c] = A(-0.5) * factor * inverse * inverse * all.product;
    d_scale[c] = all.product * inverse;
    d_shift[c] = all.sum;
}

template <int V>
__device__ __forceinline__ void batch_dx_by(
    const T* g, const T* x, const A* mean, const A* inverse, const A* scale, const A* shift,
    const A* slope, const A* level, T* dx, bool rectified, const Layout at) {
    Map maps[V] = {};
    load_maps<V>(maps, mean, inverse, scale, shift, at);
    A slopes[V] = {}, levels[V] = {};
    #pragma unroll
    for (int k = 0; k < V; ++k) {
        const u32 channel = at.channel<V>(at.pack(), k);
        if (channel < at.channels) slopes[k] = slope[channel], levels[k] = level[channel];
    }
    at.each<V>([&](i64 i) {
        const Some<V> value = ((const Some<V>*)x)[i];
        Some<V> given = value, result;
        if (g) given = ((const Some<V>*)g)[i];
        #pragma unroll
        for (int k = 0; k < V; ++k) {
            const A at_x = A(value.at[k]);
            const bool passes = g && !(rectified && !(maps[k](at_x) > 0));
            const A through = passes ? maps[k].factor * A(given.at[k]) : A(0);
            result.at[k] = T(through - slopes[k] * (at_x - maps[k].mean) - levels[k]);
        }
        ((Some<V>*)dx)[i] = result;
    });
}

#define LAYOUT i64 rows, i64 channels, i64 inner, i64 lanes
#define AT Layout{(u32)rows, (u32)channels, (u32)inner, (u32)lanes}
#define VECTORS const A *mean, const A *inverse, const A *scale, const A *shift

// A kernel of an element at a time, and one of as many as sixteen bytes hold.
#define KERNEL(name, parameters, arguments)                                               \
    extern "C" __global__ void name parameters { name##_by<1> arguments; }                \
    extern "C" __global__ void name##_wide parameters { name##_by<WIDTH> arguments; }

KERNEL(moments, (const T* x, A* parts, LAYOUT), (x, parts, AT))
KERNEL(mapped, (const T* x, VECTORS, T* y, i64 rectified, LAYOUT),
       (x, mean, inverse, scale, shift, y, rectified, AT))
KERNEL(inferred,
       (const T* x, const A* mean, const A* var, const A* scale, const A* shift, T* y,
        double epsilon, LAYOUT),
       (x, mean, var, scale, shift, y, A(epsilon), AT))
KERNEL(products, (const T* g, const T* x, VECTORS, A* parts, i64 rectified, LAYOUT),
       (g, x, mean, inverse, scale, shift, parts, rectified, AT))
KERNEL(batch_dx,
       (const T* g, const T* x, VECTORS, const A* slope, const A* level, T* dx, i64 rectified,
        LAYOUT),
       (g, x, mean, inverse, scale, shift, slope, level, dx, rectified, AT))
