// The softmax of rows whose scores come block after block. A lane has two rows, as mma's sums do: of each 8 columns two
// numbers of the first row and two of the second one, 8 rows on; four lanes share a row.
#pragma once
#include "ptx.cuh"

constexpr float LOWEST = -3.4028235e38f;  // not -inf, for -inf - -inf is NaN

struct Online {
    float top[2] = {LOWEST, LOWEST}, total[2] = {};

    // Scores, in powers of 2, become weights. What was summed up with the weights before has to be multiplied by `shrink`.
    template <int TILES>
    DEVICE void weigh(float (&p)[TILES][4], float (&shrink)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {  // of the rows
            float higher = top[half];
#pragma unroll
            for (int j = 0; j < TILES; j++) higher = fmaxf(higher, fmaxf(p[j][2 * half], p[j][2 * half + 1]));
            higher = fmaxf(higher, __shfl_xor_sync(FULL_WARP, higher, 1));
            higher = fmaxf(higher, __shfl_xor_sync(FULL_WARP, higher, 2));
            shrink[half] = exp2f(top[half] - higher);
            top[half] = higher, total[half] *= shrink[half];
#pragma unroll
            for (int j = 0; j < TILES; j++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    p[j][e] = exp2f(p[j][e] - higher);
                    total[half] += p[j][e];  // this lane's columns: lanes are added up at the end
                }
        }
    }

    // After the last block: what sums have to be multiplied by, and lse of rows `row` and row + 8, of `rows` there are.
    DEVICE void finish(float (&factor)[2], float* lse, int row, int rows) const {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[half];
            sum += __shfl_xor_sync(FULL_WARP, sum, 1);
            sum += __shfl_xor_sync(FULL_WARP, sum, 2);
            factor[half] = sum > 0 ? 1 / sum : 0.0f;
            // A row that may attend to nothing gets zeros, and lse such that its weights are 0 in the derivative too.
            if (threadIdx.x % 4 == 0 && row + 8 * half < rows)
                lse[row + 8 * half] = sum > 0 ? (top[half] + log2f(sum)) * LN_2 : INFINITE;
        }
    }

    static constexpr float LN_2 = 0.693147181f;
};
