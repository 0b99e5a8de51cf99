"""Stochastic gradient descent with momentum, plain or Nesterov's (Sutskever et al. 2013): the specification.

As other optimizers' kernels do, it updates in place.
"""

from __future__ import annotations

from typing import Any

from ..registry import Cost, kernel


def sgd_many_cost(params: Any, grads: Any, buffers: Any, **_: Any) -> Cost:
    """Reads gradient, parameter and momentum once; writes all but the gradient."""
    size, moved = sum(p.size for p in params), sum(p.nbytes for p in params)
    return Cost(bytes=(5 if buffers else 3) * moved, flops=(7 if buffers else 4) * size)


@kernel("sgd_many", cost=sgd_many_cost)
def sgd_many(
    params: list[Any],
    grads: list[Any],
    buffers: list[Any],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """A step of each parameter, in place, with options alike for all: lists of arrays, each with its gradient.

    ``buffers``: the momentum of each, or no list of it if ``momentum`` is 0. With g the gradient, negated to maximize,
    plus ``weight_decay`` times the parameter: ``buffer = momentum buffer + (1 - dampening) g``, and the parameter goes
    down by ``lr buffer``, in Nesterov's form by ``lr (g + momentum buffer)``, without momentum by ``lr g``.
    """
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if maximize:
            grad = -grad
        if weight_decay:
            grad = grad + weight_decay * param
        if momentum:
            buffer = buffers[i]
            buffer *= momentum
            buffer += (1 - dampening) * grad
            grad = grad + momentum * buffer if nesterov else buffer
        param -= lr * grad
