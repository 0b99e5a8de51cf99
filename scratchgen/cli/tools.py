"""``scratchgen kernels``, ``check`` and ``bench``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from .. import kernels
from ..kernels.gates import evidence, status
from .errors import UserError, unknown
from .tables import table


def list_kernels(op: str | None) -> int:
    """Every implementation of every op (or of one): device, dtypes, which one would run, what its CUDA has passed.

    Of one op also the ladder, as its page tells it, and what each CUDA kernel takes of a multiprocessor.
    """
    if op is not None and not kernels.has(op):
        raise unknown("op", op, kernels.ops())
    rows = []
    for name in [op] if op else kernels.ops():
        for impl, k in sorted(kernels.implementations(name).items(), key=lambda item: -item[1].priority):
            dtypes = " ".join(sorted(d.name for d in k.dtypes)) if k.dtypes else "all"
            choice = "study" if k.study else "on condition" if k.when else ""
            rows.append([name, impl, k.device, dtypes, choice, status(k)])
    print(table(["op", "implementation", "device", "dtypes", "choice", "status"], rows))
    if op is not None:
        _tell(op)
    return 0


def _tell(op: str) -> None:
    """The tables of an op's page, and the registers and the like of its CUDA kernels."""
    implementations = kernels.implementations(op).values()
    modules = [sys.modules[k.fn.__module__] for k in implementations]
    page = Path(str(modules[0].__file__)).parent / "README.md"
    heading = ""
    for line in page.read_text().splitlines() if page.exists() else ():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            if heading:
                print(f"\n{heading}")
            heading = ""
            print(line.replace("**", "").replace("`", ""))
    files = {m.MODULE.file: m.MODULE for m in modules if hasattr(m, "MODULE")}
    for file, found in ((file, evidence().get(file)) for file in files):
        if found and found["digest"] == files[file].digest:
            for architecture, kernels_of in found["resources"].items():
                print(f"\n{file}, {architecture}")
                rows = [[name, *map(str, numbers)] for name, numbers in kernels_of.items()]
                print(table(["kernel", *found["columns"]], rows))


def check(ops: list[str], profile: str) -> int:
    """Test derivatives and implementations of all ops, or of those named; exit status 1 if anything is wrong."""
    from ..testing.command import judge
    from ..testing.suite import PROFILES, UnknownOp, parts

    try:
        return judge(parts(PROFILES[profile], ops), PROFILES[profile], verbose=bool(ops))
    except UnknownOp as error:
        raise UserError(str(error)) from None


def bench(arguments: list[str]) -> int:
    """Run the benchmarks, which lie beside the library in a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        raise UserError("the benchmarks are not part of the installed package: run this in a checkout of scratchgen")
    sys.path.insert(0, str(checkout))
    return importlib.import_module("benchmarks.__main__").main(arguments)
