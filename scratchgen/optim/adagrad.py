"""Adagrad: steps divided by how large the gradient has been since the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .optimizer import Optimizer, gradient, zeros_like


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        for option in ("lr_decay", "initial_accumulator_value"):
            self._at_least_0(group, option)

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["sum"] = zeros_like(param)
            state["sum"].array += group["initial_accumulator_value"]
        state["step"] += 1
        grad, total = gradient(param, group), state["sum"].array
        total += grad * grad
        step_size = float(group["lr"]) / (1 + (state["step"] - 1) * group["lr_decay"])
        param.array -= step_size * grad / (np.sqrt(total) + group["eps"])
