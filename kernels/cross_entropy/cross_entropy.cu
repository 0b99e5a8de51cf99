// Cross entropy of rows of logits against class numbers, and its derivative. Formulas and names: reference.py.
//
// x: [rows, classes]; target: [rows]; weight: [classes] or null; lse, loss and row_weight: [rows], float32. A warp has
// a row: it finds the maximum and the sum of exponentials in one pass, as softmax.cu's sixth version does.
#include "sum.cuh"

constexpr float LOWEST = -3.4028235e38f;  // not -inf, for -inf - -inf is NaN

// The logarithm of the sum of e^x over a row, for every lane.
template <class T>
DEVICE float log_sum_exp(const T* x, int classes) {
    float top = LOWEST, sum = 0;
    for (int j = threadIdx.x; j < classes; j += WARP_SIZE) {
        const float v = to_float(x[j]), higher = fmaxf(top, v);
        sum = sum * expf(top - higher) + expf(v - higher);
        top = higher;
    }
    const float highest = reduce_warp<Largest>(top);
    return logf(reduce_warp<Sum>(sum * expf(top - highest))) + highest;
}

template <class T>
__global__ void cross_entropy(const T* __restrict__ x, const long long* __restrict__ target,
                              const T* __restrict__ weight, float* __restrict__ loss, float* __restrict__ row_weight,
                              float* __restrict__ lse, int rows, int classes, long long ignored, float smoothing) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave together
    x += row * classes;
    const long long wanted = target[row];
    const float found = log_sum_exp(x, classes);
    float spread = 0;  // sum over classes of w (lse - x)
    if (smoothing > 0 && wanted != ignored) {
        for (int j = threadIdx.x; j < classes; j += WARP_SIZE)
            spread += (weight ? to_float(weight[j]) : 1.0f) * (found - to_float(x[j]));
        spread = reduce_warp<Sum>(spread);
    }
    if (threadIdx.x != 0) return;
    lse[row] = found;
    float w = 0, here = 0;
    if (wanted != ignored) {
        w = weight ? to_float(weight[wanted]) : 1.0f;
        here = (1.0f - smoothing) * w * (found - to_float(x[wanted])) + smoothing / classes * spread;
    }
    loss[row] = here;
    row_weight[row] = w;
}

// The sum of the losses, or that over the sum of the rows' weights; one block.
template <class T>
__global__ void cross_entropy_reduce(const float* __restrict__ loss, const float* __restrict__ row_weight,
                                     T* __restrict__ out, int rows, int mean) {
    float losses = 0, weights = 0;
    for (int i = threadIdx.x; i < rows; i += SUM_THREADS) {
        losses += loss[i];
        weights += row_weight[i];
    }
    losses = reduce<Sum, SUM_THREADS>(losses);
    weights = reduce<Sum, SUM_THREADS>(weights);
    if (threadIdx.x == 0) out[0] = from_float<T>(mean ? losses / weights : losses);
}

// The sum of the rows' weights, which a mean is divided by; one block.
template <class T>
__global__ void cross_entropy_weights(const long long* __restrict__ target, const T* __restrict__ weight,
                                      float* __restrict__ out, int rows, long long ignored) {
    float weights = 0;
    for (int i = threadIdx.x; i < rows; i += SUM_THREADS)
        if (target[i] != ignored) weights += weight ? to_float(weight[target[i]]) : 1.0f;
    weights = reduce<Sum, SUM_THREADS>(weights);
    if (threadIdx.x == 0) out[0] = weights;
}

// g: a number for each row, or one for all (`each` is 0); divided by `divisor`, unless that is null.
template <class T>
__global__ void cross_entropy_vjp(const T* __restrict__ g, const T* __restrict__ x,
                                  const long long* __restrict__ target, const T* __restrict__ weight,
                                  const float* __restrict__ lse, const float* __restrict__ divisor, T* __restrict__ dx,
                                  int rows, int classes, long long ignored, float smoothing, int each) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    x += row * classes;
    dx += row * classes;
    const long long wanted = target[row];
    const bool counts = wanted != ignored;
    float total = classes;  // of the classes' weights
    if (smoothing > 0 && weight) {
        total = 0;
        for (int j = threadIdx.x; j < classes; j += WARP_SIZE) total += to_float(weight[j]);
        total = reduce_warp<Sum>(total);
    }
    const float slope = to_float(g[each ? row : 0]) / (divisor ? *divisor : 1.0f);
    const float w = counts ? weight ? to_float(weight[wanted]) : 1.0f : 0.0f;
    const float at_target = slope * w * (1.0f - smoothing), spread = counts ? slope * smoothing / classes : 0.0f;
    for (int j = threadIdx.x; j < classes; j += WARP_SIZE) {
        float d = expf(to_float(x[j]) - lse[row]) * (at_target + spread * total);
        if (smoothing > 0) d -= spread * (weight ? to_float(weight[j]) : 1.0f);
        if (j == wanted) d -= at_target;
        dx[j] = from_float<T>(d);
    }
}
