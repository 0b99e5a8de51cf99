// Layer norm of the rows of a matrix, five times, each with one idea more; RMS norm; and the derivatives. README.md
// tells the story.
//
// x, y: [rows, width]; weight and bias: [width] or null; mean and rstd: [rows], float32. Sums are in float32. The
// variance is taken about the mean: E[x^2] - E[x]^2 would lose all digits where the mean is large.
#include "moments.cuh"
#include "row.cuh"
#include "sum.cuh"

template <class T>
DEVICE float parameter(const T* p, int j, float absent) {
    return p ? to_float(p[j]) : absent;
}

// 1. A thread for each row, three passes over it.
template <class T>
__global__ void layer_norm_thread(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                  T* __restrict__ y, float* __restrict__ means, float* __restrict__ rstds, int rows,
                                  int width, float eps) {
    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    float mean = 0, variance = 0;
    for (int j = 0; j < width; j++) mean += to_float(x[j]);
    mean /= width;
    for (int j = 0; j < width; j++) variance += (to_float(x[j]) - mean) * (to_float(x[j]) - mean);
    const float rstd = 1.0f / sqrtf(variance / width + eps);
    for (int j = 0; j < width; j++)
        y[j] = from_float<T>((to_float(x[j]) - mean) * rstd * parameter(weight, j, 1) + parameter(bias, j, 0));
    means[row] = mean;
    rstds[row] = rstd;
}

// 2. A block for each row, whose threads read neighbouring numbers and add up through shuffles.
template <class T, int THREADS>
__global__ void layer_norm_block(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                 T* __restrict__ y, float* __restrict__ means, float* __restrict__ rstds, int rows,
                                 int width, float eps) {
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    float mean = 0, variance = 0;
    for (int j = threadIdx.x; j < width; j += THREADS) mean += to_float(x[j]);
    mean = reduce<Sum, THREADS>(mean) / width;
    for (int j = threadIdx.x; j < width; j += THREADS) variance += (to_float(x[j]) - mean) * (to_float(x[j]) - mean);
    const float rstd = 1.0f / sqrtf(reduce<Sum, THREADS>(variance) / width + eps);
    for (int j = threadIdx.x; j < width; j += THREADS)
        y[j] = from_float<T>((to_float(x[j]) - mean) * rstd * parameter(weight, j, 1) + parameter(bias, j, 0));
    if (threadIdx.x == 0) {
        means[blockIdx.x] = mean;
        rstds[blockIdx.x] = rstd;
    }
}

// 3. A warp for each row and no barrier.
template <class T>
__global__ void layer_norm_warp(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                                T* __restrict__ y, float* __restrict__ means, float* __restrict__ rstds, int rows,
                                int width, float eps) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave together
    x += row * width;
    y += row * width;
    float mean = 0, variance = 0;
    for (int j = threadIdx.x; j < width; j += WARP_SIZE) mean += to_float(x[j]);
    mean = reduce_warp<Sum>(mean) / width;
    for (int j = threadIdx.x; j < width; j += WARP_SIZE) variance += (to_float(x[j]) - mean) * (to_float(x[j]) - mean);
    const float rstd = 1.0f / sqrtf(reduce_warp<Sum>(variance) / width + eps);
    for (int j = threadIdx.x; j < width; j += WARP_SIZE)
        y[j] = from_float<T>((to_float(x[j]) - mean) * rstd * parameter(weight, j, 1) + parameter(bias, j, 0));
    if (threadIdx.x == 0) {
        means[row] = mean;
        rstds[row] = rstd;
    }
}

