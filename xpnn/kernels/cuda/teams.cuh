// Rows in registers. A team of neighbouring threads, of a part of a warp (a power of two), a warp
// or a block, computes a row.
//
// A row is cut into packs of sixteen bytes at addresses that are multiples of sixteen, and the
// threads of a team take one after the other. What lies in the first and the last pack beside the
// row is read along, as sixteen bytes are never in two pages, and replaced. All arrays of rows begin
// at a multiple of sixteen bytes, so that the same elements of each are a pack; a vector for all
// rows is read element by element where the packs of a row lie otherwise.

// Sixteen bytes in four registers, whatever they hold.
struct Words {
    u32 at[4];

    __device__ __forceinline__ void load(const T* from) {
        const uint4 all = __ldg((const uint4*)from);
        at[0] = all.x, at[1] = all.y, at[2] = all.z, at[3] = all.w;
    }

    __device__ __forceinline__ void store(T* to) const {  // an assignment may be taken apart
        __stcg((uint4*)to, uint4{at[0], at[1], at[2], at[3]});
    }

    __device__ __forceinline__ T get(int i) const {
        T value;
        if constexpr (sizeof(T) == 2) {
            const unsigned short bits = (unsigned short)(at[i / 2] >> i % 2 * 16);
            memcpy(&value, &bits, 2);
        } else {
            memcpy(&value, &at[i * sizeof(T) / 4], sizeof(T));
        }
        return value;
    }

    __device__ __forceinline__ A operator[](int i) const { return A(get(i)); }

    // One after the other: what lies behind in a word is lost.
    __device__ __forceinline__ void put(int i, T value) {
        if constexpr (sizeof(T) == 2) {
            unsigned short bits;
            memcpy(&bits, &value, 2);
            at[i / 2] = i % 2 ? at[i / 2] | (u32)bits << 16 : bits;
        } else {
            memcpy(&at[i * sizeof(T) / 4], &value, sizeof(T));
        }
    }

    static __device__ __forceinline__ Words all(T value) {
        Words found;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) found.put(i, value);
        return found;
    }
};

struct Row {
    i64 index, start;  // which row, and where it begins
    int columns;       // 0 for a team that has no row
    int lane, size;    // the place of a thread in its team, and of how many
    int shift;         // elements of the first pack before the row

    static __device__ __forceinline__ Row of(const T* x, i64 rows, i64 columns, i64 size) {
        const int team = threadIdx.x / (u32)size, teams = blockDim.x / (u32)size;
        Row at{(i64)blockIdx.x * teams + team, 0, 0, int(threadIdx.x % (u32)size), (int)size, 0};
        at.move(at.index, rows, columns);
        at.shift = int((u64)(x + at.start) % 16 / sizeof(T));
        return at;
    }

    // To another row, whose packs begin at the same element.
    __device__ __forceinline__ void move(i64 to, i64 rows, i64 all) {
        const bool inside = to < rows;
        index = inside ? to : 0, start = index * all, columns = inside ? (int)all : 0;
    }

    // Which element of the row is the first of the thread's pack k.
    __device__ __forceinline__ int begin(int k) const { return (lane + k * size) * WIDTH - shift; }
    __device__ __forceinline__ bool has(int j) const { return (u32)j < (u32)columns; }
    __device__ __forceinline__ bool is_cut_as(const T* row) const {
        return (u64)(row - shift) % 16 == 0;
    }

    __device__ __forceinline__ bool is_inside(int j) const {
        return j >= 0 && j + WIDTH <= columns;
    }

    // The pack that begins at element j, with `fill` for what is not of the row, in two steps:
    // several loads go out before the first of them is looked at.
    __device__ __forceinline__ Words load(const T* row, int j, T fill) const {
        Words found = Words::all(fill);
        if (j > -WIDTH && j < columns) found.load(row + j);
        return found;
    }
    __device__ __forceinline__ void cut(Words& pack, int j, T fill) const {
        if (is_inside(j)) return;
        Words found;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) found.put(i, has(j + i) ? pack.get(i) : fill);
        pack = found;
    }

    __device__ __forceinline__ Words by_elements(const T* row, int j, T fill) const {
        const T* from = row + j;
        Words found;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) found.put(i, has(j + i) ? from[i] : fill);
        return found;
    }

    __device__ __forceinline__ Words read(const T* row, int j, T fill) const {
        Words found = load(row, j, fill);
        cut(found, j, fill);
        return found;
    }
    __device__ __forceinline__ Words read_any(const T* row, int j, T fill) const {
        return is_cut_as(row) ? read(row, j, fill) : by_elements(row, j, fill);
    }

    __device__ __forceinline__ void write(T* row, int j, const Words& pack) const {
        T* to = row + j;
        if (is_cut_as(row) && is_inside(j)) {
            pack.store(to);
            return;
        }
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i)
            if (has(j + i)) to[i] = pack.get(i);
    }
};

