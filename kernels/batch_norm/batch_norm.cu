// Batch norm, and a (leaky) ReLU of it, of matrices whose columns are channels: x [rows, channels], a row for each
// position of each image.
//
// A channel goes through the whole batch, so its sums need all blocks. Each block has a tile of channels and a chunk of
// the rows (strips.cuh), and leaves what it finds of them; a second kernel joins the chunks, always in the same order.
#include "moments.cuh"
#include "strips.cuh"
#include "sum.cuh"

struct Matrix {
    int rows, channels;
    int width, chunk;  // channels and rows of a block
};

// A block's part. blockIdx.x: the tile; blockIdx.y: the chunk.
struct Part {
    int first, width, rows;
    long long start;  // of its first number

    DEVICE explicit Part(const Matrix& m) {
        first = blockIdx.x * m.width;
        width = min(m.width, m.channels - first);
        rows = min(m.chunk, m.rows - int(blockIdx.y) * m.chunk);
        start = (long long)blockIdx.y * m.chunk * m.channels + first;
    }
};

// Mean and sum of squares about it of each channel, of each chunk: [chunks, channels]. A thread takes eight rows at a
// time, so that it need not divide for every number.
template <class T, int N>
__global__ void __launch_bounds__(256, 1)
    batch_norm_moments(const T* __restrict__ x, float* __restrict__ means, float* __restrict__ squares, Matrix shape) {
    DYNAMIC_SHARED(float, parts);
    const Part part(shape);
    const Strip<N> strip(part.width);
    x += part.start + strip.column;
    Moments found[N];
    for (int row = strip.first; row < part.rows && !strip.idle(); row += KEPT_PACKS * strip.step) {
        Pack<T, N> kept[KEPT_PACKS];
#pragma unroll
        for (int k = 0; k < KEPT_PACKS; k++)
            if (row + k * strip.step < part.rows) kept[k] = load<N>(x + (long long)(row + k * strip.step) * shape.channels);
        const int count = min(KEPT_PACKS, (part.rows - row + strip.step - 1) / strip.step);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float mean = 0, about = 0;
#pragma unroll
            for (int k = 0; k < KEPT_PACKS; k++) mean += k < count ? to_float(kept[k].value[i]) : 0;
            mean /= count;
#pragma unroll
            for (int k = 0; k < KEPT_PACKS; k++) {
                const float off = k < count ? to_float(kept[k].value[i]) - mean : 0;
                about += off * off;
            }
            found[i].join(count, mean, about);
        }
    }
    // The threads of a strip meet in shared memory, two by two.
    const int stride = blockDim.x * N;
    const auto place = [&](int row, int i) { return row * part.width + strip.column + i; };
    const auto leave = [&] {
#pragma unroll
        for (int i = 0; i < N; i++) {
            float* const mine = parts + place(strip.first, i);
            mine[0] = found[i].count, mine[stride] = found[i].mean, mine[2 * stride] = found[i].squares;
        }
    };
    if (!strip.idle()) leave();
    __syncthreads();
    for (int rows = strip.step, half; rows > 1; rows = half) {
        half = (rows + 1) / 2;
        if (strip.first + half < rows) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float* const other = parts + place(strip.first + half, i);
                found[i].join(other[0], other[stride], other[2 * stride]);
            }
            leave();
        }
        __syncthreads();
    }
    if (strip.first != 0) return;
    float mean[N], about[N];
#pragma unroll
    for (int i = 0; i < N; i++) mean[i] = found[i].mean, about[i] = found[i].squares;
    const long long to = (long long)blockIdx.y * shape.channels + part.first + strip.column;
    Sums<N>::leave(means + to, mean);
    Sums<N>::leave(squares + to, about);
}

// Joins the chunks' moments: a block of (32, 8) threads has 32 channels and 8 threads for each.
template <class T>
__global__ void batch_norm_join(const float* __restrict__ part_means, const float* __restrict__ part_squares,
                                T* __restrict__ out_means, T* __restrict__ out_variances, float* __restrict__ means,
                                float* __restrict__ rstds, int chunks, Matrix shape, float eps) {
    __shared__ float parts[3][8][32];
    const int channel = blockIdx.x * 32 + threadIdx.x;
    Moments all;
    if (channel < shape.channels)
        for (int chunk = threadIdx.y; chunk < chunks; chunk += 8) {
            const long long at = (long long)chunk * shape.channels + channel;
            all.join(min(shape.chunk, shape.rows - chunk * shape.chunk), part_means[at], part_squares[at]);
        }
    parts[0][threadIdx.y][threadIdx.x] = all.count;
    parts[1][threadIdx.y][threadIdx.x] = all.mean;
    parts[2][threadIdx.y][threadIdx.x] = all.squares;
    __syncthreads();
    if (threadIdx.y != 0 || channel >= shape.channels) return;
    for (int i = 1; i < 8; i++) all.join(parts[0][i][threadIdx.x], parts[1][i][threadIdx.x], parts[2][i][threadIdx.x]);
    const float variance = all.squares / shape.rows;
    out_means[channel] = from_float<T>(all.mean);
    out_variances[channel] = from_float<T>(variance);
    means[channel] = all.mean;
    rstds[channel] = 1.0f / sqrtf(variance + eps);
}

