// Places in shared memory that go around: a producer fills them by copies of boxes, consumers empty them.
//
// Filling number i goes to place i % PLACES. Each place has two barriers: `full`, at which the boxes arrive, and
// `empty`, at which one lane of each consuming warp does. Both are waited for in turn, so a phase's parity is that of
// the round.
#pragma once
#include "hopper.cuh"

template <int PLACES>
struct Ring {
    Barrier full[PLACES], empty[PLACES];

    // By one thread, before __syncthreads().
    DEVICE void begin(int warps) {
        for (int i = 0; i < PLACES; i++) {
            barrier_begin(full + i, 1);
            barrier_begin(empty + i, warps);
        }
    }

    // The producer's: place i is free from here on. The barrier is for copies of `bytes` altogether.
    DEVICE Barrier* claim(int i, int bytes) {
        barrier_wait(empty + i % PLACES, i / PLACES % 2 ^ 1);
        barrier_expect(full + i % PLACES, bytes);
        return full + i % PLACES;
    }

    // The consumers': filling i has come; and this warp, whose products from it have been waited for, has done with it.
    DEVICE void await(int i) { barrier_wait(full + i % PLACES, i / PLACES % 2); }
    DEVICE void release(int i) {
        __syncwarp();
        if (threadIdx.x % WARP_SIZE == 0) barrier_arrive(empty + i % PLACES);
    }
};
