// Normalization of rows, each computed by a team of threads; see teams.cuh.
//
// What moves, against the least possible, in elements of T a column (of a row that fits, and of one
// that does not); scale and shift stay in the caches:
//
//     normalize                       2 and 3 of 2      x; y
//     normalize_vjp                   3 and 5 of 3      g, x; dx
//     with the sums for scale, shift  3 and 7 of 3      g, x; dx
//
// The sums take two numbers of A more a column and block, written and read once.

// (x - mean) / sqrt(var + epsilon) * scale + shift, by rows; mean is null for that of RMS.
template <int PACKS>
__device__ __forceinline__ void normalize_by(
    const T* x, const T* scale, const T* shift, T* y, A* mean, A* inverse, double epsilon,
    i64 rows, i64 columns, i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    x += at.start, y += at.start;
    const Held<PACKS> held(at, x, T(0));
    const A one_over_n = A(1) / columns;
    A mu = 0, squares = 0;
    if (PACKS > 0 || !mean) {  // the sum, then that of the squared deviations
        if (mean) {
            each<PACKS>(at, [&](int k, int) {
                const Words& pack = held(k);
                #pragma unroll
                for (int i = 0; i < WIDTH; ++i) mu += pack[i];
            });
            mu = over_team(Two{mu, 0}, at.size).first * one_over_n;
        }
        each<PACKS>(at, [&](int k, int j) {
            const Words& pack = held(k);
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const A deviation = at.has(j + i) ? pack[i] - mu : A(0);
                squares += deviation * deviation;
            }
        });
        squares = over_team(Two{squares, 0}, at.size).first;
    } else {  // both by one pass
        Moments found = Moments::nothing();
        each<PACKS>(at, [&](int k, int j) {
            const Words& pack = held(k);
            Moments here = Moments::nothing();
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) here.count += at.has(j + i), here.mean += pack[i];
            here.mean /= here.count;
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const A deviation = at.has(j + i) ? pack[i] - here.mean : A(0);
                here.squares += deviation * deviation;
            }
            found = Moments::join(found, here);
        });
        found = over_team(found, at.size);
        mu = found.mean, squares = found.squares;
    }
    const A factor = 1 / sqrt(squares * one_over_n + A(epsilon));
    each<PACKS>(at, [&](int k, int j) {
        const Words& pack = held(k);
        Words of_scale, of_shift, result;
        if (scale) of_scale = at.read_any(scale, j, T(0));
        if (shift) of_shift = at.read_any(shift, j, T(0));
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            A value = (pack[i] - mu) * factor;
            if (scale) value *= of_scale[i];
            if (shift) value += of_shift[i];
            result.put(i, T(value));
        }
        at.write(y, j, result);
    });
    if (at.lane || !at.columns) return;
    if (mean) mean[at.index] = mu;
    inverse[at.index] = factor;
}

TEAM_KERNEL(normalize,
            (const T* x, const T* scale, const T* shift, T* __restrict__ y, A* mean, A* inverse,
             double epsilon, i64 rows, i64 columns, i64 size),
            (x, scale, shift, y, mean, inverse, epsilon, rows, columns, size))

// -------------------------------------------------------------------------- gradients

// What becomes of g and x in a row: h = g scale, and x^ = (x - mean) / sigma.
struct Normal {
    A mu, factor;

    static __device__ __forceinline__ Normal of(const Row& at, const A* mean, const A* inverse) {
        if (!at.columns) return {0, 0};
        return {mean ? mean[at.index] : A(0), inverse[at.index]};
    }
    __device__ __forceinline__ A operator()(A x) const { return (x - mu) * factor; }
};

__device__ __forceinline__ Words scaled_by(const Row& at, const T* scale, int j) {
    if (scale) return at.read_any(scale, j, T(0));
    return Words::all(T(A(1)));
}

// dx = (h - mean(h) - x^ mean(h x^)) / sigma
template <int PACKS>
__device__ __forceinline__ void write_dx(
    const Row& at, const Held<PACKS>& given, const Held<PACKS>& value, const T* scale,
    const Normal& normal, bool centered, T* dx) {
    Two total = Two::nothing();
    each<PACKS>(at, [&](int k, int j) {
        const Words &g = given(k), &x = value(k), by = scaled_by(at, scale, j);
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const A h = g[i] * by[i];
            total.first += h, total.second += h * normal(x[i]);
        }
    });
    total = over_team(total, at.size);
    const A one_over_n = at.columns ? A(1) / at.columns : A(0);
    const A level = centered ? total.first * one_over_n : A(0), slope = total.second * one_over_n;
    each<PACKS>(at, [&](int k, int j) {
        const Words &g = given(k), &x = value(k), by = scaled_by(at, scale, j);
        Words result;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const A h = g[i] * by[i];
            result.put(i, T((h - level - normal(x[i]) * slope) * normal.factor));
        }
        at.write(dx, j, result);
    });
}

template <int PACKS>
__device__ __forceinline__ void normalize_vjp_by(
    const T* g, const T* x, const T* scale, const A* mean, const A* inverse, T* dx, i64 rows,
    i64 columns, i64 size) {
    const Row at = Row::of(x, rows, columns, size);
    const Held<PACKS> given(at, g + at.start, T(0)), value(at, x + at.start, T(0));
    const Normal normal = Normal::of(at, mean, inverse);
    write_dx<PACKS>(at, given, value, scale, normal, mean != nullptr, dx + at.start);
}

