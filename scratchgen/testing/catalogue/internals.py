"""Ops that only derivatives and other ops reach, called by their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...declare import OPS
from .table import NOT_IN_TORCH, case, normal

INTERNALS: dict[str, tuple[Any, ...]] = {  # name -> inputs, and attributes last
    "sum_to": (normal(2, 3, 4), {"shape": (3, 1)}),
    "spread": (normal(3), {"shape": (3, 4), "dim": (1,)}),
    "unslice": (normal(2, 2), {"index": (slice(0, 4, 2),), "shape": (5, 2), "value": 0.5}),
    "decompress": (normal(2, 2), np.array([True, False, True]), {"dim": 1, "shape": (2, 3)}),
    "place_diagonal": (normal(2, 2), {"offset": 1, "dim1": 0, "dim2": 2, "shape": (3, 2, 3)}),
    "extend_transpose": (normal(6), {"mode": "reflect", "widths": ((2, 1),), "shape": (3,)}),
    "overlap_add": (normal(2, 3), {"dims": (0,), "sizes": (3,), "steps": (2,), "dilations": (1,), "shape": (5,)}),
    "rejoin": (normal(2, 2), normal(2, 3), normal(2, 1), normal(2, 2), {"dim": 1}),
    "scatter_add": (normal(3, 2), np.array([1, 1, 0]), {"rows": 3}),
    "conv2d_weight": (
        normal(2, 2, 3, 3), normal(2, 2, 2, 2),
        {"size": (2, 2), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
    ),
    "conv2d_weight_bias": (
        normal(2, 2, 3, 3), normal(2, 2, 2, 2),
        {"size": (2, 2), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
    ),
    "pool_gather": (normal(1, 1, 2, 2), np.array([[[[0, 3], [3, 1]]]]), {}),
    "pool_scatter": (normal(1, 1, 2, 2), np.array([[[[0, 3], [3, 1]]]]), {"size": (2, 2)}),
}  # fmt: skip
for name, (*inputs, attrs) in INTERNALS.items():
    case(f"{name}, by its name", lambda L, *xs, op=OPS[name], attrs=attrs: op(*xs, **attrs), *inputs,
         unlike_torch=NOT_IN_TORCH)  # fmt: skip
