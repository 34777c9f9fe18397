// A step of recurrent networks: all gates of a state's element by one thread. Blocks (rows, columns).
//
// What is kept of all steps lies step by step, in the order of time: gates (steps, rows, gates H);
// states and memories (steps + 1, rows, H), where step t finds those before it at t, and writes
// those after it at t + 1; a walk in reverse finds them at t + 1 and writes at t. What goes in and
// out, y, g and mask, lies sequence by sequence: (rows, steps, ...).

struct Place {
    i64 j, of_state, of_gates, before, after, in_time;
    bool counts, inside;
};

__device__ __forceinline__ Place here(
    const unsigned char* mask, i64 gates, i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse) {
    const i64 row = blockIdx.x, j = (i64)blockIdx.y * blockDim.x + threadIdx.x;
    Place at;
    at.j = j;
    at.inside = j < hidden;
    at.of_state = row * hidden + j;
    at.of_gates = row * gates * hidden + j;
    at.before = (t + reverse) * rows * hidden + at.of_state;
    at.after = (t + 1 - reverse) * rows * hidden + at.of_state;
    at.in_time = (row * steps + t) * hidden + j;
    at.counts = !mask || mask[row * steps + t];
    return at;
}

__device__ __forceinline__ A sigmoid(A x) { return A(1) / (A(1) + exp(-x)); }
__device__ __forceinline__ A of_sigmoid(A y) { return y * (1 - y); }
__device__ __forceinline__ A of_tanh(A y) { return (1 - y) * (1 + y); }
__device__ __forceinline__ A or_zero(const T* x, i64 i) { return x ? A(x[i]) : A(0); }
__device__ __forceinline__ A clip(A x, A limit) {  // a NaN stays one
    return x > limit ? limit : x < -limit ? -limit : x;
}

// What came back from the step after this one, by its gates and past them, and from outside.
__device__ __forceinline__ A arrived(const A* past, const A* carry, const T* g, const Place& at) {
    return (past ? past[at.of_state] : A(0)) + carry[at.of_state] + or_zero(g, at.in_time);
}

// -------------------------------------------------------------------------------- RNN

extern "C" __global__ void rnn_step(
    const T* p, const A* q, const T* bias, const unsigned char* mask, T* h, T* y,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, i64 relu) {
    const Place at = here(mask, 1, rows, steps, hidden, t, reverse);
    if (!at.inside) return;
    const A a = A(p[t * rows * hidden + at.of_gates]) + q[at.of_gates] + or_zero(bias, at.j);
    const A rectified = a < 0 ? A(0) : a;
    const T state = at.counts ? T(relu ? rectified : tanh(a)) : h[at.before];
    h[at.after] = state;
    y[at.in_time] = state;
}

extern "C" __global__ void rnn_back(
    const T* h, const unsigned char* mask, const T* g, const A* past, A* carry, T* da,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, i64 relu, double limit) {
    const Place at = here(mask, 1, rows, steps, hidden, t, reverse);
    if (!at.inside) return;
    const A dh = arrived(past, carry, g, at), y = A(h[at.after]);
    const A d = relu ? (y > 0 ? dh : A(0)) : dh * of_tanh(y);
    da[t * rows * hidden + at.of_gates] = T(at.counts ? clip(d, A(limit)) : A(0));
    carry[at.of_state] = at.counts ? A(0) : dh;
}

// ------------------------------------------------------------------------------- LSTM

