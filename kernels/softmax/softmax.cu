// Softmax of the rows of a matrix, six times, each with one idea more; and the derivative. README.md tells the story.
//
// x, y: [rows, width], rows one after another. Sums are in float32, whatever T. A row of nothing but -inf gives NaN.
#include "row.cuh"

// 1. A thread for each row. Neighbouring threads read numbers that lie a whole row apart: of the 32 bytes that memory
// hands out at a time, one number is used.
template <class T>
__global__ void softmax_thread(const T* __restrict__ x, T* __restrict__ y, int rows, int width) {
    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    float top = -INFINITE, sum = 0;
    for (int j = 0; j < width; j++) top = fmaxf(top, to_float(x[j]));
    for (int j = 0; j < width; j++) sum += expf(to_float(x[j]) - top);
    for (int j = 0; j < width; j++) y[j] = from_float<T>(expf(to_float(x[j]) - top) / sum);
}

// 2. A block for each row: neighbouring threads read neighbouring numbers. The threads' results meet in a tree in
// shared memory, a barrier for each of its levels.
template <class Op, int THREADS>
DEVICE float reduce_tree(float value) {
    __shared__ float parts[THREADS];
    parts[threadIdx.x] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) parts[threadIdx.x] = Op::of(parts[threadIdx.x], parts[threadIdx.x + half]);
        __syncthreads();
    }
    value = parts[0];
    __syncthreads();
    return value;
}

template <class T, int THREADS>
__global__ void softmax_tree(const T* __restrict__ x, T* __restrict__ y, int rows, int width) {
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    float top = -INFINITE, sum = 0;
    for (int j = threadIdx.x; j < width; j += THREADS) top = fmaxf(top, to_float(x[j]));
    top = reduce_tree<Largest, THREADS>(top);
    for (int j = threadIdx.x; j < width; j += THREADS) sum += expf(to_float(x[j]) - top);
    sum = reduce_tree<Sum, THREADS>(sum);
    for (int j = threadIdx.x; j < width; j += THREADS) y[j] = from_float<T>(expf(to_float(x[j]) - top) / sum);
}

// 3. The lanes of a warp read one another's registers: two barriers for a reduction in place of ten.
template <class T, int THREADS>
__global__ void softmax_shuffle(const T* __restrict__ x, T* __restrict__ y, int rows, int width) {
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    float top = -INFINITE, sum = 0;
    for (int j = threadIdx.x; j < width; j += THREADS) top = fmaxf(top, to_float(x[j]));
    top = reduce<Largest, THREADS>(top);
    for (int j = threadIdx.x; j < width; j += THREADS) sum += expf(to_float(x[j]) - top);
    sum = reduce<Sum, THREADS>(sum);
    for (int j = threadIdx.x; j < width; j += THREADS) y[j] = from_float<T>(expf(to_float(x[j]) - top) / sum);
}

// 4. A warp for each row, no barrier at all, and 16 bytes in each access. Wants rows that begin at multiples of 16
// bytes.
template <class T>
__global__ void softmax_warp(const T* __restrict__ x, T* __restrict__ y, int rows, int width) {
    constexpr int N = WIDEST<T>;
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave together
    x += row * width;
    y += row * width;
    float top = -INFINITE, sum = 0;
    for (int j = threadIdx.x * N; j < width; j += WARP_SIZE * N) {
        const Pack<T, N> pack = load<N>(x + j);
#pragma unroll
        for (int i = 0; i < N; i++) top = fmaxf(top, to_float(pack.value[i]));
    }
    top = reduce_warp<Largest>(top);
    for (int j = threadIdx.x * N; j < width; j += WARP_SIZE * N) {
        const Pack<T, N> pack = load<N>(x + j);
#pragma unroll
        for (int i = 0; i < N; i++) sum += expf(to_float(pack.value[i]) - top);
    }
    sum = reduce_warp<Sum>(sum);
    for (int j = threadIdx.x * N; j < width; j += WARP_SIZE * N) {
        Pack<T, N> pack = load<N>(x + j);
#pragma unroll
        for (int i = 0; i < N; i++) pack.value[i] = from_float<T>(expf(to_float(pack.value[i]) - top) / sum);
        store<N>(y + j, pack);
    }
}

