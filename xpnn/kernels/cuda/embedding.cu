// Rows of a table, picked by ids, and sums of the rows that share an id.

template <typename V> __device__ __forceinline__ V filled(A x);
template <> __device__ __forceinline__ T filled<T>(A x) { return T(x); }
template <> __device__ __forceinline__ Pack filled<Pack>(A x) {
    Pack y;
    #pragma unroll
    for (int k = 0; k < WIDTH; ++k) y.at[k] = T(x);
    return y;
}

// Every sum is rounded to T, as elsewhere: so it has the same bits.
__device__ __forceinline__ T plus(T a, T b) { return T(A(a) + A(b)); }
__device__ __forceinline__ Pack plus(Pack a, Pack b) {
    #pragma unroll
    for (int k = 0; k < WIDTH; ++k) a.at[k] = plus(a.at[k], b.at[k]);
    return a;
}

// 64 bits are divided slowly, and seldom needed.
__device__ __forceinline__ i64 quotient(i64 a, i64 b) {
    return (a | b) >> 32 ? a / b : (i64)((u32)a / (u32)b);
}

// ------------------------------------------------------------------------------- rows

// y[i] = table[ids[i]], and NaN where there is no such row
template <typename V>
__device__ __forceinline__ void pick_rows(
    const V* table, const i64* ids, V* y, i64 from_end, i64 length, i64 columns, i64 n) {
    FOR_EACH(k, n * columns) {
        const i64 i = quotient(k, columns);
        i64 id = ids[i];
        if (id < 0 && from_end) id += length;
        const bool there = id >= 0 && id < length;
        y[k] = there ? table[id * columns + k - i * columns] : filled<V>(A(NAN));
    }
}

extern "C" __global__ void pick(
    const T* table, const i64* ids, T* y, i64 from_end, i64 length, i64 columns, i64 n) {
    pick_rows<T>(table, ids, y, from_end, length, columns, n);
}
extern "C" __global__ void pick_packs(
    const T* table, const i64* ids, T* y, i64 from_end, i64 length, i64 columns, i64 n) {
    pick_rows<Pack>((const Pack*)table, ids, (Pack*)y, from_end, length, columns, n);
}

// ------------------------------------------------------------------------------- sums

// Ids and their places in one number, by which both are sorted. No such row: behind all others.
extern "C" __global__ void keys(const i64* ids, i64* key, i64 from_end, i64 length, i64 n) {
    FOR_EACH(i, n) {
        i64 id = ids[i];
        if (id < 0 && from_end) id += length;
        key[i] = (id >= 0 && id < length ? id : length) << 32 | i;
    }
}

// The first of the sorted keys of each id, for ids up to `length`
extern "C" __global__ void starts(const i64* key, i64* start, i64 length, i64 n) {
    FOR_EACH(id, length + 1) {
        i64 low = 0, high = n;
        while (low < high) {
            const i64 middle = (low + high) / 2;
            if (key[middle] < id << 32) low = middle + 1;
            else high = middle;
        }
        start[id] = low;
    }
}

// The rows of an id, a run of sorted keys, are added as a tree: neighbours in pairs, then those of
// the sums, and so on. FAN of them make a part, whose sum is a node of the tree, FAN parts make a
// larger one. A run that is longer than `span` rows has parts of `span` = FAN^k, from its beginning
// on, and each has a place: in a window of `span` keys at most one part begins that is the first of
// its run, and at most one that is not.
constexpr int BITS = 5, FAN = 1 << BITS;

template <typename V>
struct Rows {
    const V* x;      // the rows themselves
    const V* parts;  // or the sums of parts, if these have 1 << bits rows, more than one
    const i64* key;
    i64 columns, column, start;
    int bits;
    __device__ __forceinline__ V operator()(i64 at) const {
        const i64 row = bits ? (at >> bits) * 2 + (at == start) : (i64)(u32)key[at];
        return (bits ? parts : x)[row * columns + column];
    }
};

