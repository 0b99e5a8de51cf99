"""Every op on CuPy's arrays, without a GPU: the catalogue of ops on the strict stand-in of ``fake_cupy``.

What this proves: the device ``cuda`` runs every op, option and derivative to second order through functions, methods
and arguments that CuPy 14 has; no NumPy array slips in between; results stay on the device and are the CPU's.

What it does not: no GPU was there. The stand-in computes with NumPy, and this project's CUDA kernels in the emulator;
so it cannot show how CuPy rounds, how fast it is, what its kernels do with sizes beyond these, or that a driver works.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import fake_cupy
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, optim
from scratchgen.testing.catalogue import CASES, WITHOUT_DERIVATIVE, Library, two_orders

SG = Library(sg)


@pytest.fixture(autouse=True)
def cupy() -> Iterator[ModuleType]:
    with fake_cupy.installed() as module:
        yield module


def to_device(value: Any) -> Any:
    return None if value is None else sg.as_tensor(value).to("cuda").array


def on_device(t: sg.Tensor) -> bool:
    return type(t.array) is fake_cupy.ndarray and t.device is sg.device("cuda")


def host(value: Any) -> list[np.ndarray]:
    """The tensors of a result as NumPy arrays, after making sure that they were on the device."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    found = [t for t in values if isinstance(t, sg.Tensor)]
    assert all(on_device(t) for t in found)
    return [t.numpy(force=True) for t in found]


# --- every op


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_are_the_cpus(name):
    case = CASES[name]
    arrays = case.arrays()
    expected = two_orders(partial(case.function, SG), arrays)
    found = two_orders(partial(case.function, SG), [to_device(a) for a in arrays])
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is fake_cupy.ndarray
        assert a.dtype == b.dtype
        scale = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
        np.testing.assert_allclose(a.get(), b, rtol=0, atol=1e-11 * scale)


