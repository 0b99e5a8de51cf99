"""The free energy of a restricted Boltzmann machine, and its gradient: a product each way."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.free_energy.cpu", "cpu", "free_energy", "free_energy_vjp")

__all__ = ["cases", "reference"]
