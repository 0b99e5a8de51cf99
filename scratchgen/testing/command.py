"""The command line: ``python -m scratchgen.testing run|fuzz|repro|list|coverage|mutants``.

Exit status: 0 all passed; 1 something failed, or too much was inconclusive; 2 a wrong call; 130 stopped by Ctrl-C,
after the summary of what was found so far.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .report import Report, Verdict
from .suite import BACKENDS, KINDS, PROFILES, Part, Profile, UnknownOp, first_word, known, parts

INCONCLUSIVE = 0.02  # the part of a run that may be so


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m scratchgen.testing", description="Test derivatives: of this library's ops, and of your own."
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False)

    run = command("run", "check derivatives, kernels and random cases of all ops, or of those named")
    run.add_argument("ops", nargs="*", metavar="OP", help="ops, or files FILE.py with functions under @sgt.op")
    run.add_argument("--profile", choices=PROFILES, default="quick", help="how thorough (default: quick)")
    run.add_argument("--backend", choices=BACKENDS, default="cpu", help="where derivatives are computed (default: cpu)")
    run.add_argument("--kind", choices=KINDS, action="append", help="only parts of this kind; repeatable")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    run.add_argument("--json", type=Path, metavar="FILE", help="write every report there")
    run.add_argument("-v", "--verbose", action="store_true", help="a line for each part, not only for what failed")

    fuzz = command("fuzz", "random programs in scratchgen and in torch: values and derivatives to second order")
    fuzz.add_argument("-n", "--count", type=int, default=2000, metavar="N", help="how many (default: 2000)")
    fuzz.add_argument("--seed", type=int, default=0, metavar="N", help="number of the first program (default: 0)")
    fuzz.add_argument("--max-nodes", type=int, default=12, metavar="N", help="most lines of a program (default: 12)")
    fuzz.add_argument("--json", type=Path, metavar="FILE", help="write the outcome there")

    repro = command("repro", "print a stand-alone script that shows a failure again")
    repro.add_argument("case", metavar="CASE", help="as a failure prints it: softmax-0123456789, or program-12")
    repro.add_argument("--profile", choices=PROFILES, default="ci", help="of the run that failed (default: ci)")
    repro.add_argument("--seed", type=int, default=0, metavar="N", help="of the run that failed (default: 0)")
    repro.add_argument("--max-nodes", type=int, default=12, metavar="N", help="of the programs (default: 12)")

    listing = command("list", "the ops that can be named, with the number of their cases")
    listing.add_argument("ops", nargs="*", metavar="OP", help="the cases of these ops")

    coverage = command("coverage", "every op: its cases, both orders, implementations; status 1 if one is missing")
    coverage.add_argument("--json", type=Path, metavar="FILE", help="write the table there")

    mutants = command("mutants", "planted bugs: how often this and other checkers find each")
    mutants.add_argument("names", nargs="*", metavar="MUTANT", help="only those whose name contains one of these")
    mutants.add_argument("--runs", type=int, default=20, metavar="N", help="runs of each checker (default: 20)")
    mutants.add_argument("--checkers", default=None, metavar="A,B", help="only these checkers")
    mutants.add_argument("--out", type=Path, metavar="STEM", help="write STEM.json and STEM.md")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except (UnknownOp, NeedsExtra) as error:
        print(f"scratchgen.testing {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


class NeedsExtra(Exception):
    """An optional package is missing; the message says how to get it."""


def _need(package: str, what: str, extra: str) -> None:
    if not importlib.util.find_spec(package):
        raise NeedsExtra(f"{what} need {package}: pip install 'scratchgen[{extra}]'")


# -------------------------------------------------------------------------------------------------------------- run


def run(options: argparse.Namespace) -> int:
    """``run``."""
    names = [name for name in options.ops if not name.endswith(".py")]
    for file in (Path(name) for name in options.ops if name.endswith(".py")):
        names += _load(file)
    chosen = parts(
        PROFILES[options.profile], names, seed=options.seed, backend=options.backend, kinds=options.kind or KINDS
    )
    return judge(chosen, PROFILES[options.profile], json_file=options.json, verbose=options.verbose, seed=options.seed)


def judge(
    chosen: Iterable[Part], profile: Profile, *, json_file: Path | None = None, verbose: bool = False, seed: int = 0
) -> int:
    """Run parts, print what fails as it is found and a table at the end, also after Ctrl-C. Returns the status."""
    found: list[tuple[Part, Report]] = []
    seconds: Counter[str] = Counter()
    stopped = False
    try:
        for part in chosen:
            began = time.perf_counter()
            report = part.run()
            seconds[part.kind] += time.perf_counter() - began  # type: ignore[assignment]
            found.append((part, report))
            if verbose or not report.passed:
                for line in report.parts if part.kind == "kernels" else (report,):
                    print(line, flush=True)
                if report.verdict is Verdict.FAIL and (case := _case(report)):
                    options = f"--profile {profile.name} --seed {seed}"
                    print(f"  again: python -m scratchgen.testing repro '{case}' {options}")
    except KeyboardInterrupt:
        stopped = True
    verdicts: dict[str, Counter] = {kind: Counter() for kind in KINDS}
    for part, report in found:
        verdicts[part.kind][report.verdict] += 1
    print(f"{'':16}{'parts':>7}{'pass':>7}{'fail':>7}{'inconclusive':>14}{'worst error':>13}{'seconds':>9}")
    for kind, counts in verdicts.items():
        if total := sum(counts.values()):
            worst = max(report.worst for part, report in found if part.kind == kind)
            print(
                f"{kind:16}{total:7}{counts[Verdict.PASS]:7}{counts[Verdict.FAIL]:7}{counts[Verdict.INCONCLUSIVE]:14}"
                f"{worst:13.1e}{seconds[kind]:9.1f}"
            )
    if json_file:
        lines = [{"kind": part.kind, "name": part.name, **report.to_dict()} for part, report in found]
        content = {"profile": profile._asdict(), "seed": seed, "stopped": stopped, "reports": lines}
        json_file.write_text(json.dumps(content, indent=1, default=str))
    if stopped:
        print("stopped", file=sys.stderr)
        return 130
    unclear = sum(counts[Verdict.INCONCLUSIVE] for counts in verdicts.values())
    fails = sum(counts[Verdict.FAIL] for counts in verdicts.values())
    return 1 if fails or unclear > INCONCLUSIVE * len(found) else 0


def _case(report: Report) -> str:
    """The id of the first failing part that can be shown again."""
    if report.parts:
        return next((case for part in report.parts if part.verdict is Verdict.FAIL and (case := _case(part))), "")
    return report.case_id


def _load(file: Path) -> list[str]:
    """Import a file; the names of the functions that ``@sgt.op`` was told cases of in it."""
    from .everything import TESTED

    if not file.is_file():
        raise UnknownOp(f"no file is called {str(file)!r}")
    before = set(TESTED)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    added = [name for name in TESTED if name not in before and TESTED[name].cases is not None]
    if not added:
        raise UnknownOp(f"{file} has no function under @sgt.op(cases=...)")
    return added


# ------------------------------------------------------------------------------------------------------------- fuzz


def fuzz(options: argparse.Namespace) -> int:
    """``fuzz``."""
    _need("torch", "random programs", "bench")
    from .fuzz import Comparison, Outcome, tally
    from .fuzz import fuzz as compare

    found: list[Comparison] = []
    began, stopped = time.perf_counter(), False
    try:
        for one in compare(options.count, seed=options.seed, max_nodes=options.max_nodes):
            found.append(one)
            if one.outcome is Outcome.DIFFERENT:
                print(f"{one}\n  reproduce: python -m scratchgen.testing repro {one.case_id}\n", flush=True)
            if sys.stderr.isatty() and len(found) % 50 == 0:
                print(f"\r{len(found)} programs", end="", file=sys.stderr)
    except KeyboardInterrupt:
        stopped = True
    counts = tally(found)
    seconds = time.perf_counter() - began
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f" in {seconds:.0f} s")
    if options.json:
        differing = [{"case": c.case_id, "message": c.message, "program": str(c.program)} for c in found if c.different]
        content = {"seed": options.seed, "outcomes": counts, "seconds": seconds, "different": differing}
        options.json.write_text(json.dumps(content, indent=1))
    return 130 if stopped else 1 if counts[Outcome.DIFFERENT] else 0


# ------------------------------------------------------------------------------------------------------------ repro


def repro(options: argparse.Namespace) -> int:
    """``repro``."""
    name, _, mark = options.case.rpartition("-")
    if name == "program" and mark.isdigit():
        _need("torch", "random programs", "bench")
        from .fuzz import compare_with_torch, smallest
        from .grammar import random_program

        found = compare_with_torch(random_program(int(mark), options.max_nodes), int(mark))
        print((smallest(found) if found.different else found).program.script())
        return 0
    everything = parts(PROFILES[options.profile], seed=options.seed)
    candidates = [part for part in everything if name in (part.name, first_word(part.name))]
    if not candidates:
        raise UnknownOp(f"no case is called {options.case!r}; a run prints the names of those that fail")
    for part in candidates:
        report = part.run()
        if (match := _find(report, options.case)) is not None:
            print(match.repro())
            return 0
    print(f"{options.case} does not fail with --profile {options.profile} --seed {options.seed}", file=sys.stderr)
    return 1


def _find(report: Report, case: str) -> Report | None:
    """The failing report of that case which carries evidence."""
    if report.case_id == case and report.evidence is not None:
        return report
    return next((found for part in report.parts if (found := _find(part, case)) is not None), None)


# ------------------------------------------------------------------------------------------ list, coverage, mutants


def listing(options: argparse.Namespace) -> int:
    """``list``."""
    quick = PROFILES["quick"]
    if options.ops:
        for part in parts(quick._replace(implementations=True), options.ops):
            print(f"{part.kind:16}{part.name}")
        return 0
    from .catalogue import CASES

    rows = Counter(first_word(row) for row in CASES)
    for name in sorted(known()):
        print(f"{name:40}{rows[name] or '':>4}")
    return 0


def coverage(options: argparse.Namespace) -> int:
    """``coverage``."""
    from .gate import survey

    rows = survey()
    print(f"{'op':36}{'kind':10}{'rows':>5}  {'first':6}{'second':7}implementations with cases")
    for row in rows:
        print(row.line())
    gaps = [gap for row in rows for gap in row.gaps]
    for gap in gaps:
        print(f"GAP: {gap}")
    if options.json:
        options.json.write_text(json.dumps([row.to_dict() for row in rows], indent=1))
    print(f"{len(rows)} ops, {len(gaps)} gaps")
    return 1 if gaps else 0


def mutants(options: argparse.Namespace) -> int:
    """``mutants``."""
    _need("hypothesis", "planted bugs", "test")
    from .mutants.table import CHECKERS, table, write

    names = options.checkers.split(",") if options.checkers else list(CHECKERS)
    if unknown := set(names) - set(CHECKERS):
        raise UnknownOp(f"no checker is called {', '.join(sorted(unknown))}; there are {', '.join(CHECKERS)}")
    found = table(options.names, options.runs, names)
    if options.out:
        write(options.out, found)
    return 0 if found.all_caught else 1


COMMANDS = {
    "run": run, "fuzz": fuzz, "repro": repro, "list": listing, "coverage": coverage, "mutants": mutants,
}  # fmt: skip