// 4. The row in registers (row.cuh): read once in packs of 16 bytes, mean and variance from there, written once.
// Without CENTER it is RMS norm: no mean, and the variance is about 0. With `residual`, the norm is that of x + residual,
// which is left in `total`; null without.
template <class T, int PER, int THREADS, bool CENTER>
__global__ void __launch_bounds__(256)
    layer_norm_registers(const T* __restrict__ x, const T* __restrict__ residual, const T* __restrict__ weight,
                         const T* __restrict__ bias, T* __restrict__ y, T* __restrict__ total,
                         float* __restrict__ means, float* __restrict__ rstds, int rows, int width, float eps,
                         int aligned) {
    using Held = Row<T, PER, THREADS>;
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps; a block that shares a row has no other
    Held mine, scale, shift;
    mine.read(x + row * width, width, aligned, 0);
    if (CENTER && residual) {
        Held other;
        other.read(residual + row * width, width, aligned, 0);
        mine.each([&](float& v, int p, int i) { v = to_float(from_float<T>(v + other.value[p][i])); });
        mine.write(total + row * width, width, aligned);
    }
    if (weight) scale.read(weight, width, aligned, 0);
    if (bias) shift.read(bias, width, aligned, 0);
    float mean = 0, variance = 0;
    if constexpr (CENTER) {
        mine.each([&](float& v, int, int) { mean += v; });
        mean = reduce<Sum, THREADS>(mean) / width;
    }
    mine.each([&](float& v, int p, int i) {
        v -= mean;
        if (Held::column(p, i) < width) variance += v * v;
    });
    const float rstd = 1.0f / sqrtf(reduce<Sum, THREADS>(variance) / width + eps);
    mine.each([&](float& v, int p, int i) {
        v *= rstd;
        if (weight) v *= scale.value[p][i];
        if (bias) v += shift.value[p][i];
    });
    mine.write(y + row * width, width, aligned);
    if (threadIdx.x == 0) {
        if (CENTER) means[row] = mean;
        rstds[row] = rstd;
    }
}

// 5. Rows that fit in no registers: mean and variance in one pass (moments.cuh). Two reads and a write.
template <class T, int THREADS, bool CENTER>
__global__ void layer_norm_welford(const T* __restrict__ x, const T* __restrict__ residual,
                                   const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ y,
                                   T* __restrict__ total, float* __restrict__ means, float* __restrict__ rstds,
                                   int rows, int width, float eps) {
    const long long start = (long long)blockIdx.x * width;
    x += start;
    y += start;
    // A thread reads again what it has written itself.
    const auto summed = [&](int j) { return CENTER && residual ? to_float(total[start + j]) : to_float(x[j]); };
    if (CENTER && residual)
        for (int j = threadIdx.x; j < width; j += THREADS)
            total[start + j] = from_float<T>(to_float(x[j]) + to_float(residual[start + j]));
    float mean = 0, variance = 0;
    if constexpr (CENTER) {
        Moments row;
        for (int j = threadIdx.x; j < width; j += THREADS) row.add(summed(j));
        row.join_block<THREADS>();
        mean = row.mean;
        variance = row.squares / width;
    } else {
        for (int j = threadIdx.x; j < width; j += THREADS) variance += to_float(x[j]) * to_float(x[j]);
        variance = reduce<Sum, THREADS>(variance) / width;
    }
    const float rstd = 1.0f / sqrtf(variance + eps);
    for (int j = threadIdx.x; j < width; j += THREADS)
        y[j] = from_float<T>((summed(j) - mean) * rstd * parameter(weight, j, 1) + parameter(bias, j, 0));
    if (threadIdx.x == 0) {
        if (CENTER) means[blockIdx.x] = mean;
        rstds[blockIdx.x] = rstd;
    }
}

// --- the derivative. With z = (x - mean) rstd and h = g weight:
//     dx = (h - mean(h) - z mean(h z)) rstd,   dweight = sum over rows of g z,   dbias = sum over rows of g

// A group's sums, to row `group` of a matrix.
template <class Held>
DEVICE void leave_sums(const float sums[Held::PACKS][Held::N], float* to, int group, int width) {
    if (!to) return;
    to += (long long)group * width;
#pragma unroll
    for (int p = 0; p < Held::PACKS; p++)
#pragma unroll
        for (int i = 0; i < Held::N; i += 4) {
            const int column = Held::column(p, i);
            if (width % 4 == 0) {
                const Pack<float, 4> pack = {sums[p][i], sums[p][i + 1], sums[p][i + 2], sums[p][i + 3]};
                if (column < width) store<4>(to + column, pack);
            } else {
#pragma unroll
                for (int j = i; j < i + 4; j++)
                    if (column + j - i < width) to[column + j - i] = sums[p][j];
            }
        }
}

