// A product of matrices by tiles, whatever the operands are: matrices with strides, or the windows of images.
#pragma once
#include "ptx.cuh"

// Element by element, the ROWS x COLUMNS part of a matrix that begins at (row, column), to put(i, j, number); 0 outside
// of rows x columns. `by_rows`: neighbouring threads take neighbours of a row, else of a column: as they lie in memory.
template <int ROWS, int COLUMNS, int THREADS, class From, class Put>
DEVICE void load_tile(From from, bool by_rows, int row, int column, int rows, int columns, Put put) {
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int r = by_rows ? i / COLUMNS : i % ROWS, c = by_rows ? i % COLUMNS : i / ROWS;
        put(r, c, row + r < rows && column + c < columns ? from(row + r, column + c) : 0.0f);
    }
}

// The TILE x TILE part of a [m, k] b [k, n] that is block (blockIdx.y, blockIdx.x)'s, by (TILE / SIDE)^2 threads with
// SIDE x SIDE results each: SIDE^2 multiplications for 2 SIDE numbers from shared memory. a(row, i) and b(i, column)
// give numbers, put(row, column, sum) takes results. Every FOLD tiles the sums are added to their totals and begin
// anew, so that the rounding error of a long sum grows with the root of its length's root.
template <int TILE, int DEPTH, int SIDE, class A, class B, class Put>
DEVICE void multiply_tiles(A a, bool a_by_rows, B b, bool b_by_rows, Put put, int m, int n, int k) {
    constexpr int ACROSS = TILE / SIDE, THREADS = ACROSS * ACROSS, FOLD = 16;
    constexpr int WIDTH = TILE + 4;  // rows begin in different banks, and at multiples of 16 bytes
    __shared__ __align__(16) float as[DEPTH][WIDTH], bs[DEPTH][WIDTH];
    const int r = threadIdx.x / ACROSS * SIDE, s = threadIdx.x % ACROSS * SIDE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    float sum[SIDE][SIDE] = {}, total[SIDE][SIDE] = {};
    for (int start = 0, tile = 1; start < k; start += DEPTH, tile++) {
        load_tile<TILE, DEPTH, THREADS>(a, a_by_rows, row, start, m, k, [&](int i, int j, float v) { as[j][i] = v; });
        load_tile<DEPTH, TILE, THREADS>(b, b_by_rows, start, column, k, n,
                                        [&](int i, int j, float v) { bs[i][j] = v; });
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
        if (tile % FOLD == 0 || start + DEPTH >= k) {
#pragma unroll
            for (int p = 0; p < SIDE; p++)
#pragma unroll
                for (int q = 0; q < SIDE; q++) {
                    total[p][q] += sum[p][q];
                    sum[p][q] = 0;
                }
        }
    }
#pragma unroll
    for (int p = 0; p < SIDE; p++)
#pragma unroll
        for (int q = 0; q < SIDE; q++)
            if (row + r + p < m && column + s + q < n) put(row + r + p, column + s + q, total[p][q]);
}
