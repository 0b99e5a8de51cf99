// Scaled dot-product attention on Hopper (sm_90a): the products of attention.cu by warpgroups, fed by copies of boxes.
//
// A block has 128 queries. Its first two warpgroups have 64 of them each; the third one's first thread fetches the
// queries and keeps two rings filled, of blocks of keys and of values. While a warpgroup makes weights of the scores of
// one block, the tensor cores sum up the values of the last one (as FlashAttention-3 has it, Shah et al. 2024).
//
// Arguments are those of attention.cu, with q, k and v as tensor maps. Rows of HEAD numbers lie in shared memory as
// panels of 64: 128 bytes of each row.
#include "attention/online.cuh"
#include "attention/warps.cuh"
#include "ring.cuh"

constexpr int GROUPS = 2, HOPPER_THREADS = (GROUPS + 1) * WARPGROUP, PLACES = 2, PANEL = 64;
constexpr int HOPPER_ROWS = 64 * GROUPS, KEYS = 128;  // of a block; of a block of keys
constexpr int CONSUMER_REGISTERS = 240, PRODUCER_REGISTERS = 24;
static_assert(GROUPS * CONSUMER_REGISTERS + PRODUCER_REGISTERS <= (GROUPS + 1) * EACH_AT_LAUNCH<GROUPS + 1>);

// 128 rows of a matrix from `row` on, as panels.
template <int HEAD>
DEVICE void copy_rows(unsigned char* to, const TensorMap& map, Barrier* barrier, int row, int matrix) {
#pragma unroll
    for (int panel = 0; panel < HEAD / PANEL; panel++)
        copy_box(to + panel * 128 * 128, map, barrier, panel * PANEL, row, matrix);
}

template <class T, int HEAD>
__global__ void __launch_bounds__(HOPPER_THREADS, 1)
    attention_hopper(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                     const __grid_constant__ TensorMap v, const float* __restrict__ mask, T* __restrict__ y,
                     float* __restrict__ lse, Shape s) {
    constexpr int BYTES = 128 * HEAD * 2;  // of 128 rows
    using R = Rows<T, HEAD, true>;
    SWIZZLED_SHARED(memory);
    __shared__ Ring<PLACES> key_ring, value_ring;
    __shared__ Barrier queries_come;
    unsigned char *const queries = memory, *const keys = queries + BYTES, *const values = keys + PLACES * BYTES;
    const int batch = blockIdx.y, start = (gridDim.x - 1 - blockIdx.x) * HOPPER_ROWS;  // causal: the longest first
    const int end = s.causal ? min(s.keys, start + HOPPER_ROWS) : s.keys, count = (end + KEYS - 1) / KEYS;
    if (threadIdx.x == 0) {
        key_ring.begin(GROUPS * WARPGROUP / WARP_SIZE);
        value_ring.begin(GROUPS * WARPGROUP / WARP_SIZE);
        barrier_begin(&queries_come, 1);
        barriers_shown();
    }
    __syncthreads();
    const int group = threadIdx.x / WARPGROUP;
    if (group == GROUPS) {
        give_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x % WARPGROUP) return;
        barrier_expect(&queries_come, BYTES);
        copy_rows<HEAD>(queries, q, &queries_come, start, batch);
        for (int i = 0; i < count; i++) {
            copy_rows<HEAD>(keys + i % PLACES * BYTES, k, key_ring.claim(i, BYTES), i * KEYS, batch / s.shared);
            copy_rows<HEAD>(values + i % PLACES * BYTES, v, value_ring.claim(i, BYTES), i * KEYS, batch / s.shared);
        }
        return;
    }
    take_registers<CONSUMER_REGISTERS>();
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int first_row = start + 64 * group, query = start + warp * WARP_ROWS + lane / 4;
    const float* const added = s.mask_of(mask, batch);
    float sums[HEAD / 8][4] = {}, scores[KEYS / 8][4], shrink[2];
    unsigned weights[KEYS / 16][4];
    Online softmax;

    const auto multiply_keys = [&](int i) {  // scores = q k', under way
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0;
        key_ring.await(i);
        sums_fence();
#pragma unroll
        for (int step = 0; step < HEAD / 16; step++) {
            const int at = step / 4 * 128 * 128 + step % 4 * 32;
            multiply_async<T, KEYS, false, false>(&scores[0][0], descriptor(queries + group * 64 * 128 + at),
                                                  descriptor(keys + i % PLACES * BYTES + at));
        }
        products_commit();
    };
    const auto multiply_values = [&](int i) {  // sums += weights v, under way
        value_ring.await(i);
        sums_fence();
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++)
            multiply_async<T, HEAD, true>(&sums[0][0], weights[step],
                                          descriptor(values + i % PLACES * BYTES + step * 16 * 128, 1024, 128 * 128));
        products_commit();
    };
    const auto weigh = [&](int i) {  // scores to weights
        const int first = i * KEYS;
        if (added || first + KEYS > s.keys || (s.causal && first + KEYS > first_row)) {
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    scores[j][e] =
                        s.score(scores[j][e], added, query + e / 2 * 8, first + 8 * j + lane % 4 * 2 + e % 2);
        } else {
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) scores[j][e] *= Shape::LOG2_E * s.scale;
        }
        softmax.weigh(scores, shrink);
    };
    const auto take_weights = [&]() {  // which the last product has done with
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                weights[step][i] =
                    pair_of(scores[2 * step + i / 2][i % 2 * 2], scores[2 * step + i / 2][i % 2 * 2 + 1], T{});
    };

    barrier_wait(&queries_come, 0);
    multiply_keys(0);
    products_wait<0>();
    key_ring.release(0);
    for (int i = 0;; i++) {
        weigh(i);  // while the values of the last block are summed up
        products_wait<0>();
        if (i) value_ring.release(i - 1);
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[j][e] *= shrink[e / 2];
        take_weights();
        if (i + 1 == count) break;
        multiply_keys(i + 1);
        multiply_values(i);
        products_wait<1>();
        key_ring.release(i + 1);
    }
    multiply_values(count - 1);
    products_wait<0>();
    float factor[2];
    softmax.finish(factor, lse + (long long)batch * s.queries, query, s.queries);
    T* const stage = reinterpret_cast<T*>(values + PLACES * BYTES) + warp * WARP_ROWS * HEAD;
    R::put(sums, factor[0], factor[1], stage, y + (long long)batch * s.queries * s.values, start + warp * WARP_ROWS,
           s.queries, s.values, s.aligned);
}
