"""Gradient testing for this project's ops and for your own."""

from ..kernels import Case
from .derivatives import check_dot, check_vjp
from .differences import Estimate, directional_derivative
from .gradients import check_grad
from .oracles import numeric_vjp
from .report import GradientError, Inconclusive, Report, Verdict

__all__ = [
    "Case", "Estimate", "GradientError", "Inconclusive", "Report", "Verdict", "check_dot", "check_grad", "check_vjp",
    "directional_derivative", "numeric_vjp",
]  # fmt: skip
