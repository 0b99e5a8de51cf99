// Products of matrices in float32 on the ordinary units, three times; README.md tells the story.
//
// c [batch, m, n] = a [batch, m, k] b [batch, k, n] (+ bias [n]), c one row after another. a and b lie in memory by the
// strides of `Matrix`, in elements, so a transposed operand is not copied. Sums are in float32, whatever T.
#include "sum.cuh"
#include "tile.cuh"

struct Matrix {
    long long batch, row, column;

    // The numbers of this block's matrix, as a function of row and column.
    template <class T>
    DEVICE auto numbers(const T* from) const {
        from += blockIdx.z * batch;
        return [from, down = row, right = column](int r, int c) { return to_float(from[r * down + c * right]); };
    }
};

// 1. A thread for each result, which reads a row of a and a column of b: 2 loads for a multiplication.
template <class T>
__global__ void matmul_naive(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias,
                             T* __restrict__ c, int m, int n, int k, Matrix at, Matrix bt) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row >= m || column >= n) return;
    a += blockIdx.z * at.batch + row * at.row;
    b += blockIdx.z * bt.batch + column * bt.column;
    float sum = 0;
    for (int i = 0; i < k; i++) sum += to_float(a[i * at.column]) * to_float(b[i * bt.row]);
    if (bias) sum += to_float(bias[column]);
    c[((long long)blockIdx.z * m + row) * n + column] = from_float<T>(sum);
}

// 2. A block makes a TILE x TILE part of c, and loads what its threads share into shared memory once: TILE times less
// from memory, but still two loads, from shared memory, for a multiplication.
template <class T, int TILE>
__global__ void matmul_tiled(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias,
                             T* __restrict__ c, int m, int n, int k, Matrix at, Matrix bt) {
    __shared__ float as[TILE][TILE + 1], bs[TILE][TILE + 1];
    const int r = threadIdx.x / TILE, s = threadIdx.x % TILE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    const auto left = at.numbers(a), right = bt.numbers(b);
    float sum = 0;
    for (int start = 0; start < k; start += TILE) {
        load_tile<TILE, TILE, TILE * TILE>(left, at.column == 1, row, start, m, k,
                                           [&](int i, int j, float v) { as[i][j] = v; });
        load_tile<TILE, TILE, TILE * TILE>(right, bt.column == 1, start, column, k, n,
                                           [&](int i, int j, float v) { bs[i][j] = v; });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i++) sum += as[r][i] * bs[i][s];
        __syncthreads();
    }
    if (row + r >= m || column + s >= n) return;
    if (bias) sum += to_float(bias[column + s]);
    c[((long long)blockIdx.z * m + row + r) * n + column + s] = from_float<T>(sum);
}

// 3. A thread makes SIDE x SIDE results (tile.cuh): it loads 2 SIDE numbers from shared memory, in packs, for SIDE^2
// multiplications.
template <class T, int TILE, int DEPTH, int SIDE>
__global__ void __launch_bounds__((TILE / SIDE) * (TILE / SIDE))
    matmul_registers(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias, T* __restrict__ c,
                     int m, int n, int k, Matrix at, Matrix bt) {
    const auto put = [&](int row, int column, float sum) {
        if (bias) sum += to_float(bias[column]);
        c[((long long)blockIdx.z * m + row) * n + column] = from_float<T>(sum);
    };
    multiply_tiles<TILE, DEPTH, SIDE>(at.numbers(a), at.column == 1, bt.numbers(b), bt.column == 1, put, m, n, k);
}
