// Every access to memory is seen here: bounds, alignment, races, reads of what was never written.
//
// Who may have seen what: a *segment* is the code of one thread between two of its synchronisations. Accesses by two
// threads are in order if a block barrier lies between their segments, or, within a warp, a __syncwarp that both took
// part in. (A shuffle is none: CUDA promises no order of memory for it.) Otherwise they race if one of them writes,
// whichever came first in this run; blocks of one launch are never in order. Each cell of memory remembers the segment
// that wrote it last and the last two threads that read it since.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

namespace {

struct Segment {
    uint16_t thread;  // or a barrier whose phases copies arrive in: see state.h
    uint32_t epoch, time;
};

constexpr uint32_t ATOMIC = 1u << 31, PENDING = 1u << 30, NUMBER = PENDING - 1;  // flags of Cell::write

std::vector<Segment> segments;       // of this block
std::vector<uint32_t> block_starts;  // number of each block's first segment
uint32_t block_first, epoch;
Region* latest;
char *shared_low, *shared_high;  // the part of static shared memory in use: what is poisoned for the next block
unsigned patience;               // accesses until a thread that does not synchronise is given up
std::vector<uint3> block_order;
uint32_t never;  // a segment of the block that nobody will ever know of

struct ProductRead {  // shared memory that a product of a warpgroup was reading until its wait
    const char *begin, *end;
    uint32_t segment, pc;
};
std::vector<ProductRead> product_reads;

constexpr unsigned PATIENCE = 1u << 24;

uint32_t my_segment() {
    Thread& me = *current;
    if (!me.segment) {
        segments.push_back({uint16_t(me.number), epoch, me.time});
        me.segment = block_first + uint32_t(segments.size()) - 1;
    }
    return me.segment;
}

const Segment& of_block(uint32_t number) { return segments[number - block_first]; }

bool in_order(uint32_t number) {  // whether a segment of this block lies before the running thread's
    const Segment& s = of_block(number);
    const Thread& me = *current;
    if (s.thread < me.known.size() && me.known[s.thread] > s.time) return true;
    if (s.thread >= launch.threads) return false;
    return s.thread == me.number || s.epoch < epoch ||
           (s.thread / WARP == me.warp() && me.seen[s.thread % WARP] > s.time);
}

bool by_copy(uint32_t number) { return number >= block_first && of_block(number).thread >= launch.threads; }

const char* verb(Use use) { return use == Use::read ? "reads" : use == Use::write ? "writes" : "atomically changes"; }

// Where an address lies, in words: "byte 12 of argument 0". Python puts the argument's name and shape in place of it.
struct Where {
    char text[96];
};

Where describe(const Region& region, const char* address) {
    Where where;
    const long offset = address - region.begin;
    if (region.place == Place::global)
        std::snprintf(where.text, sizeof where.text, "byte %ld of {argument %d}", offset, region.argument);
    else if (region.place == Place::shared)
        std::snprintf(where.text, sizeof where.text, "byte %ld of shared memory", offset);
    else std::snprintf(where.text, sizeof where.text, "byte %ld of constant memory", offset);
    return where;
}

[[noreturn]] void out_of_bounds(const char* address, int bytes, Use use, const void* pc) {
    const Region* nearest = nullptr;
    long best = 1 << 20;  // the room on either side of an array
    for (const Region& r : launch.regions) {
        const long before = r.begin - address, after = address + bytes - (r.begin + long(r.bytes));
        const long distance = std::max(before, after);
        if (distance < best && (r.bytes || r.place == Place::global)) best = distance, nearest = &r;
    }
    if (!address) fail("out of bounds", pc, "%s %d bytes through a null pointer", verb(use), bytes);
    if (!nearest)
        fail("out of bounds", pc, "%s %d bytes at %p, which is far from any array", verb(use), bytes, address);
    fail("out of bounds", pc, "%s %d bytes at %s, which has %zu", verb(use), bytes, describe(*nearest, address).text,
         nearest->bytes);
}

Region& find(const char* address, int bytes, Use use, const void* pc) {
    const auto holds = [&](const Region& r) { return address >= r.begin && address + bytes <= r.begin + r.bytes; };
    if (latest && holds(*latest)) return *latest;
    for (Region& r : launch.regions)
        if (holds(r)) return *(latest = &r);
    out_of_bounds(address, bytes, use, pc);
}

[[noreturn]] void race(const Region& region, const char* address, Use use, uint32_t other, uint32_t other_pc,
                       bool wrote, const void* pc) {
    launch.report->other = other_pc;
    const Where where = describe(region, address);
    if (by_copy(other))
        fail("race", pc, "%s %s, to which a copy was made whose phase this thread has not waited for", verb(use),
             where.text);
    if (other >= block_first)
        fail("race", pc, "%s %s, which thread %u of the block %s with no synchronisation in between", verb(use),
             where.text, of_block(other).thread, wrote ? "wrote" : "read");
    const size_t block = std::upper_bound(block_starts.begin(), block_starts.end(), other) - block_starts.begin() - 1;
    const uint3 b = block_order[block];
    fail("race", pc, "%s %s, which block (%u, %u, %u) %s", verb(use), where.text, b.x, b.y, b.z,
         wrote ? "wrote" : "read");
}

Cell* cells_of(Region& region) {
    if (!region.cells) region.cells = static_cast<Cell*>(std::calloc((region.bytes >> region.shift) + 1, sizeof(Cell)));
    return region.cells;
}

void note_read(Cell& cell, uint32_t mine, const void* pc) {
    if (cell.read[0] == mine) return;
    const uint32_t before = cell.read[0];
    const bool same_thread = before >= block_first && before && of_block(before).thread == current->number;
    const bool keep = cell.read[1] && cell.read[1] < block_first;  // another block's: nothing will ever order that
    if (before && !same_thread && !keep) cell.read[1] = before, cell.read_pc[1] = cell.read_pc[0];
    cell.read[0] = mine, cell.read_pc[0] = in_image(pc);
}

// That a cell has been written, and that whoever reads it now knows of it; but for races between blocks.
void check_written(const Region& region, const Cell& cell, const char* address, const void* pc) {
    const bool global = region.place == Place::global;
    const uint32_t written = cell.write & NUMBER;
    const bool stale = !global && written < block_first;  // shared memory begins anew with every block
    if ((stale || !written) && (!global || region.mode == OUTPUT))
        fail("uninitialised", pc, "reads %s, which nobody has written", describe(region, address).text);
    if (!stale && cell.write & PENDING)
        fail("missing wait", pc, "reads %s before the asynchronous copy to it was waited for",
             describe(region, address).text);
    if (by_copy(written) && !in_order(written))
        fail("missing wait", pc, "reads %s before the phase was waited for in which it is copied",
             describe(region, address).text);
}

void check_product_readers(const Region& region, const char* address, int bytes, const void* pc) {
    for (const ProductRead& read : product_reads)
        if (address < read.end && address + bytes > read.begin && !in_order(read.segment))
            race(region, std::max(address, read.begin), Use::write, read.segment, read.pc, false, pc);
}

void check_cell(Region& region, Cell& cell, const char* address, Use use, uint32_t mine, const void* pc) {
    const bool global = region.place == Place::global;
    uint32_t written = cell.write & NUMBER;
    const bool stale = !global && written < block_first;  // shared memory begins anew with every block
    if (stale) written = 0;
    if (use == Use::read) {
        check_written(region, cell, address, pc);
    } else if (region.mode == INPUT) {
        fail("write to an input", pc, "%s %s", verb(use), describe(region, address).text);
    }
    const auto races = [&](uint32_t other) { return other && (other < block_first || !in_order(other)); };
    const bool both_atomic = use == Use::atomic && cell.write & ATOMIC;
    if (written && !both_atomic && races(written)) race(region, address, use, written, cell.write_pc, true, pc);
    if (use == Use::read) return note_read(cell, mine, pc);
    for (int i = 0; i < 2; i++)
        if ((global || cell.read[i] >= block_first) && races(cell.read[i]))
            race(region, address, use, cell.read[i], cell.read_pc[i], false, pc);
    cell = {mine | (use == Use::atomic ? ATOMIC : 0), {}, in_image(pc), {}};
}

void check(const char* address, int bytes, Use use, const void* pc, bool counted = true) {
    Region& region = find(address, bytes, use, pc);
    if (counted && launch.options.counters) count_access(address, bytes, region.place, use, pc);
    if (region.place == Place::constant) {
        if (use != Use::read) fail("write to an input", pc, "%s %s", verb(use), describe(region, address).text);
        return;
    }
    if (!--patience)
        fail("deadlock", pc, "waits for what nobody can do meanwhile: %u accesses without a synchronisation", PATIENCE);
    const uint32_t mine = my_segment();
    Cell* cells = cells_of(region);
    const size_t first = size_t(address - region.begin) >> region.shift;
    const size_t last = size_t(address - region.begin + bytes - 1) >> region.shift;
    for (size_t i = first; i <= last; i++) check_cell(region, cells[i], address, use, mine, pc);
    if (use != Use::read && !product_reads.empty()) check_product_readers(region, address, bytes, pc);
    if (region.place == Place::shared && use != Use::read) {
        shared_low = std::min(shared_low, const_cast<char*>(address));
        shared_high = std::max(shared_high, const_cast<char*>(address) + bytes);
    }
}

void check_alignment(const char* address, int bytes, Use use, const void* pc) {
    if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
    for (const Region& r : launch.regions)
        if (address >= r.begin && address < r.begin + r.bytes)
            fail("misaligned", pc, "%s %d bytes at %s, which is no multiple of %d", verb(use), bytes,
                 describe(r, address).text, bytes);
    out_of_bounds(address, bytes, use, pc);
}

// Locals of a thread, which need no check: on its fiber's stack.
bool is_local(const void* address) {
    return size_t(static_cast<const char*>(address) - stacks) < MAX_THREADS * STACK_BYTES;
}

}  // namespace

