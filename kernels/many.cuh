// Many arrays in one launch. A model has hundreds of parameters, most of them small: one by one each would cost a
// launch of some microseconds, and leave most of the GPU idle.
//
// The table of addresses travels with the kernel's arguments (at most 4 KB), as nothing else would reach the device
// without a copy that waits: so it needs no memory there and can be captured in a graph.
#pragma once
#include "ptx.cuh"

constexpr int MOST_ARRAYS = 80;   // of a launch
constexpr int BLOCK_SHARE = 4096;  // elements of a block
constexpr int MANY_THREADS = 256;

// A row for each array, a column for each of its companions (gradient, moments ...), all of one size.
template <int COLUMNS>
struct Many {
    void* address[COLUMNS][MOST_ARRAYS];
    long long size[MOST_ARRAYS];
    int first[MOST_ARRAYS + 1];  // block of each array; then how many blocks there are
    int arrays;
};

// What this block has of one array and its companions.
template <class T, int COLUMNS>
struct Share {
    T* begin[COLUMNS];
    int count;
    bool aligned;

    DEVICE explicit Share(const Many<COLUMNS>& many) {
        int low = 0, high = many.arrays;  // first[low] <= block < first[high]
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (many.first[middle] <= int(blockIdx.x)) low = middle;
            else high = middle;
        }
        const long long start = (long long)(blockIdx.x - many.first[low]) * BLOCK_SHARE;
        count = int(min((long long)BLOCK_SHARE, many.size[low] - start));
        aligned = true;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            begin[c] = static_cast<T*>(many.address[c][low]) + start;
            aligned = aligned && reinterpret_cast<unsigned long long>(begin[c]) % 16 == 0;
        }
    }
};

// f(values) of each element of the block's share, in float32: one number of each column. The columns whose bits WRITTEN
// has are stored again.
template <class T, int COLUMNS, unsigned WRITTEN, class F>
DEVICE void each_of_many(const Many<COLUMNS>& many, F f) {
    constexpr int N = WIDEST<T>;
    const Share<T, COLUMNS> share(many);
    for (int start = threadIdx.x * N; start < share.count; start += MANY_THREADS * N) {
        if (share.aligned && start + N <= share.count) {
            Pack<T, N> packs[COLUMNS];
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) packs[c] = load<N>(share.begin[c] + start);
#pragma unroll
            for (int i = 0; i < N; i++) {
                float values[COLUMNS];
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) values[c] = to_float(packs[c].value[i]);
                f(values);
#pragma unroll
                for (int c = 0; c < COLUMNS; c++)
                    if (WRITTEN >> c & 1) packs[c].value[i] = from_float<T>(values[c]);
            }
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                if (WRITTEN >> c & 1) store<N>(share.begin[c] + start, packs[c]);
        } else {
            for (int i = start; i < share.count && i < start + N; i++) {
                float values[COLUMNS];
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) values[c] = to_float(share.begin[c][i]);
                f(values);
#pragma unroll
                for (int c = 0; c < COLUMNS; c++)
                    if (WRITTEN >> c & 1) share.begin[c][i] = from_float<T>(values[c]);
            }
        }
    }
}
