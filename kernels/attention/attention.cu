// Scaled dot-product attention without its matrix of weights in memory: first steps, on the ordinary float32 units.
//
// q [B, L, E], k [B, S, E], v [B, S, V], y and g [B, L, V], lse and dots [B, L] in float32; B batches and heads. mask
// [B, L, S] in float32, added to the scores, or null. A warp has a query (or, for dk and dv, a key); its lanes have a
// key each of the tile in shared memory, and every 32nd component of sums. E and V are at most MOST.
#include "reduce.cuh"

constexpr int WARPS = 4, TILE = WARP_SIZE, MOST = 128, EACH = MOST / WARP_SIZE;
constexpr float LOWEST = -3.4028235e38f;  // not -inf, for -inf - -inf is NaN

struct Shape {
    int queries, keys, width, values;  // width: of q and k
    int causal;
    float scale;
};

// Rows [first, first + TILE) of a matrix with `width` columns to shared memory; rows beyond the last are zeros.
template <class T>
DEVICE void load_rows(const T* from, float to[TILE][MOST + 1], int first, int rows, int width) {
    for (int i = threadIdx.y * WARP_SIZE + threadIdx.x; i < TILE * width; i += WARPS * WARP_SIZE) {
        const int r = i / width, c = i % width;
        to[r][c] = first + r < rows ? to_float(from[(long long)(first + r) * width + c]) : 0.0f;
    }
}

// What a warp keeps in shared memory for its lanes: its row (or two of them), and a number of each lane.
struct Own {
    float row[MOST], second[MOST], numbers[WARP_SIZE];

    template <class T>
    DEVICE void load(const T* from, float to[MOST], int width) {
        for (int c = threadIdx.x; c < width; c += WARP_SIZE) to[c] = to_float(from[c]);
    }

    // share += the sum over the tile's rows of weight (of the lane with the row's number) times the row.
    DEVICE void add_rows(float share[EACH], float weight, const float tile[TILE][MOST + 1], int width) {
        numbers[threadIdx.x] = weight;
        __syncwarp();
        for (int row = 0; row < TILE; row++) {
            const float w = numbers[row];
#pragma unroll
            for (int i = 0; i < EACH; i++)
                if (i * WARP_SIZE + threadIdx.x < width) share[i] += w * tile[row][i * WARP_SIZE + threadIdx.x];
        }
        __syncwarp();  // numbers is free for the next sum
    }
};

// The inner product of a row with row `threadIdx.x` of a tile.
DEVICE float inner(const float row[MOST], const float tile[TILE][MOST + 1], int width) {
    float sum = 0;
    for (int c = 0; c < width; c++) sum += row[c] * tile[threadIdx.x][c];
    return sum;
}

DEVICE float score(float product, const float* mask, long long batch, int query, int key, Shape s) {
    if (query >= s.queries || key >= s.keys || (s.causal && key > query)) return -INFINITE;
    const float shift = mask ? mask[(batch * s.queries + query) * s.keys + key] : 0.0f;
    return product * s.scale + shift;
}

template <class T>
__global__ void __launch_bounds__(WARPS* WARP_SIZE)
    attention(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, const float* __restrict__ mask,
              T* __restrict__ y, float* __restrict__ lse, Shape s) {
    __shared__ float keys[TILE][MOST + 1], values[TILE][MOST + 1];
    __shared__ Own owns[WARPS];
    Own& own = owns[threadIdx.y];
    const long long batch = blockIdx.y;
    const int query = blockIdx.x * WARPS + threadIdx.y;
    const bool mine = query < s.queries;
    float out[EACH] = {};
    if (mine) own.load(q + (batch * s.queries + query) * s.width, own.row, s.width);
    float top = LOWEST, sum = 0;
    const int end = s.causal ? min(s.keys, int(blockIdx.x * WARPS + WARPS)) : s.keys;
    for (int first = 0; first < end; first += TILE) {
        load_rows(k + batch * s.keys * s.width, keys, first, s.keys, s.width);
        load_rows(v + batch * s.keys * s.values, values, first, s.keys, s.values);
        __syncthreads();
        const float product = mine ? inner(own.row, keys, s.width) : 0.0f;
        const float mark = score(product, mask, batch, query, first + threadIdx.x, s);
        const float higher = fmaxf(top, reduce_warp<Largest>(mark)), weight = expf(mark - higher);
        const float shrink = expf(top - higher);
        sum = sum * shrink + reduce_warp<Sum>(weight);
#pragma unroll
        for (int i = 0; i < EACH; i++) out[i] *= shrink;
        own.add_rows(out, weight, values, s.values);
        top = higher;
        __syncthreads();
    }
    if (!mine) return;
    // A query that may attend to nothing gets zeros, and lse such that its weights are 0 in the derivative too.
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = i * WARP_SIZE + threadIdx.x;
        if (c < s.values) y[(batch * s.queries + query) * s.values + c] = from_float<T>(sum > 0 ? out[i] / sum : 0.0f);
    }
    if (threadIdx.x == 0) lse[batch * s.queries + query] = sum > 0 ? top + logf(sum) : INFINITE;
}

