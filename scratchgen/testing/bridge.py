"""``as_torch_function``: an op of ours as a function of torch's tensors, so that torch's checkers can judge it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..tensor import Tensor, as_tensor
from .subject import floating, to_numpy, vjp


def as_torch_function(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` for torch's CPU tensors: values and derivatives of every order are ours.

    ``torch.autograd.gradcheck(as_torch_function(sg.softmax), ...)`` and ``gradgradcheck`` then test our derivatives.
    Arguments by position may be tensors or anything else; those by name are passed on. Outputs are those of a floating
    dtype, one or a tuple.
    """

    def call(*args: Any, **attrs: Any) -> Any:
        import torch

        variable = [isinstance(a, torch.Tensor) and a.dtype.is_floating_point for a in args]
        places = [i for i, v in enumerate(variable) if v]

        def of_tensors(*tensors: Any) -> Any:
            return f(*tensors, **attrs)

        def inputs(ts: tuple) -> list[Any]:
            given = iter(ts)
            return [_ours(next(given)) if v else _ours(a) for a, v in zip(args, variable)]

        def gradient(*at: Any) -> tuple[Tensor, ...]:
            xs, us = at[: len(args)], at[len(args) :]
            recorded = any(isinstance(x, Tensor) and x.requires_grad for x in at)
            return tuple(vjp(of_tensors, xs, variable, us, recorded))

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *ts: Any) -> Any:
                ctx.save_for_backward(*ts)
                with no_grad():
                    ys = floating(of_tensors(*inputs(ts)))
                made = tuple(torch.from_numpy(np.array(to_numpy(y))) for y in ys)
                return made if len(made) > 1 else made[0]

            @staticmethod
            def backward(ctx: Any, *us: Any) -> Any:
                saved = iter(ctx.saved_tensors)
                xs = [next(saved) if v else a for a, v in zip(args, variable)]
                found = as_torch_function(gradient)(*xs, *us)
                return found if isinstance(found, tuple) else (found,)

        Function.__name__ = getattr(f, "__name__", "Function")
        return Function.apply(*[args[i] for i in places])

    return call


def _ours(a: Any) -> Any:
    """A torch tensor as a Tensor that shares its memory; anything else as it is."""
    return as_tensor(a.detach().numpy()) if type(a).__module__.partition(".")[0] == "torch" else a
