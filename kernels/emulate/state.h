// The emulator's own state: one launch at a time, its blocks one after another, the threads of a block as fibers.
#pragma once
#include <cstdarg>
#include <vector>

#include "api.h"
#include "fiber.h"

constexpr unsigned WARP = 32, MAX_THREADS = 1024;
constexpr size_t STACK_BYTES = 64 << 10;

enum class Wait : uint8_t { nothing, barrier, collective, done };

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

// collectives.cpp
void perform(Collective kind, Request* const requests[WARP], unsigned mask, unsigned first);

// counters.cpp
void count_access(const void* address, int bytes, Place place, Use use, const void* pc);
void counters_end_block();

#define CALLER __builtin_return_address(0)
