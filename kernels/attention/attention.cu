// Scaled dot-product attention without its matrix of weights in memory (Dao 2023); README.md tells the story.
//
// q [B, L, E], k [B', S, E], v [B', S, V], y [B, L, V], lse [B, L] in float32; B batches and heads. E and V are at most
// HEAD. mask in float32, added to the scores, or null.
#include "attention/online.cuh"
#include "attention/warps.cuh"
#include "reduce.cuh"

// 2. A warp has a query; its lanes have a key each of the tile in shared memory, and every 32nd component of the sum.
constexpr int MOST = 128, SHARES = MOST / WARP_SIZE, KEYS = WARP_SIZE;

template <class T>
DEVICE void load_rows(const T* from, float to[KEYS][MOST + 1], int first, int rows, int width) {
    for (int i = threadIdx.x; i < KEYS * width; i += THREADS) {
        const int r = i / width, c = i % width;
        to[r][c] = first + r < rows ? to_float(from[(long long)(first + r) * width + c]) : 0.0f;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    attention_by_warps(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v,
                       const float* __restrict__ mask, T* __restrict__ y, float* __restrict__ lse, Shape s) {
    __shared__ float keys[KEYS][MOST + 1], values[KEYS][MOST + 1], rows[WARPS][MOST], weights[WARPS][KEYS];
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int batch = blockIdx.y, query = blockIdx.x * WARPS + warp;
    const bool mine = query < s.queries;
    const float* const added = s.mask_of(mask, batch);
    const long long at = (long long)batch * s.queries + query;
    k += (long long)(batch / s.shared) * s.keys * s.width, v += (long long)(batch / s.shared) * s.keys * s.values;
    for (int c = lane; c < s.width; c += WARP_SIZE) rows[warp][c] = mine ? to_float(q[at * s.width + c]) : 0.0f;
    float out[SHARES] = {}, top = LOWEST, sum = 0;
    const int end = s.causal ? min(s.keys, int(blockIdx.x * WARPS + WARPS)) : s.keys;
    for (int first = 0; first < end; first += KEYS) {
        load_rows(k, keys, first, s.keys, s.width);
        load_rows(v, values, first, s.keys, s.values);
        __syncthreads();
        float product = 0;
        for (int c = 0; c < s.width; c++) product += rows[warp][c] * keys[lane][c];
        const float mark = s.score(product, added, query, first + lane);
        const float higher = fmaxf(top, reduce_warp<Largest>(mark)), weight = exp2f(mark - higher);
        const float shrink = exp2f(top - higher);
        sum = sum * shrink + reduce_warp<Sum>(weight);
        top = higher;
        weights[warp][lane] = weight;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < SHARES; i++) {
            out[i] *= shrink;
            const int c = i * WARP_SIZE + lane;
            if (c < s.values)
                for (int key = 0; key < KEYS; key++) out[i] += weights[warp][key] * values[key][c];
        }
        __syncthreads();
    }
    if (!mine) return;
#pragma unroll
    for (int i = 0; i < SHARES; i++)
        if (i * WARP_SIZE + lane < s.values)
            y[at * s.values + i * WARP_SIZE + lane] = from_float<T>(sum > 0 ? out[i] / sum : 0.0f);
    if (lane == 0) lse[at] = sum > 0 ? (top + log2f(sum)) * Online::LN_2 : INFINITE;
}

// 3 and on. A warp has 16 queries, a block 64; blocks of keys and values come by asynchronous copies, the next one
// (STAGES == 2) while this one is worked on. Scores, weights and sums stay in registers.
template <class T, int HEAD, bool TENSOR, int STAGES, bool SWIZZLED>
__global__ void __launch_bounds__(THREADS, RESIDENT<HEAD>)
    attention(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, const float* __restrict__ mask,
              T* __restrict__ y, float* __restrict__ lse, Shape s) {
    constexpr int COLUMNS = sizeof(T) == 4 ? 32 : 64, TILES = COLUMNS / 8, NUMBERS = COLUMNS * HEAD;
    using R = Rows<T, HEAD, SWIZZLED>;
    using W = Warp<T, HEAD, COLUMNS, TENSOR, SWIZZLED>;
    DYNAMIC_SHARED(T, memory);
    T* const queries = memory;
    T* const pairs = memory + BLOCK_ROWS * HEAD;  // of keys and values
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, batch = blockIdx.y;
    float* const stage = reinterpret_cast<float*>(pairs + STAGES * 2 * NUMBERS) + warp * STAGE_FLOATS;
    // Causal blocks have the more to do the later they are: these go first.
    const int start = (gridDim.x - 1 - blockIdx.x) * BLOCK_ROWS, query = start + warp * WARP_ROWS + lane / 4;
    const float* const added = s.mask_of(mask, batch);
    q += (long long)batch * s.queries * s.width;
    k += (long long)(batch / s.shared) * s.keys * s.width, v += (long long)(batch / s.shared) * s.keys * s.values;
    const int end = s.causal ? min(s.keys, start + BLOCK_ROWS) : s.keys;
    const auto fetch = [&](int first) {
        T* const to = pairs + first / COLUMNS % STAGES * 2 * NUMBERS;
        if (first < end) {
            R::template fetch<COLUMNS>(to, k, first, s.keys, s.width, s.aligned);
            R::template fetch<COLUMNS>(to + NUMBERS, v, first, s.keys, s.values, s.aligned);
        }
        copy_commit();
    };
    R::template fetch<BLOCK_ROWS>(queries, q, start, s.queries, s.width, s.aligned);
    if (STAGES == 2) fetch(0);
    float sums[HEAD / 8][4] = {};
    Online softmax;
    for (int first = 0; first < end; first += COLUMNS) {
        if (STAGES == 1) {
            __syncthreads();  // the last block of keys has been read by everyone
            fetch(first);
        }
        copy_wait<0>();
        __syncthreads();
        if (STAGES == 2) fetch(first + COLUMNS);
        const T* const pair = pairs + first / COLUMNS % STAGES * 2 * NUMBERS;
        float p[TILES][4];
        W::scores(p, queries, warp * WARP_ROWS, pair);
        if (added || first + COLUMNS > s.keys || (s.causal && first + COLUMNS > start)) {
#pragma unroll
            for (int j = 0; j < TILES; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    p[j][e] = s.score(p[j][e], added, query + e / 2 * 8, first + 8 * j + lane % 4 * 2 + e % 2);
        } else {
#pragma unroll
            for (int j = 0; j < TILES; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) p[j][e] *= Shape::LOG2_E * s.scale;
        }
        float shrink[2];
        softmax.weigh(p, shrink);
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[j][e] *= shrink[e / 2];
        W::accumulate(sums, p, pair + NUMBERS, stage);
    }
    float factor[2];
    softmax.finish(factor, lse + (long long)batch * s.queries, query, s.queries);
    copy_wait<0>();
    __syncthreads();  // what was fetched of q is here, even if there was no key
    R::put(sums, factor[0], factor[1], queries + warp * WARP_ROWS * HEAD, y + (long long)batch * s.queries * s.values,
           start + warp * WARP_ROWS, s.queries, s.values, s.aligned);
}