void use_memory(const void* address, int bytes, Use use, const void* pc) {
    if (!current || !launch.options.checks) return;
    if (is_local(address)) {
        if (products_under_way) check_sums(address, pc);
        return;
    }
    check_alignment(static_cast<const char*>(address), bytes, use, pc);
    check(static_cast<const char*>(address), bytes, use, pc);
}

// --- the life of a launch

void memory_begin_launch() {
    latest = nullptr;
    block_first = 1;
    segments.clear();
    block_starts.clear();
    block_order.clear();
    const Image& image = *launch.image;
    launch.regions.push_back({image.begin, size_t(image.shared - image.begin), Place::constant, INPUT, -1, 0, nullptr});
    std::memset(image.shared, 0xff, image.end - image.shared);
    shared_low = image.end, shared_high = image.shared;
}

void memory_begin_block() {
    block_first += uint32_t(segments.size());
    segments.clear();
    product_reads.clear();
    epoch = 0;
    never = new_segment(launch.threads, ~0u);
    block_starts.push_back(block_first);
    block_order.push_back(launch.block);
    // All bits set is NaN, in every format: what is read without having been written shows. Without checks nobody has
    // kept track of what was used.
    Region& fixed = launch.regions[0];
    const Region& dynamic = launch.regions[1];
    if (!launch.options.checks) shared_low = fixed.begin, shared_high = fixed.begin + fixed.bytes;
    if (shared_low < shared_high) {
        char *low = std::max(shared_low, fixed.begin), *high = std::min(shared_high, fixed.begin + fixed.bytes);
        if (low < high) std::memset(low, 0xff, high - low);
    }
    std::memset(dynamic.begin, 0xff, dynamic.bytes);
}

