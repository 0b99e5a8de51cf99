// What Hopper (sm_90a) adds to the dialect of ptx.cuh: copies of whole boxes (TMA), the barriers at which they arrive
// (mbarrier), products of four warps at once (wgmma), and registers handed from warps to warps.
//
// As in ptx.cuh each wrapper has a body for the device and one for the emulator, and no file but these two has `asm`.
#pragma once
#include "ptx.cuh"

constexpr int WARPGROUP = 128;  // threads: four warps, of which each has 16 of a product's 64 rows

// Dynamic shared memory that begins where a swizzled pattern does.
#if ON_DEVICE
#define SWIZZLED_SHARED(name)                                          \
    extern __shared__ __align__(1024) unsigned char swizzled_shared[]; \
    unsigned char* const name = swizzled_shared
#else
#define SWIZZLED_SHARED(name) unsigned char* const name = static_cast<unsigned char*>(emulate_dynamic_shared())
#endif

// --- barriers that count arrivals and bytes. A phase is over when all have come; phases have parities 0, 1, 0, 1 ...
// A thread that has waited for a phase sees what those who arrived had done, and what was copied.

struct Barrier {
    unsigned long long state;
};

DEVICE void barrier_begin(Barrier* barrier, int arrivals) {
#if ON_DEVICE
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
    emulate_phases_begin(barrier, arrivals);
#endif
}

// By the thread that has begun them: so that copies see barriers too. Other threads see them after __syncthreads().
DEVICE void barriers_shown() {
#if ON_DEVICE
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    emulate_phases_shown();
#endif
}

DEVICE void barrier_arrive(Barrier* barrier) {
#if ON_DEVICE
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#else
    emulate_phase_arrive(barrier);
#endif
}

// Arrive, and say how many bytes will.
DEVICE void barrier_expect(Barrier* barrier, int bytes) {
#if ON_DEVICE
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#else
    emulate_phase_expect(barrier, bytes);
    emulate_phase_arrive(barrier);
#endif
}

// Until a phase of this parity is over. Before the first one, one of parity 1 is.
DEVICE void barrier_wait(Barrier* barrier, int parity) {
#if ON_DEVICE
    unsigned over;
    do {
        asm volatile(
            "{\n"
            ".reg .pred over;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
            "selp.u32 %0, 1, 0, over;\n"
            "}"
            : "=r"(over)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } while (!over);
#else
    emulate_phase_wait(barrier, parity, __LINE__);
#endif
}

// --- copies of boxes: launch.py's `Boxes` says of which array and how large

struct alignas(ON_DEVICE ? 64 : 8) TensorMap {
    unsigned long long opaque[16];
};

// The box whose first number is at x in its row, in row y of matrix z, to shared memory; zeros for what lies outside of
// the array. All its bytes arrive at `barrier`. One thread does it; it has to expect them.
DEVICE void copy_box(void* target, const TensorMap& map, Barrier* barrier, int x, int y, int z) {
#if ON_DEVICE
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(shared_address(target)),
        "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
#else
    emulate_copy_box(target, &map, barrier, x, y, z);
#endif
}

// What this thread has written to shared memory, to products that read it asynchronously.
DEVICE void show_writes() {
#if ON_DEVICE
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
    emulate_show_writes();
#endif
}

// --- registers: all warps of a warpgroup give some back, or take what others gave

// That a thread has at launch, where a block of so many warpgroups is alone on a multiprocessor.
template <int WARPGROUPS>
constexpr int EACH_AT_LAUNCH = 65536 / (WARPGROUPS * WARPGROUP) / 8 * 8;

template <int REGISTERS>
DEVICE void give_registers() {
    static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0);
#if ON_DEVICE
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#endif
}

template <int REGISTERS>
DEVICE void take_registers() {
    static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0);
#if ON_DEVICE
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#endif
}

// --- products of warpgroups: asynchronous, from shared memory

template <class T>
constexpr int FORMAT = 2;  // TF32
template <>
constexpr int FORMAT<half_t> = 0;
template <>
constexpr int FORMAT<bfloat_t> = 1;

// A matrix in shared memory for a product: rows of 128 bytes as swizzled boxes have them, beginning at a multiple of
// 1024 bytes (plus up to 96, to begin later in each row). They lie along the depth of the product, one for each row of
// the matrix, eight of them every `stride` bytes; or across it, one for each number of the depth, with 128 bytes of the
// matrix's rows, and the next 128 bytes `leading` bytes on.
DEVICE unsigned long long descriptor(const void* start, int stride = 1024, int leading = 16) {
    constexpr unsigned long long SWIZZLE_128 = 1ull << 62;
#if ON_DEVICE
    const unsigned address = shared_address(start);
#else
    const unsigned address = emulate_shared_offset(start);
#endif
    return SWIZZLE_128 | (unsigned long long)(stride >> 4) << 32 | (unsigned)(leading >> 4) << 16 | address >> 4;
}

// Before the first product, and between what a thread does to its sums and the next one.
DEVICE void sums_fence() {
#if ON_DEVICE
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    emulate_sums_fence();
#endif
}

// The products since the last one are a group.
DEVICE void products_commit() {
#if ON_DEVICE
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    emulate_products_commit();
#endif
}

#if !ON_DEVICE
EMULATE_UNSEEN inline void emulate_wait_products(int groups, int line) {
    Request request;
    request.count = groups;
    emulate_collective(Collective::wait_multiplied, FULL_WARP, line, &request, EMULATE_CALLER);
}

