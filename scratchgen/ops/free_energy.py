"""The free energy of a restricted Boltzmann machine as one op: hidden units are never written but as what they add."""

from __future__ import annotations

from ..declare import fused
from ..tensor import Tensor
from .activation import softplus
from .matmul import linear, matmul
from .reduce import sum

__all__ = ["free_energy"]


@fused(auxiliary=1)
def _free_energy(v: Tensor, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, hidden_offset: Tensor) -> Tensor:
    z = linear(v, weight, hidden_bias)
    return -matmul(v, visible_bias) - sum(softplus(z) - hidden_offset * z, 1)


def free_energy(v: Tensor, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, hidden_offset: Tensor) -> Tensor:
    """Free energies [n] of the visible units ``v`` [n, visible] of a restricted Boltzmann machine: -log of what a
    state v weighs, summed over the hidden units h in {0, 1}.

        F(v) = -log sum_h exp(v'b + (h - o)'z) = -v'b - sum_j (log(1 + e^z_j) - o_j z_j),    z = W v + c

    ``weight`` W [hidden, visible], ``visible_bias`` b [visible], ``hidden_bias`` c and ``hidden_offset`` o [hidden],
    which is 0 but in centred machines (Melchior et al. 2016). Raises ValueError for shapes that do not go together.
    """
    hidden = weight.shape[:1]
    fits = v.ndim == 2 == weight.ndim and v.shape[1:] == weight.shape[1:] == visible_bias.shape
    inputs = (v, weight, visible_bias, hidden_bias, hidden_offset)
    if not fits or hidden_bias.shape != hidden or hidden_offset.shape != hidden:
        raise ValueError(
            "free_energy: expected v [n, visible], weight [hidden, visible], visible_bias [visible], hidden_bias and "
            f"hidden_offset [hidden], got {[list(x.shape) for x in inputs]}"
        )
    if any(x.dtype is not v.dtype for x in inputs):
        raise TypeError(
            f"free_energy: inputs of {', '.join(str(x.dtype) for x in inputs)} differ; cast them with .to(dtype)"
        )
    return _free_energy(*inputs)