// 5. The row stays in registers between the passes (row.cuh), so memory is read once and written once: no kernel can
// move less.
template <class T, int PER, int THREADS, bool LOG>
__global__ void __launch_bounds__(256)
    softmax_registers(const T* __restrict__ x, T* __restrict__ y, int rows, int width, int aligned) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps; a block that shares a row has no other
    Row<T, PER, THREADS> mine;
    mine.read(x + row * width, width, aligned, -INFINITE);
    float top = -INFINITE, sum = 0;
    mine.each([&](float& v, int, int) { top = fmaxf(top, v); });
    top = reduce<Largest, THREADS>(top);
    if constexpr (LOG) {
        mine.each([&](float& v, int, int) { sum += expf(v - top); });
        sum = reduce<Sum, THREADS>(sum);
        const float log_sum = logf(sum);
        mine.each([&](float& v, int, int) { v = (v - top) - log_sum; });
    } else {
        mine.each([&](float& v, int, int) { sum += v = expf(v - top); });
        sum = reduce<Sum, THREADS>(sum);
        mine.each([&](float& v, int, int) { v /= sum; });
    }
    mine.write(y + row * width, width, aligned);
}

// 6. Rows that fit in no registers: maximum and sum in one pass over memory, as Milakov and Gimelshein (2018) do. When
// the maximum grows from m to n, the sum so far is worth e^(m - n) of itself. So two reads and a write in place of
// three.
constexpr float LOWEST = -3.4028235e38f;  // not -inf, for -inf - -inf is NaN

struct Online {
    float top = LOWEST, sum = 0;

    DEVICE void add(float x) {
        const float higher = fmaxf(top, x);
        sum = sum * expf(top - higher) + expf(x - higher);
        top = higher;
    }

    template <int THREADS>
    DEVICE void reduce_all() {
        const float mine = top;
        top = reduce<Largest, THREADS>(top);
        sum = reduce<Sum, THREADS>(sum * expf(mine - top));
    }
};

template <class T, int THREADS, bool LOG>
__global__ void softmax_online(const T* __restrict__ x, T* __restrict__ y, int rows, int width, int aligned) {
    constexpr int N = WIDEST<T>;
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    const int packed = aligned ? width : 0;
    Online row;
    for (int j = threadIdx.x * N; j < packed; j += THREADS * N) {
        const Pack<T, N> pack = load<N>(x + j);
#pragma unroll
        for (int i = 0; i < N; i++) row.add(to_float(pack.value[i]));
    }
    for (int j = packed + threadIdx.x; j < width; j += THREADS) row.add(to_float(x[j]));
    row.reduce_all<THREADS>();
    const float log_sum = logf(row.sum);
    const auto result = [&](T v) {
        const float z = to_float(v) - row.top;
        return from_float<T>(LOG ? z - log_sum : expf(z) / row.sum);
    };
    for (int j = threadIdx.x * N; j < packed; j += THREADS * N) {
        Pack<T, N> pack = load<N>(x + j);
#pragma unroll
        for (int i = 0; i < N; i++) pack.value[i] = result(pack.value[i]);
        store<N>(y + j, pack);
    }
    for (int j = packed + threadIdx.x; j < width; j += THREADS) y[j] = result(x[j]);
}

// --- the derivative: y (g - sum(g y)), or for the logarithm g - e^y sum(g)

template <class T, int PER, int THREADS, bool LOG>
__global__ void __launch_bounds__(256) softmax_vjp_registers(const T* __restrict__ g, const T* __restrict__ y,
                                                             T* __restrict__ dx, int rows, int width, int aligned) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    Row<T, PER, THREADS> slope, value;
    slope.read(g + row * width, width, aligned, 0);
    value.read(y + row * width, width, aligned, 0);
    float sum = 0;
    slope.each([&](float& v, int p, int i) { sum += LOG ? v : v * value.value[p][i]; });
    sum = reduce<Sum, THREADS>(sum);
    slope.each([&](float& v, int p, int i) {
        const float out = value.value[p][i];
        v = LOG ? v - expf(out) * sum : out * (v - sum);
    });
    slope.write(dx + row * width, width, aligned);
}

template <class T, int THREADS, bool LOG>
__global__ void softmax_vjp_long(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ dx, int rows,
                                 int width) {
    const long long start = (long long)blockIdx.x * width;
    float sum = 0;
    for (int j = threadIdx.x; j < width; j += THREADS)
        sum += LOG ? to_float(g[start + j]) : to_float(g[start + j]) * to_float(y[start + j]);
    sum = reduce<Sum, THREADS>(sum);
    for (int j = threadIdx.x; j < width; j += THREADS) {
        const float slope = to_float(g[start + j]), out = to_float(y[start + j]);
        dx[start + j] = from_float<T>(LOG ? slope - expf(out) * sum : out * (slope - sum));
    }
}
