// Binary cross entropy of logits, element by element or added up, and its derivatives. Formulas: reference.py.
//
// weight and pos_weight have a number for each element, or are null pointers, which stand for ones.
#include "sum.cuh"

struct Softplus {  // log(1 + e^x) and log(1 + e^-x)
    float up, down;
    DEVICE explicit Softplus(float x) {
        const float bend = log1pf(expf(-fabsf(x)));
        up = fmaxf(x, 0.0f) + bend;
        down = fmaxf(-x, 0.0f) + bend;
    }
};

template <class T>
struct Elements {
    const T *x, *target, *weight, *pos_weight;

    DEVICE float of(const T* array, long long i) const { return array ? to_float(array[i]) : 1.0f; }

    DEVICE float loss(long long i) const {
        const Softplus s(to_float(x[i]));
        const float t = to_float(target[i]);
        return of(weight, i) * ((1.0f - t) * s.up + of(pos_weight, i) * t * s.down);
    }
};

template <class T>
__global__ void bce(const T* __restrict__ x, const T* __restrict__ target, const T* __restrict__ weight,
                    const T* __restrict__ pos_weight, T* __restrict__ y, long long count) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = from_float<T>(Elements<T>{x, target, weight, pos_weight}.loss(i));
}

template <class T>
__global__ void bce_parts(const T* __restrict__ x, const T* __restrict__ target, const T* __restrict__ weight,
                          const T* __restrict__ pos_weight, float* __restrict__ parts, long long count) {
    const Elements<T> all{x, target, weight, pos_weight};
    sum_parts([&](long long i) { return all.loss(i); }, parts, count);
}

// g: one number for each element, or one for all (`each` is 0), times `scale`. dx and dtarget may be null.
template <class T>
__global__ void bce_vjp(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ target,
                        const T* __restrict__ weight, const T* __restrict__ pos_weight, T* __restrict__ dx,
                        T* __restrict__ dtarget, long long count, int each, float scale) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Elements<T> all{x, target, weight, pos_weight};
    const float slope = to_float(g[each ? i : 0]) * scale * all.of(weight, i), positive = all.of(pos_weight, i);
    const float v = to_float(x[i]), t = to_float(target[i]);
    if (dx) {
        const float e = expf(-fabsf(v)), larger = 1.0f / (1.0f + e), smaller = e * larger;
        const float up = v < 0 ? smaller : larger, down = v < 0 ? larger : smaller;
        dx[i] = from_float<T>(slope * ((1.0f - t) * up - positive * t * down));
    }
    if (dtarget) {
        const Softplus s(v);
        dtarget[i] = from_float<T>(slope * (positive * s.down - s.up));
    }
}
