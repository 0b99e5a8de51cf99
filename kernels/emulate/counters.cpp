// A model of what the memory system would do: lanes that make the same access in the same turn make it together.
//
// Global memory moves in sectors of 32 bytes: a warp's access costs as many as it touches. Shared memory has 32 banks
// of 4 bytes: a warp's access takes as many passes as the worst bank has different words to give. Accesses of 8 and 16
// bytes a lane go in two and four parts. This is a model: no cache, no merging of stores, no clock.
#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "state.h"

namespace {

struct Seen {
    const void* pc;
    unsigned warp, turn, lane;
    uintptr_t address;
    int bytes;
    Place place;
    Use use;
};

std::vector<Seen> log_of_block;
std::unordered_map<uint64_t, unsigned> turns;  // of each thread at each instruction, the two sides of a copy apart

size_t count_distinct(std::vector<uintptr_t>& numbers) {
    std::sort(numbers.begin(), numbers.end());
    return std::unique(numbers.begin(), numbers.end()) - numbers.begin();
}

void count_global(const Seen* from, const Seen* to) {
    std::vector<uintptr_t> sectors, addresses;
    Counters& c = *launch.counters;
    for (const Seen* s = from; s != to; s++) {
        addresses.push_back(s->address);
        for (uintptr_t a = s->address / 32; a <= (s->address + s->bytes - 1) / 32; a++) sectors.push_back(a);
        (s->use == Use::read ? c.global_read : c.global_written) += s->bytes;
    }
    c.global_requests++;
    c.global_sectors += count_distinct(sectors);
    c.ideal_sectors += (count_distinct(addresses) * from->bytes + 31) / 32;
}

void count_shared(const Seen* from, const Seen* to) {
    const int parts = std::max(1, from->bytes / 4), lanes = int(WARP) / parts;
    Counters& c = *launch.counters;
    for (int part = 0; part < parts; part++) {
        std::vector<uintptr_t> words;
        for (const Seen* s = from; s != to; s++) {
            if (int(s->lane) / lanes != part) continue;
            (s->use == Use::read ? c.shared_read : c.shared_written) += s->bytes;
            for (uintptr_t w = s->address / 4; w <= (s->address + s->bytes - 1) / 4; w++) words.push_back(w);
        }
        if (words.empty()) continue;
        std::sort(words.begin(), words.end());
        words.erase(std::unique(words.begin(), words.end()), words.end());
        int in_bank[32] = {};
        for (uintptr_t w : words) in_bank[w % 32]++;
        c.shared_passes += *std::max_element(in_bank, in_bank + 32);
        c.shared_requests++;
    }
}

}  // namespace

void count_access(const void* address, int bytes, Place place, Use use, const void* pc) {
    if (place == Place::constant) return;
    const uint64_t key = (reinterpret_cast<uintptr_t>(pc) << 10 ^ current->number) << 2 | uint64_t(use);
    log_of_block.push_back(
        {pc, current->warp(), turns[key]++, current->lane(), reinterpret_cast<uintptr_t>(address), bytes, place, use});
}

void count_rows_of_banks(uint64_t bytes) {
    Counters& c = *launch.counters;
    c.shared_written += bytes;
    c.shared_requests += bytes / 128;
    c.shared_passes += bytes / 128;
}

void count_core_matrix(const uintptr_t chunks[8]) {
    int in_bank[32] = {};
    for (int i = 0; i < 8; i++)
        for (int word = 0; word < 4; word++) in_bank[(chunks[i] / 4 + word) % 32]++;
    Counters& c = *launch.counters;
    c.shared_read += 128;
    c.shared_requests++;
    c.shared_passes += *std::max_element(in_bank, in_bank + 32);
}

void counters_end_block() {
    const auto together = [](const Seen& a, const Seen& b) {
        return std::tie(a.pc, a.use, a.warp, a.turn) < std::tie(b.pc, b.use, b.warp, b.turn);
    };
    std::stable_sort(log_of_block.begin(), log_of_block.end(), together);
    for (auto from = log_of_block.begin(); from != log_of_block.end();) {
        auto to = from;
        while (to != log_of_block.end() && !together(*from, *to)) ++to;
        (from->place == Place::global ? count_global : count_shared)(&*from, &*from + (to - from));
        from = to;
    }
    log_of_block.clear();
    turns.clear();
}
