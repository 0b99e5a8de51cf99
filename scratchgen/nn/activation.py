"""Activations as modules: ``torch.nn``'s names, arguments and defaults.

``inplace``, which saves memory in torch, is accepted and changes nothing: results never overwrite inputs.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..device import Device
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter


class _Plain(Module):
    """An activation that has no parameters but ``inplace``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_Plain):
    """``max(x, 0)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.relu(input)


class ReLU6(_Plain):
    """``min(max(x, 0), 6)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.relu6(input)


class SELU(_Plain):
    """ELU scaled so that activations keep mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.selu(input)


class SiLU(_Plain):
    """``x sigmoid(x)``, also called swish."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.silu(input)


class Mish(_Plain):
    """``x tanh(softplus(x))`` (Misra 2019)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.mish(input)


class Hardsigmoid(_Plain):
    """``min(max(x + 3, 0), 6) / 6``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardsigmoid(input)


class Hardswish(_Plain):
    """``x min(max(x + 3, 0), 6) / 6`` (Howard et al. 2019)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardswish(input)


class _Parametric(Module):
    """An activation with numbers of its own, which are attributes named as its arguments."""

    arguments: tuple[str, ...]
    inplace = False

    def extra_repr(self) -> str:
        text = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments)
        return text + (", inplace=True" if self.inplace else "")


class LeakyReLU(_Parametric):
    """``x`` if positive, else ``negative_slope x``."""

    arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.leaky_relu(input, self.negative_slope)


class ELU(_Parametric):
    """``x`` if positive, else ``alpha (exp(x) - 1)`` (Clevert et al. 2016)."""

    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.elu(input, self.alpha)


class CELU(_Parametric):
    """``x`` if positive, else ``alpha (exp(x / alpha) - 1)`` (Barron 2017)."""

    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.celu(input, self.alpha)


class Hardtanh(_Parametric):
    """``x`` clamped to ``[min_val, max_val]``."""

    arguments = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardtanh(input, self.min_val, self.max_val)


class Threshold(_Parametric):
    """``x`` if above ``threshold``, else ``value``."""

    arguments = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.threshold(input, self.threshold, self.value)


class Softplus(_Parametric):
    """``log(1 + exp(beta x)) / beta``; ``x`` itself where ``beta x`` is above ``threshold``."""

    arguments = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return ops.softplus(input, self.beta, self.threshold)


class GELU(_Parametric):
    """``x`` times the normal distribution function (Hendrycks & Gimpel 2016), or its ``"tanh"`` approximation."""

    arguments = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return ops.gelu(input, self.approximate)


class GLU(_Parametric):
    """The first half of ``dim`` times the sigmoid of the second (Dauphin et al. 2017)."""

    arguments = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.glu(input, self.dim)


class Softmax(_Parametric):
    """``exp(x)`` over its sum along ``dim``."""

    arguments = ("dim",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.softmax(input, self.dim)


class LogSoftmax(Softmax):
    """The logarithm of the softmax along ``dim``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.log_softmax(input, self.dim)


class Softmin(Softmax):
    """The softmax of ``-x`` along ``dim``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.softmin(input, self.dim)


class PReLU(Module):
    """``x`` if positive, else ``weight x``, with one learnt slope or one for each channel (He et al. 2015)."""

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Device | str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(ops.empty((num_parameters,), dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All slopes ``init``."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return ops.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.sigmoid(input)


class LogSigmoid(Module):
    """``log(sigmoid(x))``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.logsigmoid(input)


class Tanh(Module):
    """``tanh(x)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.tanh(input)


class Tanhshrink(Module):
    """``x - tanh(x)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.tanhshrink(input)


class Softsign(Module):
    """``x / (1 + |x|)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.softsign(input)
