// Products of two panels by one warp, on tensor cores or on the float32 units, into sums in registers; and how the sums
// come out again, row by row, so that they are stored 16 bytes at a time.
//
// A warp makes WARP_ROWS x 32 results. Both classes have add(a, b, row, column): add the product of two panels, of
// which the warp's part begins at `row` of a and `column` of b; and deposit(stage, part): results of 16 rows to shared
// memory, at stage_place().
#pragma once
#include "panel.cuh"

constexpr int WARP_COLUMNS = 32, STAGE_ROWS = 16, STAGE_FLOATS = STAGE_ROWS * WARP_COLUMNS;

// Where 4 results (a chunk) of a row lie. The number that is xor-ed keeps apart what is written or read at once: two
// chunks of each of four rows (fragments of mma), four even or odd chunks of two rows, one chunk of eight rows.
DEVICE int stage_place(int row, int chunk) {
    const int moved = (row & 3) << 1 ^ (row & 1) ^ (row >> 2 & 1) ^ (row >> 3 & 1) << 1;
    return row * WARP_COLUMNS + (chunk ^ moved) * 4;
}

// A warp's 16 x 32 sums, in four fragments of mma's results, to its stage.
DEVICE void deposit_fragments(float* stage, const float* sums) {
    const int lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (int j = 0; j < WARP_COLUMNS / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float* const to = stage + stage_place(lane / 4 + half * 8, 2 * j + lane % 4 / 2) + lane % 2 * 2;
            store<2>(to, Pack<float, 2>{{sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]}});
        }
}

// What lies in a warp's stage to `put`: 16 rows of the block's results from `row` on, 32 columns from `column` on.
// put.pack(row, column, values) gets 16 bytes of a row, if put.packed(); else put.one(row, column, value) a result, of
// which a warp has 32 neighbours at a time.
template <class T, class Put>
DEVICE void put_stage(const float* stage, int row, int column, const Put& put) {
    constexpr int EACH = WIDEST<T>, LANES = WARP_COLUMNS / EACH;  // lanes that share a row
    const int lane = threadIdx.x % WARP_SIZE;
    if (put.packed()) {
#pragma unroll
        for (int r = lane / LANES; r < STAGE_ROWS; r += WARP_SIZE / LANES) {
            Pack<float, EACH> values;
#pragma unroll
            for (int e = 0; e < EACH; e += 4) {
                const Pack<float, 4> four = load<4>(stage + stage_place(r, (lane % LANES * EACH + e) / 4));
#pragma unroll
                for (int i = 0; i < 4; i++) values.value[e + i] = four.value[i];
            }
            put.pack(row + r, column + lane % LANES * EACH, values);
        }
    } else {
#pragma unroll 1
        for (int r = 0; r < STAGE_ROWS; r++) put.one(row + r, column + lane, stage[stage_place(r, lane / 4) + lane % 4]);
    }
}

template <class T, class A, class B, int WARP_ROWS>
struct TensorProduct {
    static constexpr int ROWS = WARP_ROWS / 16, COLUMNS = WARP_COLUMNS / 8;  // of fragments
    static constexpr int STEP = 32 / sizeof(T);                              // depth of an instruction
    float sum[ROWS][COLUMNS][4] = {};

    // 16 rows of a at depth `step * STEP`: four fragments of 8 x 16 bytes.
    static DEVICE void load_left(unsigned to[4], const T* panel, int row, int step) {
        const int lane = threadIdx.x % WARP_SIZE;
        if constexpr (A::DEEP) {
            load_matrix_4(to, panel + A::place(row + lane % 16, step * 2 + lane / 16));
        } else if constexpr (sizeof(T) == 2) {
            const int line = step * STEP + lane % 8 + lane / 16 * 8;
            load_matrix_4_transposed(to, panel + A::place(line, row / A::EACH + lane / 8 % 2));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int side = row + lane / 4 + i % 2 * 8, depth = step * STEP + lane % 4 + i / 2 * 4;
                to[i] = __float_as_uint(panel[A::place_of(side, depth)]);
            }
        }
        round(to, 4);
    }

    // 16 columns of b: two fragments for each half of them.
    static DEVICE void load_right(unsigned to[4], const T* panel, int column, int step) {
        const int lane = threadIdx.x % WARP_SIZE;
        if constexpr (B::DEEP) {
            load_matrix_4(to, panel + B::place(column + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
        } else if constexpr (sizeof(T) == 2) {
            load_matrix_4_transposed(to, panel + B::place(step * STEP + lane % 16, column / B::EACH + lane / 16));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int side = column + lane / 4 + i / 2 * 8, depth = step * STEP + lane % 4 + i % 2 * 4;
                to[i] = __float_as_uint(panel[B::place_of(side, depth)]);
            }
        }
        round(to, 4);
    }

    // float32 as TF32, to nearest: the units would cut the last 13 bits off.
    static DEVICE void round(unsigned* numbers, int count) {
        if constexpr (sizeof(T) == 4)
#pragma unroll
            for (int i = 0; i < count; i++) numbers[i] = to_tf32(__uint_as_float(numbers[i]));
    }

    DEVICE void add(const T* a, const T* b, int row, int column) {
#pragma unroll 1  // two at once would need more registers than two blocks on a multiprocessor have
        for (int step = 0; step < A::DEPTH / STEP; step++) {
            unsigned left[ROWS][4], right[COLUMNS][2];
#pragma unroll
            for (int i = 0; i < ROWS; i++) load_left(left[i], a, row + 16 * i, step);
#pragma unroll
            for (int j = 0; j < COLUMNS; j += 2) load_right(right[j], b, column + 8 * j, step);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) multiply(sum[i][j], left[i], right[j], T{});
        }
    }

    DEVICE void deposit(float* stage, int part) const { deposit_fragments(stage, &sum[part][0][0]); }
};

