// The dialect in which every kernel here is written: CUDA C++, and these wrappers for all that takes PTX or tensor
// cores.
//
// One source, two compilers. NVRTC takes the device bodies. g++ takes the host bodies, which ask the emulator
// (emulate/), so the same kernels run, checked, where there is no GPU. No other file contains `asm`.
#pragma once

#ifdef __CUDACC__
#define ON_DEVICE 1
#else
#define ON_DEVICE 0
#include "emulate/cuda.h"
#endif

#if ON_DEVICE
#define DEVICE __device__ __forceinline__
#else
#define DEVICE EMULATE_INLINE
#endif

constexpr unsigned FULL_WARP = 0xffffffffu;
constexpr int WARP_SIZE = 32;
#define INFINITE __uint_as_float(0x7f800000u)

// `extern __shared__`, sized at launch: DYNAMIC_SHARED(float, row) declares float* row.
#if ON_DEVICE
#define DYNAMIC_SHARED(type, name)                                   \
    extern __shared__ __align__(128) unsigned char dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(dynamic_shared)
#else
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(emulate_dynamic_shared())
#endif

// --- numbers of 16 bits. They are stored; arithmetic is in float32.

struct half_t {
    unsigned short bits;
};
struct bfloat_t {
    unsigned short bits;
};

DEVICE float to_float(float x) { return x; }

DEVICE float to_float(bfloat_t x) { return __uint_as_float(unsigned(x.bits) << 16); }

DEVICE float to_float(half_t x) {
#if ON_DEVICE
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
#else
    const unsigned sign = unsigned(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    return (sign ? -1.0f : 1.0f) * float(fraction) * 0x1p-24f;
#endif
}

// Rounded to the nearest, ties to even.
template <class T>
DEVICE T from_float(float x);

template <>
DEVICE float from_float<float>(float x) {
    return x;
}

template <>
DEVICE bfloat_t from_float<bfloat_t>(float x) {
    const unsigned bits = __float_as_uint(x);
    if (x != x) return {static_cast<unsigned short>(bits >> 16 | 0x40)};
    return {static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

template <>
DEVICE half_t from_float<half_t>(float x) {
#if ON_DEVICE
    half_t narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
    return narrow;
#else
    const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    unsigned half;
    if (size > 0x7f800000u) half = 0x7e00u;        // NaN
    else if (size >= 0x477ff000u) half = 0x7c00u;  // rounds to infinity
    else if (size >= 0x38800000u) half = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
    else half = unsigned(rintf(__uint_as_float(size) * 0x1p24f));  // subnormal
    return {static_cast<unsigned short>(sign | half)};
#endif
}

// Two numbers in the halves of a register, as fragments have them: `low` is the first.
DEVICE unsigned pair_of(float low, float high, half_t) {
#if ON_DEVICE
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return unsigned(from_float<half_t>(high).bits) << 16 | from_float<half_t>(low).bits;
#endif
}

DEVICE unsigned pair_of(float low, float high, bfloat_t) {
#if ON_DEVICE
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return unsigned(from_float<bfloat_t>(high).bits) << 16 | from_float<bfloat_t>(low).bits;
#endif
}

// --- several numbers in one access: 16 bytes are the most that a thread can load at once, and what memory likes best

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T value[N];
};

template <class T>
constexpr int WIDEST = 16 / sizeof(T);

template <int N, class T>
DEVICE Pack<T, N> load(const T* address) {
#if ON_DEVICE
    return *reinterpret_cast<const Pack<T, N>*>(address);
#else
    Pack<T, N> pack;
    const Bits16 bits = emulate_load(address, sizeof pack);
    __builtin_memcpy(&pack, &bits, sizeof pack);
    return pack;
#endif
}

template <int N, class T>
DEVICE void store(T* address, const Pack<T, N>& pack) {
#if ON_DEVICE
    *reinterpret_cast<Pack<T, N>*>(address) = pack;
#else
    Bits16 bits = {};
    __builtin_memcpy(&bits, &pack, sizeof pack);
    emulate_store(address, sizeof pack, bits.low, bits.high);
#endif
}

// --- asynchronous copies from global to shared memory, past the registers (sm_80)

#if ON_DEVICE
DEVICE unsigned shared_address(const void* pointer) { return static_cast<unsigned>(__cvta_generic_to_shared(pointer)); }
#endif

// 16 bytes, of which `given` come from `source` and the rest are zeros. Both addresses are multiples of 16.
DEVICE void copy_async_16(void* target, const void* source, int given = 16) {
#if ON_DEVICE
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(given));
#else
    emulate_copy_async(target, source, 16, given);
#endif
}

// 4 bytes, or as many zeros.
DEVICE void copy_async_4(void* target, const void* source, bool given = true) {
#if ON_DEVICE
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(given ? 4 : 0));
#else
    emulate_copy_async(target, source, 4, given ? 4 : 0);
#endif
}

