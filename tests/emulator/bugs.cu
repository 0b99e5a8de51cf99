// Kernels that are wrong, each in one way, at the line marked BUG. tests/test_emulator_bugs.py says what is found.
//
// All have x and y of n numbers and run as 2 blocks of 128 threads, n = 256 unless the table says otherwise.
#include "reduce.cuh"

#define INDEX const int t = threadIdx.x, i = blockIdx.x * 128 + t
#define LANE (threadIdx.x % WARP_SIZE)

__global__ void missing_barrier(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    tile[t] = x[i];
    y[i] = t >= 32 ? tile[t - 32] : x[i];  // BUG
}

__global__ void barrier_missing_before_reuse(const float* x, float* y, int n) {
    __shared__ float parts[4];
    INDEX;
    const float largest = reduce_warp<Largest>(x[i]);
    if (LANE == 0) parts[t / 32] = largest;
    __syncthreads();
    const float top = fmaxf(fmaxf(parts[0], parts[1]), fmaxf(parts[2], parts[3]));
    const float sum = reduce_warp<Sum>(x[i] - top);
    if (LANE == 0) parts[t / 32] = sum;  // BUG
    __syncthreads();
    y[i] = parts[0] + parts[1] + parts[2] + parts[3];
}

__global__ void missing_warp_barrier(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    tile[t] = x[i];
    y[i] = LANE ? tile[t - 1] : x[i];  // BUG
}

__global__ void all_write_one_place(const float* x, float* y, int n) {
    __shared__ float last;
    INDEX;
    last = x[i];  // BUG
    __syncthreads();
    y[i] = last;
}

__global__ void blocks_add_to_one_place(const float* x, float* y, int n) {
    INDEX;
    y[t] += x[i];  // BUG
}

__global__ void one_too_many(const float* x, float* y, int n) {
    INDEX;
    if (i <= n) y[i] = x[i];  // BUG
}

__global__ void beyond_a_row(const float* x, float* y, int n) {
    __shared__ float tile[4][33];
    INDEX;
    tile[t / 32][LANE] = x[i];
    __syncthreads();
    y[i] = x[i] + (t < 96 ? 0 * tile[t / 32][LANE / 31 * 33] : 0);  // BUG
}

__global__ void misaligned_pack(const float* x, float* y, int n) {
    INDEX;
    if (t < 31) store<4>(y + 4 * t, load<4>(x + 4 * t + 1));  // BUG
}

__global__ void misaligned_cast(const float* x, float* y, int n) {
    INDEX;
    if (i < n - 1) y[i] = reinterpret_cast<const float2*>(x + i / 2 * 2 + n % 2)->x;  // BUG
}

__global__ void barrier_in_a_branch(const float* x, float* y, int n) {
    INDEX;
    if (t < 64) {
        __syncthreads();
    } else {
        y[i] = 0;
        __syncthreads();  // BUG
    }
    y[i] = x[i];
}

__global__ void leaves_before_a_barrier(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    if (i >= n) return;
    tile[t] = x[i];
    __syncthreads();  // BUG
    y[i] = tile[t];
}

__global__ void unwritten_tail(const float* x, float* y, int n) {
    INDEX;
    if (i < n / 128 * 128) y[i] = x[i];
}

__global__ void half_a_mask(const float* x, float* y, int n) {
    INDEX;
    y[i] = __shfl_xor_sync(0x0000ffffu, x[i], 1);  // BUG
}

__global__ void shuffle_in_a_branch(const float* x, float* y, int n) {
    INDEX;
    float v = x[i];
    if (LANE < 16) v = __shfl_xor_sync(FULL_WARP, v, 1);  // BUG
    __syncthreads();
    y[i] = v;
}

__global__ void reads_a_lane_that_left(const float* x, float* y, int n) {
    INDEX;
    if (LANE == 31) {
        y[i] = x[i];
        return;
    }
    y[i] = __shfl_down_sync(FULL_WARP, x[i], 1);  // BUG
}

__global__ void uninitialised_shared(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    if (t < 100) tile[t] = x[i];
    __syncthreads();
    y[i] = tile[127 - t];  // BUG
}

__global__ void reads_its_output(const float* x, float* y, int n) {
    INDEX;
    y[i] = x[i] + 0 * fminf(y[i], 1.0f);  // BUG
}

__global__ void missing_wait(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    copy_async_4(&tile[t], &x[i]);
    copy_commit();
    __syncthreads();
    y[i] = tile[t];  // BUG
}

__global__ void waits_for_too_little(const float* x, float* y, int n) {
    __shared__ float tile[2][128];
    INDEX;
    copy_async_4(&tile[0][t], &x[i]);
    copy_commit();
    copy_async_4(&tile[1][t], &x[i]);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    y[i] = tile[1][t];  // BUG
}

__global__ void no_barrier_after_a_wait(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    copy_async_4(&tile[t], &x[i]);
    copy_commit();
    copy_wait<0>();
    y[i] = t ? tile[t - 1] : x[i];  // BUG
}

__global__ void copies_over_what_is_read(const float* x, float* y, int n) {
    __shared__ float tile[128];
    INDEX;
    tile[t] = x[i];
    __syncthreads();
    const float other = tile[127 - t];
    copy_async_4(&tile[t], &x[i]);  // BUG
    copy_commit();
    copy_wait<0>();
    y[i] = other;
}

__global__ void writes_its_input(const float* x, float* y, int n) {
    INDEX;
    y[i] = x[i];
    const_cast<float*>(x)[i] = 0;  // BUG
}

__global__ void index_overflows(const float* x, float* y, int n) {
    INDEX;
    const int place = (i + 1) * 20000000;  // BUG
    y[i] = place == 7 ? 0 : x[i];
}

__global__ void waits_for_ever(const float* x, float* y, int n) {
    __shared__ volatile int flag;
    INDEX;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t == 0)
        while (!flag) {  // BUG
        }
    __syncthreads();
    if (t == 32) flag = 1;
    y[i] = x[i];
}
