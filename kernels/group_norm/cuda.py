"""Group norm, and SiLU of it, in CUDA C++: which tiles of which image a block takes."""

from __future__ import annotations

from math import lcm, prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from ..strips import channels_back, channels_to_end, pack_of, parameters, statistics
from .reference import value_cost, vjp_cost

MOST_THREADS = 512
WORK = 4096  # numbers that are worth a block
KEPT_PACKS = 8  # of a thread, in registers; as in strips.cuh


def _variants(t: str, size: int) -> list[str]:
    return [
        f"group_norm{kind}<{t}, {n}, {kept}, {silu}>"
        for kind in ("", "_vjp")
        for n, kept in ((16 // size, "true"), (16 // size, "false"), (1, "false"))
        for silu in ("false", "true")
    ]


MODULE = Module(
    "group_norm/group_norm.cu",
    *(name for code, t in TYPES.items() for name in _variants(t, 4 if code == "float32" else 2)),
    *(f"column_sums<float, {t}>" for t in TYPES.values()),
)
IMAGES = np.dtype([(name, np.int32) for name in ("positions", "channels", "group", "width")])


class Plan(NamedTuple):
    """How a launch divides (images, positions, channels): what a thread takes at once, and what a block has."""

    pack: int  # numbers of an access
    width: int  # channels of a block
    threads: int
    kept: bool  # whether a block's numbers stay in registers

    @classmethod
    def of(cls, positions: int, channels: int, group: int, pack: int, most_kept: int) -> Plan:
        """Tiles of whole groups, wide enough for lines of memory and some work; ``most_kept`` packs of a thread."""
        if lcm(group, pack) > MOST_THREADS * pack:
            pack = 1
        unit = lcm(group, pack)
        enough = max(8 * pack, WORK // positions)
        width = min(-(-enough // unit) * unit, MOST_THREADS * pack // unit * unit, channels)
        strips = width // pack
        for threads in (256, MOST_THREADS):  # the fewer that keep all
            rows = min(positions, max(1, threads // strips))
            kept = pack > 1 and positions <= most_kept * rows
            if kept:
                break
        return cls(pack, width, -(-rows * strips // 32) * 32, kept)


class Images:
    """A call's images as matrices, channels last, and how the launches divide them. ``sums``: of a thread's strip."""

    def __init__(self, x: Any, groups: int, silu: bool, sums: int, *others: Any) -> None:
        self.xp, self.ndim, self.groups, self.silu = array_module(x), x.ndim, groups, silu
        self.x, *self.others = (channels_to_end(a) for a in (x, *others))
        self.out = self.xp.empty_like(self.x)
        self.images, self.channels = x.shape[:2]
        positions, group = prod(x.shape[2:]), self.channels // groups
        pack = pack_of(self.channels, self.x, *self.others)
        self.plan = Plan.of(positions, self.channels, group, pack, KEPT_PACKS // sums)
        self.shape = np.array((positions, self.channels, group, self.plan.width), IMAGES)[()]
        self.shared = 4 * sums * self.plan.threads * self.plan.pack
        self.type = TYPES[x.dtype.name]

    def launch(self, kernel: str, *arguments: Any) -> None:
        plan = self.plan
        name = f"{kernel}<{self.type}, {plan.pack}, {str(plan.kept).lower()}, {str(self.silu).lower()}>"
        MODULE.launch(
            name, (-(-self.channels // plan.width), self.images), plan.threads, *arguments, shared=self.shared
        )


def forward(x: Any, weight: Any, bias: Any, groups: int, eps: float, *, silu: bool = False) -> tuple[Any, Any, Any]:
    """y, and mean and rstd of each group."""
    p = Images(x, groups, silu, 1)
    mean, rstd = (p.xp.empty(p.images * groups, np.float32) for _ in range(2))
    p.launch(
        "group_norm", p.x, *parameters(x, weight, bias), Out(p.out), Out(mean), Out(rstd), p.shape, np.float32(eps)
    )
    kept = (p.images, groups) + (1,) * (x.ndim - 1)
    return channels_back(p.out), mean.reshape(kept), rstd.reshape(kept)


def backward(
    g: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, groups: int, *, silu: bool = False
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias; those of absent parameters are None."""
    p = Images(x, groups, silu, 2, g)
    sums = [None if a is None else p.xp.empty((p.images, p.channels), np.float32) for a in (weight, bias)]
    p.launch(
        "group_norm_vjp", *p.others, p.x, *parameters(x, weight, bias), *statistics(mean, rstd),
        Out(p.out), *map(Out, sums), p.shape,
    )  # fmt: skip
    totals = []
    for parts in sums:
        total = None if parts is None else p.xp.empty(p.channels, x.dtype)
        if total is not None:
            sizes = np.int32(p.images), np.int32(p.channels)
            MODULE.launch(f"column_sums<float, {p.type}>", -(-p.channels // 32), (32, 8), parts, Out(total), *sizes)
        totals.append(total)
    return channels_back(p.out), totals[0], totals[1]


def fits(x: Any, *_: Any, num_groups: int, **__: Any) -> bool:
    """Whether there is something to do, and a block can have a whole group's channels."""
    return x.size > 0 and x.shape[1] // num_groups <= MOST_THREADS


def fits_vjp(g: Any, y: Any = None, x: Any = None, *_: Any, num_groups: int, **__: Any) -> bool:
    """The same of the derivative, whose gradient has the shape of x."""
    return fits(g, num_groups=num_groups)


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("group_norm", when=fits, cost=value_cost, **_on_gpu)
def group_norm(x: Any, weight: Any, bias: Any, *, num_groups: int, eps: float) -> tuple[Any, Any, Any]:
    """y, and mean and rstd of each group."""
    return forward(x, weight, bias, num_groups, eps)


@kernel("group_norm_vjp", when=fits_vjp, cost=vjp_cost, **_on_gpu)
def group_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias."""
    return backward(g, x, weight, bias, mean, rstd, num_groups)
