// Softmax and cross-entropy of rows, each computed by a team of threads; see teams.cuh.
//
// What moves, against the least possible, in elements of T a column (of a row that fits, and of one
// that does not):
//
//     softmax, log_softmax            2 and 3 of 2      x; y
//     softmax_vjp, log_softmax_vjp    3 and 5 of 3      g, y; dx
//     cross_entropy                   1 and 1 of 1      x
//     cross_entropy_vjp               2 and 2 of 2      x; dx

constexpr A LOWEST = A(sizeof(A) == 4 ? -3.4028234663852886e38 : -1.7976931348623157e308);

// The largest of some numbers x, sum(exp(x - top)), and, for smoothing, sum(x - top).
struct Exponentials {
    A top, total, shifted, count;

    static __device__ __forceinline__ Exponentials nothing() { return {LOWEST, 0, 0, 0}; }

    __device__ __forceinline__ void raise(A to) {
        if (!(to > top)) return;
        total *= exp(top - to);
        if (count) shifted += count * (top - to);
        top = to;
    }

    static __device__ __forceinline__ Exponentials join(Exponentials a, Exponentials b) {
        a.raise(b.top), b.raise(a.top);
        return {a.top, a.total + b.total, a.shifted + b.shifted, a.count + b.count};
    }

    __device__ __forceinline__ Exponentials shuffled(int by) const {
        return {__shfl_xor_sync(ALL, top, by), __shfl_xor_sync(ALL, total, by),
                __shfl_xor_sync(ALL, shifted, by), __shfl_xor_sync(ALL, count, by)};
    }
};

// By one pass over a row, of which nothing has to be known before.
__device__ __forceinline__ Exponentials exponentials(const Row& at, const T* x) {
    Exponentials found = Exponentials::nothing();
    each<0>(at, [&](int, int j) {
        const Words pack = at.read(x, j, T(-INFINITY));
        A top = pack[0];
        #pragma unroll
        for (int i = 1; i < WIDTH; ++i) top = Max::join(top, pack[i]);
        found.raise(top);
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if (!at.has(j + i)) continue;
            const A shifted = pack[i] - found.top;
            found.total += exp(shifted);
            found.shifted += shifted;
            found.count += 1;
        }
    });
    return over_team(found, at.size);
}

template <int PACKS>
__device__ __forceinline__ A largest(const Row& at, const Held<PACKS>& x) {
    A top = -INFINITY;
    each<PACKS>(at, [&](int k, int) {
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) top = Max::join(top, x(k)[i]);
    });
    return over_team(Top{top}, at.size).value;
}

// ---------------------------------------------------------------------------- softmax

template <int PACKS>
__device__ __forceinline__ void softmax_by(const T* x, T* __restrict__ y, i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    x += at.start, y += at.start;
    if constexpr (PACKS > 0) {
        const Held<PACKS> held(at, x, T(-INFINITY));
        const A top = largest(at, held);
        A e[PACKS][WIDTH], total = 0;
        each<PACKS>(at, [&](int k, int) {
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) total += e[k][i] = exp(held(k)[i] - top);
        });
        const A factor = 1 / over_team(Two{total, 0}, at.size).first;
        each<PACKS>(at, [&](int k, int j) {
            Words result;
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) result.put(i, T(e[k][i] * factor));
            at.write(y, j, result);
        });
    } else {
        const Exponentials all = exponentials(at, x);
        const A factor = 1 / all.total;
        each<0>(at, [&](int, int j) {
            const Words pack = at.read(x, j, T(-INFINITY));
            Words result;
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) result.put(i, T(exp(pack[i] - all.top) * factor));
            at.write(y, j, result);
        });
    }
}

// y (g - sum(g y))
template <int PACKS>
__device__ __forceinline__ void softmax_vjp_by(
    const T* g, const T* y, T* __restrict__ dx, i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(y, rows, columns, size);
    const Held<PACKS> given(at, g + at.start, T(0)), value(at, y + at.start, T(0));
    A total = 0;
    each<PACKS>(at, [&](int k, int) {
        const Words &a = given(k), &b = value(k);
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) total += a[i] * b[i];
    });
    total = over_team(Two{total, 0}, at.size).first;
    each<PACKS>(at, [&](int k, int j) {
        const Words &a = given(k), &b = value(k);
        Words result;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) result.put(i, T(b[i] * (a[i] - total)));
        at.write(dx + at.start, j, result);
    });
}

