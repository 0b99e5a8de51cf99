"""Number types: every promotion is torch's, and what comes from NumPy stays what it was."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from oracle import dtype_name, torch

import scratchgen as sg
from scratchgen import dtypes

NAMES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
OPERANDS = [(name, ndim) for name in NAMES for ndim in (1, 0)] + [True, 3, 2.5]


def ours(operand):
    if isinstance(operand, tuple):
        name, ndim = operand
        return sg.tensor(np.ones([2] * ndim), dtype=name)
    return operand


def theirs(operand):
    if isinstance(operand, tuple):
        name, ndim = operand
        return torch.ones([2] * ndim, dtype=getattr(torch, name))
    return operand


FUNCTIONS = {
    "add": lambda m: m.add,
    "sub": lambda m: m.sub,
    "mul": lambda m: m.mul,
    "div": lambda m: m.div,
    "pow": lambda m: m.pow,
    "floor_divide": lambda m: m.floor_divide,
    "remainder": lambda m: m.remainder,
    "maximum": lambda m: m.maximum,
    "minimum": lambda m: m.minimum,
    "clamp": lambda m: lambda a, b: m.clamp(a, min=b),
    "where": lambda m: lambda a, b: m.where(m.tensor([True, False]), a, b),
    "eq": lambda m: lambda a, b: a == b,
    "result_type": lambda m: m.result_type,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_promotion_is_torchs_for_every_pair(name):
    """Dimensioned, 0-d and Python operands of all dtypes; where torch refuses a pair, nothing is asked of ours."""
    compared = 0
    for a, b in itertools.product(OPERANDS, repeat=2):
        if not (isinstance(a, tuple) or isinstance(b, tuple)):
            continue
        try:
            expected = FUNCTIONS[name](torch)(theirs(a), theirs(b))
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        got = FUNCTIONS[name](sg)(ours(a), ours(b))
        if name == "result_type":
            assert str(got) == str(expected).removeprefix("torch."), (a, b)
        else:
            assert dtype_name(got) == dtype_name(expected), (a, b)
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-3, err_msg=f"{a} {b}")
        compared += 1
    assert compared >= 100


@pytest.mark.parametrize("name", ["add", "mul", "div", "pow"])
def test_promotion_with_three_kinds_of_operators(name):
    symbol = {"add": "__add__", "mul": "__mul__", "div": "__truediv__", "pow": "__pow__"}[name]
    reflected = symbol.replace("__", "__r", 1)
    for a, number in itertools.product([o for o in OPERANDS if isinstance(o, tuple)], [True, 3, 2.5]):
        for method in (symbol, reflected):
            try:
                expected = getattr(theirs(a), method)(number)
            except (RuntimeError, NotImplementedError):
                continue
            assert dtype_name(getattr(ours(a), method)(number)) == dtype_name(expected), (a, number, method)


def test_promote_types_is_torchs():
    for a, b in itertools.product([*NAMES, "int8", "int16", "complex64", "complex128"], repeat=2):
        expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
        if {a, b} == {"float64", "complex64"}:
            assert str(expected) == "torch.complex128"
        assert str(sg.promote(np.dtype(a), np.dtype(b))) == str(expected).removeprefix("torch."), (a, b)


def test_integers_without_a_common_integer_type_raise():
    # NumPy makes float64 of them in silence
    with pytest.raises(TypeError, match="int64 and uint64 have no common integer dtype; cast one"):
        sg.tensor(np.ones(2, np.int64)) + sg.tensor(np.ones(2, np.uint64))


def test_can_cast_is_torchs():
    for a, b in itertools.product(NAMES, repeat=2):
        expected = torch.can_cast(getattr(torch, a), getattr(torch, b))
        assert dtypes.can_cast(np.dtype(a), np.dtype(b)) == expected, (a, b)


def test_the_default_float_type():
    try:
        sg.set_default_dtype("float64")
        assert sg.get_default_dtype() == sg.float64
        for x in (
            sg.tensor(1.5),
            sg.zeros(2),
            sg.rand(2),
            sg.tensor([1]) / 2,
            sg.tensor([1]).exp(),
            sg.tensor([1]) + 0.5,
        ):
            assert x.dtype == sg.float64
        with pytest.raises(TypeError, match="expected a floating-point dtype, got int64"):
            sg.set_default_dtype("int64")
    finally:
        sg.set_default_dtype("float32")
    assert sg.tensor(1.5).dtype == sg.float32


def test_result_type_needs_an_operand():
    with pytest.raises(TypeError, match="at least one operand"):
        sg.result_type()


# --- NumPy's own


def test_numpy_scalars_are_weak_and_arrays_are_not():
    x = sg.ones(2)
    for number in (np.float64(2), np.float32(2), np.int64(2), np.bool_(True)):
        for y in (x * number, number * x, x + number, number - x, x / number, number / x, x**number, x < number):
            assert isinstance(y, sg.Tensor)
            assert y.dtype in (sg.float32, sg.bool_)
    for y in (x * np.ones(2), np.ones(2) * x, np.ones(2) - x, np.ones(2) ** x, x // np.ones(2), np.ones(2) % x):
        assert isinstance(y, sg.Tensor)
        assert y.dtype == sg.float64
    assert (np.array(2.0) * x).dtype == sg.float32  # 0-d arrays are as weak as 0-d tensors


def test_asarray_shares_and_protects():
    x = sg.ones(2)
    array = np.asarray(x)
    assert array is x.array or np.shares_memory(array, x.array)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.array)
    with pytest.raises(RuntimeError, match=r"requires grad: use x.detach\(\).numpy\(\)"):
        np.asarray(sg.ones(2, requires_grad=True))


def test_arrays_keep_their_dtype_and_python_numbers_get_the_default():
    for name in NAMES:
        assert sg.as_tensor(np.ones(2, name)).dtype == name
    assert sg.tensor(1.0).dtype == sg.tensor([1.0, 2]).dtype == sg.float32
    assert sg.tensor(1).dtype == sg.int64
    assert sg.tensor(True).dtype == sg.bool_
    assert sg.tensor(np.float64(1)).dtype == sg.float64


@pytest.mark.parametrize(
    "array",
    [
        pickle.loads(pickle.dumps(np.ones(3, np.float32))),
        np.ones(3, ">f4"),
        np.ones(3, np.dtype("f4").newbyteorder("=")),
    ],
    ids=["unpickled", "big-endian", "native"],
)
def test_equal_dtypes_are_identical_objects(array):
    """Ops compare dtypes by identity: an equal but distinct one would be cast, and so copied, at every op."""
    assert sg.as_tensor(array).dtype is sg.float32
    assert sg.as_tensor(np.ones(2, np.longlong)).dtype is sg.int64
