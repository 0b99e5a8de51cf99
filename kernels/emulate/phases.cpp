// Barriers that count: Hopper's mbarrier, and the copies of boxes (TMA) that arrive at one.
//
// A phase of a barrier is over when all arrivals that it was made for have come and as many bytes as were expected. Who
// waits for it then knows what those who arrived knew, and sees the boxes that were copied in it; nothing else lets a
// thread see them, however long ago they came. When copies come is the schedule's choice: at once, in any order, or not
// before nothing else can happen.
#include <algorithm>
#include <cstring>

#include "state.h"

namespace {

struct Phases {
    const char* place;
    int arrivals, missing;
    long bytes;  // expected and not come yet; less than 0 if more have come
    unsigned over;
    bool shown;                         // to copies
    std::vector<uint32_t> told, known;  // by those who have arrived in this phase; by all of the phases before
};

struct BoxCopy {
    BoxMap map;
    char* target;
    int start[3];
    unsigned barrier;
    const void* pc;
};

std::vector<Phases> all;
std::vector<BoxCopy> under_way;

size_t bytes_of(const BoxMap& map) { return size_t(map.box[0]) * map.box[1] * map.box[2] * map.item; }

Phases& find(void* barrier, const char* doing, const void* pc) {
    for (Phases& p : all)
        if (p.place == barrier) {
            if (launch.options.checks) check_known(p.place, 8, false, pc);  // it was made ready before this
            return p;
        }
    fail("uninitialised", pc, "%s a barrier that nobody has made ready", doing);
}

const Phases& awaited_by(const Thread& t) {
    return *std::find_if(all.begin(), all.end(), [&](const Phases& p) { return p.place == t.awaited; });
}

bool is_over(const Phases& p, int parity) { return int(p.over & 1) != parity; }

void complete(Phases& p) {
    if (p.missing || p.bytes) return;
    p.missing = p.arrivals;
    p.over++;
    join(p.known, p.told);
}

void learn(const Phases& p, Thread& t) {
    join(t.known, p.known);
    const size_t number = launch.threads + (&p - all.data());
    if (t.known.size() <= number) t.known.resize(number + 1);
    t.known[number] = std::max(t.known[number], p.over);
}

// Where the 16-byte chunk of a byte of a box lies: in rows of 128 bytes its number is xor-ed with the row's.
char* place_of(const BoxCopy& copy, size_t byte) {
    const uintptr_t plain = reinterpret_cast<uintptr_t>(copy.target) + byte;
    return reinterpret_cast<char*>(copy.map.swizzled ? plain ^ (plain >> 7 & 7) << 4 : plain);
}

// What a row of the box has of the array: [first, last) of its numbers; nothing beyond the array's sides.
const char* row_of(const BoxCopy& copy, int y, int z, int& first, int& last) {
    const BoxMap& map = copy.map;
    const int row = copy.start[1] + y, matrix = copy.start[2] + z;
    const bool inside = row >= 0 && row < map.extent[1] && matrix >= 0 && matrix < map.extent[2];
    first = inside ? std::min(std::max(0, -copy.start[0]), map.box[0]) : 0;
    last = inside ? std::max(first, std::min(map.box[0], map.extent[0] - copy.start[0])) : 0;
    return map.array + matrix * map.pitch[1] + row * map.pitch[0] + int64_t(copy.start[0]) * map.item;
}

void land(const BoxCopy& copy) {
    const BoxMap& map = copy.map;
    const size_t width = size_t(map.box[0]) * map.item;
    std::vector<char> row(width);
    for (int z = 0; z < map.box[2]; z++)
        for (int y = 0; y < map.box[1]; y++) {
            int first, last;
            const char* const from = row_of(copy, y, z, first, last);
            std::fill(row.begin(), row.end(), 0);
            if (last > first) std::memcpy(&row[first * map.item], from + first * map.item, (last - first) * map.item);
            for (size_t i = 0; map.to_tf32 && i < width; i += 4) {  // to nearest
                uint32_t bits;
                std::memcpy(&bits, &row[i], 4);
                bits = (bits + 0x1000u) & ~0x1fffu;
                std::memcpy(&row[i], &bits, 4);
            }
            const size_t begin = (size_t(z) * map.box[1] + y) * width;
            for (size_t i = 0; i < width; i += 16) std::memcpy(place_of(copy, begin + i), &row[i], 16);
        }
    Phases& p = all[copy.barrier];
    if (launch.options.checks)
        finish_box(copy.target, int(bytes_of(map)), new_segment(launch.threads + copy.barrier, p.over));
    p.bytes -= long(bytes_of(map));
    complete(p);
}

}  // namespace

void phases_begin_block() {
    all.clear();
    under_way.clear();
}

