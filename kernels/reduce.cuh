// Sums and maxima over the threads of a warp or of a block, the same for every thread and in every run.
#pragma once
#include "ptx.cuh"

struct Sum {
    static DEVICE float nothing() { return 0.0f; }
    static DEVICE float of(float a, float b) { return a + b; }
};

struct Largest {
    static DEVICE float nothing() { return -INFINITE; }
    static DEVICE float of(float a, float b) { return fmaxf(a, b); }
};

// Over a warp, in five steps: each lane takes in what the lane across the half, quarter, ... has.
template <class Op>
DEVICE float reduce_warp(float value) {
#pragma unroll
    for (int distance = WARP_SIZE / 2; distance > 0; distance /= 2)
        value = Op::of(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

// Over the THREADS of a block (a multiple of 32, of threadIdx.x), or over a warp if that is all there are. Warps leave
// their part in shared memory, and each adds up all parts for itself.
template <class Op, int THREADS>
DEVICE float reduce(float value) {
    value = reduce_warp<Op>(value);
    if constexpr (THREADS > WARP_SIZE) {
        constexpr int WARPS = THREADS / WARP_SIZE;
        __shared__ float parts[WARPS];
        const int lane = threadIdx.x % WARP_SIZE;
        if (lane == 0) parts[threadIdx.x / WARP_SIZE] = value;
        __syncthreads();
        value = reduce_warp<Op>(lane < WARPS ? parts[lane] : Op::nothing());
        __syncthreads();  // parts is free for the next reduction
    }
    return value;
}
