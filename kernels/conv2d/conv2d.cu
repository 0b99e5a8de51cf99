// Convolution as products of matrices that are never made ("implicit GEMM"): tile.cuh multiplies, and what it reads is
// looked up in the images. Layout: x [N, H, W, C], w [K, C/G, R, S], y [N, P, Q, K]; a group of channels for each
// blockIdx.z.
//
//     y[n, p, q, k] = sum over c, r, s of w[k, c, r, s] x[n, p stride - padding + r dilation, ..., c]
#include "tile.cuh"

constexpr int TILE = 64, DEPTH = 16, SIDE = 4, THREADS = (TILE / SIDE) * (TILE / SIDE);

struct Pair {
    int h, w;
};

struct Geometry {
    int images;
    Pair x, y, taps, stride, padding, dilation;
    int c, k;  // channels of a group
    int groups;

    DEVICE int pixels_x() const { return images * x.h * x.w; }
    DEVICE int pixels_y() const { return images * y.h * y.w; }

    // The number of x that tap (r, s) of window `pixel` (of y) reads in channel c of this group; 0 beyond the edges.
    template <class T>
    DEVICE float window(const T* from, int pixel, int r, int s, int channel) const {
        const int q = pixel % y.w, p = pixel / y.w % y.h, image = pixel / (y.w * y.h);
        const int row = p * stride.h - padding.h + r * dilation.h, column = q * stride.w - padding.w + s * dilation.w;
        if (row < 0 || row >= x.h || column < 0 || column >= x.w) return 0;
        const long long at = ((long long)image * x.h + row) * x.w + column;
        return to_float(from[at * c * groups + blockIdx.z * c + channel]);
    }

    // The number of y whose window's tap (r, s) reads `pixel` (of x), in channel k of this group; 0 if there is none.
    template <class T>
    DEVICE float reader(const T* from, int pixel, int r, int s, int channel) const {
        const int v = pixel % x.w, u = pixel / x.w % x.h, image = pixel / (x.w * x.h);
        const int p = u + padding.h - r * dilation.h, q = v + padding.w - s * dilation.w;
        if (p < 0 || q < 0 || p % stride.h || q % stride.w || p / stride.h >= y.h || q / stride.w >= y.w) return 0;
        const long long at = ((long long)image * y.h + p / stride.h) * y.w + q / stride.w;
        return to_float(from[at * k * groups + blockIdx.z * k + channel]);
    }

    template <class T>
    DEVICE float weight(const T* from, int out, int in, int r, int s) const {
        return to_float(from[(((long long)(blockIdx.z * k + out) * c + in) * taps.h + r) * taps.w + s]);
    }
};

// y: a row for each pixel of y, a column for each channel; summed over taps and channels, these the fastest.
template <class T>
__global__ void __launch_bounds__(THREADS, 1) conv2d(const T* __restrict__ x, const T* __restrict__ w,
                                                  const T* __restrict__ bias, T* __restrict__ y, Geometry g) {
    const auto windows = [&](int pixel, int i) {
        const int tap = i / g.c;
        return g.window(x, pixel, tap / g.taps.w, tap % g.taps.w, i % g.c);
    };
    const auto weights = [&](int i, int out) {
        const int tap = i / g.c;
        return g.weight(w, out, i % g.c, tap / g.taps.w, tap % g.taps.w);
    };
    const auto put = [&](int pixel, int out, float sum) {
        const int channel = blockIdx.z * g.k + out;
        y[(long long)pixel * g.k * g.groups + channel] = from_float<T>(sum + (bias ? to_float(bias[channel]) : 0.0f));
    };
    multiply_tiles<TILE, DEPTH, SIDE>(windows, true, weights, true, put, g.pixels_y(), g.k, g.taps.h * g.taps.w * g.c);
}

// x, the adjoint in the input: a row for each pixel of x; summed over taps and the channels of y.
template <class T>
__global__ void __launch_bounds__(THREADS, 1) conv2d_input(const T* __restrict__ y, const T* __restrict__ w,
                                                        const T* __restrict__ bias, T* __restrict__ x, Geometry g) {
    const auto readers = [&](int pixel, int i) {
        const int tap = i / g.k;
        return g.reader(y, pixel, tap / g.taps.w, tap % g.taps.w, i % g.k);
    };
    const auto weights = [&](int i, int in) {
        const int tap = i / g.k;
        return g.weight(w, i % g.k, in, tap / g.taps.w, tap % g.taps.w);
    };
    const auto put = [&](int pixel, int in, float sum) {
        const int channel = blockIdx.z * g.c + in;
        x[(long long)pixel * g.c * g.groups + channel] = from_float<T>(sum + (bias ? to_float(bias[channel]) : 0.0f));
    };
    multiply_tiles<TILE, DEPTH, SIDE>(readers, true, weights, true, put, g.pixels_x(), g.c, g.taps.h * g.taps.w * g.k);
}

// w, the adjoint in the weight: a row for each channel of y, a column for each channel of x and tap; summed over
// pixels.
template <class T>
__global__ void __launch_bounds__(THREADS, 1)
    conv2d_weight(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ w, Geometry g) {
    const int taps = g.taps.h * g.taps.w;
    const auto slopes = [&](int out, int pixel) {
        return to_float(y[(long long)pixel * g.k * g.groups + blockIdx.z * g.k + out]);
    };
    const auto windows = [&](int pixel, int i) {
        return g.window(x, pixel, i % taps / g.taps.w, i % g.taps.w, i / taps);
    };
    const auto put = [&](int out, int i, float sum) {
        w[(long long)(blockIdx.z * g.k + out) * g.c * taps + i] = from_float<T>(sum);
    };
    multiply_tiles<TILE, DEPTH, SIDE>(slopes, false, windows, true, put, g.k, g.c * taps, g.pixels_y());
}
