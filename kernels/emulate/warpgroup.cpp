// Products of warpgroups: Hopper's wgmma. Four warps multiply 64 rows; each does its 16 when it waits for them.
//
// Until then the sums belong to the tensor cores: a thread that touches them is told so. What the product reads of
// shared memory must have come before it is issued, and is read at the wait, the latest moment: what has been
// overwritten meanwhile shows in the result, and as a race.
#include <algorithm>
#include <cstring>

#include "state.h"

unsigned products_under_way;

namespace {

struct Product {
    Request request;  // of the warp's first lane
    uint32_t fragments[WARP][4];
    float* sums[WARP];
    unsigned group;
    const void* pc;
};

struct Warp {
    std::vector<Product> under_way;
    std::vector<Request> issued;  // all of the block: the four warps must issue the same
    size_t finished;
};

constexpr unsigned GROUP = 4;
Warp warps[MAX_THREADS / WARP];

// A matrix in shared memory as a descriptor tells of it, in rows of 128 bytes whose 16-byte chunks are swizzled. Along
// the depth: rows are the matrix's, eight of them `stride` bytes before the next eight. Across it: rows are of one
// depth, 128 bytes of the matrix's rows, and the next 128 bytes of these lie `leading` bytes on.
struct Operand {
    char* start;
    size_t leading, stride;
    bool across;
    int item;

    Operand(uint64_t bits, bool across, int item)
        : start(launch.regions[1].begin + ((bits & 0x3fff) << 4)),
          leading((bits >> 16 & 0x3fff) << 4),
          stride((bits >> 32 & 0x3fff) << 4),
          across(across),
          item(item) {}

    const char* place(int row, int depth) const {
        const int each = 128 / item;  // numbers of 128 bytes
        const size_t plain =
            across ? row / each * leading + depth / 8 * stride + depth % 8 * 128 + row % each * item
                   : row / 8 * stride + row % 8 * 128 + depth * item;
        const uintptr_t address = reinterpret_cast<uintptr_t>(start) + plain;
        return reinterpret_cast<const char*>(address ^ (address >> 7 & 7) << 4);
    }
};

int item_of(const Request& r) { return r.format == 2 ? 4 : 2; }
int depth_of(const Request& r) { return 32 / item_of(r); }

float number(const char* at, int format) {
    uint32_t bits = 0;
    std::memcpy(&bits, at, format == 2 ? 4 : 2);
    if (format == 0) return from_half(bits);
    bits = format == 1 ? bits << 16 : bits & ~0x1fffu;  // TF32 units ignore the last 13 bits
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

// Each chunk of 16 bytes that rows [first, last) of an operand have in this product.
template <class Visit>
void each_chunk(const Operand& o, int first, int last, int depth, Visit visit) {
    const int each = 16 / o.item;
    if (o.across)
        for (int k = 0; k < depth; k++)
            for (int row = first; row < last; row += each) visit(o.place(row, k));
    else
        for (int row = first; row < last; row++)
            for (int k = 0; k < depth; k += each) visit(o.place(row, k));
}

void note_reads(const Operand& o, int first, int last, int depth, const void* pc) {
    const char *low = nullptr, *high = nullptr;
    each_chunk(o, first, last, depth, [&](const char* chunk) {
        if (!low || chunk < low) low = chunk;
        if (chunk + 16 > high) high = chunk + 16;
    });
    note_product_reads(low, high, pc);
}

// A model of the banks: tensor cores take eight chunks at once, from eight neighbouring rows.
void count_reads(const Operand& o, int first, int last, int depth) {
    uintptr_t chunks[8];
    const int each = 16 / o.item;
    for (int row = first; row < last; row += o.across ? each : 8)
        for (int k = 0; k < depth; k += o.across ? 8 : each) {
            for (int i = 0; i < 8; i++)
                chunks[i] = reinterpret_cast<uintptr_t>(o.across ? o.place(row, k + i) : o.place(row + i, k));
            count_core_matrix(chunks);
        }
}

int rows_before(unsigned first) { return int(first / WARP % GROUP) * 16; }

void check_issue(const Request* const requests[WARP], unsigned first) {
    const Request& r = *requests[0];
    for (unsigned lane = 0; lane < WARP; lane++) {
        current = &threads[first + lane];
        if (!current->sums_fenced)
            fail("missing fence", current->pc,
                 "multiplies without a fence since its sums were waited for, or since the beginning");
    }
    current = &threads[first];
    const size_t number = warps[first / WARP].issued.size();
    for (unsigned other = first / WARP / GROUP * GROUP, i = 0; i < GROUP; i++) {
        if (other + i == first / WARP || warps[other + i].issued.size() <= number) continue;
        const Request& same = warps[other + i].issued[number];
        if (same.format != r.format || same.count != r.count || same.right != r.right || same.left != r.left ||
            same.in_fragments != r.in_fragments || same.a_across != r.a_across || same.b_across != r.b_across)
            fail("warp divergence", current->pc, "issues another product than warp %u of its warpgroup", i);
    }
    const auto check = [&](const char* chunk) { check_known(chunk, 16, true, current->pc); };
    const int row = rows_before(first);
    if (!r.in_fragments)
        each_chunk(Operand(r.left, r.a_across, item_of(r)), row, row + 16, depth_of(r), check);
    each_chunk(Operand(r.right, r.b_across, item_of(r)), 0, r.count, depth_of(r), check);
}

void check_descriptor(uint64_t bits) {
    if (bits >> 62 != 1 || (bits >> 49 & 7) || (reinterpret_cast<uintptr_t>(Operand(bits, false, 2).start) >> 7 & 7))
        fail("misaligned", current->pc, "multiplies what does not begin with a swizzled pattern of 1024 bytes");
}

__attribute__((optimize("O3"))) void compute(const Product& p, unsigned first) {
    const Request& r = p.request;
    const int depth = depth_of(r), row = rows_before(first), columns = r.count;
    const Operand left(r.left, r.a_across, item_of(r)), right(r.right, r.b_across, item_of(r));
    float a[16][16];
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < depth; k++) {
            const uint32_t* fragment = p.fragments[(i & 7) * 4 + (k & 7) / 2];  // as of mma.m16n8k16
            const char* at = r.in_fragments ? reinterpret_cast<const char*>(&fragment[i / 8 + k / 8 * 2]) + k % 2 * 2
                                            : left.place(row + i, k);
            a[i][k] = number(at, r.format);
        }
    std::vector<float> b(size_t(depth) * columns), sums(columns);
    for (int j = 0; j < columns; j++)
        for (int k = 0; k < depth; k++) b[size_t(k) * columns + j] = number(right.place(j, k), r.format);
    for (int i = 0; i < 16; i++) {
        const auto sum = [&](int j) -> float& { return p.sums[(i & 7) * 4 + j % 8 / 2][j / 8 * 4 + i / 8 * 2 + j % 2]; };
        for (int j = 0; j < columns; j++) sums[j] = sum(j);
        for (int k = 0; k < depth; k++)
            for (int j = 0; j < columns; j++) sums[j] += a[i][k] * b[size_t(k) * columns + j];
        for (int j = 0; j < columns; j++) sum(j) = sums[j];
    }
    launch.counters->tensor_flops += uint64_t(2 * 16) * depth * columns;
}

}  // namespace

