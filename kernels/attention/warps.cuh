// Attention's two products, as one warp makes them: scores, of rows with rows; and sums of rows by weights that are
// scores' successors and lie in the same registers. On tensor cores, or on the float32 units with the same lanes having
// the same results, so that everything between the products is written once.
//
// A warp has 16 rows. Results of 16 x 8 are 4 numbers a lane, as the PTX manual's figure of mma's sums has it: rows
// lane / 4 (the first two) and lane / 4 + 8, columns lane % 4 * 2 and the next.
#pragma once
#include "product.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP_SIZE, WARP_ROWS = 16, BLOCK_ROWS = WARPS * WARP_ROWS;

// Blocks that fit a multiprocessor by their registers: 168 or 255 a thread.
template <int HEAD>
constexpr int RESIDENT = HEAD == 128 ? 2 : 3;

// Rows of HEAD numbers in shared memory, 16 bytes at a time where the banks allow all that is read at once: the same
// chunk of eight rows, and in float32 two chunks of four rows, neighbours or every second.
template <class T, int HEAD, bool SWIZZLED>
struct Rows {
    static constexpr int EACH = WIDEST<T>, CHUNKS = HEAD / EACH;

    static DEVICE int place(int row, int chunk) {
        if (SWIZZLED && sizeof(T) == 4) chunk ^= ((row ^ row >> 2) & 1) << 2 | (row & 2) | (row >> 2 & 1);
        else if (SWIZZLED) chunk ^= CHUNKS < 8 ? row >> 1 & 3 : row & 7;
        return (row * CHUNKS + chunk) * EACH;
    }

    static DEVICE int place_of(int row, int column) { return place(row, column / EACH) + column % EACH; }

    // Rows [first, first + COUNT) of a matrix [rows, width], zeros beyond, by all threads; asynchronously, but for 16-bit
    // rows that do not begin at multiples of 16 bytes.
    template <int COUNT>
    static DEVICE void fetch(T* to, const T* from, int first, int rows, int width, bool aligned) {
#pragma unroll 2
        for (int i = threadIdx.x; i < COUNT * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, column = i % CHUNKS * EACH;
            const int given = first + row < rows ? at_most(width - column, EACH) : 0;
            const T* const source = given ? from + (long long)(first + row) * width + column : from;
            T* const target = to + place(row, i % CHUNKS);
            if (aligned) {
                copy_async_16(target, source, given * int(sizeof(T)));
            } else if constexpr (sizeof(T) == 4) {
#pragma unroll 1
                for (int e = 0; e < EACH; e++) copy_async_4(target + e, e < given ? source + e : from, e < given);
            } else {
#pragma unroll 1
                for (int e = 0; e < EACH; e++) target[e] = e < given ? source[e] : T{};
            }
        }
    }

    // A warp's 16 rows of results, times a factor for each half of them, to rows [first, ...) of a matrix; through
    // `mine`, 16 rows of shared memory that are this warp's alone by now, so as to be stored 16 bytes at a time.
    static DEVICE void put(const float (&sums)[HEAD / 8][4], float upper, float lower, T* mine, T* to, int first,
                           int rows, int width, bool aligned) {
        const int lane = threadIdx.x % WARP_SIZE;
        __syncwarp();
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float factor = half ? lower : upper;
                const Pack<T, 2> two = {{from_float<T>(sums[j][2 * half] * factor),
                                         from_float<T>(sums[j][2 * half + 1] * factor)}};
                store<2>(mine + place_of(lane / 4 + half * 8, 8 * j + lane % 4 * 2), two);
            }
        __syncwarp();
#pragma unroll 2
        for (int i = lane; i < WARP_ROWS * CHUNKS; i += WARP_SIZE) {
            const int row = i / CHUNKS, column = i % CHUNKS * EACH;
            if (first + row >= rows || column >= width) continue;
            T* const target = to + (long long)(first + row) * width + column;
            const T* const source = mine + place(row, i % CHUNKS);
            if (aligned) store<EACH>(target, load<EACH>(source));
            else
                for (int e = 0; e < EACH && column + e < width; e++) target[e] = source[e];
        }
    }
};

