"""Activations in CUDA C++: one kernel for all, with the function as a template argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..launch import TYPES, Module, Out, begins_at_multiples_of, blocks_for
from ..layout import flat
from ..registry import kernel
from .reference import corner_cost, corner_vjp_cost, value_cost, vjp_cost

FUNCTIONS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "silu": "Silu",
    "gelu": "Gelu",
    "softplus": "Softplus",
    "logsigmoid": "LogSigmoid",
    "mish": "Mish",
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
}
OF_OUTPUT = ("sigmoid", "tanh", "relu")  # whose derivative is a function of the output
MODULE = Module(
    "activation/activation.cu",
    *(
        f"{kind}<{t}, {function}>"
        for t in TYPES.values()
        for function in (*FUNCTIONS.values(), "GeluTanh")
        for kind in ("activation", "activation_vjp")
    ),
)


def _run(kind: str, function: str, *arrays: Any, a: float = 0.0, b: float = 0.0) -> Any:
    out = np.empty_like(arrays[0])
    rows = flat(out, *arrays)
    aligned = all(begins_at_multiples_of(16, row) for row in rows)
    name = f"{kind}<{TYPES[out.dtype.name]}, {function}>"
    arguments = (*rows[1:], Out(rows[0]), np.int64(out.size), np.int32(aligned), np.float32(a), np.float32(b))
    MODULE.launch(name, *blocks_for(out.size, 16 // out.itemsize), *arguments)
    return out


def _numbers(approximate: str = "none", beta: float = 0, threshold: float = 0, slope: float = 0) -> dict[str, float]:
    return {"a": beta or slope, "b": threshold}


def _declare(op: str, function: str) -> None:
    corner = op.endswith("relu")
    options: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}

    def named(attrs: dict[str, Any]) -> str:
        return "GeluTanh" if attrs.get("approximate") == "tanh" else function

    @kernel(op, cost=corner_cost if corner else value_cost, **options)
    def value(x: Any, **attrs: Any) -> Any:
        return _run("activation", named(attrs), x, **_numbers(**attrs))

    @kernel(f"{op}_vjp", cost=corner_vjp_cost if corner else vjp_cost, **options)
    def vjp(g: Any, y: Any, x: Any, **attrs: Any) -> Any:
        return _run("activation_vjp", named(attrs), g, y if op in OF_OUTPUT else x, **_numbers(**attrs))


for _op, _function in FUNCTIONS.items():
    _declare(_op, _function)
