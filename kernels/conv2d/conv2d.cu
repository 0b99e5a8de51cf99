// Convolution, from a thread for each result to products of matrices that are never made ("implicit GEMM"); README.md
// tells the story. Layout: x [N, H, W, C], w [K, R, S, C/G], y [N, P, Q, K].
//
//     y[n, p, q, k] = sum over r, s, c of w[k, r, s, c] x[n, p stride - padding + r dilation, ..., c]
#include "divide.cuh"
#include "finish.cuh"
#include "pipeline.cuh"
#include "tile.cuh"

struct Pair {
    int h, w;
};

struct Geometry {
    int images;
    Pair x, y, taps, stride, padding, dilation;
    int c, k;  // channels of a group
    int groups;

    DEVICE int pixels_y() const { return images * y.h * y.w; }

    // The number of x that tap (r, s) of window `pixel` (of y) reads in a channel of a group; 0 beyond the edges.
    template <class T>
    DEVICE float window(const T* from, int pixel, int r, int s, int group, int channel) const {
        const int q = pixel % y.w, p = pixel / y.w % y.h, image = pixel / (y.w * y.h);
        const int row = p * stride.h - padding.h + r * dilation.h, column = q * stride.w - padding.w + s * dilation.w;
        if (row < 0 || row >= x.h || column < 0 || column >= x.w) return 0;
        const long long at = ((long long)image * x.h + row) * x.w + column;
        return to_float(from[(at * groups + group) * c + channel]);
    }
};

// 1. A thread for each result: two loads for a multiplication, and each number of x is read by every tap and channel.
template <class T>
__global__ void conv2d_naive(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                             T* __restrict__ y, Geometry g) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const int channels = g.k * g.groups, pixel = int(at / channels), out = int(at % channels);
    if (pixel >= g.pixels_y()) return;
    const T* weight = w + (long long)out * g.taps.h * g.taps.w * g.c;
    float sum = 0;
    for (int r = 0; r < g.taps.h; r++)
        for (int s = 0; s < g.taps.w; s++)
            for (int c = 0; c < g.c; c++) sum += g.window(x, pixel, r, s, out / g.k, c) * to_float(*weight++);
    y[at] = from_float<T>(sum + (bias ? to_float(bias[out]) : 0.0f));
}

// 3. The product of windows and weights by tiles (tile.cuh), a window's numbers looked up as they are asked for: a row
// for each pixel of y, a column for each channel; summed over taps and channels, these the fastest.
template <class T, int TILE, int DEPTH, int SIDE>
__global__ void __launch_bounds__((TILE / SIDE) * (TILE / SIDE))
    conv2d_implicit(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ y,
                    Geometry g) {
    const int group = blockIdx.z, depth = g.taps.h * g.taps.w * g.c;
    const auto windows = [&](int pixel, int i) {
        const int tap = i / g.c;
        return g.window(x, pixel, tap / g.taps.w, tap % g.taps.w, group, i % g.c);
    };
    const auto weights = [&](int i, int out) { return to_float(w[((long long)group * g.k + out) * depth + i]); };
    const auto put = [&](int pixel, int out, float sum) {
        const int channel = group * g.k + out;
        y[(long long)pixel * g.k * g.groups + channel] = from_float<T>(sum + (bias ? to_float(bias[channel]) : 0.0f));
    };
    multiply_tiles<TILE, DEPTH, SIDE>(windows, true, weights, false, put, g.pixels_y(), g.k, depth);
}

// --- 4 and on: the pipeline of matmul with sources of their own.
//
// conv2d and its adjoint in the input are one kernel. Both gather: a result is a sum over taps, of the pixel which that
// tap reads times the tap's weights. For y it is pixel p stride - padding + r dilation of x. For x it is pixel
// (u + padding - r dilation) / stride of y, if that divides. Pixels u = a, a + stride, ... of one *phase* a all have
// the same taps, every stride / gcd(stride, dilation)-th, so a block works on one phase and multiplies no zeros.

// How a block walks in one dimension: result i reads pixel i * scale + origin + j * jump at tap first + j * step, for
// j < count; and is itself pixel i * spread + phase of `size`.
struct Walk {
    int scale, origin, jump, first, step, count, spread, phase, size;

    DEVICE Walk(bool adjoint, int a, int size_x, int size_y, int taps, int stride, int padding, int dilation) {
        if (!adjoint) {
            scale = stride, origin = -padding, jump = dilation, first = 0, step = 1, count = taps, spread = 1, phase = 0;
            size = size_y;
            return;
        }
        int common = stride, rest = dilation;
        while (rest) {
            const int next = common % rest;
            common = rest, rest = next;
        }
        step = stride / common, first = 0;
        while (first < step && (a + padding - first * dilation) % stride) first++;
        count = first < step && first < taps ? (taps - first + step - 1) / step : 0;
        scale = 1, origin = (a + padding - first * dilation) / stride, jump = -(step * dilation / stride);
        spread = stride, phase = a;
        size = a < size_x ? (size_x - a + stride - 1) / stride : 0;
    }
};

