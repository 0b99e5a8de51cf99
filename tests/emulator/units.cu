// One kernel for each thing that the emulator and the wrappers of ptx.cuh can do.
#include "reduce.cuh"

template <class T>
__global__ void shuffles(const T* x, T* xored, T* downed, T* upped, T* sent, int width) {
    const int t = threadIdx.x;
    xored[t] = __shfl_xor_sync(FULL_WARP, x[t], 3, width);
    downed[t] = __shfl_down_sync(FULL_WARP, x[t], 2, width);
    upped[t] = __shfl_up_sync(FULL_WARP, x[t], 2, width);
    sent[t] = __shfl_sync(FULL_WARP, x[t], 5, width);
}

__global__ void votes(const int* x, unsigned* ballot, int* any, int* all) {
    const int t = threadIdx.x;
    ballot[t] = __ballot_sync(FULL_WARP, x[t] > 0);
    any[t] = __any_sync(FULL_WARP, x[t] > 0);
    all[t] = __all_sync(FULL_WARP, x[t] > 0);
}

// Each quarter of a warp adds up for itself, under a mask of its own.
__global__ void quarters(const float* x, float* y) {
    const int t = threadIdx.x;
    const unsigned mask = 0xffu << (t % 32 / 8 * 8);
    float v = x[t];
    for (int distance = 4; distance > 0; distance /= 2) v += __shfl_xor_sync(mask, v, distance);
    y[t] = v;
}

__global__ void warp_exchange(const float* x, float* y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = tile[threadIdx.x ^ 31];
}

template <class T>
__global__ void widen(const T* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = to_float(x[i]);
}

template <class T>
__global__ void narrow(const float* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = from_float<T>(x[i]);
}

// c (16 x 8) = a (16 x 16) b (16 x 8) of 16-bit numbers by one warp, whose fragments come through ldmatrix.
template <class T>
__global__ void tensor_16(const T* a, const T* b, float* c) {
    __shared__ __align__(16) T as[16][16], bs[16][8];
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) as[i / 16][i % 16] = a[i];
    for (int i = lane; i < 128; i += 32) bs[i / 8][i % 8] = b[i];
    __syncthreads();
    unsigned left[4], right[2];
    load_matrix_4(left, &as[lane % 16][lane / 16 * 8]);
    load_matrix_2_transposed(right, &bs[lane % 16][0]);
    float d[4] = {};
    multiply(d, left, right, T{});
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

// c (16 x 8) = a (16 x 8) b (8 x 8) in TF32.
__global__ void tensor_tf32(const float* a, const float* b, float* c) {
    const int lane = threadIdx.x, row = lane / 4, k = lane % 4;
    unsigned left[4], right[2];
    for (int i = 0; i < 4; i++) left[i] = to_tf32(a[(row + i % 2 * 8) * 8 + k + i / 2 * 4]);
    for (int i = 0; i < 2; i++) right[i] = to_tf32(b[(k + i * 4) * 8 + row]);
    float d[4] = {};
    multiply(d, left, right, 0.0f);
    for (int i = 0; i < 4; i++) c[(row + i / 2 * 8) * 8 + k * 2 + i % 2] = d[i];
}

// A pipeline of asynchronous copies, two stages deep; the last copy is cut off by n.
__global__ void pipeline(const float* x, float* y, int n) {
    __shared__ __align__(16) float stage[2][128];
    const int t = threadIdx.x, steps = (n + 127) / 128;
    const auto issue = [&](int step) {
        const int start = step * 128 + t * 4, left = n - start;
        if (t < 32)
            copy_async_16(&stage[step % 2][t * 4], x + (left > 0 ? start : 0),
                          left >= 4  ? 16
                          : left > 0 ? left * 4
                                     : 0);
        copy_commit();
    };
    issue(0);
    float sum = 0;
    for (int step = 0; step < steps; step++) {
        issue(step + 1);
        copy_wait<1>();
        __syncthreads();
        sum += stage[step % 2][127 - t];
        __syncthreads();
    }
    y[t] = sum;
}

__global__ void histogram(const int* x, int* counts, int* largest, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    atomicAdd(&counts[x[i]], 1);
    atomicMax(largest, x[i]);
}

__global__ void in_dynamic_shared(const float* x, float* y) {
    DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void where_am_i(int* y) {
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * (blockDim.x * blockDim.y * blockDim.z) + thread] = 1000 * block + thread;
}

// What the counters count: neighbours, or numbers `stride` apart; columns of a tile of `WIDTH`.
__global__ void strided(const float* x, float* y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }

__global__ void packed(const float* x, float* y) { store<4>(y + 4 * threadIdx.x, load<4>(x + 4 * threadIdx.x)); }

template <int WIDTH>
__global__ void transpose(const float* x, float* y) {
    __shared__ float tile[32][WIDTH];
    for (int i = 0; i < 32; i++) tile[i][threadIdx.x] = x[i * 32 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 32; i++) y[i * 32 + threadIdx.x] = tile[threadIdx.x][i];
}

// Which warp is last, as the schedule has it: legal, since atomics may race.
__global__ void order_of_warps(int* ticket, int* place) {
    int mine = 0;
    if (threadIdx.x % 32 == 0) mine = atomicAdd(ticket, 1);
    place[threadIdx.x] = __shfl_sync(FULL_WARP, mine, 0);
}