// What a thread knows of its channels.
template <class T, int N>
struct Channels {
    float mean[N], rstd[N], scale[N], shift[N];

    DEVICE Channels(const float* means, const float* rstds, const T* weight, const T* bias, int first) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            mean[i] = means[first + i];
            rstd[i] = rstds[first + i];
            scale[i] = parameter(weight, first + i, 1);
            shift[i] = parameter(bias, first + i, 0);
        }
    }
};

// y = z weight + bias with z = (x - mean) rstd; what is not positive times `slope`, 1 for none of that.
template <class T, int N>
__global__ void __launch_bounds__(256, 1)
    batch_norm_apply(const T* __restrict__ x, const float* __restrict__ means, const float* __restrict__ rstds,
                     const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ y, Matrix shape,
                     float slope) {
    const Part part(shape);
    const Strip<N> strip(part.width);
    const Channels<T, N> of(means, rstds, weight, bias, part.first + strip.column);
    x += part.start + strip.column;
    y += part.start + strip.column;
    each_row<false, 1>(strip, part.rows, [&](int, int row) {
        Pack<T, N> pack = load<N>(x + (long long)row * shape.channels);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float u = (to_float(pack.value[i]) - of.mean[i]) * of.rstd[i] * of.scale[i] + of.shift[i];
            pack.value[i] = from_float<T>(u > 0 ? u : slope * u);
        }
        store<N>(y + (long long)row * shape.channels, pack);
    });
}

// The sums of h z and of h of each channel, of each chunk: [chunks, channels]. h: what arrives at z weight + bias.
template <class T, int N>
__global__ void __launch_bounds__(256, 1)
    batch_norm_vjp_sums(const T* __restrict__ g, const T* __restrict__ x, const float* __restrict__ means,
                        const float* __restrict__ rstds, const T* __restrict__ weight, const T* __restrict__ bias,
                        float* __restrict__ alongs, float* __restrict__ totals, Matrix shape, float slope) {
    DYNAMIC_SHARED(float, parts);
    const Part part(shape);
    const Strip<N> strip(part.width);
    const Channels<T, N> of(means, rstds, weight, bias, part.first + strip.column);
    g += part.start + strip.column;
    x += part.start + strip.column;
    float sums[2][N] = {};
    each_row<false, 1>(strip, part.rows, [&](int, int row) {
        const Pack<T, N> slopes = load<N>(g + (long long)row * shape.channels),
                         values = load<N>(x + (long long)row * shape.channels);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float z = (to_float(values.value[i]) - of.mean[i]) * of.rstd[i];
            const float h = to_float(slopes.value[i]) * (z * of.scale[i] + of.shift[i] > 0 ? 1 : slope);
            sums[0][i] += h;
            sums[1][i] += h * z;
        }
    });
    const int stride = blockDim.x * N;
    sum_strips(strip, part.width, sums, parts, stride);
    for (int c = threadIdx.x; c < part.width; c += blockDim.x) {
        const long long to = (long long)blockIdx.y * shape.channels + part.first + c;
        totals[to] = parts[c];
        alongs[to] = parts[stride + c];
    }
}

// dx = (h - mean(h) - z mean(h z)) weight rstd, and what comes through the batch's mean and variance as outputs:
// gmean / n + gvariance 2 (x - mean) / n. alongs, totals: the channels' sums; null where the statistics are constants.
template <class T, int N>
__global__ void __launch_bounds__(256, 1)
    batch_norm_vjp(const T* __restrict__ g, const T* __restrict__ x, const float* __restrict__ means,
                   const float* __restrict__ rstds, const T* __restrict__ weight, const T* __restrict__ bias,
                   const float* __restrict__ alongs, const float* __restrict__ totals, const T* __restrict__ gmean,
                   const T* __restrict__ gvariance, T* __restrict__ dx, Matrix shape, float slope) {
    const Part part(shape);
    const Strip<N> strip(part.width);
    const Channels<T, N> of(means, rstds, weight, bias, part.first + strip.column);
    float factor[N], along[N], constant[N];  // dx = factor h + along z + constant
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int channel = part.first + strip.column + i;
        factor[i] = of.scale[i] * of.rstd[i];
        along[i] = parameter(gvariance, channel, 0) * 2 / shape.rows / of.rstd[i] -
                   factor[i] * parameter(alongs, channel, 0) / shape.rows;
        constant[i] =
            parameter(gmean, channel, 0) / shape.rows - factor[i] * parameter(totals, channel, 0) / shape.rows;
    }
    g += part.start + strip.column;
    x += part.start + strip.column;
    dx += part.start + strip.column;
    each_row<false, 1>(strip, part.rows, [&](int, int row) {
        const Pack<T, N> slopes = load<N>(g + (long long)row * shape.channels),
                         values = load<N>(x + (long long)row * shape.channels);
        Pack<T, N> out;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float z = (to_float(values.value[i]) - of.mean[i]) * of.rstd[i];
            const float h = to_float(slopes.value[i]) * (z * of.scale[i] + of.shift[i] > 0 ? 1 : slope);
            out.value[i] = from_float<T>(factor[i] * h + along[i] * z + constant[i]);
        }
        store<N>(dx + (long long)row * shape.channels, out);
    });
}