// COLUMNS results for each of the warp's rows. SPLIT: scores of float32 on tensor cores are made as right as float32's, by
// three products: each number is one of TF32 and a rest, and only the product of the rests is left out.
template <class T, int HEAD, int COLUMNS, bool TENSOR, bool SWIZZLED, bool SPLIT = false>
struct Warp {
    using R = Rows<T, HEAD, SWIZZLED>;
    static constexpr int TILES = COLUMNS / 8, PARTS = HEAD / 8, STEP = 32 / sizeof(T);

    static DEVICE void round(unsigned* numbers, int count) {  // float32 as TF32
        if constexpr (sizeof(T) == 4)
#pragma unroll
            for (int i = 0; i < count; i++) numbers[i] = to_tf32(__uint_as_float(numbers[i]));
    }

    // numbers = their TF32 parts, rests = those of what is left.
    static DEVICE void split(unsigned (&numbers)[4], unsigned (&rests)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float whole = __uint_as_float(numbers[i]);
            numbers[i] = to_tf32(whole);
            rests[i] = to_tf32(whole - __uint_as_float(numbers[i]));
        }
    }

    // s = the inner products of rows [row, row + 16) of a with rows [0, COLUMNS) of b.
    static DEVICE void scores(float (&s)[TILES][4], const T* a, int row, const T* b) {
        const int lane = threadIdx.x % WARP_SIZE, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int j = 0; j < TILES; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
        if constexpr (TENSOR && SPLIT && sizeof(T) == 4) {
#pragma unroll 1
            for (int step = 0; step < HEAD / STEP; step++) {
                unsigned left[4], left_rest[4], right[4], right_rest[4];
                load_matrix_4(left, a + R::place(row + lane % 16, 2 * step + lane / 16));
                split(left, left_rest);
#pragma unroll
                for (int j = 0; j < TILES; j += 2) {
                    load_matrix_4(right, b + R::place(8 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
                    split(right, right_rest);
#pragma unroll
                    for (int i = 0; i < 2; i++) {  // the small ones first
                        multiply(s[j + i], left_rest, right + 2 * i, T{});
                        multiply(s[j + i], left, right_rest + 2 * i, T{});
                        multiply(s[j + i], left, right + 2 * i, T{});
                    }
                }
            }
        } else if constexpr (TENSOR) {
#pragma unroll 2
            for (int step = 0; step < HEAD / STEP; step++) {
                unsigned left[4];
                load_matrix_4(left, a + R::place(row + lane % 16, 2 * step + lane / 16));
                round(left, 4);
#pragma unroll
                for (int j = 0; j < TILES; j += 2) {
                    unsigned right[4];
                    load_matrix_4(right, b + R::place(8 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
                    round(right, 4);
                    multiply(s[j], left, right, T{});
                    multiply(s[j + 1], left, right + 2, T{});
                }
            }
        } else {
#pragma unroll 1
            for (int chunk = 0; chunk < R::CHUNKS; chunk++) {
                const Pack<T, 4> upper = load<4>(a + R::place(row + g, chunk));
                const Pack<T, 4> lower = load<4>(a + R::place(row + g + 8, chunk));
#pragma unroll
                for (int j = 0; j < TILES; j++) {
                    const Pack<T, 4> one = load<4>(b + R::place(8 * j + 2 * t, chunk));
                    const Pack<T, 4> next = load<4>(b + R::place(8 * j + 2 * t + 1, chunk));
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        s[j][0] += upper.value[e] * one.value[e], s[j][1] += upper.value[e] * next.value[e];
                        s[j][2] += lower.value[e] * one.value[e], s[j][3] += lower.value[e] * next.value[e];
                    }
                }
            }
        }
    }

    // sums (16 x HEAD) += weights (16 x COLUMNS), laid out as scores, times rows [0, COLUMNS) of b. `stage`: STAGE_FLOATS
    // of shared memory that are this warp's alone, for the float32 units.
    static DEVICE void accumulate(float (&sums)[PARTS][4], const float (&weights)[TILES][4], const T* b, float* stage) {
        const int lane = threadIdx.x % WARP_SIZE, g = lane / 4, t = lane % 4;
        if constexpr (TENSOR && sizeof(T) == 2) {
            // Sums of one product have the layout of the next one's left fragments: two tiles of them are 16 of depth.
#pragma unroll
            for (int k = 0; k < TILES; k += 2) {
                const unsigned left[4] = {
                    pair_of(weights[k][0], weights[k][1], T{}), pair_of(weights[k][2], weights[k][3], T{}),
                    pair_of(weights[k + 1][0], weights[k + 1][1], T{}), pair_of(weights[k + 1][2], weights[k + 1][3], T{})};
#pragma unroll
                for (int j = 0; j < PARTS; j += 2) {
                    unsigned right[4];
                    load_matrix_4_transposed(right, b + R::place(8 * k + lane % 16, j + lane / 16));
                    multiply(sums[j], left, right, T{});
                    multiply(sums[j + 1], left, right + 2, T{});
                }
            }
        } else if constexpr (TENSOR) {
            // A lane has columns 2 t and 2 t + 1 where TF32 wants t and t + 4. The order of the depth is free, so rows of
            // b are taken in the order 0 2 4 6 1 3 5 7.
#pragma unroll
            for (int k = 0; k < TILES; k++) {
                const unsigned left[4] = {to_tf32(weights[k][0]), to_tf32(weights[k][2]), to_tf32(weights[k][1]),
                                          to_tf32(weights[k][3])};
#pragma unroll
                for (int j = 0; j < PARTS; j++) {
                    unsigned right[2] = {__float_as_uint(b[R::place_of(8 * k + 2 * t, 8 * j + g)]),
                                         __float_as_uint(b[R::place_of(8 * k + 2 * t + 1, 8 * j + g)])};
                    round(right, 2);
                    multiply(sums[j], left, right, T{});
                }
            }
        } else {
            static_assert(COLUMNS == WARP_COLUMNS);
#pragma unroll
            for (int j = 0; j < TILES; j++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    store<2>(stage + stage_place(g + 8 * half, 2 * j + t / 2) + t % 2 * 2,
                             Pack<float, 2>{{weights[j][2 * half], weights[j][2 * half + 1]}});
            __syncwarp();
#pragma unroll 1
            for (int k = 0; k < COLUMNS; k += 2) {
                const Pack<float, 2> upper = load<2>(stage + stage_place(g, k / 4) + k % 4);
                const Pack<float, 2> lower = load<2>(stage + stage_place(g + 8, k / 4) + k % 4);
#pragma unroll
                for (int e = 0; e < 2; e++)
#pragma unroll
                    for (int j = 0; j < PARTS; j++) {
                        const Pack<T, 2> two = load<2>(b + R::place_of(k + e, 8 * j + 2 * t));
                        sums[j][0] += upper.value[e] * two.value[0], sums[j][1] += upper.value[e] * two.value[1];
                        sums[j][2] += lower.value[e] * two.value[0], sums[j][3] += lower.value[e] * two.value[1];
                    }
            }
            __syncwarp();  // stage is free for the next weights
        }
    }
};

// What a kernel is told. A batch is one head of one sequence; `shared` heads of queries in a row have the same keys and
// values. The mask, added to the scores, is found by strides that may be 0: mask number batch / mask_each % mask_count.
struct Shape {
    long long mask_batch, mask_query;
    int mask_key, mask_each, mask_count;
    int queries, keys, width, values, shared;  // width: of q and k
    int causal, aligned;                       // aligned: all rows begin at multiples of 16 bytes
    float scale;

    DEVICE const float* mask_of(const float* mask, int batch) const {
        return mask ? mask + batch / mask_each % mask_count * mask_batch : nullptr;
    }

    // The score of a pair, in powers of 2: so that an exponential is one instruction.
    DEVICE float score(float product, const float* mask, int query, int key) const {
        if (query >= queries || key >= keys || (causal && key > query)) return -INFINITE;
        return LOG2_E * (product * scale + (mask ? mask[query * mask_query + (long long)key * mask_key] : 0.0f));
    }

    static constexpr float LOG2_E = 1.44269504f;
};
