"""Gradient testing for this project's ops and for your own."""

from ..kernels import Case
from .behaviour import check_errors, check_nondeterminism, check_unchanged
from .comparisons import Backend, backends, check_backends, check_reference, check_torch
from .derivatives import check_dot, check_vjp
from .differences import Estimate, directional_derivative
from .gradients import check_grad
from .hessian import check_hessian
from .oracles import numeric_vjp
from .report import GradientError, Inconclusive, Report, Verdict, together

__all__ = [
    "Backend", "Case", "Estimate", "GradientError", "Inconclusive", "Report", "Verdict", "backends", "check_backends",
    "check_dot", "check_errors", "check_grad", "check_hessian", "check_nondeterminism", "check_reference",
    "check_torch", "check_unchanged", "check_vjp", "directional_derivative", "numeric_vjp", "together",
]  # fmt: skip
