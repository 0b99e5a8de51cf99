// Clipping by norm: the sum of the squares of many arrays, and a factor for them all, which stays on the device.
#include "many.cuh"
#include "reduce.cuh"

// parts[block] = the sum of the squares of the block's share.
template <class T>
__global__ void squares(const Many<1> many, float* __restrict__ parts) {
    float sum = 0;
    each_of_many<T, 1, 0>(many, [&](float* v) { sum += v[0] * v[0]; });
    sum = reduce<Sum, MANY_THREADS>(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The root of the sum of the parts of all launches, in the same order in every run; one block.
template <class T>
__global__ void finish_norm(const float* __restrict__ parts, int count, T* __restrict__ norm) {
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += MANY_THREADS) sum += parts[i];
    sum = reduce<Sum, MANY_THREADS>(sum);
    if (threadIdx.x == 0) *norm = from_float<T>(sqrtf(sum));
}

template <class T>
__global__ void scale_many(const Many<1> many, const float* __restrict__ factor) {
    const float by = *factor;
    each_of_many<T, 1, 1>(many, [&](float* v) { v[0] *= by; });
}
