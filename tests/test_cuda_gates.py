"""Every CUDA kernel compiles for every architecture with no GPU, spills nothing, and takes what the table says."""

from __future__ import annotations

import pytest

from scratchgen import kernels
from scratchgen.kernels import gates, nvrtc
from scratchgen.kernels.launch import ROOT, all_modules

MODULES = all_modules()
compiles = pytest.mark.skipif(not nvrtc.is_available(), reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")
UPDATE = "; after a change of CUDA sources run: python -m scratchgen.kernels.gates"


@compiles
@pytest.mark.parametrize(
    ("file", "architecture"), [(file, target) for file, module in MODULES.items() for target in module.architectures]
)
def test_every_instantiation_compiles_and_spills_nothing(file, architecture):
    golden = gates.evidence()[file]
    found = gates.resources(MODULES[file], architecture)
    assert {name: spilled for name, (_, spilled, _, _) in found.items() if spilled} == {}
    if golden["nvrtc"] == nvrtc.version():
        assert found == golden["resources"][architecture], f"registers or shared memory have changed{UPDATE}"
    least = gates.LEAST_WARPS.get(file, gates.USUAL_WARPS)
    assert min(warps for _, _, _, warps in found.values()) >= least, "too few warps to hide the latency of memory"


def test_the_table_is_of_these_sources():
    assert {file: entry["digest"] for file, entry in gates.evidence().items()} == {
        file: module.digest for file, module in MODULES.items()
    }, f"sources have changed{UPDATE}"
    assert all(entry["emulated"] for entry in gates.evidence().values())


def test_a_kernels_status_is_that_of_its_sources(monkeypatch):
    softmax = kernels.implementations("softmax", "emu")["cuda"]
    assert gates.status(softmax) == "compiled, emulated"
    assert gates.status(kernels.implementations("softmax", "cpu")["reference"]) == ""
    known = gates.evidence()
    entry = known["softmax/softmax.cu"]

    def with_entry(**changes):
        changed = {**known, "softmax/softmax.cu": {**entry, **changes}}
        monkeypatch.setattr(gates, "evidence", lambda: changed)
        return gates.status(softmax)

    run = {"name": "H200", "date": "2026-01-02", "digest": entry["digest"]}
    assert with_entry(gpu=[run]) == f"run on H200 (2026-01-02, source {entry['digest']})"
    assert with_entry(gpu=[{**run, "digest": "of other sources"}]) == "compiled, emulated"
    assert with_entry(emulated=None) == "compiled"
    assert with_entry(digest="other sources") == "-"


@compiles
def test_what_does_not_compile_says_why():
    with pytest.raises(nvrtc.CompileError, match='identifier "nothing" is undefined'):
        nvrtc.compile_kernels("__global__ void broken(float* y) { y[0] = nothing; }", ["broken"], "sm_80", ROOT)


@compiles
def test_an_instruction_that_an_architecture_lacks_does_not_pass():
    text = '__global__ void hopper() { asm volatile("wgmma.fence.sync.aligned;"); }'
    assert nvrtc.compile_kernels(text, ["hopper"], "sm_90a", ROOT)["hopper"].spilled == 0
    with pytest.raises(nvrtc.CompileError, match="wgmma"):
        nvrtc.compile_kernels(text, ["hopper"], "sm_80", ROOT)


@compiles
def test_products_that_wait_for_each_other_do_not_pass():
    text = """
    #include "hopper.cuh"
    template <bool TOUCHED>
    __global__ void products(float* y) {
        SWIZZLED_SHARED(memory);
        float sums[64] = {};
        sums_fence();
        multiply_async<half_t, 128, false, false>(sums, descriptor(memory), descriptor(memory));
        if (TOUCHED) sums[0] += 1;
        multiply_async<half_t, 128, false, false>(sums, descriptor(memory), descriptor(memory));
        products_commit();
        products_wait<0>();
        for (int i = 0; i < 64; i++) y[i * 128 + threadIdx.x] = sums[i];
    }
    """
    assert nvrtc.compile_kernels(text, ["products<false>"], "sm_90a", ROOT)["products<false>"].spilled == 0
    with pytest.raises(nvrtc.CompileError, match="serialized"):
        nvrtc.compile_kernels(text, ["products<true>"], "sm_90a", ROOT)


@compiles
def test_spills_are_seen():
    text = """
    __global__ void __launch_bounds__(1024) crowded(float* y) {
        float v[200];
        #pragma unroll
        for (int i = 0; i < 200; i++) v[i] = y[i * 1024 + threadIdx.x];
        #pragma unroll
        for (int i = 0; i < 200; i++) y[i * 1024 + threadIdx.x] = v[199 - i] * v[(i * 7) % 200];
    }
    """
    assert nvrtc.compile_kernels(text, ["crowded"], "sm_80", ROOT)["crowded"].spilled > 0
