"""Transformer blocks on one token of each text, with the keys and values of earlier tokens: what writing asks for."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.blocks_step.cpu", "cpu", "blocks_step")

__all__ = ["cases", "reference"]