void memory_begin_turn() { patience = PATIENCE; }

void memory_block_barrier() {
    epoch++;
    std::vector<uint32_t> known;
    for (unsigned i = 0; i < launch.threads; i++) threads[i].segment = 0, join(known, threads[i].known);
    for (unsigned i = 0; i < launch.threads && !known.empty(); i++) threads[i].known = known;
}

void memory_warp_barrier(unsigned first, unsigned mask) {
    uint32_t seen[WARP] = {};
    std::vector<uint32_t> known;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        Thread& t = threads[first + lane];
        t.seen[lane] = ++t.time;
        t.segment = 0;
        for (unsigned other = 0; other < WARP; other++) seen[other] = std::max(seen[other], t.seen[other]);
        join(known, t.known);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        std::copy_n(seen, WARP, threads[first + lane].seen);
        if (!known.empty()) threads[first + lane].known = known;
    }
}

void join(std::vector<uint32_t>& into, const std::vector<uint32_t>& from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (size_t i = 0; i < from.size(); i++) into[i] = std::max(into[i], from[i]);
}

// Every byte of an output must have been written. Runs after the last block.
void memory_end_launch() {
    if (!launch.options.checks) return;
    for (Region& region : launch.regions) {
        if (region.place != Place::global || region.mode != OUTPUT || !region.bytes) continue;
        const Cell* cells = cells_of(region);
        const size_t count = region.bytes >> region.shift;
        size_t missing = 0, first = 0;
        for (size_t i = count; i-- > 0;)
            if (!cells[i].write) missing++, first = i;
        if (missing)
            fail("unwritten output", nullptr, "%zu of %zu places of {argument %d} were never written; the first is %s",
                 missing, count, region.argument, describe(region, region.begin + (first << region.shift)).text);
    }
}

