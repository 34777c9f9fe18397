// Functions of rows: a block computes a row, and its threads stride over the columns.

// ---------------------------------------------------------------------------- softmax

extern "C" __global__ void softmax(const T* x, T* y, i64 columns) {
    x += blockIdx.x * columns, y += blockIdx.x * columns;
    A top = -INFINITY;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) top = Max::join(top, A(x[j]));
    top = over_block<Max>(top);
    A total = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) total += exp(A(x[j]) - top);
    total = over_block<Sum>(total);
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) y[j] = T(exp(A(x[j]) - top) / total);
}

// y (g - sum(g y))
extern "C" __global__ void softmax_vjp(const T* g, const T* y, T* dx, i64 columns) {
    g += blockIdx.x * columns, y += blockIdx.x * columns, dx += blockIdx.x * columns;
    A total = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) total += A(g[j]) * A(y[j]);
    total = over_block<Sum>(total);
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) dx[j] = T(A(y[j]) * (A(g[j]) - total));
}

// x - log(sum(exp(x))); a finite x has a finite result, and minus infinity stays what it is
extern "C" __global__ void log_softmax(const T* x, T* y, i64 columns) {
    const A lowest = sizeof(A) == 4 ? A(-3.4028234663852886e38) : A(-1.7976931348623157e308);
    x += blockIdx.x * columns, y += blockIdx.x * columns;
    A top = -INFINITY;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) top = Max::join(top, A(x[j]));
    top = over_block<Max>(top);
    A total = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) total += exp(A(x[j]) - top);
    total = log(over_block<Sum>(total));
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A value = A(x[j]), shifted = value - top;
        if (value == -INFINITY) y[j] = x[j];
        else y[j] = T((shifted == -INFINITY ? lowest : shifted) - total);
    }
}

// g - exp(y) sum(g)
extern "C" __global__ void log_softmax_vjp(const T* g, const T* y, T* dx, i64 columns) {
    g += blockIdx.x * columns, y += blockIdx.x * columns, dx += blockIdx.x * columns;
    A total = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) total += A(g[j]);
    total = over_block<Sum>(total);
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) dx[j] = T(A(g[j]) - exp(A(y[j])) * total);
}

// ---------------------------------------------------------------------- cross-entropy

// log(sum(exp(x))) - ((1 - s) x[label] + s mean(x)); the logarithm is kept.
extern "C" __global__ void cross_entropy(
    const T* x, const i64* labels, A* loss, A* logarithm, i64 columns, double smoothing) {
    x += blockIdx.x * columns;
    A top = -INFINITY;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) top = Max::join(top, A(x[j]));
    top = over_block<Max>(top);
    A total = 0, sum = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A shifted = A(x[j]) - top;
        total += exp(shifted);
        sum += shifted;
    }
    total = log(over_block<Sum>(total));
    if (smoothing) sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) {
        A target = A(x[labels[blockIdx.x]]) - top;
        if (smoothing) target = A(1 - smoothing) * target + A(smoothing) * sum / columns;
        loss[blockIdx.x] = total - target;
        logarithm[blockIdx.x] = total + top;
    }
}

// (softmax(x) - target) g; one g a row, or `scale` times one for all
extern "C" __global__ void cross_entropy_vjp(
    const A* g, i64 g_step, double scale, const T* x, const i64* labels, const A* logarithm, T* dx,
    i64 columns, double smoothing) {
    const i64 row = blockIdx.x, label = labels[row];
    x += row * columns, dx += row * columns;
    const A factor = g[row * g_step] * A(scale), end = logarithm[row];
    const A others = A(smoothing) / columns;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A target = others + (j == label ? A(1 - smoothing) : A(0));
        dx[j] = T((exp(A(x[j]) - end) - target) * factor);
    }
}

// --------------------------------------------------------------------- normalization

// (x - mean) / sqrt(var + epsilon) * scale + shift, by rows; mean is null for that of RMS.
extern "C" __global__ void normalize(
    const T* x, const T* scale, const T* shift, T* y, A* mean, A* inverse, i64 columns,
    double epsilon) {
    const i64 row = blockIdx.x;
    x += row * columns, y += row * columns;
    A mu = 0;
    if (mean) {
        for (i64 j = threadIdx.x; j < columns; j += blockDim.x) mu += A(x[j]);
        mu = over_block<Sum>(mu) / columns;
    }
    A squares = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A deviation = A(x[j]) - mu;
        squares += deviation * deviation;
    }
    const A factor = 1 / sqrt(over_block<Sum>(squares) / columns + A(epsilon));
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        A value = (A(x[j]) - mu) * factor;
        if (scale) value *= A(scale[j]);
        if (shift) value += A(shift[j]);
        y[j] = T(value);
    }
    if (threadIdx.x == 0) {
        if (mean) mean[row] = mu;
        inverse[row] = factor;
    }
}

// dx = (h - mean(h) - x^ mean(h x^)) / sigma, h = g scale
extern "C" __global__ void normalize_vjp(
    const T* g, const T* x, const T* scale, const A* mean, const A* inverse, T* dx, i64 columns) {
    const i64 row = blockIdx.x;
    g += row * columns, x += row * columns, dx += row * columns;
    const A mu = mean ? mean[row] : A(0), factor = inverse[row];
    A sum = 0, product = 0;
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A h = A(g[j]) * (scale ? A(scale[j]) : A(1));
        sum += h;
        product += h * (A(x[j]) - mu) * factor;
    }
    product = over_block<Sum>(product) / columns;
    sum = mean ? over_block<Sum>(sum) / columns : A(0);
    for (i64 j = threadIdx.x; j < columns; j += blockDim.x) {
        const A h = A(g[j]) * (scale ? A(scale[j]) : A(1));
        dx[j] = T((h - sum - (A(x[j]) - mu) * factor * product) * factor);
    }
}

// Sums over rows of g and of g x^: a thread a column, a block a part of the rows; the parts are
// added up by a second launch, always in the same order.
extern "C" __global__ void normalize_sums(
    const T* g, const T* x, const A* mean, const A* inverse, A* d_scale, A* d_shift, i64 rows,
    i64 columns) {
    const i64 j = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= columns) return;
    const i64 each = (rows + gridDim.y - 1) / gridDim.y;
    const i64 first = blockIdx.y * each, last = min(first + each, rows);
    A sum = 0, product = 0;
    for (i64 row = first; row < last; ++row) {
        const A h = A(g[row * columns + j]);
        sum += h;
        product += h * (A(x[row * columns + j]) - (mean ? mean[row] : A(0))) * inverse[row];
    }
    d_scale[blockIdx.y * columns + j] = product;
    d_shift[blockIdx.y * columns + j] = sum;
}