X = np.array([[1.5, -2.0, np.nan], [np.inf, 0.25, -2.0]])
WHOLE = np.array([[3, 0, 5], [1, 6, 0]])
ON_DEVICE: dict[str, Callable[..., Any]] = {
    "all": lambda L, x, i: (L.all(x), L.all(i, 1)),
    "any": lambda L, x, i: (L.any(x), L.any(i, 0, keepdim=True)),
    "argmax": lambda L, x, i: (L.argmax(i), L.argmax(i, 1, keepdim=True)),
    "argmin": lambda L, x, i: (L.argmin(i), L.argmin(i, 1)),
    "argsort": lambda L, x, i: (L.argsort(x), L.argsort(i, 0, descending=True, stable=True)),
    "bitwise_and": lambda L, x, i: (i & 3, L.bitwise_and(i, i + 1)),
    "bitwise_not": lambda L, x, i: ~i,
    "bitwise_or": lambda L, x, i: i | 4,
    "bitwise_xor": lambda L, x, i: i ^ 5,
    "bucketize": lambda L, x, i: L.bucketize(i, L.as_tensor([0, 2, 4], device=i.device), right=True),
    "cast": lambda L, x, i: (i.float(), i.to("float16"), x.to("float32")),
    "count_nonzero": lambda L, x, i: L.count_nonzero(i, 1),
    "empty_like": lambda L, x, i: L.empty_like(x) * 0 == 0,
    "eq": lambda L, x, i: (x == -2.0, i == i.T.reshape(2, 3)),
    "full_like": lambda L, x, i: L.full_like(x, 2.5),
    "ge": lambda L, x, i: x >= 0,
    "gt": lambda L, x, i: x > i,
    "isclose": lambda L, x, i: L.isclose(x, x + 1e-9, equal_nan=True),
    "isfinite": lambda L, x, i: L.isfinite(x),
    "isinf": lambda L, x, i: L.isinf(x),
    "isnan": lambda L, x, i: L.isnan(x),
    "le": lambda L, x, i: x <= 0,
    "logical_and": lambda L, x, i: L.logical_and(x, i),
    "logical_not": lambda L, x, i: L.logical_not(i),
    "logical_or": lambda L, x, i: L.logical_or(x, i),
    "logical_xor": lambda L, x, i: L.logical_xor(x, i),
    "lt": lambda L, x, i: x < 0,
    "matrix_rank": lambda L, x, i: L.linalg.matrix_rank(i.double()),
    "ne": lambda L, x, i: x != -2.0,
    "nonzero": lambda L, x, i: (L.nonzero(i), *L.nonzero(i, as_tuple=True)),
    "one_hot": lambda L, x, i: (L.F.one_hot(i), L.F.one_hot(i, 8)),
    "ones_like": lambda L, x, i: L.ones_like(i),
    "scatter_add": lambda L, x, i: (
        L.scatter_add(i - 9, 1, i % 3, -i),
        L.index_add(i.int(), 0, L.as_tensor([1, 1], device=i.device), i.int()),
    ),
    "searchsorted": lambda L, x, i: L.searchsorted(L.sort(i).values, i, right=True),
    "unique": lambda L, x, i: L.unique(i, return_inverse=True, return_counts=True),
    "zeros_like": lambda L, x, i: L.zeros_like(x),
    "integers": lambda L, x, i: (i.sum(0), i.prod(), i.cumsum(1), i // 2, i % 4, i**2, i.clamp(1, 4), i.abs(), -i),
    "division": lambda L, x, i: (i / 2, L.div(i, 2, rounding_mode="trunc"), L.fmod(i, 4)),
}
CREATED: dict[str, Callable[..., Any]] = {
    "arange": lambda L, d: L.arange(1, 7, 2, device=d),
    "empty": lambda L, d: L.empty(2, 3, device=d) * 0 == 0,
    "eye": lambda L, d: L.eye(2, 3, device=d),
    "full": lambda L, d: L.full((2, 3), 1.5, device=d),
    "linspace": lambda L, d: L.linspace(0, 1, 5, device=d),
    "logspace": lambda L, d: L.logspace(0, 1, 5, device=d),
    "ones": lambda L, d: L.ones(2, device=d),
    "tril_indices": lambda L, d: L.tril_indices(3, 3, device=d),
    "triu_indices": lambda L, d: L.triu_indices(3, 3, 1, device=d),
    "zeros": lambda L, d: L.zeros(2, device=d),
    "bernoulli": lambda L, d: L.bernoulli(L.full((50,), 0.3, device=d), generator=L.Generator(1)),
    "exponential": lambda L, d: L.exponential(50, device=d, generator=L.Generator(1)),
    "gumbel": lambda L, d: L.gumbel(50, device=d, generator=L.Generator(1)),
    "multinomial": lambda L, d: (
        L.multinomial(L.arange(1, 6, device=d).float(), 4, generator=L.Generator(1)),
        L.multinomial(L.ones(3, 5, device=d), 9, replacement=True, generator=L.Generator(1)),
    ),
    "normal": lambda L, d: L.normal(L.zeros(50, device=d), 2.0, generator=L.Generator(1)),
    "rand": lambda L, d: (
        L.rand(50, device=d, generator=L.Generator(1)),
        L.rand(50, device=d, generator=L.Generator(1), dtype="float64"),
    ),
    "rand_like": lambda L, d: L.rand_like(L.zeros(50, device=d), generator=L.Generator(1)),
    "randint": lambda L, d: L.randint(-5, 9, (50,), device=d, generator=L.Generator(1)),
    "randint_like": lambda L, d: L.randint_like(L.zeros(50, device=d), 9, generator=L.Generator(1)),
    "randn": lambda L, d: L.randn(50, device=d, generator=L.Generator(1)),
    "randn_like": lambda L, d: L.randn_like(L.zeros(50, device=d), generator=L.Generator(1)),
    "randperm": lambda L, d: L.randperm(50, device=d, generator=L.Generator(1)),
}
OF_NO_DEVICE = {"allclose", "equal", "broadcast_shapes", "from_numpy"}


def assert_same(found: Any, expected: Any) -> None:
    values = expected if isinstance(expected, (tuple, list)) else (expected,)
    for a, b in zip(host(found), values, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b.numpy(), rtol=3e-6, atol=3e-6)  # float32 normals differ in a last digit


@pytest.mark.parametrize("name", ON_DEVICE)
def test_what_has_no_derivative_is_the_cpus(name):
    f = ON_DEVICE[name]
    assert_same(f(SG, sg.tensor(X).to("cuda"), sg.tensor(WHOLE).to("cuda")), f(SG, sg.tensor(X), sg.tensor(WHOLE)))


@pytest.mark.parametrize("name", CREATED)
def test_what_is_made_on_the_device_is_the_cpus_and_random_numbers_are_the_same(name):
    assert_same(CREATED[name](SG, "cuda"), CREATED[name](SG, "cpu"))


def test_no_public_function_is_missing_here():
    tested = {*ON_DEVICE, *CREATED, *OF_NO_DEVICE}
    assert set(WITHOUT_DERIVATIVE) <= tested


def test_comparisons_as_a_whole():
    x, y = sg.tensor([1.0, 2.0]).to("cuda"), sg.tensor([1.0, 2.0 + 1e-7]).to("cuda")
    assert sg.allclose(x, y)
    assert sg.equal(x, x)
    assert not sg.equal(x, y * 2)


# --- changes in place


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.add_(2.0),
        lambda x: x.mul_(x * 0.5),
        lambda x: x.clamp_(-1, 1),
        lambda x: x.lerp_(x * 0, 0.3),
        lambda x: x.addcmul_(x, x, value=0.5),
        lambda x: x.copy_(sg.tensor([[1.0], [2.0]])),
        lambda x: x.fill_(3),
        lambda x: x.zero_(),
        lambda x: x.uniform_(-1, 1, generator=sg.Generator(2)),
        lambda x: x.normal_(generator=sg.Generator(2)),
        lambda x: x.exponential_(generator=sg.Generator(2)),
        lambda x: x.bernoulli_(0.3, generator=sg.Generator(2)),
        lambda x: x.__setitem__((0, slice(1, None)), 7.0) or x,
        lambda x: x.__setitem__(x > 0, 0.0) or x,
        lambda x: x.__setitem__(sg.tensor([1, 1]).to(x.device), 5.0) or x,
    ],
)
def test_changes_in_place_are_the_cpus(change):
    values = np.array([[1.5, -2.0, 0.5], [0.25, 3.0, -1.0]], np.float32)
    there, here = sg.tensor(values).to("cuda"), sg.tensor(values)
    memory = there.array
    change(there)
    change(here)
    assert there.array is memory
    assert_same(there, here)


