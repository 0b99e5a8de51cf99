// Division by a number that is the same for many: a multiplication and a shift, where the GPU's own takes twenty
// instructions.
#pragma once
#include "ptx.cuh"

// For 0 <= n < 2^31. With 2^(l - 1) < d <= 2^l and m = ceil(2^(31 + l) / d), n / d = floor(n m / 2^(31 + l)) (Granlund
// and Montgomery 1994, theorem 4.2).
struct Divisor {
    int d, shift;
    unsigned magic;

    DEVICE explicit Divisor(int d)
        : d(d),
          shift(0),
          magic(0) {
        if (d == 1) return;
        int l = 0;
        while (1u << l < unsigned(d)) l++;
        shift = l - 1;
        magic = unsigned(((1ull << (31 + l)) + d - 1) / d);
    }

    DEVICE int into(int n) const { return d == 1 ? n : int(__umulhi(n, magic) >> shift); }
};
