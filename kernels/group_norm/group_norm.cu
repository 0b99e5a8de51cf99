// Group norm and batch norm: some numbers of an image batch share a mean and a variance, which a block finds in one
// pass (moments.cuh) and uses in a second. Two reads and a write.
//
// x: N images of C channels of S positions, channels last in memory or first. A block's share is a group's channels of
// one image (group norm), or one channel of all images (batch norm). mean and rstd: [shares], float32.
#include "moments.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256;

// Where the numbers of a share lie.
struct Images {
    int channels, positions, group, images;  // group: channels of a share; images: those of a share
    int last;                                // whether channels come last

    DEVICE long long count() const { return (long long)images * group * positions; }

    // The address of number i of share (blockIdx.x), and its channel. Neighbours in i are neighbours in memory.
    DEVICE long long at(long long i, int* channel) const {
        const int shares = channels / group;  // of an image
        const int first = blockIdx.x % shares * group, image = images > 1 ? 0 : blockIdx.x / shares;
        const int each = group * positions, within = int(i % each);
        const int c = first + (last ? within % group : within / positions),
                  s = last ? within / group : within % positions;
        *channel = c;
        const long long start = (image + i / each) * channels * positions;
        return start + (last ? (long long)s * channels + c : (long long)c * positions + s);
    }
};

template <class T>
DEVICE float parameter(const T* p, int channel, float absent) {
    return p ? to_float(p[channel]) : absent;
}

// variances: of batch norm; null for group norm.
template <class T>
__global__ void group_norm(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                           T* __restrict__ y, float* __restrict__ means, float* __restrict__ variances,
                           float* __restrict__ rstds, Images shape, float eps) {
    int channel;
    Moments share;
    for (long long i = threadIdx.x; i < shape.count(); i += THREADS) share.add(to_float(x[shape.at(i, &channel)]));
    share.join_block<THREADS>();
    const float variance = share.squares / share.count, rstd = 1.0f / sqrtf(variance + eps);
    for (long long i = threadIdx.x; i < shape.count(); i += THREADS) {
        const long long at = shape.at(i, &channel);
        const float z = (to_float(x[at]) - share.mean) * rstd;
        y[at] = from_float<T>(z * parameter(weight, channel, 1) + parameter(bias, channel, 0));
    }
    if (threadIdx.x == 0) {
        means[blockIdx.x] = share.mean;
        rstds[blockIdx.x] = rstd;
        if (variances) variances[blockIdx.x] = variance;
    }
}

// dx of group norm, with z = (x - mean) rstd and h = g weight: (h - mean(h) - z mean(h z)) rstd. For batch norm also
// what comes through its other outputs: gmean / n + gvariance 2 (x - mean) / n; null for group norm.
template <class T>
__global__ void group_norm_vjp(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ weight,
                               const float* __restrict__ means, const float* __restrict__ rstds,
                               const T* __restrict__ gmean, const T* __restrict__ gvariance, T* __restrict__ dx,
                               Images shape) {
    int channel;
    const float mean = means[blockIdx.x], rstd = rstds[blockIdx.x], count = float(shape.count());
    float total = 0, along = 0;
    for (long long i = threadIdx.x; i < shape.count(); i += THREADS) {
        const long long at = shape.at(i, &channel);
        const float h = to_float(g[at]) * parameter(weight, channel, 1);
        total += h;
        along += h * (to_float(x[at]) - mean) * rstd;
    }
    total = reduce<Sum, THREADS>(total) / count;
    along = reduce<Sum, THREADS>(along) / count;
    const float shift = parameter(gmean, blockIdx.x, 0) / count,
                slope = parameter(gvariance, blockIdx.x, 0) * 2 / count;
    for (long long i = threadIdx.x; i < shape.count(); i += THREADS) {
        const long long at = shape.at(i, &channel);
        const float h = to_float(g[at]) * parameter(weight, channel, 1), off = to_float(x[at]) - mean;
        dx[at] = from_float<T>((h - total - off * rstd * along) * rstd + shift + slope * off);
    }
}

// dweight and dbias: a block for each channel, whose numbers of all images are its share; `groups` per image have means
// of their own (group norm), or all images have one (`groups` is 0).
template <class T>
__global__ void group_norm_parameters(const T* __restrict__ g, const T* __restrict__ x, const float* __restrict__ means,
                                      const float* __restrict__ rstds, T* __restrict__ dweight, T* __restrict__ dbias,
                                      Images shape, int groups) {
    int channel;
    float along = 0, total = 0;
    for (long long i = threadIdx.x; i < shape.count(); i += THREADS) {
        const long long at = shape.at(i, &channel);
        const int image = int(i / shape.positions);
        const int statistic = groups ? image * groups + channel / (shape.channels / groups) : channel;
        along += to_float(g[at]) * (to_float(x[at]) - means[statistic]) * rstds[statistic];
        total += to_float(g[at]);
    }
    along = reduce<Sum, THREADS>(along);
    total = reduce<Sum, THREADS>(total);
    if (threadIdx.x != 0) return;
    if (dweight) dweight[blockIdx.x] = from_float<T>(along);
    if (dbias) dbias[blockIdx.x] = from_float<T>(total);
}