def test_a_saved_value_changed_in_place_is_noticed_on_the_device():
    x = sg.tensor([1.0, 2.0]).to("cuda").requires_grad_()
    w = sg.tensor([3.0, 4.0, 5.0]).to("cuda")
    y = (x * w[1:]).sum()
    w.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# --- training


def trained(device: str, make: Callable[[Any], optim.Optimizer]) -> list[np.ndarray]:
    """Weights and buffers after three steps with clipped gradients."""
    sg.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3),
    ).double().to(device)  # fmt: skip
    x = sg.randn(5, 1, 4, 4, generator=sg.Generator(1), dtype="float64").to(device)
    target = sg.tensor([0, 2, 1, 1, 0]).to(device)
    optimizer = make(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        nn.utils.clip_grad_value_(model.parameters(), 0.2)
        optimizer.step()
    assert all(t.device is sg.device(device) for t in [*model.parameters(), *model.buffers()])
    return [t.numpy(force=True) for t in [*model.parameters(), *model.buffers()]]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.Adamax(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, lr=0.01),
    ],
)
def test_training_gives_the_weights_that_it_gives_on_the_cpu(make):
    for a, b in zip(trained("cuda", make), trained("cpu", make), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_checkpoint_draws_the_same_numbers_on_the_device():
    x = sg.tensor(np.linspace(-1, 1, 50)).to("cuda").requires_grad_()

    def f(x: sg.Tensor) -> sg.Tensor:
        return nn.functional.dropout(x * x, 0.5)

    sg.manual_seed(3)
    (plain,) = sg.grad(f(x).sum(), x)
    sg.manual_seed(3)
    (again,) = sg.grad(sg.checkpoint(f, x).sum(), x)
    assert on_device(again)
    np.testing.assert_array_equal(again.array.get(), plain.array.get())


# --- between devices


def test_moves_are_differentiable_both_ways():
    x = sg.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("cuda")
    z = (y * y).cpu() * x
    assert on_device(y)
    (g,) = sg.grad(z.sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), [3.0, 12.0])
    (gg,) = sg.grad(g.sum(), x)
    np.testing.assert_array_equal(gg.numpy(), [6.0, 12.0])


