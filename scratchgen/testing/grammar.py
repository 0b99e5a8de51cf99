"""What random programs are made of: each rule adds one line that is right for the shapes of what it uses.

Every choice comes from one function, ``choose(n)``, a number below ``n``. With a seeded generator behind it that is
``fuzz``; with hypothesis behind it that is a strategy, whose programs shrink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .programs import LAYOUTS, Leaf, Program, Step, leaf_array

LARGEST = 48  # elements of any value
Shape = tuple[int, ...]

UNARY = (
    "{0}.sin()", "{0}.tanh()", "L.sigmoid({0})", "{0}.abs()", "-{0}", "{0} * {0}", "({0} * {0} + 1).log()",
    "({0} * {0} + 0.5).sqrt()", "{0}.tanh().exp()", "F.silu({0})", "F.gelu({0})", "F.softplus({0})", "F.relu({0})",
    "F.leaky_relu({0}, 0.1)", "{0}.clamp(-0.7, 0.9)", "{0} / ({0} * {0} + 1)", "{0}.sin() * 2 - {0}", "{0}.atan()",
    "{0}.erf()", "1 / (1 + {0} ** 2)", "0.1 * {0} ** 3", "{0}.masked_fill({0} > 0.5, 0.25)", "{0} + {0}.detach()",
)  # fmt: skip
BINARY = (
    "{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / ({1} * {1} + 1)", "L.maximum({0}, {1})", "L.minimum({0}, {1})",
    "L.atan2({0}, {1} * {1} + 1)", "L.where({0} > {1}, {0} * {1}, {1})", "L.lerp({0}, {1}, 0.3)",
    "L.logaddexp({0}, {1})", "L.add({0}, {1}, alpha=-2)",
)  # fmt: skip
REDUCTIONS = (
    "{0}.sum({1})", "{0}.mean({1})", "L.logsumexp({0}, {1})", "L.amax({0}, {1})", "L.amin({0}, {1})",
    "L.var({0}, {1}, correction=0)", "({0} * {0} + 0.1).sum({1}).sqrt()",
)  # fmt: skip
ALONG = (
    "L.softmax({0}, {1})", "L.log_softmax({0}, {1})", "L.cumsum({0}, {1})", "L.flip({0}, ({1},))",
    "L.roll({0}, 1, {1})", "L.cumprod({0}, {1})",
)  # fmt: skip
WRITES = ("{0}.mul_(1.5)", "{0}.add_(0.25)", "{0} += 1.0", "{0}.zero_()", "{0}.div_(-2.0)", "{0}[...] = 0.75")


class Value(NamedTuple):
    """``live``: it depends on a variable. ``solid``: its memory is its own or a plain view, in every library.

    ``free``: it has no history, so it may be changed in place.
    """

    name: str
    shape: Shape
    live: bool
    solid: bool = False
    free: bool = False


class Drawing:
    """A program that is being drawn."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self.leaves: list[Leaf] = []
        self.steps: list[Step] = []
        self.values: list[Value] = []

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return options[self.choose(len(options))]

    def chance(self, percent: int) -> bool:
        """True so often."""
        return self.choose(100) >= 100 - percent

    def leaf(self, shape: Shape, variable: bool = True) -> Value:
        """A new input."""
        rng = np.random.default_rng(self.choose(2**16))
        kind = self.pick(("normal", "normal", "spaced", "integer", "positive"))
        layout = self.pick(tuple(LAYOUTS)) if shape else "contiguous"
        name = f"x{len(self.leaves)}"
        self.leaves.append(Leaf(name, leaf_array(shape, kind, rng), layout, variable))
        self.values.append(Value(name, shape, variable, solid=True, free=not variable))
        return self.values[-1]

    def value(self, least: int = 0, most: int = 9) -> Value:
        """An earlier value with so many dimensions, later ones more often; a new input if there is none."""
        fitting = [v for v in self.values if least <= len(v.shape) <= most]
        if not fitting:
            return self.leaf(tuple(self.pick((2, 3, 1)) for _ in range(least)))
        return fitting[-1 - min(self.choose(len(fitting)), self.choose(len(fitting)))]

    def add(
        self,
        text: str,
        reads: Sequence[Value],
        *shapes: Shape,
        live: bool | None = None,
        solid: bool = False,
        free: bool = False,
    ) -> None:
        """A line that binds one new name for each shape."""
        if any(math.prod(shape) > LARGEST or len(shape) > 4 for shape in shapes):
            return
        live = any(v.live for v in reads) if live is None else live
        marks = "abc" if len(shapes) > 1 else ("",)
        made = [Value(f"v{len(self.steps)}{mark}", shape, live, solid, free) for mark, shape in zip(marks, shapes)]
        self.values += made
        names = tuple(dict.fromkeys(v.name for v in reads))
        self.steps.append(Step(text, tuple(v.name for v in made), names, shapes))

    def dim(self, v: Value, least: int = 1) -> int | None:
        """One of its dimensions with so many elements, counted from either end."""
        dims = [d for d, n in enumerate(v.shape) if n >= least]
        if not dims:
            return None
        d: int = self.pick(dims)
        return d - len(v.shape) if self.chance(30) else d


