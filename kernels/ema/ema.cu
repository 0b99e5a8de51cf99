// The exponential moving average, in place: of one array, and of many in one launch (averages, values).
#include "many.cuh"

template <class T>
__global__ void ema(T* __restrict__ average, const T* __restrict__ value, long long count, float rate) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float before = to_float(average[i]);
    average[i] = from_float<T>(before + rate * (to_float(value[i]) - before));
}

template <class T>
__global__ void ema_many(const Many<2> many, float rate) {
    each_of_many<T, 2, 0b01>(many, [&](float* v) { v[0] += rate * (v[1] - v[0]); });
}
