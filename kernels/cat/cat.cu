// Arrays joined along a dimension: the rows of all pieces side by side in one output. One launch for all of them, whose
// table travels with the arguments (many.cuh tells why).
#include "ptx.cuh"

constexpr int MOST_PIECES = 64;

struct Pieces {
    const void* address[1][MOST_PIECES];
    int length[MOST_PIECES];  // of a row
    int offset[MOST_PIECES];  // of its place in a row of the output
    int rows, pitch;          // pitch: the length of a row of the output
};

// blockIdx.y: the piece. A thread takes some packs of it, in turns with all others.
template <class T, int N>
__global__ void cat(const Pieces pieces, T* __restrict__ out) {
    const T* const x = static_cast<const T*>(pieces.address[0][blockIdx.y]);
    const unsigned packs = pieces.length[blockIdx.y] / N, all = packs * pieces.rows;
    out += pieces.offset[blockIdx.y];
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < all; i += gridDim.x * blockDim.x) {
        const unsigned row = i / packs, column = i % packs * N;
        store<N>(out + (long long)row * pieces.pitch + column, load<N>(x + (long long)i * N));
    }
}
