// What comes with products of matrices: biases and activations after them, sums of columns.

// --------------------------------------------------------------------- after a product

enum Activation { IDENTITY, RELU, SIGMOID, TANH };

__device__ __forceinline__ A activated(A x, i64 activation) {
    switch (activation) {
        case RELU: return x > 0 || x != x ? x : A(0);  // a NaN stays one
        case SIGMOID: return 1 / (1 + exp(-x));
        case TANH: return tanh(x);
        default: return x;
    }
}

// y = f(y + bias) in place: a thread has a column of each of its rows. Without a bias, there is one
// row.
extern "C" __global__ void finish(T* y, const T* bias, i64 rows, i64 columns, i64 activation) {
    const i64 j = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= columns) return;
    const A plus = bias ? A(bias[j]) : A(0);
    for (i64 row = blockIdx.y; row < rows; row += gridDim.y) {
        const i64 at = row * columns + j;
        y[at] = T(activated(A(y[at]) + plus, activation));
    }
}

// The same, sixteen bytes at a time; columns are counted in those.
extern "C" __global__ void finish_packs(
    Pack* y, const Pack* bias, i64 rows, i64 columns, i64 activation) {
    const i64 j = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= columns) return;
    A plus[WIDTH];
    #pragma unroll
    for (int i = 0; i < WIDTH; ++i) plus[i] = bias ? A(bias[j].at[i]) : A(0);
    for (i64 row = blockIdx.y; row < rows; row += gridDim.y) {
        Pack values = y[row * columns + j];
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i)
            values.at[i] = T(activated(A(values.at[i]) + plus[i], activation));
        y[row * columns + j] = values;
    }
}

// ----------------------------------------------------------------------- sums of columns

// A block has `wide` columns, a power of two, and takes several of its rows at a time. The parts of
// several blocks are added up by `column_totals`; always in the same order.
template <bool MASKED>
__device__ __forceinline__ void sum_columns(
    const T* g, const T* y, T* d, T* out, A* parts, i64 rows, i64 columns, int wide) {
    __shared__ A sums[256];
    const int lane = threadIdx.x % wide, first = threadIdx.x / wide, step = blockDim.x / wide;
    const i64 j = (i64)blockIdx.x * wide + lane, each = (rows + gridDim.y - 1) / gridDim.y;
    const i64 begin = blockIdx.y * each, end = min(begin + each, rows);
    A sum = 0;
    if (j < columns) {
        for (i64 row = begin + first; row < end; row += step) {
            const i64 at = row * columns + j;
            A value = A(g[at]);
            if (MASKED) {
                value = A(y[at]) > 0 ? value : A(0);
                d[at] = T(value);
            }
            sum += value;
        }
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (first || j >= columns) return;
    for (int i = 1; i < step; ++i) sum += sums[i * wide + lane];
    if (gridDim.y == 1) out[j] = T(sum);
    else parts[blockIdx.y * columns + j] = sum;
}

extern "C" __global__ void column_sums(
    const T* g, T* out, A* parts, i64 rows, i64 columns, i64 wide) {
    sum_columns<false>(g, nullptr, nullptr, out, parts, rows, columns, (int)wide);
}

// d = g where y is positive, and its sums
extern "C" __global__ void relu_column_sums(
    const T* g, const T* y, T* d, T* out, A* parts, i64 rows, i64 columns, i64 wide) {
    sum_columns<true>(g, y, d, out, parts, rows, columns, (int)wide);
}

extern "C" __global__ void column_totals(const A* parts, T* out, i64 n, i64 columns) {
    const i64 j = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= columns) return;
    A sum = 0;
    for (i64 i = 0; i < n; ++i) sum += parts[i * columns + j];
    out[j] = T(sum);
}

// d = g where y is positive
extern "C" __global__ void relu_slopes(const T* g, const T* y, T* d, i64 n) {
    FOR_EACH(i, n) d[i] = A(y[i]) > 0 ? g[i] : T(A(0));
}
