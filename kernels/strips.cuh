// Matrices whose columns are channels: x [rows, channels], as images lie in memory whose channels come last.
//
// A block has a tile of some columns. A thread keeps to one strip of it, a pack of columns, and takes every so-manieth
// row, so what belongs to a channel (weight, sums) stays in its registers; neighbours read neighbours.
#pragma once
#include "ptx.cuh"

// Which part of a tile of `width` columns is this thread's. `step` threads share a strip; some at the end may have none.
template <int N>
struct Strip {
    int column, first, step;

    DEVICE explicit Strip(int width) {
        const int strips = width / N;
        column = int(threadIdx.x) % strips * N;
        first = int(threadIdx.x) / strips;
        step = int(blockDim.x) / strips;
    }
    DEVICE bool idle() const { return first >= step; }
};

constexpr int KEPT_PACKS = 8;

// The numbers of a strip in its `rows` rows, `pitch` apart; x begins at the strip's first column. KEPT: in registers,
// from the one time that they are read, at most COUNT packs of them; else they are read anew in each pass.
template <class T, int N, bool KEPT, int COUNT = KEPT_PACKS>
struct Numbers {
    const T* x;
    long long pitch;
    Pack<T, N> kept[KEPT ? COUNT : 1];

    DEVICE Numbers(const T* x, long long pitch, const Strip<N>& strip, int rows) : x(x), pitch(pitch) {
        if constexpr (KEPT) {
#pragma unroll
            for (int k = 0; k < COUNT; k++) {
                const int row = strip.first + k * strip.step;
                if (row < rows && !strip.idle()) kept[k] = load<N>(x + row * pitch);
            }
        }
    }
    DEVICE Pack<T, N> at(int k, int row) const {
        if constexpr (KEPT) return kept[k];
        else return load<N>(x + row * pitch);
    }
};

// f(k, row) for each row of the strip, the k-th of this thread.
template <bool KEPT, int COUNT, int N, class F>
DEVICE void each_row(const Strip<N>& strip, int rows, F f) {
    if (strip.idle()) return;
    if constexpr (KEPT) {
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            if (strip.first + k * strip.step < rows) f(k, strip.first + k * strip.step);
    } else {
#pragma unroll 4
        for (int row = strip.first; row < rows; row += strip.step) f(0, row);
    }
}

template <class T>
DEVICE float parameter(const T* p, int channel, float absent) {
    return p ? to_float(p[channel]) : absent;
}

// Sums of strips in shared memory, where a row of `width` floats belongs to the threads of one row: 16 bytes at once.
template <int N>
struct Sums {
    static constexpr int AT_ONCE = N % 4 == 0 ? 4 : 1;

    static DEVICE void leave(float* row, const float (&mine)[N]) {
#pragma unroll
        for (int i = 0; i < N; i += AT_ONCE) {
            Pack<float, AT_ONCE> pack;
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) pack.value[j] = mine[i + j];
            store<AT_ONCE>(row + i, pack);
        }
    }
    static DEVICE void add(float* row, const float* other) {
#pragma unroll
        for (int i = 0; i < N; i += AT_ONCE) {
            Pack<float, AT_ONCE> pack = load<AT_ONCE>(row + i);
            const Pack<float, AT_ONCE> more = load<AT_ONCE>(other + i);
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) pack.value[j] += more.value[j];
            store<AT_ONCE>(row + i, pack);
        }
    }
};

// K sums over the threads of each strip, in a tree: sum k of a column comes to parts[k * stride + column]. parts:
// K * stride floats of shared memory; stride: those of all threads, blockDim.x * N. Ends with a barrier.
template <int K, int N>
DEVICE void sum_strips(const Strip<N>& strip, int width, const float (&mine)[K][N], float* parts, int stride) {
    float* const here = parts + strip.first * width + strip.column;
    __syncthreads();  // parts may still be in use
    if (!strip.idle())
#pragma unroll
        for (int k = 0; k < K; k++) Sums<N>::leave(here + k * stride, mine[k]);
    __syncthreads();
    for (int rows = strip.step, half; rows > 1; rows = half) {
        half = (rows + 1) / 2;
        if (strip.first + half < rows)
#pragma unroll
            for (int k = 0; k < K; k++) Sums<N>::add(here + k * stride, here + k * stride + half * width);
        __syncthreads();
    }
}
