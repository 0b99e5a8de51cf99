// The loop under matmul and conv2d: panels of two operands come in by asynchronous copies, STAGES of them under way,
// while warps multiply those that have come. What the operands are, a source knows (panel.cuh); how panels are
// multiplied, a product (product.cuh); what becomes of the results, finish.cuh.
#pragma once
#include "product.cuh"

// A block's TILE x TILE results by warps of WARP_ROWS x 32.
template <int TILE>
constexpr int BLOCK_THREADS = TILE == 128 ? 256 : 128;

template <class T, int TILE, int STAGES, bool A_DEEP, bool B_DEEP, bool TENSOR, bool SWIZZLED = true>
struct Pipeline {
    static constexpr int THREADS = BLOCK_THREADS<TILE>, ACROSS = TILE / WARP_COLUMNS;  // warps side by side
    static constexpr int WARP_ROWS = TILE / (THREADS / WARP_SIZE / ACROSS);
    using A = Panel<T, TILE, A_DEEP, SWIZZLED>;
    using B = Panel<T, TILE, B_DEEP, SWIZZLED>;
    template <bool, class P, class Q>
    struct Either {
        using type = P;
    };
    template <class P, class Q>
    struct Either<false, P, Q> {
        using type = Q;
    };
    using Product =
        typename Either<TENSOR, TensorProduct<T, A, B, WARP_ROWS>, PlainProduct<T, A, B, WARP_ROWS>>::type;
    static constexpr int STAGE_BYTES = A::BYTES + B::BYTES, DEPTH = A::DEPTH;

    // Panels [first, last) of a times those of b. `put` gets results of the tile, as put_stage() gives them.
    template <class Left, class Right, class Put>
    static DEVICE void run(const Left& left, bool left_aligned, const Right& right, bool right_aligned, int first,
                           int last, Put put) {
        DYNAMIC_SHARED(unsigned char, memory);
        const int warp = threadIdx.x / WARP_SIZE, row = warp / ACROSS * WARP_ROWS, column = warp % ACROSS * WARP_COLUMNS;
        const auto left_panel = [&](int tile) { return reinterpret_cast<T*>(memory + tile % STAGES * STAGE_BYTES); };
        const auto right_panel = [&](int tile) { return left_panel(tile) + A::BYTES / int(sizeof(T)); };
        const auto fetch = [&](int tile) {
            if (tile < last) {
                fill<A, THREADS>(left_panel(tile), left, tile, left_aligned);
                fill<B, THREADS>(right_panel(tile), right, tile, right_aligned);
            }
            copy_commit();  // also of nothing: so that the number of groups under way tells which panels have come
        };
        Product product;
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++) fetch(first + i);
        for (int tile = first; tile < last; tile++) {
            if constexpr (STAGES == 1) {
                fetch(tile);
                copy_wait<0>();
                __syncthreads();
            } else {
                copy_wait<STAGES - 2>();
                __syncthreads();  // everyone's part of this panel is here, and the last one has been read by everyone
                fetch(tile + STAGES - 1);
            }
            product.add(left_panel(tile), right_panel(tile), row, column);
            if constexpr (STAGES == 1) __syncthreads();
        }
        copy_wait<0>();
        __syncthreads();  // the panels' memory is free
        float* const stage = reinterpret_cast<float*>(memory) + warp * STAGE_FLOATS;
#pragma unroll
        for (int part = 0; part < WARP_ROWS / STAGE_ROWS; part++) {
            product.deposit(stage, part);
            __syncwarp();
            put_stage<T>(stage, row + part * STAGE_ROWS, column, put);
            __syncwarp();
        }
    }
};

// Which tile is block `number`'s: eight rows of tiles down, then one to the right, so that blocks that run at the same
// time share panels of both operands in the second-level cache.
struct TilePlace {
    int row, column;
};

DEVICE TilePlace tile_of(int number, int rows, int columns) {
    constexpr int HEIGHT = 8;
    const int first = number / (HEIGHT * columns) * HEIGHT, height = min(rows - first, HEIGHT);
    const int within = number % (HEIGHT * columns);
    return {first + within % height, within / height};
}
