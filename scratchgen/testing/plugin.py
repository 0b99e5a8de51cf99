"""pytest plugin: ``pytest -p scratchgen.testing.plugin``.

``--gradcheck-ops`` adds the checks of this library's ops as tests, one for each part of a run. A test of your own takes
the fixture ``gradcheck`` and calls ``gradcheck(function, cases)``: it has the profile, seed and backend of the command
line. Failures show the script that reproduces them, and ``--gradcheck-report`` collects every report as JSON; JUnit is
pytest's own ``--junitxml``.

It is no entry point that pytest would load by itself: that would import scratchgen into every run of pytest in an
environment that has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .report import GradientError, Inconclusive, Report
from .suite import BACKENDS, PROFILES, Part, UnknownOp, parts

REPORTS = pytest.StashKey[list]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("gradcheck", "tests of derivatives")
    group.addoption("--gradcheck-seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    group.addoption("--gradcheck-backend", choices=BACKENDS, default="cpu", help="where to compute (default: cpu)")
    group.addoption("--gradcheck-profile", choices=list(PROFILES), default="quick", help="how thorough")
    group.addoption(
        "--gradcheck-ops", default=None, metavar="A,B", help="add tests of these ops of scratchgen; 'all' for every op"
    )
    group.addoption("--gradcheck-report", type=Path, default=None, metavar="FILE", help="write all reports as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Where reports are gathered."""
    config.stash[REPORTS] = []


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add an item for each part that ``--gradcheck-ops`` asks for."""
    asked = config.getoption("--gradcheck-ops")
    if asked is None:
        return
    names = [] if asked == "all" else [name for name in asked.split(",") if name]
    profile = PROFILES[config.getoption("--gradcheck-profile")]
    options = {"seed": config.getoption("--gradcheck-seed"), "backend": config.getoption("--gradcheck-backend")}
    try:
        chosen = list(parts(profile, names, **options))
    except UnknownOp as error:
        raise pytest.UsageError(f"--gradcheck-ops: {error}") from None
    items += [GradcheckItem.from_parent(session, name=f"{part.kind}[{part.name}]", part=part) for part in chosen]


class GradcheckItem(pytest.Item):
    """One part of a run as a test."""

    def __init__(self, *, part: Part, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part
        self._nodeid = f"scratchgen::{self.name}"

    def runtest(self) -> None:
        """Run it; raise what its report demands."""
        report = self.part.run()
        self.config.stash[REPORTS].append({"test": self.nodeid, **report.to_dict()})
        self.user_properties.append(("case_id", report.case_id))
        report.demand()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A verdict is its own explanation; anything else is shown as pytest does."""
        if isinstance(excinfo.value, GradientError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands."""
        return Path(__file__), None, self.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show the script of a failure, and skip where nothing could be told."""
    result = yield
    error = call.excinfo.value if call.excinfo else None
    report = getattr(error, "report", None)
    if isinstance(error, GradientError) and isinstance(report, Report):
        if isinstance(error, Inconclusive) and isinstance(item, GradcheckItem):
            result.outcome = "skipped"
            result.longrepr = (str(item.path), 0, f"Skipped: inconclusive: {error}")
        elif script := _script(report):
            result.sections.append(("script that reproduces it", script))
        if not isinstance(item, GradcheckItem):
            item.config.stash[REPORTS].append({"test": item.nodeid, **report.to_dict()})
    return result


def _script(report: Report) -> str:
    try:
        return report.repro()
    except ValueError:  # kernels and programs have none
        return ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the reports."""
    if file := session.config.getoption("--gradcheck-report"):
        file.write_text(json.dumps(session.config.stash[REPORTS], indent=1, default=str))


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``gradcheck(function, cases=None, **options)``: ``sgt.check`` with the options of the command line.

    The number of cases, the projections, the seed and the backend come from there; ``options`` override them.
    """
    from .random_cases import check
    from .suite import backend_of

    config = request.config
    profile = PROFILES[config.getoption("--gradcheck-profile")]
    chosen: dict[str, Any] = {
        "examples": profile.random,
        "k": profile.directions,
        "seed": config.getoption("--gradcheck-seed"),
        "backend": [backend_of(config.getoption("--gradcheck-backend"))],
    }

    def run(function: Callable[..., Any], cases: Any = None, **options: Any) -> Report:
        report = check(function, cases, **{**chosen, **options, "raises": False})
        if report.passed:  # a failure is recorded as it is raised
            config.stash[REPORTS].append({"test": request.node.nodeid, **report.to_dict()})
        return report.demand()

    return run
