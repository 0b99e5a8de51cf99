// Which thread runs next. Every barrier and warp collective hands the processor back to the scheduler here.
//
// The adversarial schedule shuffles the warps anew in every round and lets each run as far as it can go, its lanes in
// shuffled order too: what a kernel forgot to wait for has then not happened yet, or has long been overwritten. The
// fair one gives every thread a turn, in order, from one synchronisation to the next; many bugs never show in it.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

Launch launch;
Thread threads[MAX_THREADS];
Thread* current;
bool in_fiber;
Fiber scheduler;
char* stacks;

unsigned random_below(unsigned n) {  // splitmix64
    uint64_t z = launch.random += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return unsigned((z ^ (z >> 31)) >> 32) % n;
}

uint32_t in_image(const void* pc) { return uint32_t(static_cast<const char*>(pc) - launch.image->begin); }

void fail(const char* kind, const void* pc, const char* format, ...) {
    Report& report = *launch.report;
    std::snprintf(report.kind, sizeof report.kind, "%s", kind);
    va_list rest;
    va_start(rest, format);
    std::vsnprintf(report.message, sizeof report.message, format, rest);
    va_end(rest);
    report.pc = pc ? in_image(pc) : 0;
    if (current) {
        report.in_block = 1;
        const uint3 b = launch.block, t = current->index;
        std::copy_n(&b.x, 3, report.block);
        std::copy_n(&t.x, 3, report.thread);
    }
    launch.failed = true;
    if (!in_fiber) throw Failure{};
    in_fiber = false;
    fiber_switch(current->fiber, scheduler);  // never comes back
    __builtin_unreachable();
}

void hand_over(Wait wait, int line, const void* pc) {
    Thread& me = *current;
    me.wait = wait;
    me.line = line;
    me.pc = pc;
    in_fiber = false;
    fiber_switch(me.fiber, scheduler);
}

static void thread_body() {
    launch.body(launch.arguments);
    hand_over(Wait::done, 0, nullptr);
}

static void run(Thread& thread) {
    current = &thread;
    memory_begin_turn();
    in_fiber = true;
    fiber_switch(scheduler, thread.fiber);
    in_fiber = false;
    if (launch.failed) throw Failure{};
    current = nullptr;
}

// --- warps

static unsigned lanes_of(unsigned first) { return std::min(WARP, launch.threads - first); }

static bool can_perform(Collective kind, const Request* request, unsigned first) {
    return kind != Collective::wait_multiplied || products_can_finish(first, request->count);
}

// Let go the lanes of a warp that wait at a collective for nobody any more; whether there were any.
static bool perform_collectives(unsigned first) {
    const unsigned lanes = lanes_of(first);
    unsigned alive = 0;
    for (unsigned lane = 0; lane < lanes; lane++) alive |= unsigned(threads[first + lane].wait != Wait::done) << lane;
    bool progress = false;
    for (unsigned lane = 0; lane < lanes; lane++) {
        const Thread& leader = threads[first + lane];
        if (leader.wait != Wait::collective) continue;
        const unsigned members = leader.mask & alive;
        Request* requests[WARP] = {};
        bool complete = true;
        for (unsigned other = 0; other < lanes && complete; other++) {
            if (!(members >> other & 1)) continue;
            const Thread& t = threads[first + other];
            complete = t.wait == Wait::collective && t.mask == leader.mask && t.line == leader.line &&
                       t.collective == leader.collective;
            requests[other] = t.request;
        }
        if (!complete) continue;
        const Collective kind = leader.collective;
        if (!can_perform(kind, leader.request, first)) continue;
        perform(kind, requests, members, first);
        for (unsigned other = 0; other < lanes; other++)
            if (members >> other & 1) threads[first + other].wait = Wait::nothing;
        if (kind == Collective::sync) memory_warp_barrier(first, members);
        launch.counters->collectives++;
        progress = true;
    }
    return progress;
}

static void shuffle_order(unsigned* order, unsigned n) {
    for (unsigned i = 0; i < n; i++) order[i] = i;
    if (launch.options.seed)
        for (unsigned i = n - 1; i > 0; i--) std::swap(order[i], order[random_below(i + 1)]);
}

static bool run_lanes(unsigned first) {
    unsigned order[WARP];
    const unsigned lanes = lanes_of(first);
    shuffle_order(order, lanes);
    bool progress = false;
    for (unsigned i = 0; i < lanes; i++) {
        Thread& t = threads[first + order[i]];
        if (t.wait != Wait::nothing) continue;
        run(t);
        progress = true;
    }
    return progress;
}

// --- blocks

