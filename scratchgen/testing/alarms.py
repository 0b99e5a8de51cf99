"""How often the checks err on correct ops: ``python -m scratchgen.testing.alarms`` prints a table for each family.

Random cases of correct ops must all pass. A failure is a false alarm (or a bug); inconclusive verdicts are allowed in
a few of a hundred. Cases are drawn by hypothesis from a fixed seed, so the table is the same every time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .derivatives import check_dot, check_vjp
from .families import FAMILIES
from .report import Report, Verdict, together


@dataclass
class Tally:
    """Verdicts on one family. ``resolution``: the largest error bar of those that passed."""

    family: str
    verdicts: Counter = field(default_factory=Counter)
    worst: float = 0.0
    resolution: float = 0.0
    seconds: float = 0.0
    remarkable: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count one case."""
        self.verdicts[report.verdict] += 1
        if report.passed:
            self.worst, self.resolution = max(self.worst, report.worst), max(self.resolution, report.resolution)
        else:
            self.remarkable.append(report)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "family": self.family,
            "cases": sum(self.verdicts.values()),
            **{str(verdict): self.verdicts[verdict] for verdict in Verdict},
            "worst": self.worst,
            "resolution": self.resolution,
            "seconds": round(self.seconds, 1),
            "remarkable": [report.to_dict() for report in self.remarkable],
        }


def tally(family: str, count: int, *, k: int = 6, order: int = 2, start: int = 0) -> Tally:
    """Check ``count`` random cases of a family: every derivative to ``order``, and the dot test."""
    found = Tally(family)
    members = FAMILIES[family]

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: Any) -> None:
        if sum(found.verdicts.values()) >= count:
            return
        member = data.draw(st.sampled_from(members))
        case = data.draw(member.cases)
        checks = [
            check_vjp(member.function, case, k=k, order=order, name=member.name, raises=False),
            check_dot(member.function, case, k=min(k, 3), name=member.name, raises=False),
        ]
        found.add(together("vjp and dot", member.name, checks))

    began = time.perf_counter()
    run()
    found.seconds = time.perf_counter() - began
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 if anything failed, or if more than 2 % of a family was inconclusive."""
    parser = argparse.ArgumentParser(prog="python -m scratchgen.testing.alarms", description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", help="all of them by default")
    parser.add_argument("--count", type=int, default=2000, help="cases of each family")
    parser.add_argument("--directions", type=int, default=6, help="projections of each derivative")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="a file for the figures and every remarkable case")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.families) - set(FAMILIES):
        parser.error(f"unknown families {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    tallies = []
    print(f"{'family':12} {'cases':>6} {'fail':>5} {'inconclusive':>12} {'worst':>8} {'bar':>8} {'seconds':>8}")
    for family in chosen.families or FAMILIES:
        found = tally(family, chosen.count, k=chosen.directions, start=chosen.seed)
        tallies.append(found)
        total, fails, unclear = (
            sum(found.verdicts.values()), found.verdicts[Verdict.FAIL], found.verdicts[Verdict.INCONCLUSIVE]
        )  # fmt: skip
        print(
            f"{family:12} {total:6} {fails:5} {unclear:5} {100 * unclear / max(total, 1):4.1f} % "
            f"{found.worst:8.1e} {found.resolution:8.1e} {found.seconds:8.1f}",
            flush=True,
        )
        for report in found.remarkable[:5]:
            print("   ", report)
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump([found.to_dict() for found in tallies], file, indent=1)
    bad = [t for t in tallies if t.verdicts[Verdict.FAIL] or t.verdicts[Verdict.INCONCLUSIVE] > 0.02 * chosen.count]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
