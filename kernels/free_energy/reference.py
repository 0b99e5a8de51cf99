"""The free energy of a restricted Boltzmann machine: the specification."""

from __future__ import annotations

from typing import Any

from ..arrays import array_module
from ..matmul.reference import linear, matmul
from ..registry import Cost, kernel


def value_cost(v: Any, weight: Any, *_: Any) -> Cost:
    """A product, and its terms; reads units and weights, writes what the hidden units are expected to be."""
    hidden, visible = weight.shape
    moved = v.nbytes + weight.nbytes + len(v) * hidden * v.itemsize
    return Cost(bytes=moved, flops=len(v) * (2 * visible * (hidden + 1) + 30 * hidden))


def vjp_cost(g: Any, y: Any, v: Any, weight: Any, *_: Any, needs: tuple[bool, ...]) -> Cost:
    """A product for the units and one for the weights, where they are needed."""
    hidden, visible = weight.shape
    rows = len(v) * hidden * v.itemsize
    wanted = needs[0] + needs[1]
    return Cost(bytes=2 * rows + wanted * (v.nbytes + weight.nbytes), flops=2 * wanted * len(v) * hidden * visible)


@kernel("free_energy", cost=value_cost)
def free_energy(v: Any, weight: Any, visible_bias: Any, hidden_bias: Any, hidden_offset: Any) -> tuple[Any, Any]:
    """Of each row of visible units ``v`` [n, visible], with z = weight v + hidden_bias:

        F = -v'visible_bias - sum_j (log(1 + e^z_j) - hidden_offset_j z_j)

    ``weight`` [hidden, visible]. Returns F [n], and sigmoid(z) - hidden_offset [n, hidden] for the gradient.
    """
    xp = array_module(v)
    z = linear(v, weight, hidden_bias)
    e = xp.exp(-xp.abs(z))
    softplus = xp.maximum(z, 0) + xp.log1p(e)
    energy = -matmul(v, visible_bias[:, None])[:, 0] - (softplus - hidden_offset * z).sum(1)
    return energy, xp.where(z < 0, e, 1) / (1 + e) - hidden_offset


@kernel("free_energy_vjp", cost=vjp_cost)
def free_energy_vjp(
    g: Any,
    y: None,
    v: Any,
    weight: Any,
    visible_bias: Any,
    hidden_bias: Any,
    hidden_offset: Any,
    activity: Any,
    *,
    needs: tuple[bool, ...],
) -> tuple[Any, ...]:
    """Gradients in v, weight, both biases and the offsets; ``activity`` is what ``free_energy`` returned beside F."""
    signed = -g[:, None] * activity
    return (
        matmul(signed, weight) - g[:, None] * visible_bias if needs[0] else None,
        matmul(signed.T, v) if needs[1] else None,
        matmul(-g[None], v)[0] if needs[2] else None,
        signed.sum(0) if needs[3] else None,
        matmul(g[None], linear(v, weight, hidden_bias))[0] if needs[4] else None,
    )
