"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

from .. import kernels
from ..autograd import mark_changed
from ..device import Device
from ..tensor import Tensor
from .optimizer import Optimizer, zeros_like


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

    def update_all(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """All parameters of a device that have momentum already go into one call, and so do those that begin."""
        together: defaultdict[tuple[Device, bool], list[Tensor]] = defaultdict(list)
        for param in params:
            together[param.device, self._has_begun(param, group)].append(param)
        options = {name: group[name] for name in ("momentum", "weight_decay", "nesterov", "maximize")}
        for (device, begun), alike in together.items():
            buffers = [self.state[p]["momentum_buffer"].array for p in alike] if group["momentum"] else []
            arrays = [p.array for p in alike], [p.grad.array for p in alike], buffers  # type: ignore[union-attr]
            damped = group["dampening"] if begun else 0.0
            chosen = kernels.select("sgd_many", device.type, (arrays[0][0],), {})
            chosen.fn(*arrays, lr=float(group["lr"]), dampening=damped, **options)
            for array in chain(arrays[0], buffers):
                mark_changed(array)

    def _has_begun(self, param: Tensor, group: dict[str, Any]) -> bool:
        """Whether there is momentum; if not, and there shall be, it begins at 0."""
        state = self.state[param]
        begun = state.get("momentum_buffer") is not None
        if group["momentum"] and not begun:
            state["momentum_buffer"] = zeros_like(param)
        return begun
