// Dropout with the mask drawn on the way: a thread has 16 bytes, and the words of Philox that belong to them. No mask
// goes through memory.
#include "philox/philox.cuh"

// Number i is kept if word i is at least `least` in its first 24 bits: if the uniform float32 of reference.py is at
// least p.
template <class T>
__global__ void dropout(const unsigned long long* __restrict__ key, unsigned long long counter,
                        const T* __restrict__ x, T* __restrict__ y, long long count, int aligned, unsigned least,
                        float scale) {
    constexpr int N = WIDEST<T>;
    const long long start = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (start >= count) return;
    float factor[N];
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        const Words words = philox(*key, counter + (start + i) / 4);
#pragma unroll
        for (int j = 0; j < 4; j++) factor[i + j] = words.w[j] >> 8 >= least ? scale : 0.0f;
    }
    if (aligned && start + N <= count) {
        Pack<T, N> pack = load<N>(x + start);
#pragma unroll
        for (int i = 0; i < N; i++) pack.value[i] = from_float<T>(to_float(pack.value[i]) * factor[i]);
        store<N>(y + start, pack);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (start + i < count) y[start + i] = from_float<T>(to_float(x[start + i]) * factor[i]);
    }
}