// Gates i, f, g, o, or f, g, o with i = 1 - f; they come in the place of the inputs' share. The
// rows of peephole are for i, f, o, or for f, o.
extern "C" __global__ void lstm_step(
    T* gates, const A* q, const T* bias, const T* peephole, const unsigned char* mask, A* c, T* h,
    T* y, i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, i64 tied) {
    const i64 count = tied ? 3 : 4, H = hidden;
    const Place at = here(mask, count, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * count * H + at.of_gates;
    q += at.of_gates;
    auto share = [&](i64 k) {
        return A(gates[k * H]) + q[k * H] + or_zero(bias, k * H + at.j);
    };
    const A memory = c[at.before];
    const i64 F = tied ? 0 : 1;  // the place of f, and of its peephole
    const A f = sigmoid(share(F) + or_zero(peephole, F * H + at.j) * memory);
    const A i = tied ? 1 - f : sigmoid(share(0) + or_zero(peephole, at.j) * memory);
    const A g = tanh(share(F + 1));
    const A now = f * memory + i * g;
    const A o = sigmoid(share(F + 2) + or_zero(peephole, (F + 1) * H + at.j) * now);
    if (!tied) gates[0] = T(i);
    gates[F * H] = T(f);
    gates[(F + 1) * H] = T(g);
    gates[(F + 2) * H] = T(o);
    const T state = at.counts ? T(o * tanh(now)) : h[at.before];
    c[at.after] = at.counts ? now : memory;
    h[at.after] = state;
    y[at.in_time] = state;
}

extern "C" __global__ void lstm_back(
    const T* gates, const A* c, const T* peephole, const unsigned char* mask, const T* arriving,
    const A* past, A* carry, A* dc, T* da,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, i64 tied, double limit) {
    const i64 count = tied ? 3 : 4, H = hidden;
    const Place at = here(mask, count, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * count * H + at.of_gates;
    da += t * rows * count * H + at.of_gates;
    const A dh = arrived(past, carry, arriving, at), most = A(limit);
    carry[at.of_state] = at.counts ? A(0) : dh;
    if (!at.counts) {
        for (i64 k = 0; k < count; ++k) da[k * H] = T(A(0));
        return;
    }
    const i64 F = tied ? 0 : 1;
    const A f = A(gates[F * H]), g = A(gates[(F + 1) * H]), o = A(gates[(F + 2) * H]);
    const A memory = c[at.before], squashed = tanh(c[at.after]);
    const A d_o = clip(dh * squashed * of_sigmoid(o), most);
    const A d_new = dc[at.of_state] + dh * o * of_tanh(squashed)
        + d_o * or_zero(peephole, (F + 1) * H + at.j);
    A back = d_new * f;
    const A by_f = tied ? memory - g : memory;
    const A d_f = clip(d_new * by_f * of_sigmoid(f), most);
    back += d_f * or_zero(peephole, F * H + at.j);
    A i = 1 - f;
    if (!tied) {
        i = A(gates[0]);
        const A d_i = clip(d_new * g * of_sigmoid(i), most);
        back += d_i * or_zero(peephole, at.j);
        da[0] = T(d_i);
    }
    da[F * H] = T(d_f);
    da[(F + 1) * H] = T(clip(d_new * i * of_tanh(g), most));
    da[(F + 2) * H] = T(d_o);
    dc[at.of_state] = back;
}

// -------------------------------------------------------------------------------- GRU

// Gates r, z, n, in the place of the inputs' share, and what r is multiplied with, h U_n + b.
extern "C" __global__ void gru_step(
    T* gates, const A* q, const T* bias, const T* bias_hidden, const unsigned char* mask, T* inner,
    T* h, T* y, i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse) {
    const i64 H = hidden;
    const Place at = here(mask, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * 3 * H + at.of_gates;
    q += at.of_gates;
    auto share = [&](i64 k) { return A(gates[k * H]) + or_zero(bias, k * H + at.j); };
    const A r = sigmoid(share(0) + q[0]), z = sigmoid(share(1) + q[H]);
    const A product = q[2 * H] + or_zero(bias_hidden, at.j);
    const A n = tanh(share(2) + r * product), before = A(h[at.before]);
    gates[0] = T(r);
    gates[H] = T(z);
    gates[2 * H] = T(n);
    inner[t * rows * H + at.of_state] = T(product);
    const T state = at.counts ? T(n + z * (before - n)) : h[at.before];
    h[at.after] = state;
    y[at.in_time] = state;
}

// The gradients of the inputs' share, and of the states': those of n and of h U_n + b differ.
extern "C" __global__ void gru_back(
    const T* gates, const T* inner, const T* h, const unsigned char* mask, const T* arriving,
    const A* past, A* carry, T* da, T* dq,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, double limit) {
    const i64 H = hidden;
    const Place at = here(mask, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    const i64 offset = t * rows * 3 * H + at.of_gates;
    gates += offset, da += offset, dq += offset;
    const A dh = arrived(past, carry, arriving, at), most = A(limit);
    const A r = A(gates[0]), z = A(gates[H]), n = A(gates[2 * H]);
    A d_n = clip(dh * (1 - z) * of_tanh(n), most);
    A d_r = clip(d_n * A(inner[t * rows * H + at.of_state]) * of_sigmoid(r), most);
    A d_z = clip(dh * (A(h[at.before]) - n) * of_sigmoid(z), most);
    if (!at.counts) d_n = d_r = d_z = 0;
    da[0] = dq[0] = T(d_r);
    da[H] = dq[H] = T(d_z);
    da[2 * H] = T(d_n);
    dq[2 * H] = T(d_n * r);
    carry[at.of_state] = at.counts ? dh * z : dh;
}

// ------------------------------------------------------------- GRU, reset before the product

// Gates r and z in the place of their share, and r h, which n's product is of.
extern "C" __global__ void gru_reset(
    T* gates, const A* q, const T* bias, const T* h, T* resets,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse) {
    const i64 H = hidden;
    const Place at = here(nullptr, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * 3 * H + at.of_gates;
    q += blockIdx.x * 2 * H + at.j;
    const A r = sigmoid(A(gates[0]) + or_zero(bias, at.j) + q[0]);
    gates[0] = T(r);
    gates[H] = T(sigmoid(A(gates[H]) + or_zero(bias, H + at.j) + q[H]));
    resets[t * rows * H + at.of_state] = T(r * A(h[at.before]));
}

extern "C" __global__ void gru_renew(
    T* gates, const A* q, const T* bias, const unsigned char* mask, T* h, T* y,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse) {
    const i64 H = hidden;
    const Place at = here(mask, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * 3 * H + at.of_gates;
    const A n = tanh(A(gates[2 * H]) + or_zero(bias, 2 * H + at.j) + q[at.of_state]);
    gates[2 * H] = T(n);
    const A before = A(h[at.before]);
    const T state = at.counts ? T(n + A(gates[H]) * (before - n)) : h[at.before];
    h[at.after] = state;
    y[at.in_time] = state;
}

// The gradients of z and n; that of n goes back to r h first.
extern "C" __global__ void gru_renew_back(
    const T* gates, const T* h, const unsigned char* mask, const T* arriving, const A* past,
    A* carry, T* da,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, double limit) {
    const i64 H = hidden;
    const Place at = here(mask, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    gates += t * rows * 3 * H + at.of_gates, da += t * rows * 3 * H + at.of_gates;
    const A dh = arrived(past, carry, arriving, at), most = A(limit);
    const A z = A(gates[H]), n = A(gates[2 * H]);
    const A of_n = clip(dh * (1 - z) * of_tanh(n), most);
    const A of_z = clip(dh * (A(h[at.before]) - n) * of_sigmoid(z), most);
    da[H] = T(at.counts ? of_z : A(0));
    da[2 * H] = T(at.counts ? of_n : A(0));
    carry[at.of_state] = at.counts ? dh * z : dh;
}

// The gradient of r, given that of r h, which is 0 where the step does not count.
extern "C" __global__ void gru_reset_back(
    const T* gates, const T* h, const A* d_reset, A* carry, T* da,
    i64 rows, i64 steps, i64 hidden, i64 t, i64 reverse, double limit) {
    const i64 H = hidden;
    const Place at = here(nullptr, 3, rows, steps, H, t, reverse);
    if (!at.inside) return;
    const i64 offset = t * rows * 3 * H + at.of_gates;
    const A r = A(gates[offset]), d = d_reset[at.of_state];
    da[offset] = T(clip(d * A(h[at.before]) * of_sigmoid(r), A(limit)));
    carry[at.of_state] += d * r;
}
