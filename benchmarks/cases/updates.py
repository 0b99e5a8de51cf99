"""AdamW over ten million parameters: a stateful case, which has no gradient of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rows import FUSED
from .table import BOTH, Bar, Draw, Group, case, normal

MILLIONS = 10
OF_FUSED = Group("AdamW beside torch's fused=True")
BYTES = 28.0 * MILLIONS * 1e6  # read p, g, m, v; write p, m, v
UPDATE = Group(FUSED.name, {"update": Bar(FUSED.bars[BOTH].each)})


def adamw(fused: bool) -> Callable[..., Any]:
    """``fused``: PyTorch updates all parameters in one call, which is not its default."""

    def function(L: Any, *tensors: Any) -> tuple[Callable[[], Any], Callable[[], list]]:
        half = len(tensors) // 2
        parameters = [L.nn.Parameter(t) for t in tensors[:half]]
        for p, g in zip(parameters, tensors[half:]):
            p.grad = g
        optimizer = L.adamw(parameters, lr=1e-3, fused=fused)
        return optimizer.step, lambda: parameters

    return function


def many(count: int) -> list[Draw]:
    """Parameters and gradients in ``count`` matrices each."""
    shape = (MILLIONS * 1_000_000 // count // 250, 250)
    return [normal(*shape, scale=0.02, differentiate=False)] * count + [normal(*shape, differentiate=False)] * count


for count in 100, 1:
    name = f"AdamW 10M parameters in {count} tensor" + "s" * (count > 1)
    options = {"stateful": True, "directions": ("update",), "bytes": BYTES}
    case(name, UPDATE, adamw(False), *many(count), **options)
    case(f"{name}, torch fused=True", OF_FUSED, adamw(True), *many(count), **options)
