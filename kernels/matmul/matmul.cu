// Products of matrices, from a thread for each result to tensor cores fed by asynchronous copies; README.md tells the
// story.
//
// c [batch, m, n] = a [batch, m, k] b [batch, k, n] (+ bias [n]), c one row after another. a and b lie in memory by the
// strides of `Matrix`, in elements, so a transposed operand is not copied. Sums are in float32, whatever T.
#include "finish.cuh"
#include "pipeline.cuh"
#include "sum.cuh"
#include "tile.cuh"

struct Matrix {
    long long batch, row, column;

    // The numbers of this block's matrix, as a function of row and column.
    template <class T>
    DEVICE auto numbers(const T* from) const {
        from += blockIdx.z * batch;
        return [from, down = row, right = column](int r, int c) { return to_float(from[r * down + c * right]); };
    }
};

// 1 and 2. A thread for each result, which reads a row of a and a column of b: 2 loads for a multiplication.
// ACROSS: the threads of a warp have neighbours of a row of c, so that what they load of b lies together too and what
// they load of a is one number; else neighbours of a column, and nothing that a warp loads or stores lies together.
template <class T, bool ACROSS>
__global__ void matmul_naive(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias,
                             T* __restrict__ c, int m, int n, int k, Matrix at, Matrix bt) {
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    const int column = blockIdx.x * 16 + (ACROSS ? x : y), row = blockIdx.y * 16 + (ACROSS ? y : x);
    if (row >= m || column >= n) return;
    a += blockIdx.z * at.batch + row * at.row;
    b += blockIdx.z * bt.batch + column * bt.column;
    float sum = 0;
    for (int i = 0; i < k; i++) sum += to_float(a[i * at.column]) * to_float(b[i * bt.row]);
    if (bias) sum += to_float(bias[column]);
    c[((long long)blockIdx.z * m + row) * n + column] = from_float<T>(sum);
}

// 3. A block makes a TILE x TILE part of c, and loads what its threads share into shared memory once: TILE times less
// from memory, but still two loads, from shared memory, for a multiplication.
template <class T, int TILE>
__global__ void matmul_tiled(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias,
                             T* __restrict__ c, int m, int n, int k, Matrix at, Matrix bt) {
    __shared__ float as[TILE][TILE + 1], bs[TILE][TILE + 1];
    const int r = threadIdx.x / TILE, s = threadIdx.x % TILE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    const auto left = at.numbers(a), right = bt.numbers(b);
    float sum = 0;
    for (int start = 0; start < k; start += TILE) {
        load_tile<TILE, TILE, TILE * TILE>(left, at.column == 1, row, start, m, k,
                                           [&](int i, int j, float v) { as[i][j] = v; });
        load_tile<TILE, TILE, TILE * TILE>(right, bt.column == 1, start, column, k, n,
                                           [&](int i, int j, float v) { bs[i][j] = v; });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i++) sum += as[r][i] * bs[i][s];
        __syncthreads();
    }
    if (row + r >= m || column + s >= n) return;
    if (bias) sum += to_float(bias[column + s]);
    c[((long long)blockIdx.z * m + row + r) * n + column + s] = from_float<T>(sum);
}

// 4. A thread makes SIDE x SIDE results (tile.cuh): it loads 2 SIDE numbers from shared memory, in packs, for SIDE^2
// multiplications.
template <class T, int TILE, int DEPTH, int SIDE>
__global__ void __launch_bounds__((TILE / SIDE) * (TILE / SIDE))
    matmul_registers(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias, T* __restrict__ c,
                     int m, int n, int k, Matrix at, Matrix bt) {
    const auto put = [&](int row, int column, float sum) {
        if (bias) sum += to_float(bias[column]);
        c[((long long)blockIdx.z * m + row) * n + column] = from_float<T>(sum);
    };
    multiply_tiles<TILE, DEPTH, SIDE>(at.numbers(a), at.column == 1, bt.numbers(b), bt.column == 1, put, m, n, k);
}

// What the remaining versions are told. Pitches are from line to line of an operand, in numbers; `panels`: how many a
// block multiplies of the depth; aligned: every line begins at a multiple of 16 bytes.
struct Problem {
    long long a_batch, a_pitch, b_batch, b_pitch;
    int m, n, k, panels, a_aligned, b_aligned, activation, wide;
};

// 5 to 8. Panels are copied asynchronously past the registers, 16 bytes at a time, and multiplied by warps (pipeline.cuh):
// on the float32 units or on tensor cores; with STAGES panels under way or one; into the banks of shared memory as they
// come or swizzled. Block (x, y, z) makes a TILE x TILE part of matrix z, of the y-th part of the depth; if `parts` is
// given, it is left there for matmul_parts.
template <class T, int TILE, int STAGES, bool A_DEEP, bool B_DEEP, bool TENSOR, bool SWIZZLED>
__global__ void __launch_bounds__(BLOCK_THREADS<TILE>, TILE == 128 ? 2 : 4)
    matmul_pipelined(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias,
                     const T* __restrict__ residual, T* __restrict__ c, T* __restrict__ before,
                     float* __restrict__ parts, Problem p) {
    using Loop = Pipeline<T, TILE, STAGES, A_DEEP, B_DEEP, TENSOR, SWIZZLED>;
    const TilePlace tile = tile_of(blockIdx.x, (p.m + TILE - 1) / TILE, (p.n + TILE - 1) / TILE);
    const int row = tile.row * TILE, column = tile.column * TILE;
    const int end = (p.k + Loop::DEPTH - 1) / Loop::DEPTH, first = blockIdx.y * p.panels;
    const MatrixSource<T, typename Loop::A> left = {
        a + blockIdx.z * p.a_batch + row * (A_DEEP ? p.a_pitch : 1), p.a_pitch, p.m - row, p.k};
    const MatrixSource<T, typename Loop::B> right = {
        b + blockIdx.z * p.b_batch + column * (B_DEEP ? p.b_pitch : 1), p.b_pitch, p.n - column, p.k};
    const long long matrix = parts ? (long long)blockIdx.y * gridDim.z + blockIdx.z : blockIdx.z;
    const Results<T> put = {{bias, residual, c, before, p.activation, p.wide}, parts, matrix, row, column, p.m, p.n};
    Loop::run(left, p.a_aligned, right, p.b_aligned, first, min(end, first + p.panels), put);
}

// 9. The end of a product whose depth was divided among blocks.
template <class T>
__global__ void matmul_parts(const float* __restrict__ parts, const T* __restrict__ bias,
                             const T* __restrict__ residual, T* __restrict__ c, T* __restrict__ before, int count,
                             long long size, int n, int activation, int wide) {
    add_parts(parts, count, size, n, Finish<T>{bias, residual, c, before, activation, wide});
}