EMULATE_UNSEEN inline void emulate_product(int format, int columns, float* sums, const unsigned* fragments,
                                           uint64_t left, bool a_across, uint64_t right, bool b_across, int line) {
    Request request;
    request.format = format;
    request.count = columns;
    request.sums = sums;
    request.in_fragments = fragments != nullptr;
    if (fragments) std::memcpy(request.a, fragments, sizeof request.a);
    request.left = left, request.a_across = a_across;
    request.right = right, request.b_across = b_across;
    emulate_collective(Collective::multiply_async, FULL_WARP, line, &request, EMULATE_CALLER);
}
#endif

// Until at most `groups` of the latest groups are under way: sums and operands of the others are the threads' again.
template <int groups>
DEVICE void products_wait() {
#if ON_DEVICE
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
#else
    emulate_wait_products(groups, __LINE__);
#endif
}

#if ON_DEVICE
#define TEN(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define REGISTERS_64 TEN() TEN(1) TEN(2) "%30, %31"
#define REGISTERS_128 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63"
#define REGISTERS_256                                                                                   \
    TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) "%120, %121, " \
    "%122, %123, %124, %125, %126, %127"
#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_8(i) SUMS_4(i), SUMS_4(i + 4)
#define SUMS_32(i) SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24)
#define SUMS_64 SUMS_32(0)
#define SUMS_128 SUMS_32(0), SUMS_32(32)
#define SUMS_256 SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_32(96)
// The operands after the sums: two descriptors, or four registers and a descriptor; then, for 16 bits, what is across.
#define SHARED_128 "%64, %65, 1, 1, 1"
#define SHARED_256 "%128, %129, 1, 1, 1"
#define ACROSS_128 ", %66, %67"
#define ACROSS_256 ", %130, %131"
#define FRAGMENTS_64 "{%32, %33, %34, %35}, %36, 1, 1, 1, %37"
#define FRAGMENTS_128 "{%64, %65, %66, %67}, %68, 1, 1, 1, %69"
#define PRODUCT(columns, type, operands, ...)                                                          \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns type " {" REGISTERS_##columns "}, " operands ";" \
                 : SUMS_##columns                                                                      \
                 : __VA_ARGS__)
#define HALVES "k16.f32.f16.f16"
#define BFLOATS "k16.f32.bf16.bf16"
#define TF32S "k8.f32.tf32.tf32"
#endif

// d (64 x COLUMNS, float32) += a (64 x 32 bytes) b (32 bytes x COLUMNS), both in shared memory. A lane's sums are those
// of mma.m16n8 for the warp's 16 rows, 8 columns after 8 columns. ACROSS: the matrix's rows of 128 bytes lie across the
// depth, which 16-bit numbers may.
template <class T, int COLUMNS, bool A_ACROSS, bool B_ACROSS>
DEVICE void multiply_async(float* d, unsigned long long a, unsigned long long b) {
    static_assert(COLUMNS == 128 || COLUMNS == 256);
    static_assert(sizeof(T) == 2 || !(A_ACROSS || B_ACROSS));
#if ON_DEVICE
#define OPERANDS "l"(a), "l"(b), "n"(A_ACROSS), "n"(B_ACROSS)
    if constexpr (COLUMNS == 128) {
        if constexpr (FORMAT<T> == 0) PRODUCT(128, HALVES, SHARED_128 ACROSS_128, OPERANDS);
        else if constexpr (FORMAT<T> == 1) PRODUCT(128, BFLOATS, SHARED_128 ACROSS_128, OPERANDS);
        else PRODUCT(128, TF32S, SHARED_128, "l"(a), "l"(b));
    } else {
        if constexpr (FORMAT<T> == 0) PRODUCT(256, HALVES, SHARED_256 ACROSS_256, OPERANDS);
        else if constexpr (FORMAT<T> == 1) PRODUCT(256, BFLOATS, SHARED_256 ACROSS_256, OPERANDS);
        else PRODUCT(256, TF32S, SHARED_256, "l"(a), "l"(b));
    }
#undef OPERANDS
#else
    emulate_product(FORMAT<T>, COLUMNS, d, nullptr, a, A_ACROSS, b, B_ACROSS, __LINE__);
#endif
}

// The same with a in registers, of 16-bit numbers: each warp's 16 x 16 in the fragments of mma.m16n8k16.
template <class T, int COLUMNS, bool B_ACROSS>
DEVICE void multiply_async(float* d, const unsigned (&a)[4], unsigned long long b) {
    static_assert(COLUMNS == 64 || COLUMNS == 128);
    static_assert(sizeof(T) == 2);
#if ON_DEVICE
#define OPERANDS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(B_ACROSS)
    if constexpr (COLUMNS == 64) {
        if constexpr (FORMAT<T> == 0) PRODUCT(64, HALVES, FRAGMENTS_64, OPERANDS);
        else PRODUCT(64, BFLOATS, FRAGMENTS_64, OPERANDS);
    } else {
        if constexpr (FORMAT<T> == 0) PRODUCT(128, HALVES, FRAGMENTS_128, OPERANDS);
        else PRODUCT(128, BFLOATS, FRAGMENTS_128, OPERANDS);
    }
#undef OPERANDS
#else
    emulate_product(FORMAT<T>, COLUMNS, d, a, 0, false, b, B_ACROSS, __LINE__);
#endif
}
