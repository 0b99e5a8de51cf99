// The sum of many numbers in two launches: each block adds up its share, then one block adds up the blocks' sums.
// Who adds what is fixed, so the result is the same in every run; nothing waits for anything.
#pragma once
#include "reduce.cuh"

constexpr int SUM_THREADS = 256;

// parts[block] = the sum of f(i) over the block's share of 0 <= i < count.
template <class F>
DEVICE void sum_parts(F f, float* parts, long long count) {
    float sum = 0;
    for (long long i = (long long)blockIdx.x * SUM_THREADS + threadIdx.x; i < count;
         i += (long long)gridDim.x * SUM_THREADS)
        sum += f(i);
    sum = reduce<Sum, SUM_THREADS>(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// out[0] = scale times the sum of parts; one block.
template <class T>
__global__ void finish_sum(const float* __restrict__ parts, int count, float scale, T* __restrict__ out) {
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += SUM_THREADS) sum += parts[i];
    sum = reduce<Sum, SUM_THREADS>(sum);
    if (threadIdx.x == 0) out[0] = from_float<T>(sum * scale);
}

// out[column] = the sum of f(row, column) over the rows. A block of (32, 8) threads has 32 columns, so that a warp
// reads neighbours, and 8 threads for each, which take every eighth row and meet in shared memory.
template <class T, class F>
DEVICE void sum_columns(F f, T* out, int rows, int columns) {
    __shared__ float parts[8][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0;
    if (column < columns)
        for (int row = threadIdx.y; row < rows; row += 8) sum += f(row, column);
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        for (int i = 1; i < 8; i++) sum += parts[i][threadIdx.x];
        out[column] = from_float<T>(sum);
    }
}

template <class In, class T>
__global__ void column_sums(const In* __restrict__ x, T* __restrict__ out, int rows, int columns) {
    sum_columns([&](int row, int column) { return to_float(x[(long long)row * columns + column]); }, out, rows,
                columns);
}