// x - log(sum(exp(x))); a finite x has a finite result, and minus infinity stays what it is
template <int PACKS>
__device__ __forceinline__ void log_softmax_by(const T* x, T* __restrict__ y, i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    x += at.start, y += at.start;
    const Held<PACKS> held(at, x, T(-INFINITY));
    A top, total = 0;
    if constexpr (PACKS > 0) {
        top = largest(at, held);
        each<PACKS>(at, [&](int k, int) {
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) total += exp(held(k)[i] - top);
        });
        total = over_team(Two{total, 0}, at.size).first;
    } else {
        const Exponentials all = exponentials(at, x);
        top = all.top, total = all.total;
    }
    total = log(total);
    each<PACKS>(at, [&](int k, int j) {
        const Words& pack = held(k);
        Words result;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const A value = pack[i], shifted = value - top;
            const A finite = (shifted == -INFINITY ? LOWEST : shifted) - total;
            result.put(i, T(value == -INFINITY ? value : finite));
        }
        at.write(y, j, result);
    });
}

// g - exp(y) sum(g)
template <int PACKS>
__device__ __forceinline__ void log_softmax_vjp_by(
    const T* g, const T* y, T* __restrict__ dx, i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(y, rows, columns, size);
    const Held<PACKS> given(at, g + at.start, T(0)), value(at, y + at.start, T(0));
    A total = 0;
    each<PACKS>(at, [&](int k, int) {
        const Words& a = given(k);
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) total += a[i];
    });
    total = over_team(Two{total, 0}, at.size).first;
    each<PACKS>(at, [&](int k, int j) {
        const Words &a = given(k), &b = value(k);
        Words result;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) result.put(i, T(a[i] - exp(b[i]) * total));
        at.write(dx + at.start, j, result);
    });
}

TEAM_KERNEL(softmax, (const T* x, T* __restrict__ y, i64 rows, i64 columns, i64 size),
            (x, y, rows, columns, size))
TEAM_KERNEL(softmax_vjp, (const T* g, const T* y, T* __restrict__ dx, i64 rows, i64 columns, i64 size),
            (g, y, dx, rows, columns, size))
TEAM_KERNEL(log_softmax, (const T* x, T* __restrict__ y, i64 rows, i64 columns, i64 size),
            (x, y, rows, columns, size))
TEAM_KERNEL(log_softmax_vjp, (const T* g, const T* y, T* __restrict__ dx, i64 rows, i64 columns, i64 size),
            (g, y, dx, rows, columns, size))

// ---------------------------------------------------------------------- cross-entropy

// log(sum(exp(x))) - ((1 - s) x[label] + s mean(x)), and NaN where there is no such class; the
// logarithm is kept.
extern "C" __global__ void __launch_bounds__(512) cross_entropy(
    const T* x, const i64* labels, A* loss, A* logarithm, double smoothing, i64 rows, i64 columns,
    i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    const Exponentials all = exponentials(at, x + at.start);
    if (at.lane || !at.columns) return;
    const i64 label = labels[at.index];
    const bool there = label >= 0 && label < at.columns;
    A target = there ? A(x[at.start + label]) - all.top : A(NAN);
    if (smoothing) target = A(1 - smoothing) * target + A(smoothing) * all.shifted / at.columns;
    const A total = log(all.total);
    loss[at.index] = total - target;
    logarithm[at.index] = total + all.top;
}

// (softmax(x) - target) g; one g a row, or `scale` times one for all
extern "C" __global__ void __launch_bounds__(512) cross_entropy_vjp(
    const A* g, i64 g_step, double scale, const T* x, const i64* labels, const A* logarithm, T* __restrict__ dx,
    double smoothing, i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    if (!at.columns) return;
    const i64 label = labels[at.index];
    const bool there = label >= 0 && label < at.columns;
    const A factor = there ? g[at.index * g_step] * A(scale) : A(NAN), end = logarithm[at.index];
    const A others = A(smoothing) / at.columns, one = A(1 - smoothing);
    each<0>(at, [&](int, int j) {
        const Words pack = at.read(x + at.start, j, T(0));
        Words result;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const A target = others + (j + i == label ? one : A(0));
            result.put(i, T((exp(pack[i] - end) - target) * factor));
        }
        at.write(dx + at.start, j, result);
    });
}