// The sum of `count` <= N rows or parts, the first of which begins at `at`
template <int N, typename V>
__device__ __forceinline__ V tree(const Rows<V>& rows, i64 at, i64 count) {
    if constexpr (N == 1) {
        return rows(at);
    } else {
        constexpr int HALF = N / 2;
        if (N <= 8 && count >= N) {  // all are read before the first are added
            V x[N];
            #pragma unroll
            for (int k = 0; k < N; ++k) x[k] = rows(at + ((i64)k << rows.bits));
            #pragma unroll
            for (int step = 1; step < N; step *= 2)
                #pragma unroll
                for (int k = 0; k < N; k += 2 * step) x[k] = plus(x[k], x[k + step]);
            return x[0];
        }
        const V left = tree<HALF, V>(rows, at, count < HALF ? count : HALF);
        if (count <= HALF) return left;
        return plus(left, tree<HALF, V>(rows, at + ((i64)HALF << rows.bits), count - HALF));
    }
}

// Sums of parts of 1 << bits rows, given those of parts FAN times shorter; blocks for each place.
template <typename V>
__device__ __forceinline__ void part_sums(
    const V* x, const V* below, const i64* key, const i64* start, V* sums, i64 bits, i64 length,
    i64 columns, i64 n) {
    const i64 span = 1ll << bits, window = (i64)(blockIdx.x / 2) << bits, first = blockIdx.x % 2;
    const i64 look = first ? window + span : window;  // a long run that begins here goes on there
    if (look >= n) return;
    const i64 id = key[look] >> 32;
    if (id >= length) return;
    const i64 begin = start[id], end = start[id + 1];
    if (end - begin <= span || (first ? begin < window || begin >= look : begin >= window)) return;
    const i64 at = first ? begin : begin + ((window - begin + span - 1) >> bits << bits);
    if (at >= end) return;
    const i64 rows = end - at < span ? end - at : span;
    const int shorter = (int)bits - BITS;
    const i64 step = (i64)gridDim.y * blockDim.x;
    for (i64 c = (i64)blockIdx.y * blockDim.x + threadIdx.x; c < columns; c += step) {
        const Rows<V> from = {x, below, key, columns, c, begin, shorter};
        sums[blockIdx.x * columns + c] =
            tree<FAN, V>(from, at, (rows + (1ll << shorter) - 1) >> shorter);
    }
}

extern "C" __global__ void parts(
    const T* x, const T* below, const i64* key, const i64* start, T* sums, i64 bits, i64 length,
    i64 columns, i64 n) {
    part_sums<T>(x, below, key, start, sums, bits, length, columns, n);
}
extern "C" __global__ void parts_packs(
    const T* x, const T* below, const i64* key, const i64* start, T* sums, i64 bits, i64 length,
    i64 columns, i64 n) {
    part_sums<Pack>(
        (const Pack*)x, (const Pack*)below, key, start, (Pack*)sums, bits, length, columns, n);
}

// The sum of each run, zero if it is empty. The sums of parts of FAN, FAN * FAN, ... lie behind one
// another.
template <typename V>
__device__ __forceinline__ void run_sums(
    const V* x, const V* sums, const i64* key, const i64* start, V* y, i64 length, i64 columns,
    i64 n) {
    FOR_EACH(k, length * columns) {
        const i64 id = quotient(k, columns), begin = start[id], rows = start[id + 1] - begin;
        if (!rows) {
            y[k] = filled<V>(A(0));
            continue;
        }
        int bits = 0;
        i64 behind = 0;
        for (; rows > (i64)FAN << bits; bits += BITS)
            if (bits) behind += 2 * ((n + (1ll << bits) - 1) >> bits);
        const V* const parts_here = sums + behind * columns;
        const Rows<V> from = {x, parts_here, key, columns, k - id * columns, begin, bits};
        y[k] = tree<FAN, V>(from, begin, (rows + (1ll << bits) - 1) >> bits);
    }
}

extern "C" __global__ void totals(
    const T* x, const T* sums, const i64* key, const i64* start, T* y, i64 length, i64 columns,
    i64 n) {
    run_sums<T>(x, sums, key, start, y, length, columns, n);
}
extern "C" __global__ void totals_packs(
    const T* x, const T* sums, const i64* key, const i64* start, T* y, i64 length, i64 columns,
    i64 n) {
    run_sums<Pack>(
        (const Pack*)x, (const Pack*)sums, key, start, (Pack*)y, length, columns, n);
}
