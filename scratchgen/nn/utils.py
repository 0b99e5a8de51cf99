"""Tools for all of a model's parameters at once, as torch.nn.utils: clipping gradients, parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import kernels, ops
from ..changes import mark_changed
from ..tensor import Tensor, wrap
from .spectral_norm import spectral_norm

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "spectral_norm",
    "vector_to_parameters",
]  # fmt: skip


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of all elements of all ``tensors`` taken as one vector; ``norm_type`` may be infinity."""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return ops.zeros(())
    first = tensors[0]
    if norm_type == 2:
        arrays = [t.array for t in tensors]
        return wrap(kernels.select("norm_many", first.device.type, (arrays[0],), {}).fn(arrays), first.device)
    xp = first.device.xp
    norms = [xp.linalg.norm(t.array.reshape(-1), norm_type) for t in tensors]
    return wrap(xp.asarray(xp.linalg.norm(xp.stack(norms), norm_type), dtype=first.dtype), first.device)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients together, in place, so that their total norm is at most ``max_norm``.

    Returns the norm they had. A NaN or infinite norm makes all gradients NaN or zero, or with ``error_if_nonfinite``
    an error before anything is changed.
    """
    grads = _gradients(parameters)
    total = get_total_norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"clip_grad_norm_: the total norm of the gradients is {total.item()}; nothing was scaled")
    # The 1e-6 is torch's; it also keeps gradients of norm zero from becoming NaN.
    factor = total.device.xp.minimum(max_norm / (total.array + 1e-6), 1.0)
    if grads and not (total.device.type == "cpu" and factor == 1):  # a GPU would be waited for
        arrays = [g.array for g in grads]
        kernels.select("scale_many", total.device.type, (arrays[0],), {}).fn(arrays, factor)
        for array in arrays:
            mark_changed(array)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamp every element of every gradient to ``[-clip_value, clip_value]``, in place."""
    for g in _gradients(parameters):
        g.device.xp.clip(g.array, -clip_value, clip_value, out=g.array)
        mark_changed(g.array)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters in one vector, differentiable."""
    return ops.cat([ops.reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector made by ``parameters_to_vector`` into the parameters."""
    parameters = list(parameters)
    count = sum(p.numel() for p in parameters)
    if vec.shape != (count,):
        raise ValueError(f"vector_to_parameters: {count} elements are needed, the vector has shape {list(vec.shape)}")
    start = 0
    for p in parameters:
        p.array[...] = vec.array[start : start + p.numel()].reshape(p.shape)
        mark_changed(p.array)
        start += p.numel()