# ------------------------------------------------------------------------------------------------------------ rules


def _unary(p: Drawing) -> None:
    x = p.value()
    p.add(p.pick(UNARY).format(x.name), [x], x.shape, solid=True)


def _binary(p: Drawing) -> None:
    x = p.value()
    others = [v for v in p.values if _broadcast(v.shape, x.shape) is not None]
    if p.chance(70):
        y = p.pick(others)
    else:  # a smaller shape that spreads over this one's
        shape = tuple(1 if p.chance(30) else n for n in x.shape)[p.choose(len(x.shape) + 1) :]
        y = p.leaf(shape, variable=p.chance(80))
    first, second = (x, y) if p.chance(50) else (y, x)
    shape = _broadcast(x.shape, y.shape) or ()
    p.add(p.pick(BINARY).format(first.name, second.name), [first, second], shape, solid=True)


def _reduce(p: Drawing) -> None:
    x = p.value(1)
    count = 1 + p.choose(len(x.shape))
    dims = sorted({p.choose(len(x.shape)) for _ in range(count)})
    keep = p.chance(50)
    given = str(dims[0]) if len(dims) == 1 else str(tuple(dims))
    shape = tuple(1 if d in dims else n for d, n in enumerate(x.shape) if keep or d not in dims)
    p.add(p.pick(REDUCTIONS).format(x.name, given + (", keepdim=True" if keep else "")), [x], shape)


def _along(p: Drawing) -> None:
    x = p.value(1)
    p.add(p.pick(ALONG).format(x.name, p.dim(x)), [x], x.shape)


def _product(p: Drawing) -> None:
    x = p.value(2)
    *batch, rows, inner = x.shape
    way = p.choose(5)
    if way == 0:
        p.add(f"{x.name} @ {x.name}.mT", [x], (*batch, rows, rows))
    elif way == 1:
        w = p.leaf((inner, 1 + p.choose(3)))
        p.add(f"L.matmul({x.name}, {w.name})", [x, w], (*batch, rows, w.shape[1]))
    elif way == 2:
        w, b = p.leaf((1 + p.choose(3), inner)), p.leaf(())
        p.add(f"F.linear({x.name}, {w.name}) + {b.name}", [x, w, b], (*batch, rows, w.shape[0]))
    elif way == 3:
        p.add(f"L.einsum('...ij,...ik->...jk', {x.name}, {x.name}.sin())", [x], (*batch, inner, inner))
    else:
        p.add(f"F.scaled_dot_product_attention({x.name}, {x.name}.sin(), {x.name} * 0.5)", [x], x.shape)


