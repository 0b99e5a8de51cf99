"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer, gradient, zeros_like


class SGD(Optimizer):
    """Gradient descent with momentum, plain or Nesterov's (Sutskever et al. 2013), in torch's form.

    ``buf = momentum * buf + (1 - dampening) * grad`` (the first gradient starts it); ``param -= lr * buf``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and dampening 0")

    def update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        grad, momentum = gradient(param, group), group["momentum"]
        if momentum:
            started = state.get("momentum_buffer") is not None
            if not started:
                state["momentum_buffer"] = zeros_like(param)
            buf = state["momentum_buffer"].array
            buf *= momentum
            buf += (1 - group["dampening"]) * grad if started else grad
            grad = grad + momentum * buf if group["nesterov"] else buf
        param.array -= float(group["lr"]) * grad
