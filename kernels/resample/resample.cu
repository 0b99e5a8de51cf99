// Interpolation and average pooling: y = rows x columns^T in each channel, with sparse matrices. Channels last; a
// thread for each number of y, so neighbours are channels and read neighbours.
#include "resample/axis.cuh"

template <class T>
__global__ void resample2d(const T* __restrict__ x, const long long* __restrict__ row_start,
                           const long long* __restrict__ row_index, const float* __restrict__ row_weight,
                           const long long* __restrict__ column_start, const long long* __restrict__ column_index,
                           const float* __restrict__ column_weight, T* __restrict__ y, long long count, int channels,
                           Axis rows, Axis columns) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Place at(i, channels, rows, columns);
    float sum = 0;
    each_entry(row_start, row_index, at.p, [&](long long row, long long e) {
        const T* line = x + (at.image * (long long)rows.inputs + row) * columns.inputs * channels + at.channel;
        float part = 0;
        each_entry(column_start, column_index, at.q, [&](long long column, long long f) {
            part += column_weight[f] * to_float(line[column * channels]);
        });
        sum += row_weight[e] * part;
    });
    y[i] = from_float<T>(sum);
}
