// The gradients of attention, as FlashAttention-2 has them but without atomics: weights are computed again from lse, once
// with queries as the rows of a block, for dq, and once with keys as its rows, for dk and dv. Two of the products are made
// twice for that (7 in place of 5), and every sum has one order.
//
// As attention.cu; g like y, dq like q; dk [B, S, E] and dv [B, S, V] for each head of queries. dots [B, L] in float32.
#include "attention/warps.cuh"
#include "reduce.cuh"

// dots = the sum of g y over each row: what the derivative of softmax subtracts.
template <class T>
__global__ void attention_dots(const T* __restrict__ g, const T* __restrict__ y, float* __restrict__ dots, int rows,
                               int width) {
    const int row = blockIdx.x * WARPS + threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    if (row >= rows) return;  // whole warps
    float sum = 0;
    for (int c = lane; c < width; c += WARP_SIZE)
        sum += to_float(g[(long long)row * width + c]) * to_float(y[(long long)row * width + c]);
    sum = reduce_warp<Sum>(sum);
    if (lane == 0) dots[row] = sum;
}

constexpr int COLUMNS = 32, TILES = COLUMNS / 8;
// Scores are exponents, and from g v' dots are subtracted, nearly as large: TF32's error in either is much of the result,
// so these two are made by products that are split.

// Blocks of two matrices of the same rows, which come one after another: half of them is worked on while the other comes.
template <class T, int HEAD>
struct Stream {
    using R = Rows<T, HEAD, true>;
    static constexpr int NUMBERS = COLUMNS * HEAD;
    T* memory;
    const T *a, *b;
    int rows, width_a, width_b, aligned;

    DEVICE const T* block(int first) const { return memory + first / COLUMNS % 2 * 2 * NUMBERS; }
    DEVICE void fetch(int first) const {
        T* const to = memory + first / COLUMNS % 2 * 2 * NUMBERS;
        if (first < rows) {
            R::template fetch<COLUMNS>(to, a, first, rows, width_a, aligned);
            R::template fetch<COLUMNS>(to + NUMBERS, b, first, rows, width_b, aligned);
        }
        copy_commit();
    }
    // The block that begins at `first`, and the next one is on its way.
    DEVICE const T* next(int first) const {
        copy_wait<0>();
        __syncthreads();
        fetch(first + COLUMNS);
        return block(first);
    }
};

// dq = scale dS k, and the mask's derivative dS unless dmask is null: dS = P (g v' - dots), P = e^(score - lse).
template <class T, int HEAD, bool TENSOR>
__global__ void __launch_bounds__(THREADS, RESIDENT<HEAD>)
    attention_dq(const T* __restrict__ g, const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v,
                 const float* __restrict__ mask, const float* __restrict__ lse, const float* __restrict__ dots,
                 T* __restrict__ dq, float* __restrict__ dmask, Shape s) {
    using R = Rows<T, HEAD, true>;
    using W = Warp<T, HEAD, COLUMNS, TENSOR, true, true>;
    DYNAMIC_SHARED(T, memory);
    T *const queries = memory, *const slopes = memory + BLOCK_ROWS * HEAD;
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, batch = blockIdx.y;
    const int start = (gridDim.x - 1 - blockIdx.x) * BLOCK_ROWS, query = start + warp * WARP_ROWS + lane / 4;
    const float* const added = s.mask_of(mask, batch);
    const long long row = (long long)batch * s.queries;
    const Stream<T, HEAD> stream = {memory + 2 * BLOCK_ROWS * HEAD,
                                    k + (long long)(batch / s.shared) * s.keys * s.width,
                                    v + (long long)(batch / s.shared) * s.keys * s.values,
                                    s.causal && !dmask ? min(s.keys, start + BLOCK_ROWS) : s.keys,
                                    s.width,
                                    s.values,
                                    s.aligned};
    float* const stage = reinterpret_cast<float*>(stream.memory + 4 * stream.NUMBERS) + warp * STAGE_FLOATS;
    R::template fetch<BLOCK_ROWS>(queries, q + row * s.width, start, s.queries, s.width, s.aligned);
    R::template fetch<BLOCK_ROWS>(slopes, g + row * s.values, start, s.queries, s.values, s.aligned);
    stream.fetch(0);
    float sums[HEAD / 8][4] = {}, total[2], dot[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const bool mine = query + 8 * half < s.queries;
        total[half] = mine ? lse[row + query + 8 * half] * Shape::LOG2_E : INFINITE;
        dot[half] = mine ? dots[row + query + 8 * half] : 0.0f;
    }
    for (int first = 0; first < stream.rows; first += COLUMNS) {
        const T* const block = stream.next(first);
        float p[TILES][4], d[TILES][4];
        W::scores(p, queries, warp * WARP_ROWS, block);
        W::scores(d, slopes, warp * WARP_ROWS, block + stream.NUMBERS);
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = query + e / 2 * 8, key = first + 8 * j + lane % 4 * 2 + e % 2;
                p[j][e] = exp2f(s.score(p[j][e], added, i, key) - total[e / 2]) * (d[j][e] - dot[e / 2]);
                if (dmask && i < s.queries && key < s.keys) dmask[(row + i) * s.keys + key] = p[j][e];
            }
        W::accumulate(sums, p, block, stage);
    }
    copy_wait<0>();
    __syncthreads();
    R::put(sums, s.scale, s.scale, queries + warp * WARP_ROWS * HEAD, dq + row * s.width, start + warp * WARP_ROWS,
           s.queries, s.width, s.aligned);
}