static void explain_standstill() {
    Thread* in_collective = nullptr;
    for (unsigned i = launch.threads; i-- > 0;) {
        Thread& t = threads[i];
        if (t.wait != Wait::collective) continue;
        in_collective = &t;
        current = &t;
        if (t.collective == Collective::wait_multiplied)
            fail("deadlock", t.pc, "waits for products that not all four warps of its warpgroup have issued");
    }
    explain_phases();
    const Thread& waiting = *in_collective;  // barriers alone never stand still: see pass_barrier
    current = in_collective;
    const unsigned first = waiting.warp() * WARP;
    for (unsigned lane = 0; lane < lanes_of(first); lane++) {
        const Thread& t = threads[first + lane];
        if (!(waiting.mask >> lane & 1) || t.wait == Wait::done) continue;
        if (t.wait == Wait::barrier)
            fail("deadlock", waiting.pc,
                 "waits in a warp collective (mask 0x%08x, line %d) for lane %u, which waits at "
                 "the block barrier in line %d",
                 waiting.mask, waiting.line, lane, t.line);
        if (t.mask != waiting.mask || t.line != waiting.line || t.collective != waiting.collective)
            fail("warp divergence", waiting.pc,
                 "waits in a warp collective (mask 0x%08x, line %d) for lane %u, which is in "
                 "another one (mask 0x%08x, line %d)",
                 waiting.mask, waiting.line, lane, t.mask, t.line);
    }
    fail("deadlock", waiting.pc, "waits for ever in a warp collective (mask 0x%08x, line %d)", waiting.mask,
         waiting.line);
}

// All threads that are left wait at block barriers: let them go if that is legal.
static void pass_barrier() {
    Thread* first = nullptr;
    unsigned arrived = 0;
    for (unsigned i = 0; i < launch.threads; i++) {
        Thread& t = threads[i];
        if (t.wait != Wait::barrier) continue;
        arrived++;
        if (!first) first = &t;
        if (t.line != first->line && launch.options.checks) {
            current = &t;
            fail("barrier divergence", t.pc, "waits at the block barrier in line %d, thread %u at that in line %d",
                 t.line, first->number, first->line);
        }
    }
    if (arrived < launch.threads && launch.options.checks) {
        current = first;
        fail("barrier divergence", first->pc,
             "%u of the block's %u threads wait at the barrier in line %d; the others have "
             "left the kernel",
             arrived, launch.threads, first->line);
    }
    for (unsigned i = 0; i < launch.threads; i++)
        if (threads[i].wait == Wait::barrier) threads[i].wait = Wait::nothing;
    memory_block_barrier();
    launch.counters->barriers++;
}

static void run_block() {
    for (unsigned i = 0; i < launch.threads; i++) {
        Thread& t = threads[i];
        t.number = i;
        t.index = {i % launch.size.x, i / launch.size.x % launch.size.y, i / (launch.size.x * launch.size.y)};
        t.wait = Wait::nothing;
        t.segment = t.time = t.group = t.shown = t.product_group = 0;
        t.sums_fenced = false;
        t.copies.clear();
        t.known.clear();
        std::memset(t.seen, 0, sizeof t.seen);
        fiber_prepare(t.fiber, thread_body, stacks + i * STACK_BYTES, STACK_BYTES);
    }
    memory_begin_block();
    phases_begin_block();
    warpgroups_begin_block();
    const unsigned warps = (launch.threads + WARP - 1) / WARP;
    const bool greedy = launch.options.seed != 0;
    for (;;) {
        unsigned order[WARP];
        shuffle_order(order, warps);
        bool progress = false;
        for (unsigned i = 0; i < warps; i++) {
            const unsigned first = order[i] * WARP;
            while (run_lanes(first)) {
                progress = true;
                if (!greedy) break;
                perform_collectives(first);
                wake(first);
            }
        }
        for (unsigned warp = 0; warp < warps; warp++) {
            progress |= perform_collectives(warp * WARP);
            progress |= wake(warp * WARP);
        }
        progress |= land_copy(!progress);
        if (progress) continue;
        unsigned waiting = 0, others = 0;
        for (unsigned i = 0; i < launch.threads; i++) {
            waiting += threads[i].wait == Wait::barrier;
            others += threads[i].wait == Wait::collective || threads[i].wait == Wait::phase;
        }
        if (others) explain_standstill();
        if (!waiting) break;
        pass_barrier();
    }
    counters_end_block();
}

static void run_grid() {
    const uint3 g = launch.grid;
    const unsigned blocks = g.x * g.y * g.z;
    std::vector<unsigned> order(blocks);
    for (unsigned i = 0; i < blocks; i++) order[i] = i;
    if (launch.options.seed)
        for (unsigned i = blocks; i-- > 1;) std::swap(order[i], order[random_below(i + 1)]);
    for (unsigned number : order) {
        launch.block = {number % g.x, number / g.x % g.y, number / (g.x * g.y)};
        run_block();
    }
}

