// The activations and their derivatives, of one number. a and b are an op's attributes, where it has any.
//
// Every exponential is of -|x|, so nothing overflows, as in reference.py, which says what each of them is.
#pragma once
#include "ptx.cuh"

struct Both {  // 1 / (1 + e^-x) and 1 / (1 + e^x); neither is 1 minus the other
    float up, down;
    DEVICE explicit Both(float x) {
        const float e = expf(-fabsf(x)), larger = 1.0f / (1.0f + e), smaller = e * larger;
        up = x < 0 ? smaller : larger;
        down = x < 0 ? larger : smaller;
    }
};

struct Sigmoid {
    static DEVICE float value(float x, float, float) { return Both(x).up; }
    static DEVICE float vjp(float g, float y, float, float) { return g * y * (1.0f - y); }  // of the output
};

struct Tanh {
    static DEVICE float value(float x, float, float) { return tanhf(x); }
    static DEVICE float vjp(float g, float y, float, float) { return g * (1.0f - y * y); }  // of the output
};

struct Silu {
    static DEVICE float value(float x, float, float) { return x * Both(x).up; }
    static DEVICE float vjp(float g, float x, float, float) {
        const Both s(x);
        return g * s.up * (1.0f + x * s.down);
    }
};

struct Gelu {
    static DEVICE float cdf(float x) { return 0.5f * erfcf(x * -0.70710678f); }
    static DEVICE float value(float x, float, float) { return x * cdf(x); }
    static DEVICE float vjp(float g, float x, float, float) {
        return g * (cdf(x) + x * (0.39894228f * expf(-0.5f * x * x)));
    }
};

struct GeluTanh {
    static constexpr float SLOPE = 1.59576912f, CUBIC = 0.044715f;  // 2 sqrt(2 / pi)
    static DEVICE float value(float x, float, float) { return x * Both(SLOPE * x * (1.0f + CUBIC * x * x)).up; }
    static DEVICE float vjp(float g, float x, float, float) {
        const Both s(SLOPE * x * (1.0f + CUBIC * x * x));
        // The product below is 0 times infinity far out, where the derivative is 0 or 1.
        const float bend = s.down == 0 ? 0 : x * s.down * SLOPE * (1.0f + 3.0f * CUBIC * x * x);
        return g * s.up * (1.0f + bend);
    }
};

struct Softplus {  // a: beta, b: threshold
    static DEVICE float value(float x, float a, float b) {
        const float z = a * x;
        return z > b ? x : (fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z)))) / a;
    }
    static DEVICE float vjp(float g, float x, float a, float b) { return a * x > b ? g : g * Both(a * x).up; }
};

struct LogSigmoid {
    static DEVICE float value(float x, float, float) { return fminf(x, 0.0f) - log1pf(expf(-fabsf(x))); }
    static DEVICE float vjp(float g, float x, float, float) { return g * Both(x).down; }
};

struct Mish {  // tanh(softplus(x)) = top / (top + rest), as fractions in q = e^-|x|
    float tanh, slope;
    DEVICE explicit Mish(float x) {
        const float q = expf(-fabsf(x));
        const float top = 2.0f * q + (x < 0 ? q * q : 1.0f), rest = 2.0f * (x < 0 ? 1.0f : q * q), all = top + rest;
        tanh = top / all;
        slope = rest * (2.0f * top + rest) / (all * all);
    }
    static DEVICE float value(float x, float, float) { return x * Mish(x).tanh; }
    static DEVICE float vjp(float g, float x, float, float) {
        const Mish m(x);
        return g * (m.tanh + x * m.slope * Both(x).up);
    }
};

struct Relu {
    static DEVICE float value(float x, float, float) { return x != x ? x : fmaxf(x, 0.0f); }  // fmaxf drops a NaN
    static DEVICE float vjp(float g, float y, float, float) { return y <= 0 ? 0 : g; }        // of the output
};

struct LeakyRelu {  // a: slope
    static DEVICE float value(float x, float a, float) { return x > 0 ? x : a * x; }
    static DEVICE float vjp(float g, float x, float a, float) { return x > 0 ? g : a * g; }
};