// What a thread keeps of a row: its packs; of a row that does not fit, PACKS is 0, where they lie.
template <int PACKS>
struct Held {
    Words packs[PACKS];

    __device__ __forceinline__ Held() {}
    __device__ __forceinline__ Held(const Row& at, const T* row, T fill) { read(at, row, fill); }

    __device__ __forceinline__ void read(const Row& at, const T* row, T fill) {
        #pragma unroll
        for (int k = 0; k < PACKS; ++k) packs[k] = at.load(row, at.begin(k), fill);
        #pragma unroll
        for (int k = 0; k < PACKS; ++k) at.cut(packs[k], at.begin(k), fill);
    }

    __device__ __forceinline__ void read_any(const Row& at, const T* row, T fill) {
        if (at.is_cut_as(row)) return read(at, row, fill);
        #pragma unroll
        for (int k = 0; k < PACKS; ++k) packs[k] = at.by_elements(row, at.begin(k), fill);
    }

    __device__ __forceinline__ const Words& operator()(int k) const { return packs[k]; }
};

template <>
struct Held<0> {
    const Row& at;
    const T *row, fill;

    __device__ __forceinline__ Held(const Row& at, const T* row, T fill)
        : at(at), row(row), fill(fill) {}
    __device__ __forceinline__ Words operator()(int k) const {
        return at.read(row, at.begin(k), fill);
    }
};

// Calls f(k, where pack k begins) for the packs of a thread.
template <int PACKS, typename F>
__device__ __forceinline__ void each(const Row& at, F f) {
    if constexpr (PACKS > 0) {
        #pragma unroll
        for (int k = 0; k < PACKS; ++k) f(k, at.begin(k));
    } else {
        for (int k = 0; at.begin(k) < at.columns; ++k) f(k, at.begin(k));
    }
}

// Join what the threads of a team have, for all of them. Always in the same order.
template <typename R>
__device__ __forceinline__ R over_team(R value, int size) {
    __shared__ R parts[32];
    #pragma unroll
    for (int by = 16; by; by /= 2)
        if (by < size) value = R::join(value, value.shuffled(by));
    if (size <= 32) return value;
    const u32 lane = threadIdx.x % 32;
    __syncthreads();  // nobody still reads the parts of a call before
    if (lane == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = lane < blockDim.x / 32 ? parts[lane] : R::nothing();
    #pragma unroll
    for (int by = 16; by; by /= 2) value = R::join(value, value.shuffled(by));
    return value;
}

struct Top {
    A value;
    static __device__ __forceinline__ Top nothing() { return {-INFINITY}; }
    static __device__ __forceinline__ Top join(const Top& a, const Top& b) {
        return {Max::join(a.value, b.value)};
    }
    __device__ __forceinline__ Top shuffled(int by) const {
        return {__shfl_xor_sync(ALL, value, by)};
    }
};

struct Two {  // sums
    A first, second;
    static __device__ __forceinline__ Two nothing() { return {0, 0}; }
    static __device__ __forceinline__ Two join(const Two& a, const Two& b) {
        return {a.first + b.first, a.second + b.second};
    }
    __device__ __forceinline__ Two shuffled(int by) const {
        return {__shfl_xor_sync(ALL, first, by), __shfl_xor_sync(ALL, second, by)};
    }
};

// A kernel for rows that do not fit into registers, and those for 2, 4 and 8 packs a thread. No
// team has more than 512 threads, each of which may have 128 registers then.
#define TEAM_KERNEL(name, parameters, arguments)                                          \
    extern "C" __global__ void __launch_bounds__(512) name##_0 parameters { name##_by<0> arguments; } \
    extern "C" __global__ void __launch_bounds__(512) name##_2 parameters { name##_by<2> arguments; } \
    extern "C" __global__ void __launch_bounds__(512) name##_4 parameters { name##_by<4> arguments; } \
    extern "C" __global__ void __launch_bounds__(512) name##_8 parameters { name##_by<8> arguments; }
