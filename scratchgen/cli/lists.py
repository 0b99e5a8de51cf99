"""``scratchgen models``, ``data`` and ``info``."""

from __future__ import annotations

import os
import textwrap

from .. import data
from ..device import cuda_is_available
from ..recipes import RECIPES, find
from .runs import versions
from .tables import table


def list_models() -> int:
    """Every model: paper, presets, data, what to expect."""
    for name in RECIPES:
        kind = find(name)
        print(f"{name}: {kind.paper}")
        print(
            f"    presets: {', '.join(kind.presets)}   data: {', '.join(kind.data_names)} (default {kind.default_data})"
        )
        print(textwrap.indent(textwrap.fill(f"expect: {kind.expected}", 100), "    "))
    return 0


def list_data() -> int:
    """Every dataset, and where it is or how to get it."""
    found = data.describe()
    here = [[d.name, "yes" if d.available else "no", d.size, d.what] for d in found]
    print(table(["name", "here", "train + test", "what"], here))
    for d in found:
        if not d.available:
            print(f"\n{d.name}: scratchgen train MODEL --data {d.name} --download, or: {d.where}", end="")
    print("\n\nsources and terms:")
    print(table(["name", "source", "terms"], [[d.name, d.source, d.terms] for d in found]))
    return 0


def list_info() -> int:
    """Versions, devices and threads."""
    from numba import config as numba_config

    from ..kernels.numba_config import threading_layer

    rows = list(versions().items())
    rows += [
        ("cpu cores", str(os.cpu_count())),
        ("numba threads", f"{numba_config.NUMBA_NUM_THREADS} ({threading_layer()})"),
        ("cuda", "available" if cuda_is_available() else "not available"),
    ]
    print(table(["what", "value"], rows))
    return 0
