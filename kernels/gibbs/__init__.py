"""Gibbs sampling of restricted Boltzmann machines: a whole chain in one call."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.gibbs.cpu", "cpu", "gibbs")

__all__ = ["cases", "reference"]