// --- what kernels call

extern "C" {
uint3 emulate_thread_index() { return current->index; }
uint3 emulate_block_index() { return launch.block; }
uint3 emulate_block_size() { return launch.size; }
uint3 emulate_grid_size() { return launch.grid; }
int emulate_lane() { return int(current->lane()); }
void* emulate_dynamic_shared() { return launch.regions[1].begin; }

void emulate_barrier(int line) { hand_over(Wait::barrier, line, CALLER); }

void emulate_collective(Collective kind, unsigned mask, int line, Request* request, const void* caller) {
    Thread& me = *current;
    if (launch.options.checks && !(mask >> me.lane() & 1))
        fail("wrong mask", caller, "lane %u calls a warp collective whose mask 0x%08x leaves it out", me.lane(), mask);
    me.collective = kind;
    me.mask = launch.options.checks ? mask : ~0u;
    me.request = request;
    hand_over(Wait::collective, line, caller);
}

void emulate_assert(const char* what) { fail("assertion", CALLER, "failed: %s", what); }

void emulate_copy_async(void* target, const void* source, int bytes, int given) {
    const AsyncCopy copy = {
        static_cast<char*>(target), static_cast<const char*>(source), bytes, given, current->group, CALLER};
    announce_copy(copy);
    current->copies.push_back(copy);
}

void emulate_copy_commit() { current->group++; }

void emulate_copy_wait(int groups) {
    auto& copies = current->copies;
    auto done = copies.begin();
    for (; done != copies.end() && int(done->group) < int(current->group) - groups; ++done) finish_copy(*done);
    copies.erase(copies.begin(), done);
}

// --- what Python calls

// 0, or 1 with `report` filled. Arrays are copied to memory of their own, with room on both sides, and back.
int emulate_launch(const KernelEntry* kernel, const Image* image, const unsigned* grid, const unsigned* block,
                   uint64_t dynamic_shared, Argument* arguments, int count, const Options* options, Report* report,
                   Counters* counters) {
    if (!stacks)
        stacks = static_cast<char*>(mmap(nullptr, MAX_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    constexpr size_t gap = 1 << 20, page = 4096;
    size_t total = gap;
    for (int i = 0; i < count; i++)
        if (arguments[i].mode != VALUE) total += (arguments[i].bytes + 256 + page - 1) / page * page + gap;
    char* device = static_cast<char*>(
        mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    launch = Launch{};
    launch.options = *options;
    launch.image = image;
    launch.report = report;
    launch.counters = counters;
    launch.body = kernel->call;
    launch.grid = {grid[0], grid[1], grid[2]};
    launch.size = {block[0], block[1], block[2]};
    launch.threads = block[0] * block[1] * block[2];
    launch.random = options->seed;
    launch.dynamic_shared = dynamic_shared;
    const int half = 1;  // shared memory has a cell for every two bytes
    launch.regions.push_back(
        {image->shared, size_t(image->end - image->shared), Place::shared, CHANGED, -1, half, nullptr});
    std::vector<char> dynamic(dynamic_shared + 1024);
    char* dynamic_begin =
        reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(dynamic.data()) + 1023) & ~uintptr_t(1023));
    launch.regions.push_back({dynamic_begin, size_t(dynamic_shared), Place::shared, CHANGED, -1, half, nullptr});
    std::vector<void*> values(count), pointers(count);
    size_t offset = gap;
    for (int i = 0; i < count; i++) {
        Argument& a = arguments[i];
        if (a.mode == VALUE) {
            pointers[i] = a.data;
            continue;
        }
        char* here = device + offset + a.misplaced;
        offset += (a.bytes + 256 + page - 1) / page * page + gap;
        if (a.mode == OUTPUT) std::memset(here, 0xff, a.bytes);  // NaN
        else std::memcpy(here, a.data, a.bytes);
        values[i] = a.data ? here : nullptr;  // an absent array is a null pointer
        pointers[i] = &values[i];
        if (a.held_at) *a.held_at = values[i];
        const int shift = a.item >= 4 ? 2 : a.item == 2 ? 1 : 0;
        if (a.data) launch.regions.push_back({here, a.bytes, Place::global, a.mode, i, shift, nullptr});
    }
    launch.arguments = pointers.data();
    memory_begin_launch();
    try {
        run_grid();
        current = nullptr;
        memory_end_launch();
    } catch (const Failure&) {}
    current = nullptr;
    for (Region& region : launch.regions) {
        if (region.place == Place::global && region.mode != INPUT)
            std::memcpy(arguments[region.argument].data, region.begin, region.bytes);
        std::free(region.cells);
    }
    munmap(device, total);
    return launch.failed;
}
}
