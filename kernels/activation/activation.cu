// Activations and their derivatives: one pass, each number read once.
#include "activation/functions.cuh"
#include "elementwise.cuh"

template <class T, class Op>
__global__ void activation(const T* __restrict__ x, T* __restrict__ y, long long count, int aligned, float a, float b) {
    map([&](float v) { return Op::value(v, a, b); }, y, count, aligned, x);
}

// `of`: the input, or the output where the derivative is a function of that.
template <class T, class Op>
__global__ void activation_vjp(const T* __restrict__ g, const T* __restrict__ of, T* __restrict__ dx, long long count,
                               int aligned, float a, float b) {
    map([&](float slope, float v) { return Op::vjp(slope, v, a, b); }, dx, count, aligned, g, of);
}