// dv = P' g and dk = scale dS' q: rows are keys, and blocks of queries and slopes come by.
template <class T, int HEAD, bool TENSOR>
__global__ void __launch_bounds__(THREADS, RESIDENT<HEAD>)
    attention_dkv(const T* __restrict__ g, const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v,
                  const float* __restrict__ mask, const float* __restrict__ lse, const float* __restrict__ dots,
                  T* __restrict__ dk, T* __restrict__ dv, Shape s) {
    using R = Rows<T, HEAD, true>;
    using W = Warp<T, HEAD, COLUMNS, TENSOR, true, true>;
    DYNAMIC_SHARED(T, memory);
    T *const keys = memory, *const values = memory + BLOCK_ROWS * HEAD;
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, batch = blockIdx.y;
    const int start = blockIdx.x * BLOCK_ROWS, key = start + warp * WARP_ROWS + lane / 4;
    const float* const added = s.mask_of(mask, batch);
    const long long row = (long long)batch * s.queries, own = (long long)batch * s.keys;
    const long long given = (long long)(batch / s.shared) * s.keys;
    const Stream<T, HEAD> stream = {memory + 2 * BLOCK_ROWS * HEAD,
                                    q + row * s.width,
                                    g + row * s.values,
                                    s.queries,
                                    s.width,
                                    s.values,
                                    s.aligned};
    float* const stage = reinterpret_cast<float*>(stream.memory + 4 * stream.NUMBERS) + warp * STAGE_FLOATS;
    R::template fetch<BLOCK_ROWS>(keys, k + given * s.width, start, s.keys, s.width, s.aligned);
    R::template fetch<BLOCK_ROWS>(values, v + given * s.values, start, s.keys, s.values, s.aligned);
    const int begin = s.causal ? start : 0;  // earlier queries do not attend to these keys
    stream.fetch(begin);
    float sums_k[HEAD / 8][4] = {}, sums_v[HEAD / 8][4] = {};
    for (int first = begin; first < s.queries; first += COLUMNS) {
        const T* const block = stream.next(first);
        float p[TILES][4], d[TILES][4];
        W::scores(p, keys, warp * WARP_ROWS, block);
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int query = first + 8 * j + lane % 4 * 2 + e % 2;
                const float total = query < s.queries ? lse[row + query] * Shape::LOG2_E : INFINITE;
                p[j][e] = exp2f(s.score(p[j][e], added, query, key + e / 2 * 8) - total);
            }
        W::accumulate(sums_v, p, block + stream.NUMBERS, stage);
        W::scores(d, values, warp * WARP_ROWS, block + stream.NUMBERS);
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int query = first + 8 * j + lane % 4 * 2 + e % 2;
                p[j][e] *= d[j][e] - (query < s.queries ? dots[row + query] : 0.0f);
            }
        W::accumulate(sums_k, p, block, stage);
    }
    copy_wait<0>();
    __syncthreads();
    R::put(sums_v, 1, 1, values + warp * WARP_ROWS * HEAD, dv + own * s.values, start + warp * WARP_ROWS, s.keys,
           s.values, s.aligned);
    R::put(sums_k, s.scale, s.scale, keys + warp * WARP_ROWS * HEAD, dk + own * s.width, start + warp * WARP_ROWS,
           s.keys, s.width, s.aligned);
}