// Each group of THREADS takes every so-manieth row and keeps its own sums for weight and bias in registers, which it
// leaves in row `group` of dweights and dbiases (null if not wanted); column_sums adds those up. beside: a gradient that
// arrives at x on another way, or null.
template <class T, int PER, int THREADS, bool CENTER>
__global__ void __launch_bounds__(THREADS > 256 ? THREADS : 256, 1)
    layer_norm_vjp_registers(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ weight,
                             const float* __restrict__ means, const float* __restrict__ rstds,
                             const T* __restrict__ beside, T* __restrict__ dx, float* __restrict__ dweights,
                             float* __restrict__ dbiases, int rows, int width, int aligned) {
    using Held = Row<T, PER, THREADS>;
    const int group = blockIdx.x * blockDim.y + threadIdx.y, groups = gridDim.x * blockDim.y;
    Held scale;
    if (weight) scale.read(weight, width, aligned, 0);
    float dweight[Held::PACKS][Held::N] = {}, dbias[Held::PACKS][Held::N] = {};
    for (long long row = group; row < rows; row += groups) {
        Held slope, value;
        slope.read(g + row * width, width, aligned, 0);
        value.read(x + row * width, width, aligned, 0);
        const float mean = CENTER ? means[row] : 0, rstd = rstds[row];
        float total = 0, along = 0;
        slope.each([&](float& h, int p, int i) {
            float& z = value.value[p][i];
            z = (z - mean) * rstd;
            if (dweights) dweight[p][i] += h * z;
            if (dbiases) dbias[p][i] += h;
            if (weight) h *= scale.value[p][i];
            total += h;
            along += h * z;  // h is 0 beyond the width
        });
        total = CENTER ? reduce<Sum, THREADS>(total) / width : 0;
        along = reduce<Sum, THREADS>(along) / width;
        slope.each([&](float& h, int p, int i) { h = (h - total - value.value[p][i] * along) * rstd; });
        if (CENTER && beside) {
            value.read(beside + row * width, width, aligned, 0);
            slope.each([&](float& h, int p, int i) { h += value.value[p][i]; });
        }
        slope.write(dx + row * width, width, aligned);
    }
    leave_sums<Held>(dweight, dweights, group, width);
    leave_sums<Held>(dbias, dbiases, group, width);
}

// Rows of any length: a block for each, in two passes.
template <class T, int THREADS, bool CENTER>
__global__ void layer_norm_vjp_long(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ weight,
                                    const float* __restrict__ means, const float* __restrict__ rstds,
                                    const T* __restrict__ beside, T* __restrict__ dx, int rows, int width) {
    const long long start = (long long)blockIdx.x * width;
    const float mean = CENTER ? means[blockIdx.x] : 0, rstd = rstds[blockIdx.x];
    float total = 0, along = 0;
    for (int j = threadIdx.x; j < width; j += THREADS) {
        const float h = to_float(g[start + j]) * parameter(weight, j, 1);
        total += h;
        along += h * (to_float(x[start + j]) - mean) * rstd;
    }
    total = CENTER ? reduce<Sum, THREADS>(total) / width : 0;
    along = reduce<Sum, THREADS>(along) / width;
    for (int j = threadIdx.x; j < width; j += THREADS) {
        const float h = to_float(g[start + j]) * parameter(weight, j, 1), z = (to_float(x[start + j]) - mean) * rstd;
        dx[start + j] = from_float<T>((h - total - z * along) * rstd + (beside ? to_float(beside[start + j]) : 0));
    }
}

template <class T, bool CENTER>
__global__ void layer_norm_dweight(const T* __restrict__ g, const T* __restrict__ x, const float* __restrict__ means,
                                   const float* __restrict__ rstds, T* __restrict__ dweight, int rows, int width) {
    const auto product = [&](int row, int j) {
        const long long at = (long long)row * width + j;
        return to_float(g[at]) * (to_float(x[at]) - (CENTER ? means[row] : 0)) * rstds[row];
    };
    sum_columns(product, dweight, rows, width);
}
