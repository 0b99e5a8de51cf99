// A row of a matrix in registers. THREADS share it, each has PER numbers of it, in packs of 16 bytes: the threads of a
// warp for short rows, of a block for long ones.
#pragma once
#include "reduce.cuh"

template <class T, int PER, int THREADS>
struct Row {
    static constexpr int N = WIDEST<T>, PACKS = PER / N;
    float value[PACKS][N];

    static DEVICE int column(int p, int i) { return (p * THREADS + int(threadIdx.x)) * N + i; }

    // `aligned`: rows begin at multiples of 16 bytes. What lies beyond the width becomes `filler`.
    DEVICE void read(const T* x, int width, bool aligned, float filler) {
#pragma unroll
        for (int p = 0; p < PACKS; p++) {
            const int j = column(p, 0);
            if (aligned && j < width) {
                const Pack<T, N> pack = load<N>(x + j);
#pragma unroll
                for (int i = 0; i < N; i++) value[p][i] = to_float(pack.value[i]);
            } else {
#pragma unroll
                for (int i = 0; i < N; i++) value[p][i] = j + i < width ? to_float(x[j + i]) : filler;
            }
        }
    }

    DEVICE void write(T* y, int width, bool aligned) const {
#pragma unroll
        for (int p = 0; p < PACKS; p++) {
            const int j = column(p, 0);
            Pack<T, N> pack;
#pragma unroll
            for (int i = 0; i < N; i++) pack.value[i] = from_float<T>(value[p][i]);
            if (aligned && j < width) {
                store<N>(y + j, pack);
            } else {
#pragma unroll
                for (int i = 0; i < N; i++)
                    if (j + i < width) y[j + i] = pack.value[i];
            }
        }
    }

    // f(number, its pack, its place in the pack)
    template <class F>
    DEVICE void each(F f) {
#pragma unroll
        for (int p = 0; p < PACKS; p++)
#pragma unroll
            for (int i = 0; i < N; i++) f(value[p][i], p, i);
    }
};
