"""Adam in CUDA C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..launch import Changed, Module, blocks_for
from ..registry import kernel
from .reference import adam_cost

MODULE = Module("adam/adam.cu", "adam")
STEP = np.dtype(
    [
        (name, np.float32)
        for name in ("sign", "l2", "shrink", "rate1", "beta2", "rate2", "step_size", "correction2", "eps")
    ]
)


def _in_one_run(param: Any, grad: Any, *moments: Any, **_: Any) -> bool:
    changed = [param, *(a for a in moments if a is not None)]
    return grad.dtype == param.dtype and all(a.dtype == param.dtype and a.flags.c_contiguous for a in changed)


@kernel("adam", impl="cuda", device="cuda emu", dtypes="f4", when=_in_one_run, cost=adam_cost)
def adam(
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any = None,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
) -> tuple[Any, ...]:
    """One step in place."""
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
    changed = (exp_avg, exp_avg_sq, max_exp_avg_sq)
    MODULE.launch(
        "adam",
        *blocks_for(param.size),
        Changed(param),
        grad if grad.flags.c_contiguous else grad.copy(order="C"),
        *map(Changed, changed),
        np.int64(param.size),
        np.array(numbers, STEP)[()],
    )
    return tuple(a for a in (param, *changed) if a is not None)
