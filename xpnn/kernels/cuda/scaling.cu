// What a scaled loss needs: whether its gradients overflowed, and the scale of the next one.

// A block for each chunk of many arrays; see Chunks in cupy_tables.py. Who finds a number that is
// infinite or NaN says so, and all say the same.
extern "C" __global__ void find_overflow(const u64* pointers, const i64* chunks, bool* found) {
    const i64* chunk = chunks + 3 * (i64)blockIdx.x;
    const T* x = reinterpret_cast<const T*>(pointers[chunk[0]]) + chunk[1];
    const i64 n = chunk[2], packs = pointers[chunk[0]] % 16 ? 0 : n / WIDTH;
    bool bad = false;
    for (i64 i = threadIdx.x; i < packs; i += blockDim.x) {
        const Pack p = reinterpret_cast<const Pack*>(x)[i];
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) bad |= !isfinite(A(p.at[k]));
    }
    for (i64 i = WIDTH * packs + threadIdx.x; i < n; i += blockDim.x) bad |= !isfinite(A(x[i]));
    if (bad) *found = true;
}

// By what gradients are multiplied; the scale, the good steps since it was changed, and the steps
// that an optimizer skipped, after this one. One thread.
extern "C" __global__ void adapt_scale(
    const bool* found, const float* used, const float* scale, const int* good, const int* skips,
    double growth, double backoff, i64 interval, double largest,
    float* factor, float* new_scale, int* new_good, int* new_skips) {
    const float grown = *scale * float(growth);
    const int steps = *found ? 0 : *good + 1;
    const bool due = steps >= interval;
    *factor = 1.0f / *used;
    *new_scale = *found ? *scale * float(backoff)
               : !due ? *scale : grown < float(largest) ? grown : float(largest);
    *new_good = due ? 0 : steps;
    *new_skips = *skips + *found;
}
