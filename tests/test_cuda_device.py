"""The device ``emu``: layers and models on the CUDA kernels, and how a kernel reaches a GPU where there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types

import fake_cupy
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import data, kernels, nn
from scratchgen.kernels import launch
from scratchgen.kernels.launch import Changed, Module, Out
from scratchgen.recipes.vae import VAERecipe

emulates = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")


@emulates
def test_the_vae_trains_as_on_the_cpu():
    def losses(device):
        config = VAERecipe.configure("tiny", "digits", hidden=(32,), latent=4, batch_size=32)
        made = VAERecipe(config, data.load("digits"), sg.Device(device), 0)
        assert {p.device for p in made.model.parameters()} == {sg.Device(device)}
        return [made.step()["neg_elbo"] for _ in range(4)]

    np.testing.assert_allclose(losses("emu"), losses("cpu"), rtol=1e-5)


@emulates
def test_training_on_emu_runs_cuda_kernels(monkeypatch):
    ran = []
    original = Module.launch
    monkeypatch.setattr(Module, "launch", lambda self, name, *a, **k: (ran.append(name), original(self, name, *a, **k)))
    net = nn.Sequential(nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 3)).to("emu")
    optimizer = sg.optim.AdamW(net.parameters())
    x = sg.randn(4, 6, device="emu")
    nn.functional.softmax(net(x), -1).square().sum().backward()
    optimizer.step()
    kinds = {name.partition("<")[0] for name in ran}
    assert any(kind.startswith("matmul_") for kind in kinds)
    assert {kind for kind in kinds if not kind.startswith("matmul_")} == {
        "philox_normal", "activation", "activation_vjp", "softmax_registers", "softmax_vjp_registers", "column_sums",
        "adam_many",
    }  # fmt: skip


@emulates
def test_second_order_on_emu_is_that_of_the_cpu():
    def second(device):
        x = sg.tensor(np.linspace(-2, 2, 12).reshape(3, 4), dtype="float32", device=device, requires_grad=True)
        y = (nn.functional.softmax(nn.functional.silu(x), 1) * sg.arange(4, device=device)).sum()
        (g,) = sg.grad(y, x, create_graph=True)
        (h,) = sg.grad((g * g).sum(), x)
        assert h.device is sg.Device(device)
        return h.numpy()

    np.testing.assert_allclose(second("emu"), second("cpu"), atol=1e-6)


def test_mixing_devices_raises_and_names_both():
    with pytest.raises(RuntimeError, match=r"\[2\] on cpu and \[2\] on emu"):
        sg.ones(2) + sg.ones(2, device="emu")


def test_float64_takes_the_reference():
    x = np.zeros((2, 3))
    assert kernels.select("softmax", "emu", (x,), {"dim": 1}).impl == "reference"
    assert kernels.select("softmax", "emu", (x.astype(np.float32),), {"dim": 1}).impl == "cuda"
    assert kernels.select("softmax", "cuda", (x.astype(np.float16),), {"dim": 1}).impl == "cuda"


def test_import_needs_neither_cupy_nor_a_compiler():
    code = """
import sys, os
os.environ["CXX"], os.environ["PATH"] = "none", ""
import scratchgen as sg
from scratchgen.kernels.launch import all_modules
assert len(all_modules()) > 5
print(sg.nn.functional.softmax(sg.ones(3), 0).tolist(), "cupy" in sys.modules)
sg.ones(2, device="cuda")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.endswith("False\n"), ran.stderr
    assert "RuntimeError: device 'cuda' needs CuPy: pip install" in ran.stderr