TEAM_KERNEL(normalize_vjp,
            (const T* g, const T* x, const T* scale, const A* mean, const A* inverse,
             T* __restrict__ dx, i64 rows, i64 columns, i64 size),
            (g, x, scale, mean, inverse, dx, rows, columns, size))

// The same, if dx is not null, and the sums over rows of g x^ and of g. Teams go from row to row;
// their packs begin with the row, so that a thread meets the same columns again, and keeps their
// sums. The next row is read before this one is computed. A block writes its sums as a part.
template <int PACKS>
__device__ __forceinline__ void normalize_both_by(
    const T* g, const T* x, const T* scale, const A* mean, const A* inverse, T* dx, A* parts,
    i64 rows, i64 columns, i64 size) {
    const i64 teams = blockDim.x / (u32)size, step = gridDim.x * teams;
    Row at = Row::of(x, rows, columns, size);
    at.shift = 0;
    A products[PACKS][WIDTH] = {}, sums[PACKS][WIDTH] = {};
    Held<PACKS> next_g, next_x;
    next_g.read_any(at, g + at.start, T(0)), next_x.read_any(at, x + at.start, T(0));
    i64 row = blockIdx.x * teams + threadIdx.x / (u32)size;
    for (i64 first = blockIdx.x * teams; first < rows; first += step, row += step) {
        const Held<PACKS> given = next_g, value = next_x;
        const Normal normal = Normal::of(at, mean, inverse);
        Row next = at;
        next.move(row + step, rows, columns);
        next_g.read_any(next, g + next.start, T(0)), next_x.read_any(next, x + next.start, T(0));
        if (dx) write_dx<PACKS>(at, given, value, scale, normal, mean != nullptr, dx + at.start);
        each<PACKS>(at, [&](int k, int) {
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const A h = given(k)[i];
                products[k][i] += h * normal(value(k)[i]), sums[k][i] += h;
            }
        });
        at = next;
    }
    // Of the same column are the sums of all teams; a block of one team has nothing to add up.
    at.columns = (int)columns;
    A *of_products = parts + blockIdx.x * columns, *of_sums = of_products + gridDim.x * columns;
    __shared__ A box[8][2 * WIDTH][32];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    #pragma unroll
    for (int k = 0; k < PACKS; ++k) {
        if (size <= 32) {
            __syncthreads();  // nobody still reads the box of the pack before
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                Two both{products[k][i], sums[k][i]};
                #pragma unroll
                for (int by = 16; by; by /= 2)
                    if (by >= size) both = Two::join(both, both.shuffled(by));
                box[warp][i][lane] = both.first, box[warp][WIDTH + i][lane] = both.second;
            }
            __syncthreads();
            if (threadIdx.x >= size) continue;
            #pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                products[k][i] = box[0][i][lane], sums[k][i] = box[0][WIDTH + i][lane];
                for (u32 other = 1; other < blockDim.x / 32; ++other)
                    products[k][i] += box[other][i][lane], sums[k][i] += box[other][WIDTH + i][lane];
            }
        }
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const int j = at.begin(k) + i;
            if (at.has(j)) of_products[j] = products[k][i], of_sums[j] = sums[k][i];
        }
    }
}

extern "C" __global__ void __launch_bounds__(512) normalize_both(
    const T* g, const T* x, const T* scale, const A* mean, const A* inverse, T* __restrict__ dx,
    A* __restrict__ parts, i64 rows, i64 columns, i64 size) {
    constexpr int PACKS = WIDTH == 8 ? 2 : 4;  // sums take a register an element, or two
    normalize_both_by<PACKS>(g, x, scale, mean, inverse, dx, parts, rows, columns, size);
}

// Of rows that do not fit: a thread sums a column, and a block a part of the rows.
extern "C" __global__ void normalize_sums(
    const T* g, const T* x, const A* mean, const A* inverse, A* parts, i64 rows, i64 columns) {
    const i64 j = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= columns) return;
    const i64 each = (rows + gridDim.y - 1) / gridDim.y;
    const i64 first = blockIdx.y * each, last = min(first + each, rows);
    A sum = 0, product = 0;
    #pragma unroll 4
    for (i64 row = first; row < last; ++row) {
        const A h = A(g[row * columns + j]);
        sum += h;
        product += h * (A(x[row * columns + j]) - (mean ? mean[row] : A(0))) * inverse[row];
    }
    parts[blockIdx.y * columns + j] = product;
    parts[(gridDim.y + blockIdx.y) * columns + j] = sum;
}

// Add up the parts of both sums, (2, count, columns), always in the same order. A block takes 32
// columns of one of them, and a warp every 16th part.
extern "C" __global__ void __launch_bounds__(512) sum_parts(
    const A* parts, T* totals, i64 count, i64 columns) {
    __shared__ A box[16][32];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const i64 j = (i64)blockIdx.x * 32 + lane;
    A total = 0;
    parts += blockIdx.y * count * columns;
    if (j < columns)
        for (i64 part = warp; part < count; part += 16) total += parts[part * columns + j];
    box[warp][lane] = total;
    __syncthreads();
    if (warp || j >= columns) return;
    for (u32 other = 1; other < 16; ++other) total += box[other][lane];
    totals[blockIdx.y * columns + j] = T(total);
}