// On the float32 units, 8 x 4 lanes with (WARP_ROWS / 8) x 8 results each: 16 numbers from shared memory for 64
// multiplications. A lane's rows and columns are such that what the lanes read at once lies in different banks, or is
// the same: neighbouring lanes have neighbouring rows where lines are rows, neighbouring packs where lines are columns.
template <class T, class A, class B, int WARP_ROWS>
struct PlainProduct {
    static_assert(sizeof(T) == 4);
    static constexpr int ROWS = WARP_ROWS / 8, COLUMNS = WARP_COLUMNS / 4;
    float sum[ROWS][COLUMNS] = {};

    static DEVICE int row_of(int lane, int p) { return A::DEEP ? lane / 4 + 8 * p : lane / 4 * 4 + p % 4 + p / 4 * 32; }
    static DEVICE int column_of(int lane, int q) { return B::DEEP ? lane % 4 + 4 * q : lane % 4 * 8 + q; }

    DEVICE void add(const T* a, const T* b, int row, int column) {
        const int lane = threadIdx.x % WARP_SIZE;
#pragma unroll 1  // likewise
        for (int depth = 0; depth < A::DEPTH; depth += 2) {
            float left[2][ROWS], right[2][COLUMNS];
            if constexpr (A::DEEP) {
#pragma unroll
                for (int p = 0; p < ROWS; p++) {
                    const Pack<T, 2> pack = load<2>(a + A::place_of(row + row_of(lane, p), depth));
                    left[0][p] = pack.value[0], left[1][p] = pack.value[1];
                }
            } else {
#pragma unroll
                for (int p = 0; p < ROWS; p += 4)
#pragma unroll
                    for (int d = 0; d < 2; d++) {
                        const Pack<T, 4> pack = load<4>(a + A::place_of(row + row_of(lane, p), depth + d));
#pragma unroll
                        for (int e = 0; e < 4; e++) left[d][p + e] = pack.value[e];
                    }
            }
            if constexpr (B::DEEP) {
#pragma unroll
                for (int q = 0; q < COLUMNS; q++) {
                    const Pack<T, 2> pack = load<2>(b + B::place_of(column + column_of(lane, q), depth));
                    right[0][q] = pack.value[0], right[1][q] = pack.value[1];
                }
            } else {
#pragma unroll
                for (int q = 0; q < COLUMNS; q += 4)
#pragma unroll
                    for (int d = 0; d < 2; d++) {
                        const Pack<T, 4> pack = load<4>(b + B::place_of(column + column_of(lane, q), depth + d));
#pragma unroll
                        for (int e = 0; e < 4; e++) right[d][q + e] = pack.value[e];
                    }
            }
#pragma unroll
            for (int d = 0; d < 2; d++)
#pragma unroll
                for (int p = 0; p < ROWS; p++)
#pragma unroll
                    for (int q = 0; q < COLUMNS; q++) sum[p][q] += left[d][p] * right[d][q];
        }
    }

    DEVICE void deposit(float* stage, int part) const {
        const int lane = threadIdx.x % WARP_SIZE;
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            const int row = row_of(lane, p);
            if (row / STAGE_ROWS != part) continue;
            if constexpr (B::DEEP) {
#pragma unroll
                for (int q = 0; q < COLUMNS; q++) {
                    const int column = column_of(lane, q);
                    stage[stage_place(row % STAGE_ROWS, column / 4) + column % 4] = sum[p][q];
                }
            } else {
#pragma unroll
                for (int q = 0; q < COLUMNS; q += 4) {
                    const Pack<float, 4> pack = {{sum[p][q], sum[p][q + 1], sum[p][q + 2], sum[p][q + 3]}};
                    store<4>(stage + stage_place(row % STAGE_ROWS, column_of(lane, q) / 4), pack);
                }
            }
        }
    }
};