bool wake(unsigned first) {
    bool any = false;
    for (unsigned i = first; i < std::min(first + WARP, launch.threads); i++) {
        Thread& t = threads[i];
        if (t.wait != Wait::phase) continue;
        if (!is_over(awaited_by(t), t.parity)) continue;
        t.wait = Wait::nothing;
        any = true;
    }
    return any;
}

bool land_copy(bool nothing_else) {
    if (under_way.empty() || (!nothing_else && launch.options.seed && random_below(4))) return false;
    const auto which = under_way.begin() + (launch.options.seed ? random_below(unsigned(under_way.size())) : 0);
    const BoxCopy copy = *which;
    under_way.erase(which);
    land(copy);
    return true;
}

void explain_phases() {
    const Phases* worst = nullptr;
    for (unsigned i = 0; i < launch.threads; i++) {
        if (threads[i].wait != Wait::phase) continue;
        const Phases& p = awaited_by(threads[i]);
        if (worst && (worst->bytes || !p.bytes)) continue;  // bytes that nobody expected, or copied, explain the most
        worst = &p;
        current = &threads[i];
    }
    if (!worst) return;
    const long bytes = worst->bytes;
    fail("deadlock", current->pc,
         "waits for a phase of parity %d of a barrier of which %u are over: %d of %d arrivals are missing, and %ld "
         "bytes%s",
         current->parity, worst->over, worst->missing, worst->arrivals, bytes < 0 ? -bytes : bytes,
         bytes < 0 ? " more have come than were expected" : "");
}

extern "C" {
void emulate_phases_begin(void* barrier, int arrivals) {
    use_memory(barrier, 8, Use::write, CALLER);
    const auto same = [&](const Phases& p) { return p.place == barrier; };
    all.erase(std::remove_if(all.begin(), all.end(), same), all.end());
    all.push_back({static_cast<const char*>(barrier), arrivals, arrivals, 0, 0, false, {}, {}});
}

void emulate_phases_shown() {
    for (Phases& p : all) p.shown = true;
}

void emulate_phase_arrive(void* barrier) {
    Phases& p = find(barrier, "arrives at", CALLER);
    if (!p.missing && launch.options.checks)
        fail("too many arrivals", CALLER, "arrives at a barrier at which all %d of this phase have", p.arrivals);
    Thread& me = *current;
    me.segment = 0;  // what comes from here on is not what those who wait will know of
    me.seen[me.lane()] = ++me.time;
    join(p.told, me.known);
    if (p.told.size() < launch.threads) p.told.resize(launch.threads);
    const unsigned first = me.warp() * WARP;
    for (unsigned lane = 0; lane < WARP && first + lane < launch.threads; lane++)
        p.told[first + lane] = std::max(p.told[first + lane], me.seen[lane]);
    p.missing--;
    complete(p);
}

void emulate_phase_expect(void* barrier, int bytes) {
    find(barrier, "expects bytes at", CALLER).bytes += bytes;
}

void emulate_phase_wait(void* barrier, int parity, int line) {
    Phases* p = &find(barrier, "waits at", CALLER);
    if (!is_over(*p, parity)) {
        current->awaited = barrier;
        current->parity = parity;
        hand_over(Wait::phase, line, CALLER);
        p = &find(barrier, "waits at", CALLER);
    }
    learn(*p, *current);
}

void emulate_copy_box(void* target, const void* map, void* barrier, int x, int y, int z) {
    Phases& p = find(barrier, "copies with", CALLER);
    BoxCopy copy = {{}, static_cast<char*>(target), {x, y, z}, unsigned(&p - all.data()), CALLER};
    std::memcpy(&copy.map, map, sizeof copy.map);
    const BoxMap& box = copy.map;
    if (launch.options.checks) {
        if (!p.shown)
            fail("missing fence", CALLER, "copies with a barrier that no fence has shown to asynchronous copies");
        if (reinterpret_cast<uintptr_t>(target) % (box.swizzled ? 1024 : 128))
            fail("misaligned", CALLER, "copies a box to shared memory at no multiple of %d bytes",
                 box.swizzled ? 1024 : 128);
        if (reinterpret_cast<uintptr_t>(box.array) % 16)
            fail("misaligned", CALLER, "copies from an array that begins at no multiple of 16 bytes");
        for (int k = 0; k < box.box[2]; k++)
            for (int j = 0; j < box.box[1]; j++) {
                int first, last;
                const char* const from = row_of(copy, j, k, first, last);
                if (last > first) read_global(from + first * box.item, (last - first) * box.item, CALLER);
            }
        announce_box(copy.target, int(bytes_of(box)), CALLER);
        if (launch.options.counters) count_rows_of_banks(bytes_of(box));
    }
    under_way.push_back(copy);
}
}
