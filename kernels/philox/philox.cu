// Random numbers from a counter (philox.cuh).
//
// A thread makes one block of `counter + thread`, so the numbers depend on neither the grid nor the device. Bits and
// uniforms are those of reference.py to the last bit; normals agree to rounding, being computed in float32.
#include "philox/philox.cuh"

// Calls put(i, word i) for those of this thread's four words that are among `count`.
template <class Put>
DEVICE void each_word(const unsigned long long* key, unsigned long long counter, long long count, Put put) {
    const long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * block >= count) return;
    const Words words = philox(*key, counter + block);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (4 * block + i < count) put(4 * block + i, words.w[i]);
}

__global__ void philox_bits(const unsigned long long* __restrict__ key, unsigned long long counter,
                            unsigned* __restrict__ out, long long count) {
    each_word(key, counter, count, [&](long long i, unsigned word) { out[i] = word; });
}

// Uniform on [0, 1): as many bits as T has digits just below 1.
template <class T, int DIGITS>
__global__ void philox_uniform(const unsigned long long* __restrict__ key, unsigned long long counter,
                               T* __restrict__ out, long long count) {
    constexpr float STEP = 1.0f / (1 << DIGITS);
    each_word(key, counter, count,
              [&](long long i, unsigned word) { out[i] = from_float<T>(float(word >> (32 - DIGITS)) * STEP); });
}

// Box-Muller: the radius from the first word of a pair, the angle from the second.
DEVICE void normal_pair(unsigned first, unsigned second, float* cosine, float* sine) {
    // log((first + 1) / 2^32). Next to 1 the difference from 1 is what counts, and that is a whole number: ~first.
    const float logarithm =
        first < 0x80000000u ? logf((float(first) + 1.0f) * 0x1p-32f) : log1pf(-float(~first) * 0x1p-32f);
    const float radius = sqrtf(-2.0f * logarithm);
    sincospif(float(second) * 0x1p-31f, sine, cosine);
    *cosine *= radius;
    *sine *= radius;
}

template <class T>
__global__ void philox_normal(const unsigned long long* __restrict__ key, unsigned long long counter,
                              T* __restrict__ out, long long count) {
    const long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * block >= count) return;
    const Words words = philox(*key, counter + block);
    float normal[4];
    normal_pair(words.w[0], words.w[1], &normal[0], &normal[1]);
    normal_pair(words.w[2], words.w[3], &normal[2], &normal[3]);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (4 * block + i < count) out[4 * block + i] = from_float<T>(normal[i]);
}