void warpgroups_begin_block() {
    for (Warp& w : warps) w.under_way.clear(), w.issued.clear(), w.finished = 0;
    products_under_way = 0;
}

void multiply_async(Request* const requests[WARP], unsigned first) {
    current = &threads[first];
    Warp& warp = warps[first / WARP];
    Product p = {*requests[0], {}, {}, current->product_group, current->pc};
    if (launch.options.checks) {
        if (!p.request.in_fragments) check_descriptor(p.request.left);
        check_issue(requests, first);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        std::memcpy(p.fragments[lane], requests[lane]->a, sizeof requests[lane]->a);
        p.sums[lane] = requests[lane]->sums;
    }
    warp.issued.push_back(p.request);
    warp.under_way.push_back(p);
    products_under_way++;
}

// Whether the warps of the warpgroup have all issued what this one waits for.
bool products_can_finish(unsigned first, int groups) {
    const Warp& me = warps[first / WARP];
    size_t needed = me.finished;
    for (const Product& p : me.under_way) needed += int(p.group) < int(threads[first].product_group) - groups;
    const unsigned group = first / WARP / GROUP * GROUP;
    return std::all_of(warps + group, warps + group + GROUP, [&](const Warp& w) { return w.issued.size() >= needed; });
}

void finish_products(unsigned first, int groups) {
    Warp& warp = warps[first / WARP];
    auto done = warp.under_way.begin();
    for (; done != warp.under_way.end() && int(done->group) < int(threads[first].product_group) - groups; ++done) {
        const Request& r = done->request;
        const Operand left(r.left, r.a_across, item_of(r)), right(r.right, r.b_across, item_of(r));
        const int depth = depth_of(r), row = rows_before(first);
        current = &threads[first];
        if (launch.options.checks) {
            if (!r.in_fragments) note_reads(left, row, row + 16, depth, done->pc);
            note_reads(right, 0, r.count, depth, done->pc);
        }
        if (launch.options.counters) {
            if (!r.in_fragments) count_reads(left, row, row + 16, depth);
            if (!row) count_reads(right, 0, r.count, depth);  // once for the four warps
        }
        compute(*done, first);
        warp.finished++;
        products_under_way--;
    }
    warp.under_way.erase(warp.under_way.begin(), done);
    for (unsigned lane = 0; lane < WARP; lane++) threads[first + lane].sums_fenced = false;
}

void check_sums(const void* address, const void* pc) {
    for (const Product& p : warps[current->warp()].under_way) {
        const char* const sums = reinterpret_cast<const char*>(p.sums[current->lane()]);
        const long offset = static_cast<const char*>(address) - sums;
        if (offset >= 0 && offset < p.request.count * 2)
            fail("missing wait", pc, "touches the sums of a product before it was waited for");
    }
}

extern "C" {
void emulate_sums_fence() { current->sums_fenced = true; }
void emulate_products_commit() { current->product_group++; }

void emulate_show_writes() {
    Thread& me = *current;
    me.segment = 0;
    me.shown = new_segment(me.number, me.time);
}

// The place of shared memory in descriptors: from the beginning of the part whose size is given at launch.
unsigned emulate_shared_offset(const void* pointer) {
    return unsigned(static_cast<const char*>(pointer) - launch.regions[1].begin);
}
}
