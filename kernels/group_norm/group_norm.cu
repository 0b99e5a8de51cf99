// Group norm, and SiLU of it, of images whose channels come last: x [images, positions, channels].
//
// A block has an image and a tile of its channels, whole groups (strips.cuh). What a block keeps in registers is read
// from memory once; a larger part is read again while it is in the cache. The variance is taken about the mean.
#include "activation/functions.cuh"
#include "reduce.cuh"
#include "strips.cuh"
#include "sum.cuh"

struct Images {
    int positions, channels;
    int group, width;  // channels of a group and of a tile
};

// Where a block works. blockIdx.x: the tile; blockIdx.y: the image.
struct Tile {
    int first, width;     // channels
    int statistic;        // number of its first group among those of all images
    long long start;      // of the tile's first number

    DEVICE explicit Tile(const Images& s) {
        first = blockIdx.x * s.width;
        width = min(s.width, s.channels - first);
        statistic = blockIdx.y * (s.channels / s.group) + first / s.group;
        start = (long long)blockIdx.y * s.positions * s.channels + first;
    }
};

// From sums of columns to sums of groups, each the work of a warp: the sum over a group's channels of f(channel) comes
// to the place of its first channel, through `finish`(number of the group, sum). Ends with a barrier.
template <class F, class Finish>
DEVICE void sum_groups(const Tile& tile, int group, float* totals, F f, Finish finish) {
    const int lane = threadIdx.x % WARP_SIZE;
    for (int g = threadIdx.x / WARP_SIZE; g * group < tile.width; g += blockDim.x / WARP_SIZE) {
        float sum = 0;
        for (int c = lane; c < group; c += WARP_SIZE) sum += f(g * group + c);
        sum = reduce_warp<Sum>(sum);
        if (lane == 0) totals[g * group] = finish(g, sum);
    }
    __syncthreads();
}

template <class T, int N, bool KEPT, bool SILU>
__global__ void __launch_bounds__(512, 1)
    group_norm(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ y,
               float* __restrict__ means, float* __restrict__ rstds, Images shape, float eps) {
    DYNAMIC_SHARED(float, totals);
    const Tile tile(shape);
    const Strip<N> strip(tile.width);
    const int stride = blockDim.x * N;
    const float count = float(shape.group) * shape.positions;
    const Numbers<T, N, KEPT> numbers(x + tile.start + strip.column, shape.channels, strip, shape.positions);
    int place[N];  // of the result for each channel's group
#pragma unroll
    for (int i = 0; i < N; i++) place[i] = (strip.column + i) / shape.group * shape.group;

    float sums[1][N] = {}, mean[N], rstd[N];
    each_row<KEPT, KEPT_PACKS>(strip, shape.positions, [&](int k, int row) {
        const Pack<T, N> pack = numbers.at(k, row);
#pragma unroll
        for (int i = 0; i < N; i++) sums[0][i] += to_float(pack.value[i]);
    });
    const auto total = [&](int channel) { return totals[channel]; };
    sum_strips(strip, tile.width, sums, totals, stride);
    sum_groups(tile, shape.group, totals, total,
               [&](int g, float sum) { return means[tile.statistic + g] = sum / count; });
#pragma unroll
    for (int i = 0; i < N; i++) mean[i] = totals[place[i]], sums[0][i] = 0;

    each_row<KEPT, KEPT_PACKS>(strip, shape.positions, [&](int k, int row) {
        const Pack<T, N> pack = numbers.at(k, row);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float off = to_float(pack.value[i]) - mean[i];
            sums[0][i] += off * off;
        }
    });
    sum_strips(strip, tile.width, sums, totals, stride);
    sum_groups(tile, shape.group, totals, total,
               [&](int g, float sum) { return rstds[tile.statistic + g] = 1.0f / sqrtf(sum / count + eps); });
    float scale[N], shift[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        rstd[i] = totals[place[i]];
        scale[i] = rstd[i] * parameter(weight, tile.first + strip.column + i, 1);
        shift[i] = parameter(bias, tile.first + strip.column + i, 0);
    }

    y += tile.start + strip.column;
    each_row<KEPT, KEPT_PACKS>(strip, shape.positions, [&](int k, int row) {
        Pack<T, N> pack = numbers.at(k, row);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float u = (to_float(pack.value[i]) - mean[i]) * scale[i] + shift[i];
            pack.value[i] = from_float<T>(SILU ? Silu::value(u, 0, 0) : u);
        }
        store<N>(y + (long long)row * shape.channels, pack);
    });
}

