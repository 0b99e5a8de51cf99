"""Float32 functions of one number that LLVM vectorises, for the loops of Numba kernels.

Numba has no vector library here, so ``math.exp`` in a loop is a scalar call, eight times slower than the loop could
be. These are polynomials without branches or calls; a loop over them becomes vector code. They see no more than the
kernels need (``exp`` and ``expm1`` of what is not positive, ``log1p`` on [0, 1]), which is also what makes them short.

The polynomials interpolate at Chebyshev nodes; errors, given in units in the last place (ulp), are kept by
tests/test_kernels_vecmath.py. The only fast-math flag here is "contract": it allows a multiply and an add to be one
instruction. "reassoc" would undo the two-step range reduction of ``exp``; "nnan" and "ninf" would lose what models
rely on: a NaN must show, and e^-inf is 0.
"""

from __future__ import annotations

import numpy as np

from .numba_config import njit

# error_model="numpy": the default guards every division against zero, and a guarded loop is not vectorised.
vector = njit(fastmath={"contract"}, error_model="numpy", nogil=True)
# For functions of a whole row or block: "reassoc" lets a sum be added up in the lanes of a vector.
vector_sums = njit(fastmath={"contract", "reassoc"}, error_model="numpy", nogil=True)

_f = np.float32
ZERO, HALF, ONE, TWO = _f(0), _f(0.5), _f(1), _f(2)


_ONE_BITS = np.int32(0x3F800000)


@vector
def _float_of(bits):
    """The float32 that these 32 bits are."""
    return np.int32(bits).view(np.float32)


@vector
def _bits_of(x):
    """The 32 bits of a float32."""
    return np.float32(x).view(np.int32)


_LOG2E = _f(1.44269504)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)  # ln 2 in two parts: n * _LN2_HIGH is exact
_ROUND = _f(3 << 22)  # added to a number below 2^22 and taken away, it rounds it; between, the last bits hold it
_EXP_LOWEST = _f(-87.3)  # a little below, e^x is no longer a normal number
_E2, _E3, _E4 = _f(0.5), _f(0.16666578), _f(0.041666556)
_E5, _E6 = _f(0.008363173), _f(0.0013926176)
_NOTHING = _f(-0.0)  # the one number that can be added without changing any


@vector
def _reduced(x):
    """``x = n ln 2 + r`` with ``|r| <= ln(2) / 2``: n in the last bits of a float, n, r."""
    shifted = x * _LOG2E + _ROUND
    n = shifted - _ROUND
    return shifted, n, (x - n * _LN2_HIGH) - n * _LN2_LOW


@vector
def exp_sum(x, rest):
    """``e^(x + rest)`` for ``x <= 0`` and a ``rest`` far below 1 that ``x`` is too coarse to hold; 0 below 1.2e-38."""
    shifted, _, r = _reduced(x)
    r += rest
    p = (((((_E6 * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r + ONE) * r + ONE
    scaled = _float_of(_bits_of(p) + (_bits_of(shifted) << np.int32(23)))  # times 2^n, by adding n to the exponent
    total = x + rest
    none = ZERO if total < ZERO else total  # 0, or NaN
    return scaled if total >= _EXP_LOWEST else none


@vector
def exp(x):
    """``e^x`` for ``x <= 0``, within 1 ulp; 0 below 1.2e-38."""
    return exp_sum(x, _NOTHING)


_EXPM1_LOWEST = _f(-18)  # below, e^x is less than half an ulp of 1


@vector
def expm1(x):
    """``e^x - 1`` for ``x <= 0``, within 2 ulp, near 0 too."""
    shifted, _, r = _reduced(_EXPM1_LOWEST if x < _EXPM1_LOWEST else x)
    q = (((((_E6 * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r) * r + r
    power = _float_of((_bits_of(shifted) << np.int32(23)) + _ONE_BITS)
    return power * q + (power - ONE)


_L0, _L1, _L2 = _f(2), _f(0.6666668), _f(0.3999871)
_L3, _L4, _L5 = _f(0.28620208), _f(0.2139856), _f(0.24393908)


@vector
def log1p(u):
    """``log(1 + u)`` for ``0 <= u <= 1``, within 3 ulp, as 2 atanh(u / (2 + u))."""
    s = u / (TWO + u)
    z = s * s
    return s * (((((_L5 * z + _L4) * z + _L3) * z + _L2) * z + _L1) * z + _L0)


@vector
def sigmoid(x):
    """``1 / (1 + e^-x)``, within 3 ulp on both sides."""
    e = exp(-abs(x))
    s = ONE / (ONE + e)
    return e * s if x < ZERO else s


_FARTHEST = _f(14)  # Q(14) is below 1e-38
_INV_SQRT_2PI = _f(0.3989423)
_Q_SCALE = _f(0.3)
_Q = tuple(
    _f(c)
    for c in (
        3.0972558e-06, 0.119614676, 0.12029607, 0.10608491, 0.093414806, 0.06020137,
        -0.021717025, 0.13032684, -0.18656002, 0.096178554, -0.017843273,
    )
)  # fmt: skip
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10 = _Q


@vector
def _upper_12(x):
    """``x`` cut to 12 significant bits, so that its square is exact."""
    return _float_of(np.float32(x).view(np.int32) & np.int32(-4096))


@vector
def normal_cdf(x):
    """Distribution function and density of the standard normal, within 7 and 3 ulp in the lower tail too.

    The upper tail is e^(-a^2/2) times a smooth function of t = 1 / (1 + 0.3 a), as in Hastings (1955).
    """
    a = abs(x)
    a = _FARTHEST if a > _FARTHEST else a
    high = _upper_12(a)
    e = exp_sum(-HALF * high * high, -HALF * (a - high) * (a + high))
    t = ONE / (ONE + _Q_SCALE * a)
    q = ((((_Q10 * t + _Q9) * t + _Q8) * t + _Q7) * t + _Q6) * t + _Q5
    q = ((((q * t + _Q4) * t + _Q3) * t + _Q2) * t + _Q1) * t + _Q0
    q = e * q
    return (ONE - q if x > ZERO else q), _INV_SQRT_2PI * e


_ALL_BUT_SIGN = np.int32(0x7FFFFFFF)


@vector
def _ordered(bits):
    """Bits of floats as integers in the order of the floats, and back; NaNs lie beyond the infinities."""
    return bits ^ ((bits >> np.int32(31)) & _ALL_BUT_SIGN)


@njit(nogil=True)
def largest(row):
    """The largest number of ``row``, or maybe NaN if one is, which every use of it then meets by itself.

    Of integers, because LLVM does not vectorise a maximum of floats, whose order is not total.
    """
    top = _ordered(_bits_of(row[0]))
    for j in range(1, row.size):
        top = max(top, _ordered(_bits_of(row[j])))
    return _float_of(_ordered(top))


@vector
def tanh(x):
    """``tanh(x)``, within 3 ulp, near 0 too."""
    less = expm1(-TWO * abs(x))
    y = less / (TWO + less)
    return y if x < ZERO else -y
