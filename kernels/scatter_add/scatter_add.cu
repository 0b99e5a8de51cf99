// A pair, each the gradient of the other: looking up rows of a table, and adding rows to those of a table.
#include "ptx.cuh"

// out[row] = the sum of the rows of source whose index is `row`. Adding atomically would be one line, and another
// result in every run; so the sources come sorted by their index, and a thread adds up those of its place in their
// order. order [n]: sources sorted by index; starts [rows + 1]: where those of each row begin. source: [n, width].
template <class T, int N>
__global__ void scatter_add(const T* __restrict__ source, const long long* __restrict__ order,
                            const long long* __restrict__ starts, T* __restrict__ out, int rows, int width) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, packs = width / N;
    if (i >= rows * packs) return;
    const long long row = i / packs, column = i % packs * N;
    float sums[N] = {};
    for (long long s = starts[row]; s < starts[row + 1]; s++) {
        const Pack<T, N> pack = load<N>(source + order[s] * width + column);
#pragma unroll
        for (int j = 0; j < N; j++) sums[j] += to_float(pack.value[j]);
    }
    Pack<T, N> pack;
#pragma unroll
    for (int j = 0; j < N; j++) pack.value[j] = from_float<T>(sums[j]);
    store<N>(out + row * width + column, pack);
}

// out [n, width] = the rows of table [rows, width] at index [n].
template <class T, int N>
__global__ void take_rows(const T* __restrict__ table, const long long* __restrict__ index, T* __restrict__ out,
                          int n, int width) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, packs = width / N;
    if (i >= n * packs) return;
    const long long row = i / packs, column = i % packs * N;
    store<N>(out + row * width + column, load<N>(table + index[row] * width + column));
}
