// Products of matrices in float32 on the ordinary units, three times; README.md tells the story.
//
// c [batch, m, n] = a [batch, m, k] b [batch, k, n] (+ bias [n]), c one row after another. a and b lie in memory by the
// strides of `Matrix`, in elements, so a transposed operand is not copied. Sums are in float32, whatever T.
#include "sum.cuh"

struct Matrix {
    long long batch, row, column;
};

// 1. A thread for each result, which reads a row of a and a column of b: 2 loads for a multiplication.
template <class T>
__global__ void matmul_naive(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias, T* __restrict__ c,
                             int m, int n, int k, Matrix at, Matrix bt) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row >= m || column >= n) return;
    a += blockIdx.z * at.batch + row * at.row;
    b += blockIdx.z * bt.batch + column * bt.column;
    float sum = 0;
    for (int i = 0; i < k; i++) sum += to_float(a[i * at.column]) * to_float(b[i * bt.row]);
    if (bias) sum += to_float(bias[column]);
    c[((long long)blockIdx.z * m + row) * n + column] = from_float<T>(sum);
}

// Of the ROWS x COLUMNS part of a matrix that begins at (row, column): element i of what THREADS load together, in the
// order in which the matrix lies in memory, so that neighbouring threads read neighbouring numbers. Outside it is 0.
template <int ROWS, int COLUMNS, int THREADS, class T, class Put>
DEVICE void load_tile(const T* from, Matrix strides, int row, int column, int rows, int columns, Put put) {
    const bool by_rows = strides.column == 1;
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int r = by_rows ? i / COLUMNS : i % ROWS, c = by_rows ? i % COLUMNS : i / ROWS;
        const bool inside = row + r < rows && column + c < columns;
        put(r, c, inside ? to_float(from[(row + r) * strides.row + (column + c) * strides.column]) : 0.0f);
    }
}

// 2. A block makes a TILE x TILE part of c, and loads what its threads share into shared memory once: TILE times less from
// memory, but still two loads, from shared memory, for a multiplication.
template <class T, int TILE>
__global__ void matmul_tiled(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias, T* __restrict__ c,
                             int m, int n, int k, Matrix at, Matrix bt) {
    __shared__ float as[TILE][TILE + 1], bs[TILE][TILE + 1];
    const int r = threadIdx.x / TILE, s = threadIdx.x % TILE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    a += blockIdx.z * at.batch;
    b += blockIdx.z * bt.batch;
    float sum = 0;
    for (int start = 0; start < k; start += TILE) {
        load_tile<TILE, TILE, TILE * TILE>(a, at, row, start, m, k, [&](int i, int j, float v) { as[i][j] = v; });
        load_tile<TILE, TILE, TILE * TILE>(b, bt, start, column, k, n, [&](int i, int j, float v) { bs[i][j] = v; });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i++) sum += as[r][i] * bs[i][s];
        __syncthreads();
    }
    if (row + r >= m || column + s >= n) return;
    if (bias) sum += to_float(bias[column + s]);
    c[((long long)blockIdx.z * m + row + r) * n + column + s] = from_float<T>(sum);
}

// 3. A thread makes SIDE x SIDE results: it loads 2 SIDE numbers from shared memory, in packs, for SIDE^2 multiplications.
template <class T, int TILE, int DEPTH, int SIDE>
__global__ void __launch_bounds__((TILE / SIDE) * (TILE / SIDE))
matmul_registers(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias, T* __restrict__ c, int m, int n,
                 int k, Matrix at, Matrix bt) {
    constexpr int ACROSS = TILE / SIDE, THREADS = ACROSS * ACROSS;
    constexpr int WIDTH = TILE + 4;  // rows begin in different banks, and at multiples of 16 bytes
    __shared__ __align__(16) float as[DEPTH][WIDTH], bs[DEPTH][WIDTH];
    const int r = threadIdx.x / ACROSS * SIDE, s = threadIdx.x % ACROSS * SIDE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    a += blockIdx.z * at.batch;
    b += blockIdx.z * bt.batch;
    float sum[SIDE][SIDE] = {};
    for (int start = 0; start < k; start += DEPTH) {
        load_tile<TILE, DEPTH, THREADS>(a, at, row, start, m, k, [&](int i, int j, float v) { as[j][i] = v; });
        load_tile<DEPTH, TILE, THREADS>(b, bt, start, column, k, n, [&](int i, int j, float v) { bs[i][j] = v; });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DEPTH; i++) {
            const Pack<float, SIDE> left = load<SIDE>(&as[i][r]), right = load<SIDE>(&bs[i][s]);
#pragma unroll
            for (int p = 0; p < SIDE; p++)
#pragma unroll
                for (int q = 0; q < SIDE; q++) sum[p][q] += left.value[p] * right.value[q];
        }
        __syncthreads();
    }
#pragma unroll
    for (int p = 0; p < SIDE; p++)
#pragma unroll
        for (int q = 0; q < SIDE; q++) {
            if (row + r + p >= m || column + s + q >= n) continue;
            const float shift = bias ? to_float(bias[column + s + q]) : 0.0f;
            c[((long long)blockIdx.z * m + row + r + p) * n + column + s + q] = from_float<T>(sum[p][q] + shift);
        }
}
