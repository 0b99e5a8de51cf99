"""Adam and its family: steps scaled by running moments of the gradient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import mark_changed
from ..device import Device
from ..tensor import Tensor
from .optimizer import Optimizer, gradient, zeros_like


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015). ``amsgrad``: divide by the largest second moment so far (Reddi et al. 2018).

    ``weight_decay`` is added to the gradient, or with ``decoupled_weight_decay`` shrinks the parameter itself.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def update_all(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """All parameters of a device that have taken equally many steps go into one call."""
        if not params or group["amsgrad"] or "adam" in kernels.overrides():
            super().update_all(params, group)
            return
        together: defaultdict[tuple[int, Device], list[Tensor]] = defaultdict(list)
        for param in params:
            together[self._counted(param, self.state[param], group), param.device].append(param)
        for (step, device), alike in together.items():
            moments = [[self.state[p][name].array for p in alike] for name in ("exp_avg", "exp_avg_sq")]
            arrays = ([p.array for p in alike], [p.grad.array for p in alike], *moments)  # type: ignore[union-attr]
            chosen = kernels.select("adam_many", device.type, (alike[0].array,), {})
            chosen.fn(*arrays, step=step, **self._options(group))
            for array in chain(arrays[0], *moments):
                mark_changed(array)

    def _counted(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> int:
        """Begin the state if there is none; the number of the step to come."""
        if not state:
            state["step"] = 0
            state["exp_avg"] = zeros_like(param)
            state["exp_avg_sq"] = zeros_like(param)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = zeros_like(param)
        state["step"] += 1
        return int(state["step"])

    def _options(self, group: dict[str, Any]) -> dict[str, Any]:
        return {
            "lr": float(group["lr"]),
            "betas": group["betas"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "decoupled": group["decoupled_weight_decay"],
            "maximize": group["maximize"],
        }

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        step = self._counted(param, state, group)
        arrays = (
            param.array,
            param.grad.array,  # type: ignore[union-attr]  # step() skips parameters without a gradient
            state["exp_avg"].array,
            state["exp_avg_sq"].array,
            state["max_exp_avg_sq"].array if group["amsgrad"] else None,
        )
        kernels.select("adam", param.device.type, arrays, {}).fn(*arrays, step=step, **self._options(group))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)


class Adamax(Optimizer):
    """Adam with the infinity norm in place of the second moment (Kingma & Ba 2015, algorithm 2)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["exp_avg"] = zeros_like(param)
            state["exp_inf"] = zeros_like(param)
        state["step"] += 1
        grad = gradient(param, group)
        beta1, beta2 = group["betas"]
        exp_avg, exp_inf = state["exp_avg"].array, state["exp_inf"].array
        exp_avg += (1 - beta1) * (grad - exp_avg)
        exp_inf *= beta2
        np.maximum(exp_inf, np.abs(grad) + group["eps"], out=exp_inf)
        step_size = float(group["lr"]) / (1 - beta1 ** state["step"])
        param.array -= step_size * exp_avg / exp_inf
