// Max pooling with indices, and reading by indices. Channels last; a thread for each number of the result.
#include "resample/axis.cuh"

// y and index (in the flattened image) of the largest number of each window. Of equal ones the first is taken, of NaNs,
// which pass for the largest, the last.
template <class T>
__global__ void max_pool2d(const T* __restrict__ x, const long long* __restrict__ row_start,
                           const long long* __restrict__ row_index, const long long* __restrict__ column_start,
                           const long long* __restrict__ column_index, T* __restrict__ y, int* __restrict__ index,
                           long long count, int channels, Axis rows, Axis columns) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Place at(i, channels, rows, columns);
    const T* image = x + (long long)at.image * rows.inputs * columns.inputs * channels + at.channel;
    float best = -INFINITE;
    long long place = -1;
    each_entry(row_start, row_index, at.p, [&](long long row, long long) {
        each_entry(column_start, column_index, at.q, [&](long long column, long long) {
            const long long here = row * columns.inputs + column;
            const float value = to_float(image[here * channels]);
            if (place < 0 || value > best || value != value) best = value, place = here;
        });
    });
    y[i] = from_float<T>(best);
    index[i] = int(place);
}

// y[n, p, c] = x[n, index[n, p, c], c] for the `outputs` pixels p of each image.
template <class T>
__global__ void pool_gather(const T* __restrict__ x, const int* __restrict__ index, T* __restrict__ y, long long count,
                            int channels, int pixels, int outputs) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const long long image = i / channels / outputs;
    y[i] = x[(image * pixels + index[i]) * channels + i % channels];
}
