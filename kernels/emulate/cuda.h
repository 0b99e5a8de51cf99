// CUDA's built-in names for g++: what a kernel may use without an #include, in terms of the emulator's api.h.
#pragma once
#include <cmath>
#include <cstring>

#include "api.h"

#define __global__ __attribute__((noinline))  // a kernel is never inlined into the table that calls it
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // the library's zero-initialised data: entry.h tells where they lie
#define __constant__
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

#define threadIdx (emulate_thread_index())
#define blockIdx (emulate_block_index())
#define blockDim (emulate_block_size())
#define gridDim (emulate_grid_size())
constexpr int warpSize = 32;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

// Inlined into the kernel, so that a return address belongs to its line.
#define EMULATE_INLINE inline __attribute__((always_inline))
// Not instrumented: the accesses inside are no part of the kernel.
#define EMULATE_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#define EMULATE_CALLER __builtin_return_address(0)

// --- synchronisation. The default argument is the line of the call: where a thread waits.

EMULATE_INLINE void __syncthreads(int line = __builtin_LINE()) {
    asm volatile("" ::: "memory");
    emulate_barrier(line);
    asm volatile("" ::: "memory");
}

EMULATE_UNSEEN inline void emulate_warp_barrier(unsigned mask, int line) {
    emulate_collective(Collective::sync, mask, line, nullptr, EMULATE_CALLER);
}

EMULATE_INLINE void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
    asm volatile("" ::: "memory");
    emulate_warp_barrier(mask, line);
    asm volatile("" ::: "memory");
}

inline void __threadfence() {}

// --- warp collectives

template <class T>
EMULATE_UNSEEN T emulate_shuffle(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    Request request;
    std::memcpy(&request.value, &value, sizeof value);
    request.source = source;
    emulate_collective(Collective::shuffle, mask, line, &request, EMULATE_CALLER);
    std::memcpy(&value, request.d, sizeof value);
    return value;
}

template <class T>
EMULATE_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE()) {
    const int me = emulate_lane();
    return emulate_shuffle(mask, value, (me & -width) + (lane & (width - 1)), line);
}

template <class T>
EMULATE_INLINE T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, int line = __builtin_LINE()) {
    const int me = emulate_lane(), other = me ^ flip;
    return emulate_shuffle(mask, value, other < (me & -width) + width ? other : me, line);
}

template <class T>
EMULATE_INLINE T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
    const int me = emulate_lane(), other = me + by;
    return emulate_shuffle(mask, value, other < (me & -width) + width ? other : me, line);
}

template <class T>
EMULATE_INLINE T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
    const int me = emulate_lane(), other = me - by;
    return emulate_shuffle(mask, value, other >= (me & -width) ? other : me, line);
}

EMULATE_UNSEEN inline unsigned emulate_ballot(unsigned mask, int predicate, int line) {
    Request request;
    request.value = predicate != 0;
    emulate_collective(Collective::ballot, mask, line, &request, EMULATE_CALLER);
    return request.d[0];
}

EMULATE_INLINE unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return emulate_ballot(mask, predicate, line);
}
EMULATE_INLINE int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return emulate_ballot(mask, predicate, line) != 0;
}
EMULATE_INLINE int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return emulate_ballot(mask, !predicate, line) == 0;
}

// --- atomics: of one thread at a time here, so a check and a plain change

template <class T>
EMULATE_UNSEEN T atomicAdd(T* address, T value) {
    emulate_atomic(address, sizeof(T), EMULATE_CALLER);
    const T old = *address;
    *address = old + value;
    return old;
}
template <class T>
EMULATE_UNSEEN T atomicMax(T* address, T value) {
    emulate_atomic(address, sizeof(T), EMULATE_CALLER);
    const T old = *address;
    if (value > old) *address = value;
    return old;
}
template <class T>
EMULATE_UNSEEN T atomicCAS(T* address, T expected, T value) {
    emulate_atomic(address, sizeof(T), EMULATE_CALLER);
    const T old = *address;
    if (old == expected) *address = value;
    return old;
}

// --- arithmetic

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline void sincospif(float x, float* sine, float* cosine) {
    *sine = float(std::sin(M_PI * x));
    *cosine = float(std::cos(M_PI * x));
}
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
template <class T>
T __ldg(const T* address) {
    return *address;
}
