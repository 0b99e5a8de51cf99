"""Adam in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Changed, Module, blocks_for
from ..registry import kernel
from ..tables import THREADS, alike, tables
from . import reference
from .reference import adam_cost, adam_many_cost

MODULE = Module("adam/adam.cu", *(f"{name}<{t}>" for t in TYPES.values() for name in ("adam", "adam_many")))
STEP = np.dtype(
    [
        (name, np.float32)
        for name in ("sign", "l2", "shrink", "rate1", "beta2", "rate2", "step_size", "correction2", "eps")
    ]
)


def _in_one_run(param: Any, grad: Any, *moments: Any, **_: Any) -> bool:
    changed = [param, *(a for a in moments if a is not None)]
    return grad.dtype == param.dtype and all(a.dtype == param.dtype and a.flags.c_contiguous for a in changed)


def _step(
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
) -> Any:
    """The kernels' ``Step``."""
    beta1, beta2 = betas
    numbers = (
        -1.0 if maximize else 1.0,
        0.0 if decoupled else weight_decay,
        1.0 - lr * weight_decay if decoupled else 1.0,
        1 - beta1,
        beta2,
        1 - beta2,
        lr / (1 - beta1**step),
        (1 - beta2**step) ** 0.5,
        eps,
    )
    return np.array(numbers, STEP)[()]


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("adam", when=_in_one_run, cost=adam_cost, **_on_gpu)
def adam(
    param: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any = None, **options: Any
) -> tuple[Any, ...]:
    """One step in place."""
    changed = (exp_avg, exp_avg_sq, max_exp_avg_sq)
    MODULE.launch(
        f"adam<{TYPES[param.dtype.name]}>",
        *blocks_for(param.size),
        Changed(param),
        array_module(grad).ascontiguousarray(grad),
        *map(Changed, changed),
        np.int64(param.size),
        _step(**options),
    )
    return tuple(a for a in (param, *changed) if a is not None)


@kernel("adam_many", cost=adam_many_cost, **_on_gpu)
def adam_many(params: Any, grads: Any, exp_avgs: Any, exp_avg_sqs: Any, **options: Any) -> None:
    """One step of each in place."""
    grads = [array_module(g).ascontiguousarray(g) for g in grads]
    if not alike(params, grads, exp_avgs, exp_avg_sqs):
        for arrays in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
            (adam if _in_one_run(*arrays) else reference.adam)(*arrays, **options)
        return
    name, step = f"adam_many<{TYPES[params[0].dtype.name]}>", _step(**options)
    changed = [[Changed(a) for a in column] for column in (params, exp_avgs, exp_avg_sqs)]
    for table, blocks in tables(changed[0], grads, *changed[1:]):
        MODULE.launch(name, blocks, THREADS, table, step)
