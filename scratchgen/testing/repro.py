"""A failure as a script: exact inputs in their memory layout, the call, and the two numbers that differ.

The script needs NumPy and scratchgen only. It takes the differences itself, in a dozen lines, so that a reader has to
trust neither this package's oracles nor its verdict.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..declare import OPS
from .report import Report

HELPERS = '''\
def array(numbers, dtype, shape, strides=None):
    """Exact numbers, laid out in memory with the given strides."""
    parse = float.fromhex if np.dtype(dtype).kind == "f" else int
    values = np.array([parse(n) for n in numbers.split()]).astype(dtype).reshape(shape)
    if strides is None:
        return values
    reach = [(n - 1) * s for n, s in zip(shape, strides)]
    start = -sum(r for r in reach if r < 0)
    memory = np.zeros(start + sum(r for r in reach if r > 0) + values.itemsize, np.uint8)
    laid = np.ndarray(shape, dtype, memory, start, strides)
    laid[...] = values
    return laid


def outputs(y):
    return [t for t in (y if isinstance(y, (tuple, list)) else [y]) if t.dtype.kind == "f"]
'''
DERIVATIVES = '''

def vjp(f, count, recorded=False):
    """The function (x, u) -> J(x)'u of the first ``count`` inputs x and the cotangents u that follow them."""

    def gradient(*at):
        with sg.enable_grad():
            xs = [variable(x) for x in at[:count]]
            ys = [(y, u) for y, u in zip(outputs(f(*xs)), at[count:]) if y.requires_grad]
            variables = [x for x in xs if isinstance(x, sg.Tensor) and x.requires_grad]
            found = sg.grad([y for y, _ in ys], variables, [u for _, u in ys], create_graph=recorded or any(
                isinstance(x, sg.Tensor) and x.requires_grad for x in at), allow_unused=True)
        return tuple(sg.zeros_like(x) if g is None else g for g, x in zip(found, variables))

    return gradient


def variable(x):
    if not isinstance(x, sg.Tensor) or x.dtype.kind != "f":
        return x
    return x.alias() if x.requires_grad else x.detach().requires_grad_()


def dot(us, ys):
    return sum((u.astype(y.dtype) * y).sum() for u, y in zip(us, ys))


def along(t):
    """<cotangent, f(x + t direction)>, in the number type of t."""
    moves = iter(direction)
    moved = [x.astype(type(t)) + t * next(moves) if is_variable(x) else x for x in inputs]
    with sg.no_grad():
        ys = outputs(f(*[sg.as_tensor(np.asarray(x)) if isinstance(x, np.ndarray) else x for x in moved]))
    return dot(cotangent, [y.numpy() for y in ys])


def is_variable(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"

'''
COMPARISON = """
tensors = [sg.as_tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
gradients = vjp(f, len(inputs), recorded={recorded})(*tensors, *map(sg.as_tensor, cotangent))
ours = dot(direction, [g.detach().numpy() for g in gradients])

h = {number}(0.002)  # central differences of order 8
weights = (4 / h / 5, -1 / h / 5, 4 / h / 105, -1 / h / 280)
differences = sum(w * (along(i * h) - along(-i * h)) for i, w in enumerate(weights, 1))
print(f"the engine's derivative   {{float(ours)!r}}")
print(f"differences of the value  {{float(differences)!r}}")
print(f"relative error            {{abs(float(ours - differences)) / max(abs(ours), abs(differences)):.1e}}")
"""


def script(report: Report) -> str:
    """The text of the script for a report that carries evidence, or for its first part that does."""
    found = _with_evidence(report)
    if found is None or found.evidence is None:
        raise ValueError(f"{report.subject}: {report.check} passed, or shows nothing that a script could repeat")
    evidence = found.evidence
    chain = [evidence.subject]
    while chain[0].below is not None:
        chain.insert(0, chain[0].below)
    base = chain[0]
    attrs = "".join(f", {name}={value!r}" for name, value in base.attrs.items())
    message = textwrap.wrap(found.message.partition("\n")[0], 110)
    lines = [f'"""{found.case_id}: {found.check} of {found.subject}.', "", *message, '"""', ""]
    lines += ["import numpy as np", "", "import scratchgen as sg", *_definition(base.function)]
    lines += ["", "", HELPERS.rstrip()]
    lines += [DERIVATIVES.rstrip()] if evidence.cotangent else []
    lines += ["", "", *_listed("inputs", base.arrays), f"f = lambda *xs: function(*xs{attrs})"]
    if not evidence.cotangent:
        lines += ["tensors = [sg.as_tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]"]
        return "\n".join([*lines, "for y in outputs(f(*tensors)):", "    print(y.numpy())"]) + "\n"
    for order, (lower, higher) in enumerate(pairwise(chain), 2):
        lines += [f"f = vjp(f, {len(lower.arrays)})  # its derivative is that of order {order}"]
        lines += _listed("inputs +", higher.arrays[len(lower.arrays) :])
    lines += [*_listed("cotangent", evidence.cotangent), *_listed("direction", evidence.direction)]
    number = "np.longdouble" if evidence.oracle == "longdouble" else "np.float64"
    return "\n".join(lines) + "\n" + COMPARISON.format(number=number, recorded=evidence.recorded)


def _with_evidence(report: Report) -> Report | None:
    if report.evidence is not None:
        return report
    return next((found for part in report.parts if (found := _with_evidence(part)) is not None), None)


def _listed(name: str, arrays: Sequence[Any]) -> list[str]:
    return [f"{name}= [" if name.endswith("+") else f"{name} = [", *[f"    {literal(x)}," for x in arrays], "]"]


def literal(x: Any) -> str:
    """An input as the script writes it: exact, with its strides where they are not the usual ones."""
    if not isinstance(x, np.ndarray):
        return repr(x)
    numbers = [float(n).hex() for n in x.flat] if x.dtype.kind == "f" else [str(int(n)) for n in x.flat]
    strides = "" if x.flags.c_contiguous else f", {x.strides}"
    code = x.dtype.str.lstrip("<>|=")
    lines = textwrap.wrap(" ".join(numbers), 108) or [""]
    text = f'"{lines[0]}"' if len(lines) == 1 else '"""' + "\n        ".join(["", *lines]) + '"""'
    return f'array({text}, "{code}", {x.shape}{strides})'


def _definition(function: Callable[..., Any]) -> list[str]:
    """Lines that define ``function``: an import where its name leads to it, else its source."""
    if isinstance(function, partial):
        args = [repr(a) for a in function.args] + [f"{key}={value!r}" for key, value in function.keywords.items()]
        named = f"function = partial({', '.join(['function', *args])})"
        return [*_definition(function.func), "from functools import partial", "", named]
    name = getattr(function, "name", None)
    if OPS.get(str(name)) is function:
        home = getattr(getattr(function, "composite", None), "__module__", "scratchgen")
        known = [] if home.startswith("scratchgen") or home == "__main__" else [f"import {home}  # declares the op"]
        return [*known, "from scratchgen.declare import OPS", "", f"function = OPS[{name!r}]"]
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", "<>")
    if module not in (None, "__main__") and "<" not in path:
        return [f"import {module}", "", f"function = {module}.{path}"]
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip().splitlines()
    except (OSError, TypeError):
        source = [repr(function)]
    if source[0].startswith("def ") and path == function.__name__:
        return ["", "", *source, "", "", f"function = {path}"]
    comment = [f"#   {line}" for line in source]
    return ["", "# The function has no name to import it by. It was:", *comment, "function = ..."]
