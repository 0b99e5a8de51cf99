// Sums over one dimension of [before, n, after], what lies between being one run of dimensions in memory. A sum that is
// too long for a block is cut into chunks, whose sums are added up in a second launch: always in the same order.
#include "reduce.cuh"
#include "strips.cuh"

// after = 1, short rows: a warp for each. A block has (32, 8) threads.
template <class In, class T>
__global__ void sum_short_rows(const In* __restrict__ x, T* __restrict__ out, int rows, int n) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave together
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += WARP_SIZE) sum += to_float(x[(long long)row * n + i]);
    sum = reduce_warp<Sum>(sum);
    if (threadIdx.x == 0) out[row] = from_float<T>(sum);
}

// after = 1: a block for each chunk of each row. out: [rows, chunks]. blockIdx.x: row; blockIdx.y: chunk.
template <class In, class T, int N>
__global__ void __launch_bounds__(256, 1)
    sum_rows(const In* __restrict__ x, T* __restrict__ out, long long n, int chunk) {
    const long long start = (long long)blockIdx.y * chunk;
    const int count = int(min((long long)chunk, n - start));
    x += blockIdx.x * n + start;
    float sums[N] = {};
#pragma unroll 4
    for (int i = threadIdx.x * N; i < count; i += 256 * N) {
        const Pack<In, N> pack = load<N>(x + i);
#pragma unroll
        for (int j = 0; j < N; j++) sums[j] += to_float(pack.value[j]);
    }
    float sum = 0;
#pragma unroll
    for (int j = 0; j < N; j++) sum += sums[j];
    sum = reduce<Sum, 256>(sum);
    if (threadIdx.x == 0) out[(long long)blockIdx.x * gridDim.y + blockIdx.y] = from_float<T>(sum);
}

// A tile of `width` columns and a chunk of the n rows of one matrix for each block. out: [before, chunks, after].
// blockIdx.x: matrix and tile; blockIdx.y: chunk.
template <class In, class T, int N>
__global__ void __launch_bounds__(256, 1)
    sum_middle(const In* __restrict__ x, T* __restrict__ out, int n, int after, int width, int chunk) {
    DYNAMIC_SHARED(float, parts);
    const int tiles = (after + width - 1) / width, first = int(blockIdx.x % tiles) * width, mine = min(width, after - first);
    const long long matrix = blockIdx.x / tiles;
    const int start = blockIdx.y * chunk;
    const Strip<N> strip(mine);
    x += (matrix * n + start) * after + first + strip.column;
    float sums[1][N] = {};
    each_row<false, 1>(strip, min(chunk, n - start), [&](int, int row) {
        const Pack<In, N> pack = load<N>(x + (long long)row * after);
#pragma unroll
        for (int i = 0; i < N; i++) sums[0][i] += to_float(pack.value[i]);
    });
    sum_strips(strip, mine, sums, parts, blockDim.x * N);
    out += (matrix * gridDim.y + blockIdx.y) * after + first;
    for (int column = threadIdx.x; column < mine; column += blockDim.x) out[column] = from_float<T>(parts[column]);
}