// dots = the sum of g y over each row: what the derivative of softmax subtracts.
template <class T>
__global__ void attention_dots(const T* __restrict__ g, const T* __restrict__ y, float* __restrict__ dots, int rows,
                               int width) {
    const int row = blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows) return;  // whole warps
    float sum = 0;
    for (int c = threadIdx.x; c < width; c += WARP_SIZE)
        sum += to_float(g[(long long)row * width + c]) * to_float(y[(long long)row * width + c]);
    sum = reduce_warp<Sum>(sum);
    if (threadIdx.x == 0) dots[row] = sum;
}

// dq, and the mask's derivative unless dmask is null: P (g v' - dots), with P = e^(score - lse).
template <class T>
__global__ void __launch_bounds__(WARPS* WARP_SIZE)
    attention_dq(const T* __restrict__ g, const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v,
                 const float* __restrict__ mask, const float* __restrict__ lse, const float* __restrict__ dots,
                 T* __restrict__ dq, float* __restrict__ dmask, Shape s) {
    __shared__ float keys[TILE][MOST + 1], values[TILE][MOST + 1];
    __shared__ Own owns[WARPS];
    Own& own = owns[threadIdx.y];
    const long long batch = blockIdx.y;
    const int query = blockIdx.x * WARPS + threadIdx.y;
    const bool mine = query < s.queries;
    const long long row = batch * s.queries + query;
    float out[EACH] = {};
    if (mine) {
        own.load(q + row * s.width, own.row, s.width);
        own.load(g + row * s.values, own.second, s.values);
    }
    const float total = mine ? lse[row] : INFINITE, dot = mine ? dots[row] : 0.0f;
    for (int first = 0; first < s.keys; first += TILE) {
        load_rows(k + batch * s.keys * s.width, keys, first, s.keys, s.width);
        load_rows(v + batch * s.keys * s.values, values, first, s.keys, s.values);
        __syncthreads();
        const int key = first + threadIdx.x;
        const float product = mine ? inner(own.row, keys, s.width) : 0.0f;
        const float slope = mine ? inner(own.second, values, s.values) : 0.0f;
        const float ds = expf(score(product, mask, batch, query, key, s) - total) * (slope - dot);
        if (dmask && mine && key < s.keys) dmask[row * s.keys + key] = ds;
        own.add_rows(out, ds * s.scale, keys, s.width);
        __syncthreads();
    }
    if (!mine) return;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = i * WARP_SIZE + threadIdx.x;
        if (c < s.width) dq[row * s.width + c] = from_float<T>(out[i]);
    }
}

// dk and dv: a warp has a key, the tiles are of queries and of slopes.
template <class T>
__global__ void __launch_bounds__(WARPS* WARP_SIZE)
    attention_dkv(const T* __restrict__ g, const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v,
                  const float* __restrict__ mask, const float* __restrict__ lse, const float* __restrict__ dots,
                  T* __restrict__ dk, T* __restrict__ dv, Shape s) {
    __shared__ float queries[TILE][MOST + 1], slopes[TILE][MOST + 1];
    __shared__ Own owns[WARPS];
    Own& own = owns[threadIdx.y];
    const long long batch = blockIdx.y;
    const int key = blockIdx.x * WARPS + threadIdx.y;
    const bool mine = key < s.keys;
    const long long row = batch * s.keys + key;
    float out_k[EACH] = {}, out_v[EACH] = {};
    if (mine) {
        own.load(k + row * s.width, own.row, s.width);
        own.load(v + row * s.values, own.second, s.values);
    }
    for (int first = 0; first < s.queries; first += TILE) {
        load_rows(q + batch * s.queries * s.width, queries, first, s.queries, s.width);
        load_rows(g + batch * s.queries * s.values, slopes, first, s.queries, s.values);
        __syncthreads();
        const int query = first + threadIdx.x;
        const bool real = mine && query < s.queries;
        const long long at = batch * s.queries + query;
        const float product = real ? inner(own.row, queries, s.width) : 0.0f;
        const float slope = real ? inner(own.second, slopes, s.values) : 0.0f;
        const float p = real ? expf(score(product, mask, batch, query, key, s) - lse[at]) : 0.0f;
        const float ds = real ? p * (slope - dots[at]) * s.scale : 0.0f;
        own.add_rows(out_v, p, slopes, s.values);
        own.add_rows(out_k, ds, queries, s.width);
        __syncthreads();
    }
    if (!mine) return;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = i * WARP_SIZE + threadIdx.x;
        if (c < s.width) dk[row * s.width + c] = from_float<T>(out_k[i]);
        if (c < s.values) dv[row * s.values + c] = from_float<T>(out_v[i]);
    }
}
