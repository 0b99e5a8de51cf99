"""Ways through a latent space: between two latents, and along an attribute."""

from __future__ import annotations

import scratchgen as sg
from scratchgen import Tensor


def linear_path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """``steps`` points (steps, ..., latent) on the straight line from ``a`` to ``b``, both included."""
    t = _positions(steps, a)
    return (1 - t) * a + t * b


def spherical_path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """As ``linear_path``, on the great circle (Shoemake 1985, White 2016).

    The straight line between two draws from N(0, I) passes through lengths that the prior hardly ever has; this does
    not.
    """
    t = _positions(steps, a)
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    angle = sg.acos(((a * b).sum(-1, keepdim=True) / lengths.clamp(min=1e-12)).clamp(-1.0, 1.0))
    aligned = sg.sin(angle) < 1e-4  # same direction: the arc is the line; opposite ones: no arc is the shortest
    sine = sg.where(aligned, 1.0, sg.sin(angle))
    arc = (sg.sin((1 - t) * angle) * a + sg.sin(t * angle) * b) / sine
    return sg.where(aligned, linear_path(a, b, steps), arc)


def _positions(steps: int, like: Tensor) -> Tensor:
    return sg.linspace(0, 1, steps, dtype=like.dtype, device=like.device).reshape(-1, *[1] * like.ndim)


def attribute_vector(z: Tensor, has: Tensor) -> Tensor:
    """Mean latent of the images that have an attribute minus that of those that lack it (Larsen et al. 2016).

    ``z`` (N, latent), ``has`` (N,) bool; returns (latent,). Adding multiples of it to a latent adds the attribute.
    """
    if not (bool(has.any()) and bool((~has).any())):
        raise ValueError("attribute_vector: needs images with the attribute and images without it")
    return z[has].mean(0) - z[~has].mean(0)