// --- asynchronous copies: checked when they are issued, as if they wrote at once; they take effect at their wait

void announce_copy(const AsyncCopy& copy) {
    if (!launch.options.checks) return;
    check_alignment(copy.target, copy.bytes, Use::write, copy.pc);
    if (copy.given) {
        check_alignment(copy.source, copy.bytes, Use::read, copy.pc);
        check(copy.source, copy.given, Use::read, copy.pc);
    }
    check(copy.target, copy.bytes, Use::write, copy.pc);
    Region& region = find(copy.target, copy.bytes, Use::write, copy.pc);
    for (int i = 0; i < copy.bytes; i++)
        cells_of(region)[(copy.target + i - region.begin) >> region.shift].write |= PENDING;
}

void finish_copy(const AsyncCopy& copy) {
    std::memset(copy.target, 0, copy.bytes);
    if (copy.given) std::memcpy(copy.target, copy.source, copy.given);
    if (!launch.options.checks) return;
    Region& region = find(copy.target, copy.bytes, Use::write, copy.pc);
    for (int i = 0; i < copy.bytes; i++) {
        uint32_t& write = cells_of(region)[(copy.target + i - region.begin) >> region.shift].write;
        write = (write & ~PENDING & ~NUMBER) | my_segment();
    }
}

// --- copies of boxes and products of warpgroups: see state.h

uint32_t new_segment(unsigned thread, uint32_t time) {
    segments.push_back({uint16_t(thread), epoch, time});
    return block_first + uint32_t(segments.size()) - 1;
}

static void set_writer(char* target, int bytes, uint32_t writer) {
    Region& region = find(target, bytes, Use::write, nullptr);
    Cell* const cells = cells_of(region) + (size_t(target - region.begin) >> region.shift);
    for (int i = 0; i < bytes >> region.shift; i++) cells[i].write = writer;
}

void announce_box(char* target, int bytes, const void* pc) {
    check(target, bytes, Use::write, pc, false);
    const auto overwritten = [&](const ProductRead& r) { return r.begin < target + bytes && r.end > target; };
    product_reads.erase(std::remove_if(product_reads.begin(), product_reads.end(), overwritten), product_reads.end());
    set_writer(target, bytes, never | PENDING);
}

void finish_box(char* target, int bytes, uint32_t segment) { set_writer(target, bytes, segment); }

void read_global(const char* address, int bytes, const void* pc) { check(address, bytes, Use::read, pc); }

