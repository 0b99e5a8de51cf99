"""``check_hessian``: second derivatives are symmetric, and are what the oracle says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .derivatives import Level, Settings
from .judge import FLOOR, NOISE
from .oracles import flat, orthonormal
from .report import Evidence, Report, Verdict, together
from .subject import Subject


def check_hessian(
    f: Callable[..., Any],
    xs: Any,
    *,
    k: int = 6,
    method: str = "auto",
    resolution: float = 1e-7,
    step: float = 0.02,
    seed: int = 0,
    device: Any = "cpu",
    name: str | None = None,
    raises: bool = True,
) -> Report:
    """Check the Hessian of <u, f(x)>, for a random u, at ``xs``: V'HV is symmetric and what the oracle says.

    V are ``k`` random orthonormal directions in all variables together. Symmetry needs no oracle: the engine is held
    against itself, with errors as small as rounding.
    """
    base = Subject(f, xs, name=name, device=device)
    rng = np.random.default_rng(seed)
    us = [np.asarray(rng.standard_normal(y.shape)) for y in base.outputs()]
    gradient = base.derivative(us)
    count = len(base.arrays)
    gradient.variable = [v and i < count for i, v in enumerate(gradient.variable)]  # u stays as it is
    vs = orthonormal(k, [x.shape for x in base.variables], rng)
    if not vs or not us:
        return Report("hessian", base.name, Verdict.PASS, case_id=base.case_id)
    level = Level(gradient, Settings(k, method, resolution, step), vs, recorded=False)
    value = level.report("hessian", vs)
    rows = level.gradients @ np.stack([flat(v) for v in vs]).T
    gap = np.abs(rows - rows.T)
    i, j = np.unravel_index(np.argmax(gap), gap.shape)
    noise = max(level.noise(v, np.arange(len(vs))) for v in (vs[i], vs[j]))
    bar = FLOOR * float(np.max(np.linalg.norm(level.gradients, axis=1))) + 2 * NOISE * noise
    size = max(float(np.sqrt(np.mean(rows**2))), 1e-300)
    symmetric = Report("symmetry", base.name, Verdict.PASS, float(gap[i, j]) / size, bar / size, base.case_id)
    if not gap[i, j] <= bar:
        symmetric = replace(
            symmetric,
            verdict=Verdict.FAIL,
            message=f"v'Hw is {rows[i, j]!r} and w'Hv is {rows[j, i]!r}",
            evidence=Evidence(gradient, tuple(vs[i]), tuple(vs[j]), level.oracle.method, float(gap[i, j])),
        )
    report = together("hessian", base.name, [value, symmetric])
    return report.demand() if raises else report
