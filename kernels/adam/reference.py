"""Adam (Kingma & Ba 2015, algorithm 1), AdamW (Loshchilov & Hutter 2019) and AMSGrad: the specification.

Optimizer kernels are the documented exception to "a kernel never mutates its inputs": they update the parameter and
its moments in place and return the arrays they changed, so that implementations can be compared on copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import Cost, kernel


def adam_cost(param: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, **_: Any) -> Cost:
    """Reads gradient, parameter and moments once; writes all but the gradient."""
    moments = 2 if max_exp_avg_sq is None else 3
    return Cost(bytes=(1 + 2 * (1 + moments)) * param.nbytes, flops=14 * param.size)


@kernel("adam", cost=adam_cost)
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
    """Step number ``step`` (from 1) in place; returns the changed arrays. All arrays have one shape and one dtype.

    ``decoupled``: shrink the parameter by ``1 - lr * weight_decay`` (AdamW) instead of adding ``weight_decay * param``
    to the gradient. ``max_exp_avg_sq``: the running maximum that AMSGrad divides by, or None.
    """
    beta1, beta2 = betas
    step_size = lr / (1 - beta1**step)
    correction2 = (1 - beta2**step) ** 0.5  # sqrt of the bias correction of the second moment

    if maximize:
        grad = -grad
    if weight_decay and decoupled:
        param *= 1 - lr * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * (grad * grad)
    second = exp_avg_sq
    if max_exp_avg_sq is not None:
        second = np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    param -= step_size * exp_avg / (np.sqrt(second) / correction2 + eps)
    return tuple(a for a in (param, exp_avg, exp_avg_sq, max_exp_avg_sq) if a is not None)


def adam_many_cost(params: Any, *_: Any, **__: Any) -> Cost:
    """As ``adam``, of each."""
    return Cost(bytes=7 * sum(p.nbytes for p in params), flops=14 * sum(p.size for p in params))


@kernel("adam_many", cost=adam_many_cost)
def adam_many(params: Any, grads: Any, exp_avgs: Any, exp_avg_sqs: Any, **options: Any) -> None:
    """``adam`` without AMSGrad of each of the parameters, lists of arrays; with ``options`` alike for all."""
    for arrays in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        adam(*arrays, **options)
