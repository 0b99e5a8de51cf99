// out[row] = the sum of the rows of source whose index is `row`. Adding atomically would be one line, and another
// result in every run; so the sources come sorted by their index, and a thread adds up those of its place in their
// order.
#include "ptx.cuh"

// order [n]: sources sorted by index; starts [rows + 1]: where those of each row begin. source: [n, width].
template <class T>
__global__ void scatter_add(const T* __restrict__ source, const long long* __restrict__ order,
                            const long long* __restrict__ starts, T* __restrict__ out, int rows, int width) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)rows * width) return;
    const long long row = i / width, column = i % width;
    float sum = 0;
    for (long long s = starts[row]; s < starts[row + 1]; s++) sum += to_float(source[order[s] * width + column]);
    out[i] = from_float<T>(sum);
}
