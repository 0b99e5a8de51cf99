"""Gradient testing for this project's ops and for your own."""

from .differences import Estimate, directional_derivative
from .gradients import GradientError, Inconclusive, check_grad

__all__ = ["Estimate", "GradientError", "Inconclusive", "check_grad", "directional_derivative"]
