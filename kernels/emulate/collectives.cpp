// What the lanes of a warp do together: performed once, when the last lane has arrived, for all of them.
#include <cmath>
#include <cstring>

#include "state.h"

namespace {

float from_bits(uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

void shuffle(Request* const requests[WARP], unsigned first) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!requests[lane]) continue;
        const Request* source = requests[requests[lane]->source];
        if (!source) {
            current = &threads[first + lane];
            if (launch.options.checks)
                fail("wrong mask", current->pc,
                     "lane %u reads lane %d, which takes no part in the shuffle (mask 0x%08x)", lane,
                     requests[lane]->source, current->mask);
            requests[lane]->d[0] = requests[lane]->d[1] = ~0u;
            continue;
        }
        std::memcpy(requests[lane]->d, &source->value, 8);
    }
}

void ballot(Request* const requests[WARP]) {
    uint32_t votes = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (requests[lane] && requests[lane]->value) votes |= 1u << lane;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (requests[lane]) requests[lane]->d[0] = votes;
}

void whole_warp(unsigned mask, unsigned first) {
    if (mask == ~0u) return;
    current = &threads[first];
    fail("wrong mask", current->pc, "a matrix instruction wants all 32 lanes, here are 0x%08x", mask);
}

// ldmatrix: lane 8 m + r gives the address of row r of matrix m; lane l gets the pair of numbers 2 (l % 4) of row l /
// 4.
void load_matrix(Request* const requests[WARP], unsigned first) {
    const int count = requests[0]->count;
    for (int m = 0; m < count; m++) {
        uint16_t rows[8][8];
        for (int r = 0; r < 8; r++) {
            const unsigned owner = 8 * m + r;
            current = &threads[first + owner];
            use_memory(requests[owner]->row, 16, Use::read, current->pc);
            std::memcpy(rows[r], requests[owner]->row, 16);
        }
        for (unsigned lane = 0; lane < WARP; lane++) {
            const int r = int(lane / 4), c = int(lane % 4) * 2;
            const bool t = requests[lane]->transposed;
            const uint32_t low = t ? rows[c][r] : rows[r][c], high = t ? rows[c + 1][r] : rows[r][c + 1];
            requests[lane]->d[m] = low | high << 16;
        }
    }
}

// mma.sync: gather the fragments by the PTX manual's maps, multiply, give each lane its four results.
void multiply(Request* const requests[WARP]) {
    const int format = requests[0]->format;
    const auto number = [&](uint32_t word, int k) {  // TF32 units ignore the last 13 bits
        if (format == 2) return from_bits(word & ~0x1fffu);
        const uint32_t h = word >> (k & 1) * 16 & 0xffff;
        return format ? from_bits(h << 16) : from_half(h);
    };
    const int depth = format == 2 ? 8 : 16;
    float a[16][16], b[16][8];
    for (int r = 0; r < 16; r++)
        for (int k = 0; k < depth; k++) {
            const int lane = (r & 7) * 4 + (format == 2 ? k & 3 : (k & 7) >> 1);
            const int word = (r >> 3) + ((format == 2 ? k >> 2 : k >> 3) << 1);
            a[r][k] = number(requests[lane]->a[word], k);
        }
    for (int k = 0; k < depth; k++)
        for (int n = 0; n < 8; n++) {
            const int lane = n * 4 + (format == 2 ? k & 3 : (k & 7) >> 1);
            b[k][n] = number(requests[lane]->b[format == 2 ? k >> 2 : k >> 3], k);
        }
    for (unsigned lane = 0; lane < WARP; lane++)
        for (int i = 0; i < 4; i++) {
            const int r = int(lane / 4) + (i >> 1) * 8, n = int(lane % 4) * 2 + (i & 1);
            float sum = requests[lane]->c[i];
            for (int k = 0; k < depth; k++) sum += a[r][k] * b[k][n];
            std::memcpy(&requests[lane]->d[i], &sum, 4);
        }
    launch.counters->tensor_flops += uint64_t(2 * 16 * 8) * depth;
}

}  // namespace

float from_half(uint32_t h) {
    const uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float tiny = std::ldexp(float(fraction), -24);
    return sign ? -tiny : tiny;
}

void perform(Collective kind, Request* const requests[WARP], unsigned mask, unsigned first) {
    switch (kind) {
        case Collective::sync:
            break;
        case Collective::shuffle:
            shuffle(requests, first);
            break;
        case Collective::ballot:
            ballot(requests);
            break;
        case Collective::load_matrix:
            whole_warp(mask, first), load_matrix(requests, first);
            break;
        case Collective::multiply:
            whole_warp(mask, first), multiply(requests);
            break;
        case Collective::multiply_async:
            whole_warp(mask, first), multiply_async(requests, first);
            break;
        case Collective::wait_multiplied:
            whole_warp(mask, first), finish_products(first, requests[0]->count);
            break;
    }
    current = nullptr;
}