void check_known(const char* address, int bytes, bool asynchronously, const void* pc) {
    Region& region = find(address, bytes, Use::read, pc);
    const Cell* const cells = cells_of(region) + (size_t(address - region.begin) >> region.shift);
    for (int i = 0; i < bytes >> region.shift; i++) {
        check_written(region, cells[i], address, pc);
        const uint32_t written = cells[i].write & NUMBER;
        if (!in_order(written)) race(region, address, Use::read, written, cells[i].write_pc, true, pc);
        if (asynchronously && !by_copy(written) && written >= threads[of_block(written).thread].shown)
            fail("missing fence", pc,
                 "reads %s asynchronously, which thread %u has written and shown by no fence to such readers",
                 describe(region, address).text, of_block(written).thread);
    }
}

void note_product_reads(const char* begin, const char* end, const void* pc) {
    const uint32_t mine = my_segment();
    for (ProductRead& read : product_reads)
        if (read.segment == mine && begin <= read.end && end >= read.begin) {
            read.begin = std::min(read.begin, begin), read.end = std::max(read.end, end);
            return;
        }
    product_reads.push_back({begin, end, mine, in_image(pc)});
}

// --- what kernels call: wrappers of ptx.cuh, and the hooks that g++ plants before every other access

extern "C" {
Bits16 emulate_load(const void* address, int bytes) {
    use_memory(address, bytes, Use::read, CALLER);
    Bits16 bits = {};
    std::memcpy(&bits, address, bytes);
    return bits;
}

void emulate_store(void* address, int bytes, uint64_t low, uint64_t high) {
    use_memory(address, bytes, Use::write, CALLER);
    const Bits16 bits = {low, high};
    std::memcpy(address, &bits, bytes);
}

void emulate_atomic(void* address, int bytes, const void* caller) { use_memory(address, bytes, Use::atomic, caller); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define HOOKS(bytes)                                                                        \
    void __tsan_read##bytes(void* p) { use_memory(p, bytes, Use::read, CALLER); }           \
    void __tsan_write##bytes(void* p) { use_memory(p, bytes, Use::write, CALLER); }         \
    void __tsan_unaligned_read##bytes(void* p) { use_memory(p, bytes, Use::read, CALLER); } \
    void __tsan_unaligned_write##bytes(void* p) { use_memory(p, bytes, Use::write, CALLER); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

static void use_range(char* p, long bytes, Use use, const void* pc) {
    for (long i = 0; i < bytes; i++) use_memory(p + i, 1, use, pc);
}
void __tsan_read_range(void* p, long bytes) { use_range(static_cast<char*>(p), bytes, Use::read, CALLER); }
void __tsan_write_range(void* p, long bytes) { use_range(static_cast<char*>(p), bytes, Use::write, CALLER); }

// --- and those it plants for alignment, fixed array bounds, and arithmetic that C++ leaves undefined

struct Mismatch {
    const char* file;
    uint32_t line, column;
    const void* type;
    unsigned char log_alignment, kind;
};

void __ubsan_handle_type_mismatch_v1(const Mismatch* found, uintptr_t address) {
    if (launch.options.checks)
        fail("misaligned", CALLER, "uses an address as of a type that wants multiples of %u; it is %u beyond one",
             1u << found->log_alignment, unsigned(address & ((uintptr_t(1) << found->log_alignment) - 1)));
}

void __ubsan_handle_out_of_bounds(const void*, uintptr_t index) {
    if (launch.options.checks) fail("out of bounds", CALLER, "index %ld is beyond the end of its array", long(index));
}

#define UNDEFINED(handler, what)                                       \
    void __ubsan_handle_##handler(const void*, uintptr_t, uintptr_t) { \
        if (launch.options.checks) fail("arithmetic", CALLER, what);   \
    }
UNDEFINED(add_overflow, "signed addition overflows")
UNDEFINED(sub_overflow, "signed subtraction overflows")
UNDEFINED(mul_overflow, "signed multiplication overflows")
UNDEFINED(divrem_overflow, "division by zero, or one that overflows")
UNDEFINED(shift_out_of_bounds, "shifts by a negative number of bits, or by all of them")
void __ubsan_handle_negate_overflow(const void*, uintptr_t) {
    if (launch.options.checks) fail("arithmetic", CALLER, "signed negation overflows");
}
}