DEVICE void copy_commit() {
#if ON_DEVICE
    asm volatile("cp.async.commit_group;");
#else
    emulate_copy_commit();
#endif
}

// Until at most `groups` of this thread's latest groups are under way. Other threads see the rest after a barrier.
template <int groups>
DEVICE void copy_wait() {
#if ON_DEVICE
    asm volatile("cp.async.wait_group %0;" ::"n"(groups));
#else
    emulate_copy_wait(groups);
#endif
}

// --- tensor cores. Fragments lie in the lanes as the PTX manual's figures of mma.m16n8k16 and .m16n8k8 have it.

#if !ON_DEVICE
EMULATE_UNSEEN inline void emulate_load_matrix(unsigned* to, int count, const void* row, bool transposed, int line) {
    Request request;
    request.row = row;
    request.count = count;
    request.transposed = transposed;
    emulate_collective(Collective::load_matrix, FULL_WARP, line, &request, EMULATE_CALLER);
    std::memcpy(to, request.d, 4 * count);
}

EMULATE_UNSEEN inline void emulate_multiply(int format, float d[4], const unsigned a[4], const unsigned b[2],
                                            int line) {
    Request request;
    request.format = format;
    std::memcpy(request.a, a, sizeof request.a);
    std::memcpy(request.b, b, sizeof request.b);
    std::memcpy(request.c, d, sizeof request.c);
    emulate_collective(Collective::multiply, FULL_WARP, line, &request, EMULATE_CALLER);
    std::memcpy(d, request.d, sizeof request.d);
}
#endif

// ldmatrix: four 8 x 8 matrices of 16-bit numbers. Lane 8 m + r brings the shared address of row r of matrix m.
DEVICE void load_matrix_4(unsigned to[4], const void* row) {
#if ON_DEVICE
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)));
#else
    emulate_load_matrix(to, 4, row, false, __LINE__);
#endif
}

// The same of two matrices, each transposed on the way: a row-major B for multiply().
DEVICE void load_matrix_2_transposed(unsigned to[2], const void* row) {
#if ON_DEVICE
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row)));
#else
    emulate_load_matrix(to, 2, row, true, __LINE__);
#endif
}

// Four matrices, each transposed.
DEVICE void load_matrix_4_transposed(unsigned to[4], const void* row) {
#if ON_DEVICE
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)));
#else
    emulate_load_matrix(to, 4, row, true, __LINE__);
#endif
}

// d (16 x 8, float32) += a (16 x 16) b (16 x 8), of float16.
DEVICE void multiply(float d[4], const unsigned a[4], const unsigned b[2], half_t) {
#if ON_DEVICE
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulate_multiply(0, d, a, b, __LINE__);
#endif
}

// The same of bfloat16.
DEVICE void multiply(float d[4], const unsigned a[4], const unsigned b[2], bfloat_t) {
#if ON_DEVICE
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulate_multiply(1, d, a, b, __LINE__);
#endif
}

// d (16 x 8) += a (16 x 8) b (8 x 8) of TF32: float32 whose last 13 bits to_tf32() has rounded away.
DEVICE void multiply(float d[4], const unsigned a[4], const unsigned b[2], float) {
#if ON_DEVICE
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulate_multiply(2, d, a, b, __LINE__);
#endif
}

DEVICE unsigned to_tf32(float x) {
#if ON_DEVICE
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#else
    return (__float_as_uint(x) + 0x1000u) & ~0x1fffu;  // ties away from zero
#endif
}