// Of a tile's row: the first pixel of its image, row and column of the pixel that tap 0 reads, and its own number.
using Row = Pack<int, 4>;
enum { IMAGE, H, W, OUT };

constexpr int NOWHERE = -(1 << 30);  // far beyond every edge

// Windows as an operand that lies along the depth: taps and, fastest, channels.
template <class T, class PANEL>
struct WindowSource {
    const T* from;  // at the group's first channel
    const Row* rows;
    Pair size, jump;
    int taps, pitch;  // pitch: channels of a pixel
    Divisor channels, across;

    DEVICE const T* find(int line, int depth) const {
        const int tap = channels.into(depth), i = across.into(tap), j = tap - i * across.d;
        const Row row = load<4>(rows[line].value);
        const int h = row.value[H] + i * jump.h, w = row.value[W] + j * jump.w;
        if (tap >= taps || unsigned(h) >= unsigned(size.h) || unsigned(w) >= unsigned(size.w)) return nullptr;
        return from + (long long)(row.value[IMAGE] + h * size.w + w) * pitch + (depth - tap * channels.d);
    }
    DEVICE const T* one(int, int line, int along, int tile) const { return find(line, tile * PANEL::DEPTH + along); }
    DEVICE Run<T> run(int, int line, int chunk, int tile) const {
        const T* const found = find(line, tile * PANEL::DEPTH + chunk * PANEL::EACH);
        return {found ? found : from, found ? PANEL::EACH : 0};
    }
};

// Weights of some of the taps as an operand that lies across the depth: a line for each tap and channel of y.
template <class T, class PANEL>
struct TapSource {
    const T* from;  // at the group's first weight, and the block's first channel of x
    Pair first, step, all;
    int taps, side, pitch;  // pitch: channels of x in a group
    Divisor channels, across;

    DEVICE const T* find(int s, int depth) const {
        const int tap = channels.into(depth), i = across.into(tap), j = tap - i * across.d;
        if (tap >= taps || s >= side) return nullptr;
        const int whole = (first.h + i * step.h) * all.w + first.w + j * step.w;
        return from + ((long long)(depth - tap * channels.d) * (all.h * all.w) + whole) * pitch + s;
    }
    DEVICE const T* one(int, int line, int along, int tile) const { return find(along, tile * PANEL::DEPTH + line); }
    DEVICE Run<T> run(int, int line, int chunk, int tile) const {
        const T* const found = find(chunk * PANEL::EACH, tile * PANEL::DEPTH + line);
        return {found ? found : from, found ? at_most(side - chunk * PANEL::EACH, PANEL::EACH) : 0};
    }
};

// Results of a tile to the pixels of its rows.
template <class T>
struct PixelResults {
    Finish<T> finish;
    const Row* rows;
    int row, column, m, n, group, groups;

    DEVICE bool packed() const { return finish.packed(); }
    DEVICE void pack(int r, int s, const Pack<float, WIDEST<T>>& sums) const {
        if (row + r < m && column + s < n) finish.pack(at(r, s), group * n + column + s, sums);
    }
    DEVICE void one(int r, int s, float sum) const {
        if (row + r < m && column + s < n) finish.one(at(r, s), group * n + column + s, sum);
    }
    DEVICE long long at(int r, int s) const {
        return ((long long)rows[r].value[OUT] * groups + group) * n + column + s;
    }
};

// y from x, or if ADJOINT x from y. Block (i, z): tile i of group z / phases, of phase z % phases.
template <class T, int TILE, int STAGES, bool ADJOINT, bool TENSOR, bool SWIZZLED>
__global__ void __launch_bounds__(BLOCK_THREADS<TILE>, TILE == 128 ? 2 : 4)
    conv2d_gather(const T* __restrict__ from, const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ to,
                  Geometry g, int from_aligned, int w_aligned, int wide) {
    using Loop = Pipeline<T, TILE, STAGES, true, !ADJOINT, TENSOR, SWIZZLED>;
    __shared__ Row rows[TILE];
    const int phases = ADJOINT ? g.stride.h * g.stride.w : 1, phase = blockIdx.z % phases, group = blockIdx.z / phases;
    const Walk down(ADJOINT, phase / g.stride.w, g.x.h, g.y.h, g.taps.h, g.stride.h, g.padding.h, g.dilation.h);
    const Walk right(ADJOINT, phase % g.stride.w, g.x.w, g.y.w, g.taps.w, g.stride.w, g.padding.w, g.dilation.w);
    const Pair size = ADJOINT ? g.y : g.x, made = ADJOINT ? g.x : g.y;
    const int m = g.images * down.size * right.size, n = ADJOINT ? g.c : g.k, channels = ADJOINT ? g.k : g.c;
    const int columns = (n + TILE - 1) / TILE;
    if (blockIdx.x >= (m + TILE - 1) / TILE * columns) return;  // the largest phase has more tiles than this one
    const TilePlace tile = tile_of(blockIdx.x, (m + TILE - 1) / TILE, columns);
    const int row = tile.row * TILE, column = tile.column * TILE;
    if (threadIdx.x < TILE) {
        const int pixel = row + threadIdx.x, q = pixel % right.size, rest = pixel / right.size;
        const int p = rest % down.size, image = rest / down.size;
        const int out = (image * made.h + p * down.spread + down.phase) * made.w + q * right.spread + right.phase;
        const int h = pixel < m ? p * down.scale + down.origin : NOWHERE, w = q * right.scale + right.origin;
        store<4>(rows[threadIdx.x].value, Row{{image * size.h * size.w, h, w, out}});
    }
    __syncthreads();
    const int taps = down.count * right.count, depth = taps * channels;
    const Divisor by_channels(channels), by_taps(max(right.count, 1));
    const WindowSource<T, typename Loop::A> left = {
        from + group * channels, rows, size, {down.jump, right.jump}, taps, channels * g.groups, by_channels, by_taps};
    const long long first = (long long)group * g.k * g.taps.h * g.taps.w * g.c;
    const PixelResults<T> put = {{bias, nullptr, to, nullptr, 0, wide}, rows, row, column, m, n, group, g.groups};
    const int panels = (depth + Loop::DEPTH - 1) / Loop::DEPTH;
    if constexpr (ADJOINT) {
        const TapSource<T, typename Loop::B> weights = {
            w + first + column, {down.first, right.first}, {down.step, right.step}, g.taps, taps, n - column, n,
            by_channels, by_taps};
        Loop::run(left, from_aligned, weights, w_aligned, 0, panels, put);
    } else {
        const MatrixSource<T, typename Loop::B> weights = {w + first + (long long)column * depth, depth, n - column,
                                                           depth};
        Loop::run(left, from_aligned, weights, w_aligned, 0, panels, put);
    }
}

