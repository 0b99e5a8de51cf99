// One step of Adam, AdamW or AMSGrad, in place: 28 bytes of traffic an element and little arithmetic. As in
// reference.py. T is what parameter, gradient and moments are kept in; a step is computed in float32.
#include "many.cuh"

struct Step {
    float sign;        // of the gradient: -1 to maximise
    float l2, shrink;  // weight decay as part of the gradient, and as a factor of the parameter
    float rate1, beta2, rate2;
    float step_size, correction2, eps;

    // top: the running maximum of the second moment, or null.
    DEVICE void take(float& param, float grad, float& first, float& second, float* top) const {
        const float g = sign * grad + l2 * param;
        first += rate1 * (g - first);
        second = second * beta2 + rate2 * (g * g);
        float divisor = second;
        if (top) {
            if (second <= *top) divisor = *top;  // a NaN must show
            *top = divisor;
        }
        param = param * shrink - step_size * first / (sqrtf(divisor) / correction2 + eps);
    }
};

// Of one parameter. tops: null without AMSGrad.
template <class T>
__global__ void adam(T* __restrict__ param, const T* __restrict__ grad, T* __restrict__ first, T* __restrict__ second,
                     T* __restrict__ tops, long long count, Step step) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float p = to_float(param[i]), m = to_float(first[i]), v = to_float(second[i]), top = tops ? to_float(tops[i]) : 0;
    step.take(p, to_float(grad[i]), m, v, tops ? &top : nullptr);
    param[i] = from_float<T>(p);
    first[i] = from_float<T>(m);
    second[i] = from_float<T>(v);
    if (tops) tops[i] = from_float<T>(top);
}

// Of many: parameters, gradients, first and second moments.
template <class T>
__global__ void adam_many(const Many<4> many, Step step) {
    each_of_many<T, 4, 0b1101>(many, [&](float* v) { step.take(v[0], v[1], v[2], v[3], nullptr); });
}
