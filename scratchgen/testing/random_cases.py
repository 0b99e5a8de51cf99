"""``given`` and ``check``: many random cases, and the smallest of those that fail. Needs hypothesis."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .comparisons import Backend
from .everything import check_all, tested
from .report import GradientError, Inconclusive, Report, Verdict

try:
    import hypothesis
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover
    raise ImportError("random cases need hypothesis: pip install hypothesis, or 'scratchgen[test]'") from error

INCONCLUSIVE = 0.02  # the part of the cases that may be so


def given(
    cases: Any = None,
    *,
    backend: Sequence[Backend] = (),
    examples: int | None = None,
    inconclusive: float = INCONCLUSIVE,
    **strategies: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: run a test function with many values of ``case``, and of ``backend``; failures are shrunk.

    ``cases``: a strategy, or a function that ``@op`` gave one. ``strategies``: for further arguments. A case that is
    Inconclusive does not fail the test, but more than one and a fraction of ``inconclusive`` of them do.
    """
    strategy = cases if cases is None or isinstance(cases, st.SearchStrategy) else tested(cases).cases
    if strategy is None and not strategies:
        raise TypeError("given: expected a strategy of cases, or a function that @op was told its cases of")
    drawn = strategies | ({"case": strategy} if strategy is not None else {})
    if backend:
        drawn["backend"] = st.sampled_from(list(backend))

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        counts = {"all": 0, "unclear": 0}

        @functools.wraps(test)
        def judged(*args: Any, **kwargs: Any) -> None:
            counts["all"] += 1
            try:
                test(*args, **kwargs)
            except Inconclusive as unclear:
                counts["unclear"] += 1
                hypothesis.event(f"inconclusive: {unclear}")

        limits: dict[str, Any] = {} if examples is None else {"max_examples": examples}
        run = hypothesis.settings(deadline=None, **limits)(hypothesis.given(**drawn)(judged))  # kernels compile

        @functools.wraps(test)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            counts["all"] = counts["unclear"] = 0
            run(*args, **kwargs)
            if counts["unclear"] > max(1.0, inconclusive * counts["all"]):
                raise Inconclusive(
                    f"{counts['unclear']} of {counts['all']} cases were inconclusive, more than {inconclusive:.0%}"
                )

        vars(wrapper).pop("__wrapped__")  # by which pytest would ask for fixtures called case and backend
        vars(wrapper)["__signature__"] = inspect.signature(run)
        return wrapper

    return decorate


def check(
    f: Callable[..., Any],
    cases: Any = None,
    *,
    examples: int = 100,
    backend: Sequence[Backend] = (),
    seed: int = 0,
    raises: bool = True,
    **options: Any,
) -> Report:
    """``check_all`` of ``f`` at ``examples`` random cases; the report is that of the smallest failing one.

    ``cases``: a strategy, by default the one ``@op`` was told. ``options`` are those of ``check_all``. Where all pass
    but for a few inconclusive ones, the report is of them all together.
    """
    told = tested(f)
    strategy = told.cases if cases is None else cases
    if strategy is None:
        raise TypeError(f"check: no cases for {told.name}; give a strategy here or to @op")
    found: list[Report] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(case=strategy, backend=st.sampled_from(list(backend)) if backend else st.none())
    def run(case: Any, backend: Backend | None) -> None:
        report = check_all(f, case, backend=backend, raises=False, **options)
        found.append(report)
        if report.verdict is Verdict.FAIL:
            report.demand()

    try:
        run()
    except GradientError as error:
        report = error.report
        assert report is not None
        return report.demand() if raises else report
    unclear = [report for report in found if report.verdict is Verdict.INCONCLUSIVE]
    report = Report(
        f"{len(found)} cases",
        told.name,
        Verdict.INCONCLUSIVE if len(unclear) > max(1.0, INCONCLUSIVE * len(found)) else Verdict.PASS,
        max((r.worst for r in found if r.passed), default=0.0),
        max((r.resolution for r in found if r.passed), default=0.0),
        message=f"{len(unclear)} inconclusive, for instance: {unclear[0].message}" if unclear else "",
        oracle=found[0].oracle if found else "",
    )
    return report.demand() if raises else report
