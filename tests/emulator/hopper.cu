// One kernel for each thing that the wrappers of hopper.cuh can do.
#include "ring.cuh"

// A box of ROWS x 64 16-bit numbers, or 32 of 32 bits, as it lies in shared memory.
template <class T, int ROWS>
__global__ void boxes(const __grid_constant__ TensorMap from, T* to, int x, int y, int z) {
    SWIZZLED_SHARED(memory);
    __shared__ Barrier come;
    if (threadIdx.x == 0) {
        barrier_begin(&come, 1);
        barriers_shown();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        barrier_expect(&come, ROWS * 128);
        copy_box(memory, from, &come, x, y, z);
    }
    if (threadIdx.x < WARP_SIZE) barrier_wait(&come, 0);
    __syncthreads();  // the others know from those who have waited
    constexpr int NUMBERS = ROWS * 128 / sizeof(T);
    for (int i = threadIdx.x; i < NUMBERS; i += blockDim.x) to[i] = reinterpret_cast<T*>(memory)[i];
}

// 128 bytes of depth of a matrix, put where products read them: by the numbers, not by a copy of boxes.
template <class T, int ROWS, bool DEEP>
DEVICE void put_panel(const T* from, T* to) {
    constexpr int EACH = 128 / sizeof(T), CHUNK = 16 / sizeof(T);
    for (int i = threadIdx.x; i < ROWS * EACH; i += blockDim.x) {
        const int row = i / EACH, depth = i % EACH;
        const int line = DEEP ? row : row / EACH * EACH + depth, along = DEEP ? depth : row % EACH;
        to[line * EACH + (along / CHUNK ^ line % 8) * CHUNK + along % CHUNK] = from[i];
    }
}

// c [64, COLUMNS] = a [64, D] b [COLUMNS, D]', D being 128 bytes; a from shared memory or from registers.
template <class T, int COLUMNS, bool A_DEEP, bool B_DEEP, bool FRAGMENTS>
__global__ void product(const T* a, const T* b, float* c) {
    constexpr int EACH = 128 / sizeof(T);
    SWIZZLED_SHARED(memory);
    T *const left = reinterpret_cast<T*>(memory), *const right = left + 64 * EACH;
    put_panel<T, 64, A_DEEP>(a, left);
    put_panel<T, COLUMNS, B_DEEP>(b, right);
    show_writes();
    __syncthreads();
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, row = 16 * warp + lane / 4;
    float sums[COLUMNS / 2] = {};
    sums_fence();
    for (int step = 0; step < 4; step++) {
        const auto from = descriptor(reinterpret_cast<char*>(right) + step * (B_DEEP ? 32 : 2048), 1024, EACH * 128);
        if constexpr (FRAGMENTS) {
            unsigned fragment[4];
            for (int i = 0; i < 4; i++) {
                const T* const at = a + (row + i % 2 * 8) * EACH + step * 16 + lane % 4 * 2 + i / 2 * 8;
                fragment[i] = at[0].bits | unsigned(at[1].bits) << 16;
            }
            multiply_async<T, COLUMNS, !B_DEEP>(sums, fragment, from);
        } else {
            const auto of = descriptor(reinterpret_cast<char*>(left) + step * (A_DEEP ? 32 : 2048));
            multiply_async<T, COLUMNS, !A_DEEP, !B_DEEP>(sums, of, from);
        }
    }
    products_commit();
    products_wait<0>();
    for (int j = 0; j < COLUMNS / 8; j++)
        for (int e = 0; e < 4; e++) c[(row + e / 2 * 8) * COLUMNS + 8 * j + lane % 4 * 2 + e % 2] = sums[4 * j + e];
}

// The numbers go through three places, a warp's worth at a time: warp 0 writes them, two others read each.
__global__ void around(const float* x, float* y, int rounds) {
    __shared__ Ring<3> ring;
    __shared__ float places[3][WARP_SIZE];
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    if (threadIdx.x == 0) {
        ring.begin(2);
        barriers_shown();
    }
    __syncthreads();
    for (int i = 0; i < rounds; i++) {
        if (warp == 0) {
            barrier_wait(ring.empty + i % 3, i / 3 % 2 ^ 1);
            places[i % 3][lane] = x[i * WARP_SIZE + lane];
            __syncwarp();
            if (lane == 0) barrier_arrive(ring.full + i % 3);
        } else {
            ring.await(i);
            y[((warp - 1) * rounds + i) * WARP_SIZE + lane] = places[i % 3][lane ^ 31];
            ring.release(i);
        }
    }
}
