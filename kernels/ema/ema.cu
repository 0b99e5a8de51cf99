// The exponential moving average, in place.
#include "ptx.cuh"

__global__ void ema(float* __restrict__ average, const float* __restrict__ value, long long count, float rate) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) average[i] += rate * (value[i] - average[i]);
}
