// The sum of two arrays: of one shape, in place, and with rows spread over matrices. 16 bytes at once.
#include "elementwise.cuh"
#include "strips.cuh"

template <class T>
__global__ void add(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ y, long long count, int aligned) {
    map([](float x, float z) { return x + z; }, y, count, aligned, a, b);
}

template <class T>
__global__ void accumulate(T* a, const T* __restrict__ b, long long count, int aligned) {
    map([](float x, float z) { return x + z; }, a, count, aligned, static_cast<const T*>(a), b);
}

// y [before, between, after] = a + b [before, 1, after]. A block has a tile of `width` columns and a chunk of the rows
// of one matrix; a thread keeps its part of b. blockIdx.x: matrix and tile; blockIdx.y: chunk.
template <class T, int N>
__global__ void __launch_bounds__(256, 1)
    add_spread(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ y, int between, int after, int width,
               int chunk) {
    const int tiles = (after + width - 1) / width, first = int(blockIdx.x % tiles) * width;
    const long long matrix = blockIdx.x / tiles, start = int(blockIdx.y) * chunk;
    const Strip<N> strip(min(width, after - first));
    const Pack<T, N> spread = load<N>(b + matrix * after + first + strip.column);
    const long long here = (matrix * between + start) * after + first + strip.column;
    each_row<false, 1>(strip, min(chunk, between - int(start)), [&](int, int row) {
        Pack<T, N> pack = load<N>(a + here + (long long)row * after);
#pragma unroll
        for (int i = 0; i < N; i++)
            pack.value[i] = from_float<T>(to_float(pack.value[i]) + to_float(spread.value[i]));
        store<N>(y + here + (long long)row * after, pack);
    });
}
