// The emulator's own state: one launch at a time, its blocks one after another, the threads of a block as fibers.
#pragma once
#include <cstdarg>
#include <vector>

#include "api.h"
#include "fiber.h"

constexpr unsigned WARP = 32, MAX_THREADS = 1024;
constexpr size_t STACK_BYTES = 64 << 10;

enum class Wait : uint8_t { nothing, barrier, collective, phase, done };

struct AsyncCopy {
    char* target;
    const char* source;
    int bytes, given;
    unsigned group;
    const void* pc;
};

struct Thread {
    Fiber fiber;
    uint3 index;
    unsigned number;
    Wait wait;
    int line;  // of the barrier or collective it waits at
    const void* pc;
    Collective collective;
    unsigned mask;
    Request* request;
    uint32_t segment;     // its code since its last synchronisation, as memory.cpp numbers it; 0: no access yet
    uint32_t time;        // its synchronisations within the warp
    uint32_t seen[WARP];  // the times of its warp's lanes that it has synchronised with
    std::vector<AsyncCopy> copies;
    unsigned group;  // of asynchronous copies being made
    // What barriers with phases have taught it: the times of the block's threads, and after them how many phases of
    // each such barrier are over. Empty until there is one.
    std::vector<uint32_t> known;
    uint32_t shown;          // its segments before this one can be read asynchronously
    const void* awaited;     // the barrier it waits for, until a phase of this parity is over
    int parity;
    bool sums_fenced;        // a fence lies between what it did to its sums and the next product
    unsigned product_group;  // of products of warpgroups being made

    unsigned lane() const { return number % WARP; }
    unsigned warp() const { return number / WARP; }
};

// A stretch of memory that kernels may use.
enum class Place : uint8_t { global, shared, constant };

struct Cell {  // who used some bytes last: segments, 0 for nobody; and from where in the kernel's code
    uint32_t write, read[2];
    uint32_t write_pc, read_pc[2];
};

struct Region {
    char* begin;
    size_t bytes;
    Place place;
    int mode;      // of an array: INPUT, OUTPUT or CHANGED
    int argument;  // its number
    int shift;     // a cell for every 2^shift bytes
    Cell* cells;
};

struct Failure {};  // thrown where the scheduler itself finds an error

struct Launch {
    Options options;
    const Image* image;
    Report* report;
    Counters* counters;
    void (*body)(void* const*);
    void* const* arguments;
    uint3 grid, size, block;  // size: of a block
    unsigned threads;
    bool failed;
    uint64_t random;
    std::vector<Region> regions;  // shared memory first
    size_t dynamic_shared;
};

extern Launch launch;
extern Thread threads[MAX_THREADS];
extern Thread* current;  // whose code runs; also while the scheduler acts for a lane
extern bool in_fiber;
extern Fiber scheduler;
extern char* stacks;

void hand_over(Wait wait, int line, const void* pc);  // to the scheduler, until the wait is over
[[noreturn]] void fail(const char* kind, const void* pc, const char* format, ...) __attribute__((format(printf, 3, 4)));
unsigned random_below(unsigned n);
uint32_t in_image(const void* pc);  // relative to the kernel library

// memory.cpp
enum class Use : uint8_t { read, write, atomic };
void use_memory(const void* address, int bytes, Use use, const void* pc);
void announce_copy(const AsyncCopy& copy);  // a copy that will take effect later, by now or at any time before its wait
void finish_copy(const AsyncCopy& copy);
void memory_begin_launch();
void memory_begin_block();
void memory_begin_turn();
void memory_block_barrier();
void memory_warp_barrier(unsigned first, unsigned mask);
void memory_end_launch();

// What lies in shared memory because of a copy belongs to no thread, but to a phase of barrier number b: its segment is
// that of "thread" launch.threads + b, and the phase's number its time.
uint32_t new_segment(unsigned thread, uint32_t time);
void announce_box(char* target, int bytes, const void* pc);
void finish_box(char* target, int bytes, uint32_t segment);
void read_global(const char* address, int bytes, const void* pc);  // by a copy
// That the running thread knows of what was written there; if it is read asynchronously, that a fence has shown it.
void check_known(const char* address, int bytes, bool asynchronously, const void* pc);
// What a product of a warpgroup reads stays in use until the product is waited for, which is when this is noted.
void note_product_reads(const char* begin, const char* end, const void* pc);
void join(std::vector<uint32_t>& into, const std::vector<uint32_t>& from);

// phases.cpp
void phases_begin_block();
bool wake(unsigned first);    // lanes of a warp whose phase is over
bool land_copy(bool nothing_else);
void explain_phases();  // at a standstill: fails if a thread waits for a phase

// warpgroup.cpp
extern unsigned products_under_way;
void warpgroups_begin_block();
void multiply_async(Request* const requests[WARP], unsigned first);
bool products_can_finish(unsigned first, int groups);
void finish_products(unsigned first, int groups);
void check_sums(const void* address, const void* pc);  // a local that a product under way may add to

// collectives.cpp
float from_half(uint32_t half);
void perform(Collective kind, Request* const requests[WARP], unsigned mask, unsigned first);

// counters.cpp
void count_access(const void* address, int bytes, Place place, Use use, const void* pc);
void count_rows_of_banks(uint64_t bytes);           // whole rows of 128 bytes, written
void count_core_matrix(const uintptr_t chunks[8]);  // eight times 16 bytes, read at once
void counters_end_block();

#define CALLER __builtin_return_address(0)
