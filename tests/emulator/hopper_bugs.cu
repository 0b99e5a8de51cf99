// A pipeline of copies of boxes and products of warpgroups, and what can be wrong in one, each bug by its name.
// tests/test_emulator_hopper.py says as what it is found, and at which of the lines that are marked.
#include "ring.cuh"

enum Bug {
    none,
    barriers_not_shown,
    no_barrier_after_begin,
    missing_expect,
    too_few_bytes,
    claimed_without_wait,
    wrong_phase,
    no_wait_for_boxes,
    missing_fence,
    writes_not_shown,
    other_descriptor,
    half_a_warpgroup,
    missing_commit,
    sums_read_early,
    released_too_early,
    one_warp_releases,
    never_released,
    released_twice,
};

constexpr int PLACES = 2, COLUMNS = 128, A_BYTES = 64 * 128, BYTES = A_BYTES + COLUMNS * 128;

// c [64, COLUMNS] = a [64, 64 panels] b [COLUMNS, 64 panels]'.
template <Bug BUG>
__global__ void multiply(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c,
                         int panels) {
    SWIZZLED_SHARED(memory);
    __shared__ Ring<PLACES> ring;
    if (threadIdx.x == 0) {
        ring.begin(4);  // [begin]
        if (BUG != barriers_not_shown) barriers_shown();
    }
    if (BUG != no_barrier_after_begin) __syncthreads();
    if (threadIdx.x >= WARPGROUP) {
        if (threadIdx.x > WARPGROUP) return;
        for (int i = 0; i < panels; i++) {
            if (BUG != claimed_without_wait) barrier_wait(ring.empty + i % PLACES, i / PLACES % 2 ^ 1);  // [claim]
            Barrier* const full = ring.full + i % PLACES;
            if (BUG == missing_expect) barrier_arrive(full);
            else barrier_expect(full, BUG == too_few_bytes ? BYTES - A_BYTES : BYTES);  // [expect]
            unsigned char* const place = memory + i % PLACES * BYTES;
            copy_box(place, a, full, i * 64, 0, 0);  // [copy]
            copy_box(place + A_BYTES, b, full, i * 64, 0, 0);
        }
        return;
    }
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    float sums[COLUMNS / 2] = {};
    for (int i = 0; i < panels; i++) {
        unsigned char* const place = memory + i % PLACES * BYTES;
        const auto left = descriptor(place, BUG == other_descriptor && warp == 3 ? 512 : 1024);
        const auto right = descriptor(place + A_BYTES);
        if (BUG == wrong_phase) barrier_wait(ring.full + i % PLACES, i / PLACES % 2 ^ 1);
        else if (BUG != no_wait_for_boxes) ring.await(i);  // [await]
        if (BUG == writes_not_shown) {  // though nothing new
            volatile unsigned char* const mine = place + warp * 2048;
            if (lane == 0) *mine = *mine;
            __syncwarp();
        }
        if (BUG != missing_fence) sums_fence();
        if (BUG == half_a_warpgroup && warp > 1) continue;
        for (int step = 0; step < 4; step++)
            multiply_async<half_t, COLUMNS, false, false>(sums, left + 2 * step, right + 2 * step);  // [multiply]
        if (BUG != missing_commit) products_commit();
        if (BUG == sums_read_early) sums[0] += 1;  // [touch]
        if (BUG == released_too_early) ring.release(i);
        products_wait<0>();  // [wait]
        if (BUG == one_warp_releases) {
            if (warp == 0 && lane < 4) barrier_arrive(ring.empty + i % PLACES);
        } else if (BUG != released_too_early && BUG != never_released) {
            ring.release(i);
        }
        if (BUG == released_twice) ring.release(i);  // [again]
    }
    float* const result = c + 16 * warp * COLUMNS;
    for (int j = 0; j < COLUMNS / 8; j++)
        for (int e = 0; e < 4; e++)
            result[(lane / 4 + e / 2 * 8) * COLUMNS + 8 * j + lane % 4 * 2 + e % 2] = sums[4 * j + e];  // [result]
}
