// A sparse linear map along one axis, in compressed rows: see AxisMap in axis.py.
#pragma once
#include "ptx.cuh"

struct Axis {
    int inputs, outputs;
};

// Calls f(input, entry) for each entry of one row.
template <class F>
DEVICE void each_entry(const long long* start, const long long* index, int output, F f) {
    for (long long e = start[output]; e < start[output + 1]; e++) f(index[e], e);
}

// The place of element i of [N, P, Q, C].
struct Place {
    int image, p, q, channel;
    DEVICE Place(long long i, int channels, Axis rows, Axis columns) {
        channel = int(i % channels);
        q = int(i / channels % columns.outputs);
        p = int(i / channels / columns.outputs % rows.outputs);
        image = int(i / channels / columns.outputs / rows.outputs);
    }
};