// With z = (x - mean) rstd, h the gradient that arrives at z weight + bias, and k = h weight:
//     dx = (k - mean(k) - z mean(k z)) rstd
// dweights and dbiases: [images, channels], the sums of h z and of h over an image's positions; column_sums adds them.
template <class T, int N, bool KEPT, bool SILU>
__global__ void __launch_bounds__(512, 1)
    group_norm_vjp(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ weight,
                   const T* __restrict__ bias, const float* __restrict__ means, const float* __restrict__ rstds,
                   T* __restrict__ dx, float* __restrict__ dweights, float* __restrict__ dbiases, Images shape) {
    DYNAMIC_SHARED(float, totals);
    constexpr int COUNT = KEPT_PACKS / 2;  // of both
    const Tile tile(shape);
    const Strip<N> strip(tile.width);
    const int stride = blockDim.x * N;
    const float count = float(shape.group) * shape.positions;
    const long long start = tile.start + strip.column;
    const Numbers<T, N, KEPT, COUNT> slopes(g + start, shape.channels, strip, shape.positions);
    const Numbers<T, N, KEPT, COUNT> numbers(x + start, shape.channels, strip, shape.positions);
    float mean[N], rstd[N], scale[N], shift[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int channel = tile.first + strip.column + i;
        const int statistic = tile.statistic + (strip.column + i) / shape.group;
        mean[i] = means[statistic];
        rstd[i] = rstds[statistic];
        scale[i] = parameter(weight, channel, 1);
        shift[i] = SILU ? parameter(bias, channel, 0) : 0;
    }
    const auto of = [&](int i, T slope, T value, float& z) {  // h, and z
        z = (to_float(value) - mean[i]) * rstd[i];
        return SILU ? Silu::vjp(to_float(slope), z * scale[i] + shift[i], 0, 0) : to_float(slope);
    };

    float sums[2][N] = {};
    each_row<KEPT, COUNT>(strip, shape.positions, [&](int k, int row) {
        const Pack<T, N> slope = slopes.at(k, row), value = numbers.at(k, row);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float z;
            const float h = of(i, slope.value[i], value.value[i], z);
            sums[0][i] += h;
            sums[1][i] += h * z;
        }
    });
    sum_strips(strip, tile.width, sums, totals, stride);
    for (int c = threadIdx.x; c < tile.width; c += blockDim.x) {
        const long long to = (long long)blockIdx.y * shape.channels + tile.first + c;
        if (dbiases) dbiases[to] = totals[c];
        if (dweights) dweights[to] = totals[stride + c];
    }
    __syncthreads();  // the sums of groups take the places of those of channels
    for (int k = 0; k < 2; k++) {
        float* const mine = totals + k * stride;
        sum_groups(tile, shape.group, mine,
                   [&](int channel) { return mine[channel] * parameter(weight, tile.first + channel, 1); },
                   [&](int, float sum) { return sum / count; });
    }
    float total[N], along[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int place = (strip.column + i) / shape.group * shape.group;
        total[i] = totals[place];
        along[i] = totals[stride + place];
    }

    dx += start;
    each_row<KEPT, COUNT>(strip, shape.positions, [&](int k, int row) {
        const Pack<T, N> slope = slopes.at(k, row), value = numbers.at(k, row);
        Pack<T, N> out;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float z;
            const float h = of(i, slope.value[i], value.value[i], z);
            out.value[i] = from_float<T>((h * scale[i] - total[i] - z * along[i]) * rstd[i]);
        }
        store<N>(dx + (long long)row * shape.channels, out);
    });
}