// Windows as an operand that lies across the depth: a line for each pixel of y, taps and channels along it.
template <class T, class PANEL>
struct PixelSource {
    const T* from;  // at the group's first channel
    Geometry g;
    int first, side, pixels;  // first: the block's
    Divisor channels, across, y_w, y_h;

    DEVICE const T* find(int s, int pixel) const {
        if (first + s >= side || pixel >= pixels) return nullptr;
        const int tap = channels.into(first + s), i = across.into(tap), j = tap - i * across.d;
        const int row = y_w.into(pixel), image = y_h.into(row), q = pixel - row * y_w.d, p = row - image * y_h.d;
        const int h = p * g.stride.h - g.padding.h + i * g.dilation.h, w = q * g.stride.w - g.padding.w + j * g.dilation.w;
        if (unsigned(h) >= unsigned(g.x.h) || unsigned(w) >= unsigned(g.x.w)) return nullptr;
        const long long at = ((long long)image * g.x.h + h) * g.x.w + w;
        return from + at * g.c * g.groups + (first + s - tap * channels.d);
    }
    DEVICE const T* one(int, int line, int along, int tile) const { return find(along, tile * PANEL::DEPTH + line); }
    DEVICE Run<T> run(int, int line, int chunk, int tile) const {
        const T* const found = find(chunk * PANEL::EACH, tile * PANEL::DEPTH + line);
        return {found ? found : from, found ? PANEL::EACH : 0};
    }
};

// The adjoint in the weight: a row for each channel of y, a column for each tap and channel of x, summed over pixels;
// of these block (i, j, group) takes `panels` panels, and leaves its sums in part j.
template <class T, int TILE, int STAGES, bool TENSOR>
__global__ void __launch_bounds__(BLOCK_THREADS<TILE>, TILE == 128 ? 2 : 4)
    conv2d_weight(const T* __restrict__ x, const T* __restrict__ y, float* __restrict__ parts, Geometry g, int panels,
                  int x_aligned, int y_aligned) {
    using Loop = Pipeline<T, TILE, STAGES, false, false, TENSOR>;
    const int n = g.taps.h * g.taps.w * g.c, pixels = g.pixels_y(), group = blockIdx.z;
    const TilePlace tile = tile_of(blockIdx.x, (g.k + TILE - 1) / TILE, (n + TILE - 1) / TILE);
    const int row = tile.row * TILE, column = tile.column * TILE;
    const MatrixSource<T, typename Loop::A> slopes = {y + group * g.k + row, g.k * g.groups, g.k - row, pixels};
    const PixelSource<T, typename Loop::B> windows = {
        x + group * g.c, g,  column, n, pixels, Divisor(g.c), Divisor(g.taps.w), Divisor(g.y.w), Divisor(g.y.h)};
    const Results<T> put = {{}, parts, (long long)blockIdx.y * g.groups + group, row, column, g.k, n};
    const int first = blockIdx.y * panels, end = (pixels + Loop::DEPTH - 1) / Loop::DEPTH;
    Loop::run(slopes, y_aligned, windows, x_aligned, first, min(end, first + panels), put);
}

// w [K, C/G, R, S] = the sum of `count` parts of `size` numbers [K, R, S, C/G] each, in their order.
template <class T>
__global__ void conv2d_parts(const float* __restrict__ parts, T* __restrict__ w, int count, long long size, int taps,
                             int c) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= size) return;
    float sum = 0;
    for (int part = 0; part < count; part++) sum += parts[part * size + at];
    const long long out = at / c / taps;
    w[(out * c + at % c) * taps + at / c % taps] = from_float<T>(sum);
}