def test_mixing_devices_names_both_tensors():
    with pytest.raises(RuntimeError, match=r"add: inputs are on different devices: \[2\] on cpu and \[3\] on cuda:0"):
        sg.ones(2) + sg.ones(3, device="cuda")
    x = sg.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match=r"gradient on cpu for an output on cuda:0"):
        (x * 2).backward(sg.ones(2))


def test_arrays_of_the_device_become_tensors_of_it_and_leave_it_only_when_told():
    x = sg.tensor([1.0, 2.0]).to("cuda")
    assert sg.as_tensor(x.array).device is sg.device("cuda")
    with pytest.raises(RuntimeError, match=r"x.cpu\(\).numpy\(\)"):
        x.numpy()
    np.testing.assert_array_equal(x.numpy(force=True), [1.0, 2.0])
    assert (x.tolist(), x.sum().item(), float(x[0])) == ([1.0, 2.0], 3.0, 1.0)
    assert repr(x) == "tensor([1., 2.], device='cuda:0')"


def test_tensors_of_the_device_are_pickled_through_the_host():
    x = pickle.loads(pickle.dumps(sg.tensor([1.0, 2.0]).to("cuda").requires_grad_()))
    assert on_device(x)
    assert x.requires_grad
    np.testing.assert_array_equal(x.numpy(force=True), [1.0, 2.0])


def test_debug_finds_what_is_not_a_number_on_the_device():
    x = sg.tensor([1.0, 0.0]).to("cuda").requires_grad_()
    with sg.debug(), pytest.raises(FloatingPointError, match=r"^div\(.*from finite inputs"):
        (1.0 / x).sum()
    with sg.debug():
        (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.array.get(), [2.0, 0.0])


# --- the stand-in is strict


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: np.asarray(a),
        lambda a: np.array([a, a]),
        lambda a: a + np.ones(3),
        lambda a: np.ones(3) + a,
        lambda a: np.add(a, np.ones(3)),
        lambda a: np.concatenate([a, np.ones(3)]),
        lambda a: np.where(np.ones(3, bool), a, a),
        lambda a: np.where(a > 0, a, np.zeros(3)),
        lambda a: a[np.array([0, 1])],
        lambda a: a.__setitem__(0, np.ones(())),
        lambda a: np.spacing(a),
        lambda a: np.unstack(a),
        lambda a: np.add.reduce(a),
        lambda a: np.sum(a, initial=0),
        lambda a: a.sum(initial=0),
        lambda a: np.argsort(a, stable=True),
        lambda a: a.astype(object),
        lambda a: range(a.sum().astype(int)),
        lambda a: {a: 1},
        lambda a: np.add.at(a.astype(np.int64), a.astype(np.int64), 1),
    ],
)
def test_what_cupy_refuses_is_refused(wrong, cupy):
    with pytest.raises((TypeError, ValueError)):
        wrong(cupy.asarray(np.arange(3.0)))


def test_what_cupy_does_is_done(cupy):
    a = cupy.asarray(np.arange(6.0).reshape(2, 3))
    assert type(np.exp(a)) is type(a.sum()) is type(a[0, 0]) is type(np.linalg.inv(a @ a.T)) is fake_cupy.ndarray
    assert a.T.base is a.T[0].base is a
    assert (a + 1).base is None
    assert a.T.flags.f_contiguous
    view, before = a[0], a.get()
    view += 1
    np.testing.assert_array_equal(a.get(), before + [[1], [0]])
    np.testing.assert_array_equal(cupy.asnumpy(cupy.log(cupy.zeros(2))), [-np.inf] * 2)  # and no warning
    with pytest.raises(ValueError, match="broadcast"):
        a + cupy.ones(4)