def _convolution(p: Drawing) -> None:
    x = p.value(3, 4)
    out, k, pad = 1 + p.choose(2), 1 + p.choose(2), p.choose(2)
    sides = x.shape[2:]
    if min(sides) + 2 * pad < k:
        return
    w = p.leaf((out, x.shape[1], *[k] * len(sides)))
    shape = (x.shape[0], out, *[n + 2 * pad - k + 1 for n in sides])
    p.add(f"F.conv{len(sides)}d({x.name}, {w.name}, padding={pad})", [x, w], shape)


def _norm(p: Drawing) -> None:
    x = p.value(1)
    w = p.leaf(x.shape[-1:])
    p.add(f"F.layer_norm({x.name}, ({x.shape[-1]},), {w.name}, eps=0.1)", [x, w], x.shape)


def _view(p: Drawing) -> None:
    x = p.value(1)
    d = p.choose(len(x.shape))
    head, n, tail = x.shape[:d], x.shape[d], x.shape[d + 1 :]
    swapped = (x.shape[-1], *x.shape[1:-1], x.shape[0]) if len(x.shape) > 1 else x.shape
    views: list[tuple[str, Shape, bool]] = [
        (f"{x.name}.transpose(0, -1)", swapped, True),
        (f"{x.name}.permute({tuple(reversed(range(len(x.shape))))})", x.shape[::-1], True),
        (f"{x.name}.unsqueeze({d})", (*head, 1, n, *tail), True),
        (f"{x.name}[{':, ' * d}::2]", (*head, (n + 1) // 2, *tail), True),
        (f"{x.name}[..., :1]", (*x.shape[:-1], 1), True),
        (f"{x.name}.select({d}, {n - 1})", head + tail, True),
        (f"{x.name}.reshape(-1)", (math.prod(x.shape),), False),
        (f"{x.name}.expand(2, {', '.join(map(str, x.shape))})", (2, *x.shape), False),
    ]
    if n == 1:
        views.append((f"{x.name}.squeeze({d})", head + tail, True))
    if n > 1:
        views.append((f"{x.name}.narrow({d}, 1, {n - 1})", (*head, n - 1, *tail), True))
    if len(x.shape) == 2:
        views.append((f"L.diagonal({x.name})", (min(x.shape),), False))
    text, shape, plain = p.pick(views)
    p.add(text, [x], shape, solid=plain and x.solid, free=plain and x.free)


def _several(p: Drawing) -> None:
    x = p.value(1)
    d = p.dim(x, 2)
    if d is None:
        return
    n = x.shape[d]
    at = d % len(x.shape)
    head, tail = x.shape[:at], x.shape[at + 1 :]
    way = p.choose(4)
    if way == 0:
        p.add(f"{x.name}.split([1, {n - 1}], {d})", [x], (*head, 1, *tail), (*head, n - 1, *tail))
    elif way == 1 and n <= 3:
        p.add(f"{x.name}.unbind({d})", [x], *[head + tail] * n)
    elif way == 2:
        p.add(f"L.sort({x.name}, {d})[0].chunk(2, {d})", [x], (*head, -(-n // 2), *tail), (*head, n // 2, *tail))
    elif way == 3:
        p.add(f"L.var_mean({x.name}, {d}, correction=0)", [x], head + tail, head + tail)


def _index(p: Drawing) -> None:
    x = p.value(1)
    n, tail = x.shape[0], x.shape[1:]
    rows = [p.choose(n) for _ in range(3)]  # with duplicates, often
    way = p.choose(6)
    if way == 0:
        p.add(f"{x.name}[{rows}]", [x], (3, *tail))
    elif way == 1:
        p.add(f"L.index_select({x.name}, 0, L.tensor({rows}))", [x], (3, *tail))
    elif way == 2:
        y = p.leaf((3, *tail))
        p.add(f"{x.name}.index_add(0, L.tensor({rows}), {y.name})", [x, y], x.shape)
    elif way == 3:
        kept = [True] + [p.chance(50) for _ in range(n - 1)]
        p.add(f"{x.name}[L.tensor({kept})]", [x], (sum(kept), *tail))
    elif way == 4 and len(x.shape) == 2:
        columns = [p.choose(x.shape[1]) for _ in range(3)]
        p.add(f"{x.name}[L.tensor({rows}), L.tensor({columns})]", [x], (3,))
    elif way == 5 and len(x.shape) == 2:
        at = [[p.choose(n) for _ in range(x.shape[1])] for _ in range(2)]
        p.add(f"{x.name}.gather(0, L.tensor({at}))", [x], (2, x.shape[1]))


def _join(p: Drawing) -> None:
    x = p.value(1)
    y = p.pick([v for v in p.values if v.shape == x.shape])
    if p.chance(50):
        p.add(f"L.stack([{x.name}, {y.name}], -1)", [x, y], (*x.shape, 2))
    else:
        p.add(f"L.cat([{x.name}, {y.name}, {x.name}], 0)", [x, y], (3 * x.shape[0], *x.shape[1:]))


def _apart(p: Drawing) -> None:
    """Without history: an alias, a copy, or a value computed with recording off."""
    x = p.value()
    way = p.choose(3)
    if way == 0 and x.solid:
        p.add(f"{x.name}.detach()", [x], x.shape, live=False, solid=True, free=True)
    elif way == 1:
        p.add(f"{x.name}.detach().clone()", [x], x.shape, live=False, solid=True, free=True)
    else:
        p.add(f"L.sin({x.name}.detach()) * 2", [x], x.shape, live=False, solid=True, free=True)


def _write(p: Drawing) -> None:
    """Change memory in place: of a value without history, or of a variable while nothing is recorded."""
    targets = [v for v in p.values if v.solid and (v.free or v.name[0] == "x")]
    x = p.pick(targets)
    text = p.pick(WRITES if x.free else [w for w in WRITES if "=" not in w]).format(x.name)
    p.steps.append(Step(text if x.free else f"with L.no_grad(): {text}", (), (x.name,), writes=True))


RULES = (
    [_unary] * 5 + [_binary] * 7 + [_reduce] * 3 + [_view] * 4 + [_several] * 2 + [_index] * 2 + [_along] * 2
    + [_product] * 2 + [_join, _norm, _convolution, _apart, _apart, _write]
)  # fmt: skip


def _broadcast(a: Shape, b: Shape) -> Shape | None:
    """The common shape, or None."""
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None


def draw_program(choose: Callable[[int], int], max_nodes: int = 12) -> Program:
    """A program of at most ``max_nodes`` lines. ``choose(n)`` returns a number from 0 to n - 1."""
    p = Drawing(choose)
    for _ in range(1 + choose(3)):
        shape = tuple(p.pick((2, 3, 1, 4)) for _ in range(p.pick((2, 1, 3, 0, 4))))
        p.leaf(shape if math.prod(shape) <= LARGEST else shape[1:])
    length = 1 + choose(max_nodes)
    for _ in range(3 * max_nodes):
        if len(p.steps) >= length:
            break
        p.pick(RULES)(p)
    live = [v.name for v in p.values if v.live and v.name[0] == "v"]
    if not live:
        p.add(f"{p.leaves[0].name}.sin()", [p.values[0]], p.values[0].shape)
        live = [p.values[-1].name]
    outputs = {live[-1], *(p.pick(live) for _ in range(choose(3)))}
    used = {name for step in p.steps for name in step.reads}
    return Program(tuple(x for x in p.leaves if x.name in used), tuple(p.steps), tuple(sorted(outputs)))


def random_program(seed: int, max_nodes: int = 12) -> Program:
    """The program of this number."""
    rng = np.random.default_rng(seed)
    return draw_program(lambda n: int(rng.integers(n)), max_nodes)
