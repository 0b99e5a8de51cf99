"""``python -m benchmarks NAME [options]``; without a name, all of them with their default options."""

from __future__ import annotations

import importlib
import sys

SUITES = {"overhead": "microseconds the engine adds to an op"}


def main(arguments: list[str]) -> int:
    """Run one suite or all; the exit status is 1 if a bound was broken."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__.strip() + "\n")
        print("\n".join(f"  {name:12} {what}" for name, what in SUITES.items()))
        return 0
    if arguments and arguments[0] not in SUITES:
        print(f"no benchmark named {arguments[0]!r}; there are: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    chosen = arguments[:1] or list(SUITES)
    return max(importlib.import_module(f"benchmarks.{name}").main(arguments[1:]) for name in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
