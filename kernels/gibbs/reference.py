"""Block Gibbs sampling of a restricted Boltzmann machine: the specification.

Given the visible units the hidden ones are independent, and the other way round, so a step of a chain draws all of
one layer and then all of the other. Chains may run at temperatures of their own, between a model of independent
visible units (beta 0) and the machine (beta 1), which is what tempering and annealing need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import array_module
from ..philox.reference import philox_normal, philox_uniform
from ..registry import Cost, kernel


def blocks_of(units: int) -> int:
    """Blocks of four random words that a layer takes for each chain."""
    return -(-units // 4)


def words(chains: int, visible: int, hidden: int, steps: int) -> int:
    """Random words of 32 bits that a call takes out of its stream."""
    return 4 * steps * chains * (blocks_of(visible) + blocks_of(hidden))


def gibbs_cost(v: Any, weight: Any, *_: Any, steps: int, **__: Any) -> Cost:
    """Two products for each step; weights and chains are read once, the results written. A draw counts as 35."""
    hidden, visible = weight.shape
    products, draws = 4 * len(v) * visible * hidden, 35 * len(v) * (visible + hidden)
    moved = 3 * v.nbytes + weight.nbytes + len(v) * hidden * v.itemsize
    return Cost(bytes=moved, flops=steps * (products + draws))


def _sigmoid(x: Any) -> Any:
    xp = array_module(x)
    e = xp.exp(-abs(x))
    return xp.where(x < 0, e, 1) / (1 + e)


@kernel("gibbs", cost=gibbs_cost)
def gibbs(
    v: Any,
    weight: Any,
    visible_bias: Any,
    hidden_bias: Any,
    beta: Any = None,
    base: Any = None,
    clamped: Any = None,
    *,
    key: Any,
    counter: int,
    steps: int,
    gaussian: bool = False,
) -> tuple[Any, Any, Any]:
    """Run chains from the visible units ``v`` [n, visible] for ``steps`` steps, at least one:

        h ~ Bernoulli(sigmoid(beta (weight v + hidden_bias)))
        v ~ Bernoulli(sigmoid(m)), or N(m, 1):   m = beta (weight' h + visible_bias) + (1 - beta) base

    ``weight`` [hidden, visible]; ``beta`` [n], by default 1, with ``base`` [visible]; ``clamped``, bools of the shape
    of ``v``: these units stay as they are. Returns v, the mean it was last drawn from, and the h that this is given.

    The numbers are those of stream ``key`` from block ``counter`` on: in each step a layer of hidden, then one of
    visible units, each chain in whole blocks of four. Uniform ones have 24 bits in every dtype.
    """
    xp = array_module(v)
    chains, hidden = len(v), len(hidden_bias)

    def draws(fill: Any, units: int, dtype: Any) -> Any:
        nonlocal counter
        blocks = blocks_of(units)
        numbers = fill(key, counter=counter, count=4 * chains * blocks, dtype=dtype)
        counter += chains * blocks
        return numbers.reshape(chains, 4 * blocks)[:, :units]

    x = v
    mean, h = v, xp.zeros((chains, hidden), v.dtype)
    for _ in range(steps):
        z = x @ weight.T + hidden_bias
        if beta is not None:
            z = beta[:, None] * z
        h = (draws(philox_uniform, hidden, np.float32) < _sigmoid(z)).astype(v.dtype)
        m = h @ weight + visible_bias
        if beta is not None:
            m = beta[:, None] * m + (1 - beta[:, None]) * base
        if gaussian:
            mean, x = m, m + draws(philox_normal, v.shape[1], v.dtype)
        else:
            mean = _sigmoid(m)
            x = (draws(philox_uniform, v.shape[1], np.float32) < mean).astype(v.dtype)
        if clamped is not None:
            mean, x = xp.where(clamped, v, mean), xp.where(clamped, v, x)
    return x, mean, h
