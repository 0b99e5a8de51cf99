// One step of Adam, AdamW or AMSGrad, in place: 28 bytes of traffic an element and little arithmetic. As in
// reference.py.
#include "ptx.cuh"

struct Step {
    float sign;        // of the gradient: -1 to maximise
    float l2, shrink;  // weight decay as part of the gradient, and as a factor of the parameter
    float rate1, beta2, rate2;
    float step_size, correction2, eps;
};

// top: the running maximum of the second moment, or null.
__global__ void adam(float* __restrict__ param, const float* __restrict__ grad, float* __restrict__ first,
                     float* __restrict__ second, float* __restrict__ top, long long count, Step step) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float p = param[i], g = step.sign * grad[i] + step.l2 * p;
    const float m = first[i] + step.rate1 * (g - first[i]);
    const float v = second[i] * step.beta2 + step.rate2 * (g * g);
    float divisor = v;
    if (top) {
        if (v <= top[i]) divisor = top[i];  // a NaN in v must show
        top[i] = divisor;
    }
    param[i] = p * step.shrink - step.step_size * m / (sqrtf(divisor) / step.correction2 + step.eps);
    first[i] = m;
    second[i] = v;
}
