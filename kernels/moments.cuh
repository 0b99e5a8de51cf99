// Mean and variance in one pass, as Welford (1962) does, and of several threads joined as Chan et al. (1979) do: unlike
// E[x^2] - E[x]^2 it keeps its digits where the mean is large.
#pragma once
#include "ptx.cuh"

struct Moments {
    float count = 0, mean = 0, squares = 0;  // squares: the sum of (x - mean)^2

    DEVICE void add(float x) {
        count += 1;
        const float off = x - mean;
        mean += off / count;
        squares += off * (x - mean);
    }

    DEVICE void join(float other_count, float other_mean, float other_squares) {
        const float all = count + other_count;
        if (all == 0) return;
        const float off = other_mean - mean, share = other_count / all;
        mean += off * share;
        squares += other_squares + off * off * count * share;
        count = all;
    }

    DEVICE void join_warp() {
#pragma unroll
        for (int distance = WARP_SIZE / 2; distance > 0; distance /= 2) {
            const float c = __shfl_down_sync(FULL_WARP, count, distance),
                        m = __shfl_down_sync(FULL_WARP, mean, distance);
            join(c, m, __shfl_down_sync(FULL_WARP, squares, distance));
        }
    }

    // What the threads of a block have, for all of them. Once in a kernel: its shared memory is not freed for another.
    template <int THREADS>
    DEVICE void join_block() {
        __shared__ float parts[THREADS / WARP_SIZE][3];
        join_warp();
        if (threadIdx.x % WARP_SIZE == 0) {
            float* part = parts[threadIdx.x / WARP_SIZE];
            part[0] = count, part[1] = mean, part[2] = squares;
        }
        __syncthreads();
        *this = Moments();
        for (int warp = 0; warp < THREADS / WARP_SIZE; warp++) join(parts[warp][0], parts[warp][1], parts[warp][2]);
    }
};
