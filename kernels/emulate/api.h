// What the emulator's library offers: to kernels compiled by g++ (through cuda.h) and to Python (through ctypes).
//
// Kernels are compiled with -fsanitize=thread, whose calls before every load and store arrive in memory.cpp, so they
// stay plain CUDA C++ on plain pointers. Everything else that a GPU would do for them comes through these functions.
#pragma once
#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1)
        : x(x),
          y(y),
          z(z) {}
    constexpr dim3(uint3 v)
        : x(v.x),
          y(v.y),
          z(v.z) {}
};

struct Bits16 {
    uint64_t low, high;
};

enum class Collective : int { sync, shuffle, ballot, load_matrix, multiply, multiply_async, wait_multiplied };

// What one lane brings to a collective of its warp, and what it takes home.
struct Request {
    uint64_t value = 0;  // shuffle: its bits; ballot: its predicate
    int source = 0;      // shuffle: the lane to read
    // load_matrix: this lane's row of 8 16-bit numbers in shared memory; `count` matrices go to `d`, maybe transposed
    const void* row = nullptr;
    bool transposed = false;
    // multiply: fragments as in the PTX manual. `format`: 0 float16, 1 bfloat16 (m16n8k16), 2 TF32 (m16n8k8)
    int count = 0;
    int format = 0;
    uint32_t a[4] = {}, b[2] = {}, d[4] = {};
    float c[4] = {};
    // multiply_async: `count` columns; a in fragments or, as b, by a descriptor of shared memory, maybe transposed;
    // this lane's sums, to which is added later. wait_multiplied: until at most `count` of the latest groups are under
    // way
    bool in_fragments = false, a_across = false, b_across = false;
    uint64_t left = 0, right = 0;
    float* sums = nullptr;
};

// A tensor map as launch.py packs it: an array of three dimensions, the innermost first, and the box that is copied.
struct BoxMap {
    const char* array;
    int64_t pitch[2];  // bytes from row to row, and from matrix to matrix
    int32_t extent[3], box[3];
    int32_t item, swizzled, to_tf32;
};

extern "C" {
// Constant for the thread that asks, so the compiler may ask once.
uint3 emulate_thread_index() __attribute__((const));
uint3 emulate_block_index() __attribute__((const));
uint3 emulate_block_size() __attribute__((const));
uint3 emulate_grid_size() __attribute__((const));
int emulate_lane() __attribute__((const));
void* emulate_dynamic_shared() __attribute__((const));

void emulate_barrier(int line);
void emulate_collective(Collective kind, unsigned mask, int line, Request* request, const void* caller);

Bits16 emulate_load(const void* address, int bytes);  // bytes: 2, 4, 8 or 16, aligned
void emulate_store(void* address, int bytes, uint64_t low, uint64_t high);
void emulate_atomic(void* address, int bytes, const void* caller);  // checks one that is about to happen

// Asynchronous copies of 4, 8 or 16 bytes to shared memory, `given` of them from `source` and zeros after them.
void emulate_copy_async(void* target, const void* source, int bytes, int given);
void emulate_copy_commit();
void emulate_copy_wait(int groups);  // until at most so many of the latest groups are under way

// Hopper's: barriers in shared memory that count arrivals and bytes, copies of boxes that arrive at one, products of
// warpgroups. `barrier`: 8 bytes in shared memory.
void emulate_phases_begin(void* barrier, int arrivals);
void emulate_phases_shown();  // to asynchronous copies
void emulate_phase_arrive(void* barrier);
void emulate_phase_expect(void* barrier, int bytes);
void emulate_phase_wait(void* barrier, int parity, int line);
void emulate_copy_box(void* target, const void* map, void* barrier, int x, int y, int z);
void emulate_show_writes();  // to what reads shared memory asynchronously
unsigned emulate_shared_offset(const void* pointer);
void emulate_sums_fence();
void emulate_products_commit();

void emulate_assert(const char* what);  // a device-side assertion that has failed
}

// --- the table of kernels that every compiled .cu file exports (entry.h)

struct Parameter {
    char kind;  // 'p' pointer, 'c' pointer to const, 'i' integer, 'u' unsigned, 'f' float, 's' struct
    int bytes;  // of the number pointed to, or of the value
};

struct KernelEntry {
    const char* name;
    void (*call)(void* const* arguments);
    const Parameter* parameters;
    int count;
};

// --- Python's side

enum Mode : int { INPUT, OUTPUT, CHANGED, VALUE };

struct Argument {
    void* data;  // the array's memory, or the value
    size_t bytes;
    int mode;
    int item;       // bytes of an element
    int misplaced;  // the array's distance from 256-byte alignment on a device
    void** held_at;  // where a struct among the arguments holds its address; null for an argument of its own
};

struct Options {
    unsigned seed;  // 0: fair round-robin; else an adversarial schedule of its own
    int checks;
    int counters;
};

struct Report {
    char kind[32];
    char message[480];
    uint64_t pc;     // of the access or the wait, relative to the kernel library; 0: of none
    uint64_t other;  // of the access that it races with
    unsigned block[3], thread[3];
    int in_block;  // whether block and thread mean something
};

struct Counters {
    uint64_t global_read, global_written, shared_read, shared_written;  // bytes
    uint64_t global_requests, global_sectors, ideal_sectors;            // warp-wide accesses; 32-byte sectors touched
    uint64_t shared_requests, shared_passes;                            // passes beyond requests are bank conflicts
    uint64_t barriers, collectives, tensor_flops;
};

struct Image {
    char *begin, *shared, *end;  // a kernel library in memory; [shared, end) is its static shared memory
};
