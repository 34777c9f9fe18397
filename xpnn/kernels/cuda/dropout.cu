// Dropout: a mask of truth values beside the array.

struct alignas(WIDTH) Mask { bool at[WIDTH]; };

// scale x + shift where the mask is true, and `dropped` elsewhere
extern "C" __global__ void dropout(
    const T* x, const bool* mask, T* y, i64 n, i64 packs, double scale, double shift,
    double dropped) {
    const A factor = A(scale), added = A(shift);
    const T other = T(A(dropped));
    FOR_EACH(i, packs) {
        const Pack p = reinterpret_cast<const Pack*>(x)[i];
        const Mask m = reinterpret_cast<const Mask*>(mask)[i];
        Pack out;
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) out.at[k] = m.at[k] ? T(A(p.at[k]) * factor + added) : other;
        reinterpret_cast<Pack*>(y)[i] = out;
    }
    FOR_EACH(j, n - packs * WIDTH) {
        const i64 i = packs * WIDTH + j;
        y[i] = mask[i] ? T(A(x[i]) * factor + added) : other;
    }
}
