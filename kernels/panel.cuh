// Panels: what a block holds in shared memory of one operand of a product, SIDE rows (or columns) of it, 64 bytes deep.
//
// An operand lies in memory along the depth of the product (rows of a, columns of b) or along its side. Its panel keeps
// that order, so that 16 bytes of memory become 16 bytes of the panel and asynchronous copies can carry them: a *line*
// is what lies together, a *chunk* 16 bytes of it. Which chunk goes where decides about the banks. Shared memory gives
// 128 bytes at a time, so the eight chunks that a matrix instruction asks for at once, one from each of eight lines,
// should lie in eight different sixteenths of 256 bytes. In rows of 64 bytes one below the other four of them lie in
// the same; here the chunk's number is changed by bits of the line's number ("swizzled"), which costs no memory. Lines
// of numbers of 32 bits across the depth are read number by number, eight of each of four lines at once, since ldmatrix
// cannot transpose them: for these the four lines lie two chunks apart.
#pragma once
#include "ptx.cuh"

constexpr int PANEL_DEPTH_BYTES = 64;

template <class T, int SIDE_, bool DEEP_, bool SWIZZLED = true>
struct Panel {
    static constexpr bool DEEP = DEEP_;  // lines run along the depth
    static constexpr int SIDE = SIDE_, DEPTH = PANEL_DEPTH_BYTES / sizeof(T), EACH = WIDEST<T>;  // EACH: of a chunk
    static constexpr int LINES = DEEP ? SIDE : DEPTH, CHUNKS = (DEEP ? DEPTH : SIDE) / EACH;
    static constexpr int BYTES = SIDE * PANEL_DEPTH_BYTES;

    // The place of a line's chunk, in numbers.
    static DEVICE int place(int line, int chunk) {
        if (SWIZZLED) chunk ^= DEEP ? line >> 1 & 3 : sizeof(T) == 2 ? line & 7 : (line & 3) << 1;
        return (line * CHUNKS + chunk) * EACH;
    }

    static DEVICE int place_of(int side, int depth) {  // of one number
        const int line = DEEP ? side : depth, along = DEEP ? depth : side;
        return place(line, along / EACH) + along % EACH;
    }
};

// `given` numbers from `from`, and zeros after them. Nothing is read if none are given.
template <class T>
struct Run {
    const T* from;
    int given;
};

DEVICE int at_most(int left, int each) { return left < 0 ? 0 : left < each ? left : each; }

// Panel number `tile` of an operand, by all THREADS; copy_commit() and so on are the caller's. `source` tells where
// numbers are: run(i, line, chunk, tile) of a whole chunk, one(i, line, along, tile) of a number, null if that is zero.
// i numbers a thread's chunks, whose line is the same in every panel. `aligned`: chunks begin at multiples of 16 bytes
// and do not lie apart; else numbers are fetched one by one, those of 16 bits without an asynchronous copy.
template <class PANEL, int THREADS, class T, class Source>
DEVICE void fill(T* panel, const Source& source, int tile, bool aligned) {
    static_assert(PANEL::LINES * PANEL::CHUNKS % THREADS == 0);
    constexpr int EACH = PANEL::EACH;
#pragma unroll(sizeof(T) == 4 ? 1 : 8)
    for (int i = 0; i < PANEL::LINES * PANEL::CHUNKS / THREADS; i++) {
        const int number = threadIdx.x + i * THREADS, line = number / PANEL::CHUNKS, chunk = number % PANEL::CHUNKS;
        T* const to = panel + PANEL::place(line, chunk);
        if (aligned) {
            const Run<T> run = source.run(i, line, chunk, tile);
            copy_async_16(to, run.from, run.given * int(sizeof(T)));
        } else if constexpr (sizeof(T) == 4) {
#pragma unroll 1
            for (int e = 0; e < EACH; e++) {
                const T* const from = source.one(i, line, chunk * EACH + e, tile);
                copy_async_4(to + e, from ? from : source.from, from != nullptr);
            }
        } else {
#pragma unroll 1
            for (int e = 0; e < EACH; e++) {
                const T* const from = source.one(i, line, chunk * EACH + e, tile);
                to[e] = from ? *from : T{};
            }
        }
    }
}

// A matrix as a source: `from` is its number at the block's first side and depth 0, `side` how many sides there are
// from there on, `depth` where it ends.
template <class T, class PANEL>
struct MatrixSource {
    const T* from;
    long long pitch;  // from line to line
    int side, depth;

    DEVICE Run<T> run(int, int line, int chunk, int tile) const {
        const int s = PANEL::DEEP ? line : chunk * PANEL::EACH;
        const int d = tile * PANEL::DEPTH + (PANEL::DEEP ? chunk * PANEL::EACH : line);
        const int given = PANEL::DEEP ? (s < side ? at_most(depth - d, PANEL::EACH) : 0)
                                      : (d < depth ? at_most(side - s, PANEL::EACH) : 0);
        return {given ? from + (PANEL::DEEP ? s * pitch + d : d * pitch + s) : from, given};
    }

    DEVICE const T* one(int, int line, int along, int tile) const {
        const int s = PANEL::DEEP ? line : along, d = tile * PANEL::DEPTH + (PANEL::DEEP ? along : line);
        return s < side && d < depth ? from + (PANEL::DEEP ? s * pitch + d : d * pitch + s) : nullptr;
    }
};
