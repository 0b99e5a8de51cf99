"""SiLU of group norm: the two specifications one after the other."""

from __future__ import annotations

from typing import Any

from ..activation.reference import silu, silu_vjp
from ..arrays import widen
from ..group_norm.reference import group_norm, group_norm_vjp
from ..registry import Cost, kernel
from ..sums import accurate_sum


def value_cost(x: Any, weight: Any, bias: Any, **_: Any) -> Cost:
    """Reads x and writes y once; an exponential and a division for each number count as 20."""
    return Cost(bytes=2 * x.nbytes, flops=28 * x.size)


def vjp_cost(g: Any, y: Any, x: Any, weight: Any, bias: Any, shift: Any, mean: Any, rstd: Any, **_: Any) -> Cost:
    """Reads g and x and writes dx once."""
    return Cost(bytes=3 * x.nbytes, flops=40 * x.size)


def shifted(x: Any, shift: Any) -> Any:
    """x, to all positions of which ``shift`` (N, C) is added if it is there."""
    return x if shift is None else x + shift.reshape(shift.shape + (1,) * (x.ndim - 2))


@kernel("group_norm_silu", cost=value_cost)
def group_norm_silu(
    x: Any, weight: Any, bias: Any, shift: Any = None, *, num_groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """y, and mean and 1 / standard deviation of each group.

    x: (N, C, ...); ``weight`` and ``bias``: (C,) or None; ``shift``: (N, C) or None.
    """
    u, mean, rstd = group_norm(shifted(widen(x), shift), weight, bias, num_groups=num_groups, eps=eps)
    return silu(u).astype(x.dtype, copy=False), mean, rstd


@kernel("group_norm_silu_vjp", cost=vjp_cost)
def group_norm_silu_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, shift: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, ...]:
    """Gradients in x, weight, bias and shift. What is between is computed again: it is cheaper than to read it."""
    wide = shifted(widen(x), shift)
    u, _, _ = group_norm(wide, weight, bias, num_groups=num_groups, eps=eps)
    du = silu_vjp(widen(g), None, u)
    dx, dweight, dbias = group_norm_vjp(du, None, wide, weight, bias, mean, rstd, num_groups=num_groups, eps=eps)
    dshift = None if shift is None else accurate_sum(dx, tuple(range(2, x.ndim))).reshape(shift.shape)
    return tuple(None if a is None else a.astype(x.dtype, copy=False) for a in (dx, dweight, dbias, dshift))
