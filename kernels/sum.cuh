// The sum of many numbers in two launches: each block adds up its share, then one block adds up the blocks' sums.
// Who adds what is fixed, so the result is the same in every run; nothing waits for anything.
#pragma once
#include "reduce.cuh"

constexpr int SUM_THREADS = 256;

// parts[block] = the sum of f(i) over the block's share of 0 <= i < count.
template <class F>
DEVICE void sum_parts(F f, float* parts, long long count) {
    float sum = 0;
    for (long long i = (long long)blockIdx.x * SUM_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * SUM_THREADS)
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
