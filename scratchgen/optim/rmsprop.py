"""RMSprop: steps divided by how large the gradient has been lately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .optimizer import Optimizer, gradient, zeros_like


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Hinton 2012; ``centered``: Graves 2013)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        self._at_least_0(group, "alpha")

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["square_avg"] = zeros_like(param)
            if group["momentum"] > 0:
                state["momentum_buffer"] = zeros_like(param)
            if group["centered"]:
                state["grad_avg"] = zeros_like(param)
        state["step"] += 1
        grad, alpha, lr = gradient(param, group), group["alpha"], float(group["lr"])
        square_avg = state["square_avg"].array
        square_avg *= alpha
        square_avg += (1 - alpha) * (grad * grad)
        variance = square_avg
        if group["centered"]:
            grad_avg = state["grad_avg"].array
            grad_avg += (1 - alpha) * (grad - grad_avg)
            variance = square_avg - grad_avg * grad_avg
        scaled = grad / (np.sqrt(variance) + group["eps"])
        if group["momentum"] > 0:
            buf = state["momentum_buffer"].array
            buf *= group["momentum"]
            buf += scaled
            scaled = buf
        param.array -= lr * scaled
