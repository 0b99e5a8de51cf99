// What is done with the results of a product on their way to memory: bias, activation, residual; or, where the depth is
// divided among blocks ("split-K"), nothing but to keep them until all parts are there.
#pragma once
#include "activation/functions.cuh"

DEVICE float activate(float x, int activation) {
    switch (activation) {
        case 1: return Relu::value(x, 0, 0);
        case 2: return Silu::value(x, 0, 0);
        case 3: return Gelu::value(x, 0, 0);
        case 4: return GeluTanh::value(x, 0, 0);
    }
    return x;
}

// bias and residual: what to add, one number a column or one a result, or null. `before`, unless null, gets the results
// before the activation. wide: every row of all of them begins at a multiple of 16 bytes.
template <class T>
struct Finish {
    const T *bias, *residual;
    T *out, *before;
    int activation, wide;

    // Results by packs are not those with an activation: its code would be there EACH times.
    DEVICE bool packed() const { return wide && !activation && !before; }

    DEVICE void pack(long long at, int column, const Pack<float, WIDEST<T>>& sums) const {
        constexpr int N = WIDEST<T>;
        Pack<float, N> x = sums;
        const auto add = [&](const T* from) {
            const Pack<T, N> more = load<N>(from);
#pragma unroll
            for (int e = 0; e < N; e++) x.value[e] += to_float(more.value[e]);
        };
        if (bias) add(bias + column);
        if (residual) add(residual + at);
        Pack<T, N> narrow;
#pragma unroll
        for (int e = 0; e < N; e++) narrow.value[e] = from_float<T>(x.value[e]);
        store<N>(out + at, narrow);
    }

    DEVICE void one(long long at, int column, float sum) const {
        if (bias) sum += to_float(bias[column]);
        if (before) before[at] = from_float<T>(sum);
        sum = activate(sum, activation);
        out[at] = from_float<T>(residual ? sum + to_float(residual[at]) : sum);
    }
};

// What a pipeline does with the results of one tile of a matrix [m, n]: finishes them, or keeps them, float32, in `parts`
// unless that is null. `to`: the matrix's number in out, or in parts.
template <class T>
struct Results {
    Finish<T> finish;
    float* parts;
    long long to;
    int row, column, m, n;  // where the tile begins, and where the matrix ends

    DEVICE bool packed() const { return !parts && finish.packed(); }

    DEVICE void pack(int r, int s, const Pack<float, WIDEST<T>>& sums) const {
        if (row + r >= m || column + s >= n) return;
        finish.pack((to * m + row + r) * n + column + s, column + s, sums);
    }

    DEVICE void one(int r, int s, float sum) const {
        if (row + r >= m || column + s >= n) return;
        const long long at = (to * m + row + r) * n + column + s;
        if (parts) parts[at] = sum;
        else finish.one(at, column + s, sum);
    }
};

// out = the sum of `count` parts of `size` results each, in their order: the same in every run. A thread has a result.
template <class T>
DEVICE void add_parts(const float* parts, int count, long long size, int n, const Finish<T>& finish) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= size) return;
    float sum = 0;
    for (int part = 0; part < count; part++) sum += parts[part * size + at];
    finish.one(at, int(at % n), sum);
}
