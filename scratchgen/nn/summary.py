"""A table of a model's layers, what they put out and what they learn."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..autograd import no_grad
from ..rng import note_draws
from ..tensor import Tensor
from .module import Module


def summary(module: Module, *inputs: Any) -> str:
    """Run ``module`` once and describe its layers: a table to print.

    ``inputs``: for each input its shape (batch included), or a Tensor where it is not of floats. The run is in
    evaluation mode and leaves no trace: no gradients, modes and random streams as before.
    """
    outputs: dict[int, str] = {}

    def note(m: Module, _: tuple, output: Any) -> None:
        outputs.setdefault(id(m), _shapes(output))  # of the first call, if there are several

    handles = [m.register_forward_hook(note) for m in module.modules()]
    modes = [(layer, layer.training) for layer in module.modules()]
    with no_grad(), note_draws() as draws:
        try:
            module.eval()(*[_example(module, x) for x in inputs])
        finally:
            for handle in handles:
                handle.remove()
            for layer, mode in modes:
                layer.training = mode
            for generator, (seed, counter) in draws.items():
                generator.load_state_dict({"seed": seed, "counter": counter})

    rows = [("layer", "output", "parameters")]
    for name, m in module.named_modules():
        own = sum(p.numel() for p in m.parameters(recurse=False))
        depth, label = name.count(".") + bool(name), name.rpartition(".")[2]
        text = "  " * depth + (f"{label}: {type(m).__name__}" if label else type(m).__name__)
        rows.append((text, outputs.get(id(m), "not run"), f"{own:,}" if own else ""))
    return _table(rows) + "\n" + _totals(module)


def _example(module: Module, x: Any) -> Tensor:
    """An input of zeros of the given shape, in the dtype and on the device of the module's parameters."""
    if isinstance(x, Tensor):
        return x
    first = next(module.parameters(), None)
    if first is None:
        return ops.zeros(tuple(x))
    return ops.zeros(tuple(x), dtype=first.dtype, device=first.device)


def _shapes(output: Any) -> str:
    if isinstance(output, Tensor):
        return str(list(output.shape))
    if isinstance(output, (tuple, list)):
        return ", ".join(_shapes(x) for x in output)
    return type(output).__name__


def _table(rows: list[tuple[str, str, str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    lines.insert(1, "-" * (sum(widths) + 4))
    return "\n".join([*lines, lines[1]])


def _totals(module: Module) -> str:
    learnt = [p for p in module.parameters() if p.requires_grad]
    frozen = [p for p in module.parameters() if not p.requires_grad]
    size = sum(t.array.nbytes for t in (*learnt, *frozen, *module.buffers()))
    text = f"{sum(p.numel() for p in (*learnt, *frozen)):,} parameters"
    if frozen:
        text += f" ({sum(p.numel() for p in frozen):,} frozen)"
    return f"{text}, {size / 2**20:.2f} MiB with buffers"
