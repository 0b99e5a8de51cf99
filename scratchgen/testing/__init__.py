"""Gradient testing for this project's ops and for your own.

``import scratchgen.testing as sgt``. ``check_vjp`` and its like judge a function at one point; ``cases`` makes points,
``given`` and ``check`` try many of them, ``op`` says once what a function is held against. See docs/testing.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ..kernels import Case
from . import laws
from .behaviour import check_errors, check_nondeterminism, check_unchanged
from .bridge import as_torch_function
from .comparisons import Backend, backends, check_backends, check_reference, check_torch
from .derivatives import check_dot, check_vjp
from .differences import Estimate, directional_derivative
from .everything import check_all, op
from .gradients import check_grad
from .hessian import check_hessian
from .laws import Law, check_laws
from .oracles import numeric_vjp
from .report import GradientError, Inconclusive, Report, Verdict, together

if TYPE_CHECKING:
    from . import cases
    from .random_cases import check, given

__all__ = [
    "Backend", "Case", "Estimate", "GradientError", "Inconclusive", "Law", "Report", "Verdict", "as_torch_function",
    "backends", "cases", "check", "check_all", "check_backends", "check_dot", "check_errors", "check_grad",
    "check_hessian", "check_laws", "check_nondeterminism", "check_reference", "check_torch", "check_unchanged",
    "check_vjp", "directional_derivative", "given", "laws", "numeric_vjp", "op", "together",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What needs hypothesis is imported when it is first used."""
    if name == "cases":
        return importlib.import_module(".cases", __name__)
    if name in ("check", "given"):
        return getattr(importlib.import_module(".random_cases", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
