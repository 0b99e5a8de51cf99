"""``python -m benchmarks NAME [options]``; NAME --help tells more. Without a name: ops, steps and overhead."""

from __future__ import annotations

import importlib
import sys

SUITES = {
    "ops": "single ops beside PyTorch's: checked against float64, timed in pairs",
    "steps": "whole training steps: same weights, same data, same loss; time and memory; --profile shows where it goes",
    "overhead": "microseconds the engine adds to an op",
    "fairness": "whether taking turns changes what a library takes alone",
    "quality": "a DCGAN trained here and in PyTorch: metrics of its samples, and seconds",
    "gpu": "the first minutes on a GPU: roofs, every kernel checked and timed, training steps",
    "report": "tables and plots from a file of results",
}
ALL = ("ops", "steps", "overhead")


def main(arguments: list[str]) -> int:
    """Run one suite or all; the exit status is 1 if a bar was broken."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__.strip() + "\n")
        print("\n".join(f"  {name:12} {what}" for name, what in SUITES.items()))
        return 0
    if arguments and arguments[0] not in SUITES:
        print(f"no benchmark named {arguments[0]!r}; there are: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    chosen = arguments[:1] or ALL
    return max(importlib.import_module(f"benchmarks.{name}").main(arguments[1:]) for name in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
