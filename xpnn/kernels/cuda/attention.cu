// Attention: what becomes of a tile of scores, which are rows of products of queries and keys.
// Heads are numbered through; a tile has `rows` rows, from `first` on, of `heads` heads, from `head`
// on, and as many columns as may be seen. A warp computes a row, or, if `whole`, a block does.

// Where the elements of a mask lie that is spread over heads, rows and columns. The heads may have
// two axes, of which the inner one has `inner` heads.
struct Spread {
    const void* data;
    i64 inner, outer_step, inner_step, row_step, column_step;

    __device__ __forceinline__ i64 row(i64 h, i64 i) const {
        return h / inner * outer_step + h % inner * inner_step + i * row_step;
    }
};

enum Mask { NONE, BOOLEAN, ADDED, ADDED_WIDE };  // the last has the dtype A

// A row of scores, masks and all.
struct Row {
    const A* scores;
    Spread mask, keep;
    i64 kind, mask_row, keep_row;
    i64 end;  // what comes from here on may not be seen

    __device__ __forceinline__ A score(i64 j) const {
        if (j >= end) return -INFINITY;
        const i64 at = mask_row + j * mask.column_step;
        if (kind == BOOLEAN) return ((const unsigned char*)mask.data)[at] ? scores[j] : A(-INFINITY);
        if (kind == ADDED) return scores[j] + A(((const T*)mask.data)[at]);
        if (kind == ADDED_WIDE) return scores[j] + ((const A*)mask.data)[at];
        return scores[j];
    }

    __device__ __forceinline__ bool kept(i64 j) const {
        return !keep.data || ((const unsigned char*)keep.data)[keep_row + j * keep.column_step];
    }
};

template <typename Join>
__device__ __forceinline__ A over(A x, bool whole) {
    return whole ? over_block<Join>(x) : over_warp<Join>(x);
}

#define SPREAD(name)                                                                     \
    const void *name, i64 name##_inner, i64 name##_outer_step, i64 name##_inner_step,    \
        i64 name##_row_step, i64 name##_column_step
#define SPREAD_OF(name)                                                                  \
    {name, name##_inner, name##_outer_step, name##_inner_step, name##_row_step, name##_column_step}
#define TILE                                                                             \
    i64 kind, SPREAD(mask), SPREAD(keep), i64 head, i64 heads, i64 first, i64 rows,      \
        i64 columns, i64 length, i64 causal, i64 whole

// Find the row of this thread, number `number` of the tile: row i of head h.
#define ROW_OF(scores)                                                                   \
    const int lane = whole ? threadIdx.x : threadIdx.x % 32;                             \
    const int lanes = whole ? blockDim.x : 32;                                           \
    const i64 number =                                                                   \
        whole ? (i64)blockIdx.x : (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; \
    if (number >= heads * rows) return;                                                  \
    const i64 h = head + number / rows, i = first + number % rows;                       \
    Row row = {scores + number * columns, SPREAD_OF(mask), SPREAD_OF(keep), kind, 0, 0, columns}; \
    row.mask_row = row.mask.row(h, i), row.keep_row = row.keep.row(h, i);                \
    if (causal) row.end = min(columns, i + 1)

// p = D(softmax(scores)), where D keeps some, times gain; and the logarithms of the sums of
// exponentials.
extern "C" __global__ void attend(const A* scores, T* p, A* logarithm, double gain, TILE) {
    ROW_OF(scores);
    A top = -INFINITY, total = 0;  // of what this thread has seen
    for (i64 j = lane; j < row.end; j += lanes) {
        const A x = row.score(j);
        if (x > top) total = total * exp(top - x) + 1, top = x;
        else if (x != -INFINITY) total += exp(x - top);
    }
    const A highest = over<Max>(top, whole);
    total = over<Sum>(top == -INFINITY ? total : total * exp(top - highest), whole);
    const A shift = highest == -INFINITY ? A(0) : highest;
    if (total == 0) total = 1;  // a row without weights: p = 0, here and in the gradient
    const A factor = A(gain) / total;
    p += number * columns;
    for (i64 j = lane; j < columns; j += lanes)
        p[j] = row.kept(j) ? T(exp(row.score(j) - shift) * factor) : T(A(0));
    if (lane == 0) logarithm[h * length + i] = log(total) + shift;
}

// dS = P (D(dP) - sum(dY Y)), and D(P) again, either of which may not be wanted. `slopes` is D's
// argument dP = dY V^T; `width` is that of rows of dY and Y. D(P) may be written over the scores,
// and dS over the slopes.
extern "C" __global__ void attend_vjp(
    const A* scores, const A* slopes, T* p, T* ds, const T* g, const T* y, i64 width,
    const A* logarithm, double gain, TILE) {
    ROW_OF(scores);
    const i64 at = h * length + i;
    A lost = 0;
    for (i64 j = lane; j < width; j += lanes) lost += A(g[at * width + j]) * A(y[at * width + j]);
    lost = over<Sum>(lost, whole);
    const A shift = logarithm[at];
    for (i64 j = lane; j < columns; j += lanes) {
        const A weight = exp(row.score(j) - shift), factor = row.kept(j) ? A(gain) : A(0);
        const i64 place = number * columns + j;
        if (p) p[place] = T(weight * factor);
        if (ds) ds[place] = T(weight * (factor * slopes[place] - lost));
    }
}
