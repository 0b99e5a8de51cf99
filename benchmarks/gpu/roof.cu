// What a GPU can do at best: copy memory in accesses of 16 bytes, and multiply and add in registers.
#include "ptx.cuh"

__global__ void copy(const float* __restrict__ x, float* __restrict__ y, long long packs) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < packs;
         i += (long long)gridDim.x * blockDim.x)
        store<4>(y + 4 * i, load<4>(x + 4 * i));
}

// 16 chains of `steps` multiplications with an addition each, enough to hide how long one takes.
__global__ void multiply_add(float* __restrict__ out, int steps, float factor) {
    float chain[16];
    const int thread = blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll
    for (int i = 0; i < 16; i++) chain[i] = float(thread + i);
    for (int step = 0; step < steps; step++)
#pragma unroll
        for (int i = 0; i < 16; i++) chain[i] = chain[i] * factor + 1.0f;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 16; i++) sum += chain[i];
    out[thread] = sum;  // else all of it would be left out
}

__global__ void nothing(float* out) {
    if (threadIdx.x == 0) *out = 1;
}
