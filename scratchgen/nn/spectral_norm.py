"""Spectral normalisation: a layer's weight divided by its largest singular value."""

from __future__ import annotations

from typing import Any, TypeVar

from .. import ops
from ..autograd import no_grad
from ..changes import mark_changed
from ..tensor import Tensor
from .conv import ConvTranspose1d, ConvTranspose2d
from .module import Module
from .parameter import Parameter

__all__ = ["spectral_norm"]

M = TypeVar("M", bound=Module)


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Divide the parameter ``name`` by its largest singular value from now on; returns ``module`` (torch.nn.utils).

    Miyato et al. 2018, "Spectral Normalization for GANs", algorithm 1: the singular vectors u, v are kept as buffers
    and follow the weight by ``n_power_iterations`` of the power method in each forward pass of training; they are
    constants for the gradient (eq. 12). The parameter itself becomes ``name_orig``. The weight is seen as a matrix
    whose rows run along ``dim``: 0, or 1 for transposed convolutions, whose outputs lie there.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Parameter):
        raise ValueError(f"spectral_norm: {type(module).__name__} has no parameter {name!r}")
    if n_power_iterations < 1:
        raise ValueError(f"spectral_norm: n_power_iterations must be at least 1, got {n_power_iterations}")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d)) else 0
    hook = _SpectralNorm(name, n_power_iterations, eps, dim)
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    rows, columns = hook.matrix(weight).shape
    for suffix, size in (("u", rows), ("v", columns)):
        start = ops.normalize(ops.randn(size, dtype=weight.dtype, device=weight.device), dim=0, eps=eps)
        module.register_buffer(f"{name}_{suffix}", start)
    setattr(module, name, weight.detach())
    for _ in range(15):  # the first estimate should not be far off
        hook.iterate(module)
    module.register_forward_pre_hook(hook)
    return module


class _SpectralNorm:
    """The hook that puts the divided weight into place before each forward pass."""

    def __init__(self, name: str, iterations: int, eps: float, dim: int) -> None:
        self.name, self.iterations, self.eps, self.dim = name, iterations, eps, dim

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight (rows along ``dim``) x (the rest)."""
        return weight.transpose(0, self.dim).flatten(1)

    def iterate(self, module: Module) -> None:
        """One step of the power method on u and v, in place."""
        with no_grad():
            w = self.matrix(getattr(module, f"{self.name}_orig").detach())
            u, v = (getattr(module, f"{self.name}_{suffix}") for suffix in "uv")
            for vector, value in ((v, lambda: w.mT @ u), (u, lambda: w @ v)):
                vector.array[...] = ops.normalize(value(), dim=0, eps=self.eps).array
                mark_changed(vector.array)

    def __call__(self, module: Module, args: tuple[Any, ...]) -> None:
        if module.training:
            for _ in range(self.iterations):
                self.iterate(module)
        weight = getattr(module, f"{self.name}_orig")
        # Clones: the next forward pass changes u and v, and this one's backward pass must not see it.
        u, v = (getattr(module, f"{self.name}_{suffix}").clone() for suffix in "uv")
        sigma = u @ (self.matrix(weight) @ v)
        setattr(module, self.name, weight / sigma)
