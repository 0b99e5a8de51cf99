// One result for each number of one or more arrays of the same length: 16 bytes of each in one access where they allow.
#pragma once
#include "ptx.cuh"

// y[i] = f(x[i], ...), each x of T and as float32 in f. A thread has one pack; `aligned`: every array begins at a
// multiple of 16 bytes.
template <class T, class F, class... X>
DEVICE void map(F f, T* y, long long count, bool aligned, const X*... x) {
    constexpr int N = WIDEST<T>;
    const long long start = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (aligned && start + N <= count) {
        Pack<T, N> out;
        const auto compute = [&](const auto&... pack) {
#pragma unroll
            for (int i = 0; i < N; i++) out.value[i] = from_float<T>(f(to_float(pack.value[i])...));
        };
        compute(load<N>(x + start)...);
        store<N>(y + start, out);
    } else {
        for (long long i = start; i < count && i < start + N; i++) y[i] = from_float<T>(f(to_float(x[i])...));
    }
}
