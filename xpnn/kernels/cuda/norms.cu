// Norms: a sum of squares for each block, then one block for their sum; always in the same order.

// A block for each chunk of many arrays; see Chunks in cupy_tables.py. They are multiplied with
// *times before, if it is given.
extern "C" __global__ void squares_of_all(
    const u64* pointers, const i64* chunks, const A* times, A* sums) {
    const i64* chunk = chunks + 3 * (i64)blockIdx.x;
    const T* x = reinterpret_cast<const T*>(pointers[chunk[0]]) + chunk[1];
    const A factor = times ? *times : A(1);
    A sum = 0;
    for (i64 i = threadIdx.x; i < chunk[2]; i += blockDim.x) {
        const A product = A(x[i]) * factor;
        sum += product * product;
    }
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void squares(const T* x, i64 n, A* sums) {
    A sum = 0;
    FOR_EACH(i, n) sum += A(x[i]) * A(x[i]);
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The norm, and min(1, bound / (norm + tiny)), to which a norm that is none makes a factor that is
// none; it is multiplied with *times, if that is given.
extern "C" __global__ void root(
    const A* sums, i64 n, double bound, double tiny, const A* times, A* norm, A* factor) {
    A sum = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
    sum = sqrt(over_block<Sum>(sum));
    if (threadIdx.x) return;
    const A quotient = A(bound) / (sum + A(tiny));
    *norm = sum;
    if (factor) *factor = (quotient > A(1) ? A(1) : quotient) * (times ? *times : A(1));
}