def _on(device, value):
    if isinstance(value, tuple):
        return tuple(_on(device, v) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    cast = value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
    return device.array(cast) if device is not np else cast


GPU_OPS = [
    op for op in kernels.comparable() if any("emu" in k.device.split() for k in kernels.implementations(op).values())
]


@emulates
@pytest.mark.parametrize("op", GPU_OPS)
def test_on_cupy_arrays_a_kernels_python_does_the_same(op):
    """On the strict stand-in for CuPy, whose RawModule is the emulator: to the last bit what ``emu`` returns."""
    kernel = kernels.implementations(op, "emu")["cuda"]

    def size(case):
        fits = kernel.when is None or kernel.when(*case.arrays, **case.attrs)
        return sum(a.size for a in case.arrays if isinstance(a, np.ndarray)) if fits else 0

    cases = sys.modules["scratchgen.kernels.compare"]._cases[op](np.random.default_rng(0))
    with fake_cupy.installed() as cupy:
        for case in sorted((c for c in cases if size(c)), key=size)[:8]:
            here, there = (
                kernel.fn(*_on(xp, case.arrays), **{name: _on(xp, value) for name, value in case.attrs.items()})
                for xp in (np, cupy)
            )
            pairs = zip(here, there, strict=True) if isinstance(here, tuple) else [(here, there)]
            for a, b in pairs:
                assert (a is None) == (b is None)
                if a is not None:
                    np.testing.assert_array_equal(a, b.get(), err_msg=case.name)
                    assert (a.dtype, a.shape) == (b.dtype, b.shape)


@emulates
def test_large_arrays_of_cupys_take_kernels_for_what_is_a_ufunc_or_a_function_elsewhere(monkeypatch):
    ran = []
    original = Module.launch
    monkeypatch.setattr(Module, "launch", lambda self, name, *a, **k: (ran.append(name), original(self, name, *a, **k)))

    def gradients(device):
        sg.manual_seed(1)
        x, w = (sg.randn(300, n).to(device).requires_grad_() for n in (300, 250))
        index = sg.tensor(np.arange(300)[::-1].copy(), device=device)
        y = sg.cat([x, nn.functional.embedding(index, w)], 1) + sg.arange(550, dtype=sg.float32).to(device)
        (y * y).sum(0).sum().backward()
        return x.grad.numpy(force=True), w.grad.numpy(force=True)

    here = gradients("cpu")
    with fake_cupy.installed():
        there = gradients("cuda")
    for a, b in zip(here, there):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    kinds = {name.partition("<")[0] for name in ran}
    assert {"cat", "add_spread", "take_rows", "sum_middle", "scatter_add"} <= kinds


class FakeArray:
    """As much of a CuPy array as a launch looks at."""

    def __init__(self, array):
        self.dtype, self.shape, self.ndim, self.size = array.dtype, array.shape, array.ndim, array.size
        self.itemsize, self.flags = array.itemsize, array.flags
        self.data = types.SimpleNamespace(ptr=array.ctypes.data)


def test_on_a_gpu_a_kernel_is_compiled_once_and_launched_through_cupy(monkeypatch):
    calls = []

    class Function:
        max_dynamic_shared_size_bytes = 0

        def __call__(self, grid, block, arguments, shared_mem):
            calls.append((grid, block, arguments, shared_mem, self.max_dynamic_shared_size_bytes))

    class RawModule:
        def __init__(self, *, code, options, name_expressions):
            calls.append((code, options, name_expressions))

        def get_function(self, name):
            calls.append(name)
            return Function()

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=FakeArray, RawModule=RawModule))
    monkeypatch.setitem(launch.MODULES, "ema/ema.cu", None)  # gives back what is there now, or nothing
    module = Module("ema/ema.cu", "ema")
    a, b = FakeArray(np.zeros(3, np.float32)), FakeArray(np.zeros(3, np.float32))
    module.launch("ema", 2, (8, 4), Changed(a), b, None, np.int64(3), np.float32(0.5))
    module.launch("ema", (1, 2), 32, Out(a), b, shared=100_000)
    compiled, *launched = calls
    assert compiled == (module.path.read_text(), ("-std=c++17", f"-I{launch.ROOT}"), ["ema"])
    assert launched == [
        "ema", ((2, 1, 1), (8, 4, 1), (a, b, 0, 3, 0.5), 0, 0),
        "ema", ((1, 2, 1), (32, 1, 1), (a, b), 100_000, 100_000),
    ]  # fmt: skip
