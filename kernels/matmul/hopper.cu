// Products of matrices on Hopper (sm_90a): boxes come by TMA, four warps multiply at once from shared memory, and who
// copies does nothing else. README.md tells how and why.
//
// A block makes 128 x COLUMNS results. Its first two warpgroups have 64 rows each; the third one's first thread keeps a
// ring of panels filled, 128 bytes of the depth of both operands each. As in matmul.cu an operand lies along the depth
// or across it (DEEP or not; TF32 along it only); its lines are multiples of 16 bytes. What lies outside of the matrices
// comes as zeros.
#include "finish.cuh"
#include "pipeline.cuh"
#include "ring.cuh"

constexpr int CONSUMERS = 2, ROWS = 64 * CONSUMERS, THREADS = (CONSUMERS + 1) * WARPGROUP, PLACES = 4;
constexpr int WARPS = CONSUMERS * WARPGROUP / WARP_SIZE;  // that multiply
// A lane's, in place of 168 for all: 128 sums and what a loop without addresses needs; and what is left for the producer.
constexpr int CONSUMER_REGISTERS = 232, PRODUCER_REGISTERS = 40;
static_assert(CONSUMERS * CONSUMER_REGISTERS + PRODUCER_REGISTERS <= (CONSUMERS + 1) * EACH_AT_LAUNCH<CONSUMERS + 1>);

// An operand's panel: SIDE of its rows, or columns, by 128 bytes of the depth.
template <class T, int SIDE, bool DEEP>
struct Boxes {
    static constexpr int EACH = 128 / sizeof(T);  // numbers of a row of 128 bytes
    static constexpr int BYTES = SIDE * 128;
    static constexpr int STEP = DEEP ? 32 : 16 * 128;  // bytes to the next part of the depth that is multiplied at once

    // Panel `tile` of the rows that begin at `side` in matrix z. Along the depth it is one box; across it several, since
    // a swizzled box is 128 bytes wide.
    static DEVICE void copy(unsigned char* to, const TensorMap& map, Barrier* barrier, int side, int tile, int z) {
        if constexpr (DEEP) {
            copy_box(to, map, barrier, tile * EACH, side, z);
        } else {
#pragma unroll
            for (int i = 0; i < SIDE / EACH; i++)
                copy_box(to + i * EACH * 128, map, barrier, side + i * EACH, tile * EACH, z);
        }
    }

    static DEVICE unsigned long long from(const unsigned char* panel, int side) {  // 64 rows on lie 64 * 128 bytes on
        return descriptor(panel + side * 128, 1024, EACH * 128);
    }
};

struct HopperProblem {
    int m, n, k, panels, a_batches, b_batches, activation, wide;  // batches: 0 if all products have one matrix
};

template <class T, int COLUMNS, bool A_DEEP, bool B_DEEP>
__global__ void __launch_bounds__(THREADS, 1)
    matmul_hopper(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                  const T* __restrict__ bias, const T* __restrict__ residual, T* __restrict__ c,
                  T* __restrict__ before, float* __restrict__ parts, HopperProblem p) {
    using A = Boxes<T, ROWS, A_DEEP>;
    using B = Boxes<T, COLUMNS, B_DEEP>;
    constexpr int BYTES = A::BYTES + B::BYTES;
    SWIZZLED_SHARED(memory);
    static_assert(ROWS * COLUMNS * 4 <= PLACES * BYTES);
    __shared__ Ring<PLACES> ring;
    __shared__ Barrier spent;
    const TilePlace tile = tile_of(blockIdx.x, (p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS);
    const int row = tile.row * ROWS, column = tile.column * COLUMNS;
    const int first = blockIdx.y * p.panels, count = min((p.k + A::EACH - 1) / A::EACH - first, p.panels);
    if (threadIdx.x == 0) {
        ring.begin(WARPS);
        barrier_begin(&spent, WARPS);
        barriers_shown();
    }
    __syncthreads();
    const int group = threadIdx.x / WARPGROUP;
    if (group == CONSUMERS) {
        give_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x % WARPGROUP) return;
        for (int i = 0; i < count; i++) {
            Barrier* const full = ring.claim(i, BYTES);
            unsigned char* const panel = memory + i % PLACES * BYTES;
            A::copy(panel, a, full, row, first + i, blockIdx.z * p.a_batches);
            B::copy(panel + A::BYTES, b, full, column, first + i, blockIdx.z * p.b_batches);
        }
        return;
    }
    take_registers<CONSUMER_REGISTERS>();
    float sums[COLUMNS / 2] = {};
    const auto multiply = [&](int i) {
        const unsigned char* const panel = memory + i % PLACES * BYTES;
        const unsigned long long left = A::from(panel, 64 * group), right = B::from(panel + A::BYTES, 0);
        ring.await(i);
        sums_fence();
#pragma unroll
        for (int step = 0; step < 4; step++)  // descriptors count in 16 bytes
            multiply_async<T, COLUMNS, !A_DEEP, !B_DEEP>(sums, left + step * A::STEP / 16, right + step * B::STEP / 16);
        products_commit();
    };
    multiply(0);
    for (int i = 1; i < count; i++) {
        multiply(i);
        products_wait<1>();  // these go on while the last ones' place is filled again
        ring.release(i - 1);
    }
    products_wait<0>();
    // Results go out through the ring's memory, once nobody multiplies from it any more.
    constexpr int PARTS = COLUMNS / WARP_COLUMNS;
    const int warp = threadIdx.x / WARP_SIZE;
    float* const stage = reinterpret_cast<float*>(memory) + warp * PARTS * STAGE_FLOATS;
    if (threadIdx.x % WARP_SIZE == 0) barrier_arrive(&spent);
    barrier_wait(&spent, 0);
#pragma unroll
    for (int part = 0; part < PARTS; part++)
        deposit_fragments(stage + part * STAGE_FLOATS, sums + part * STAGE_FLOATS / WARP_SIZE);
    __syncwarp();
    const long long matrix = parts ? (long long)blockIdx.y * gridDim.z + blockIdx.z : blockIdx.z;
    const Results<T> put = {{bias, residual, c, before, p.activation, p.wide}, parts, matrix, row, column, p.m, p.n};
#pragma unroll 1
    for (int part = 0; part < PARTS; part++)
        put_stage<T>(stage + part * STAGE_FLOATS, warp * STAGE_ROWS, part * WARP_COLUMNS, put);
}
