"""Convolution: three ops closed under differentiation. Arguments and defaults as in ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Sequence

from .. import kernels
from ..autograd import Node
from ..declare import OPS, Primitive, primitive
from ..gradients import Gradients
from ..tensor import Tensor
from .shape import reshape
from .spatial import Sizes, as_images, each, lengths_of, like_input

__all__ = ["conv1d", "conv2d", "conv2d_residual", "conv_transpose1d", "conv_transpose2d"]

# x (N, C, H, W), w (K, C/groups, R, S) and z (N, K, P, Q) are joined by one relation that is linear in each of x and w:
# z = conv2d(x, w). The other two ops are its transposes, and any derivative of one of the three is another of them.
# ``size`` is the height and width of what an op computes; ``how`` is stride, padding, dilation and groups, the same in
# all. The bias rides along because kernels add it while the result is still in the cache.


class _Convolution(Primitive):
    """A primitive whose gradients in weight and bias come from one pass over ``g``, if that is how they are made."""

    __slots__ = ()

    def vjp(self, node: Node, g: Tensor, needs: tuple, given: Gradients) -> list:
        x, how = node.inputs[0], {**node.attrs, "size": node.inputs[1].shape[2:]}
        both = needs[1] and needs[2] and _made_alike("conv2d_weight", "conv2d_weight_bias", x, g, how)
        others = (needs[0], not both and needs[1], not both and needs[2], *needs[3:])
        grads = super().vjp(node, g, others, given)
        return [grads[0], *_conv2d_weight_bias(x, g, **how), *grads[3:]] if both else grads


def _made_alike(one: str, other: str, x: Tensor, g: Tensor, how: dict) -> bool:
    """Whether two ops are done by kernels of one name: not, say, a fast one and the reference."""
    arrays, device = (x.array, g.array), x.device.type
    return kernels.select(one, device, arrays, how).impl == kernels.select(other, device, arrays, how).impl


_conv2d: Primitive
OPS["conv2d"] = _conv2d = _Convolution(
    "conv2d",
    None,
    (
        lambda g, z, x, w, b, *, size, **how: _conv2d_input(g, w, None, size=x.shape[2:], **how),
        lambda g, z, x, w, b, *, size, **how: _conv2d_weight(x, g, size=w.shape[2:], **how),
        lambda g, z, x, w, b, *, size, **how: g.sum((0, 2, 3)),
    ),
    save="x w",
    broadcasts=False,
    several=False,
)
_conv2d_residual: Primitive
OPS["conv2d_residual"] = _conv2d_residual = _Convolution(
    "conv2d_residual",  # conv2d, and something that is added to its result
    None,
    (
        lambda g, z, x, w, b, r, *, size, **how: _conv2d_input(g, w, None, size=x.shape[2:], **how),
        lambda g, z, x, w, b, r, *, size, **how: _conv2d_weight(x, g, size=w.shape[2:], **how),
        lambda g, z, x, w, b, r, *, size, **how: g.sum((0, 2, 3)),
        lambda g, z, x, w, b, r, **_: g,
    ),
    save="x w",
    broadcasts=False,
    several=False,
)
_conv2d_input: Primitive = primitive(
    "conv2d_input",
    None,
    (
        lambda g, x, z, w, b, *, size, **how: _conv2d(g, w, None, size=z.shape[2:], **how),
        lambda g, x, z, w, b, *, size, **how: _conv2d_weight(g, z, size=w.shape[2:], **how),
        lambda g, x, z, w, b, *, size, **how: g.sum((0, 2, 3)),
    ),
    save="z w",
)
_conv2d_weight: Primitive = primitive(
    "conv2d_weight",
    None,
    (
        lambda g, w, x, z, *, size, **how: _conv2d_input(z, g, None, size=x.shape[2:], **how),
        lambda g, w, x, z, *, size, **how: _conv2d(x, g, None, size=z.shape[2:], **how),
    ),
    save="x z",
)
_conv2d_weight_bias: Primitive = primitive(
    "conv2d_weight_bias",  # the gradients of conv2d in its weight and its bias
    None,
    lambda g, _, x, z, *, size, **how: (
        _conv2d_input(z, g[0], None, size=x.shape[2:], **how),
        _conv2d(x, *g, size=z.shape[2:], **how),
    ),
    save="x z",
    several=True,
)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of ``input`` (N, C, L) or (C, L) with ``weight`` (K, C/groups, S), plus ``bias`` (K,).

    ``padding``: zeros added on both sides, ``"valid"`` (none) or ``"same"`` (as many as keep the length; an odd one
    goes to the end). The result has ``(L + 2 padding - dilation (S - 1) - 1) // stride + 1`` positions.
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of ``input`` (N, C, H, W) or (C, H, W) with ``weight`` (K, C/groups, R, S), plus ``bias`` (K,).

    Sizes as for ``conv1d``, one for both directions or a pair for rows and columns.
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv2d_residual(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """``conv2d(input, weight, bias, ...) + residual``, which has the result's shape: the result is written once."""
    return _convolve("conv2d_residual", 2, input, weight, bias, stride, padding, dilation, groups, residual)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of ``conv1d``: ``input`` (N, C, L) or (C, L), ``weight`` (C, K/groups, S), ``bias`` (K,).

    The result has ``(L - 1) stride - 2 padding + dilation (S - 1) + output_padding + 1`` positions:
    ``output_padding``, below stride or dilation, chooses among the lengths that ``conv1d`` takes to L.
    """
    return _convolve_transposed(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of ``conv2d``: ``input`` (N, C, H, W) or (C, H, W), ``weight`` (C, K/groups, R, S), ``bias`` (K,).

    Sizes as for ``conv_transpose1d``, one for both directions or a pair for rows and columns.
    """
    return _convolve_transposed(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _convolve(
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
    residual: Tensor | None = None,
) -> Tensor:
    lengths = lengths_of(op, input, dims)
    taps = _check(op, dims, input, weight, bias, groups, transposed=False)
    steps, spread = each(op, "stride", stride, dims, 1), each(op, "dilation", dilation, dims, 1)
    reach = [d * (t - 1) + 1 for d, t in zip(spread, taps)]
    if isinstance(padding, str):
        before, total = _named_padding(op, padding, steps, reach)
    else:
        before = each(op, "padding", padding, dims, 0)
        total = tuple([2 * p for p in before])
    padded = [n + p for n, p in zip(lengths, total)]
    if any(n < r for n, r in zip(padded, reach)):
        raise ValueError(
            f"{op}: a kernel of {list(taps)} with dilation {list(spread)} reaches over {reach}, more than the "
            f"{padded} positions of input {list(input.shape)} with padding={padding!r}; pad more or take a smaller one"
        )
    size = [(n - r) // step + 1 for n, r, step in zip(padded, reach, steps)]
    if residual is None:
        return _apply(_conv2d, input, weight, bias, dims, size, steps, before, spread, groups)
    made = (*input.shape[: -dims - 1], weight.shape[0], *size)
    if residual.shape != made or residual.dtype != input.dtype:
        given = f"{residual.dtype}{list(residual.shape)}"
        raise ValueError(f"{op}: residual of {given}, expected {input.dtype}{list(made)}, as the result is")
    return _apply(_conv2d_residual, input, weight, bias, dims, size, steps, before, spread, groups, residual)


def _convolve_transposed(
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Tensor:
    lengths = lengths_of(op, input, dims)
    taps = _check(op, dims, input, weight, bias, groups, transposed=True)
    steps, spread = each(op, "stride", stride, dims, 1), each(op, "dilation", dilation, dims, 1)
    before, extra = each(op, "padding", padding, dims, 0), each(op, "output_padding", output_padding, dims, 0)
    if any(e >= max(step, d) for e, step, d in zip(extra, steps, spread)):
        raise ValueError(
            f"{op}: output_padding {list(extra)} must be smaller than stride {list(steps)} or dilation {list(spread)}"
        )
    size = [
        (n - 1) * step - 2 * p + d * (t - 1) + e + 1
        for n, step, p, d, t, e in zip(lengths, steps, before, spread, taps, extra)
    ]
    if min(size) < 0 or 0 in lengths:
        raise ValueError(
            f"{op}: input of shape {list(input.shape)} with a kernel of {list(taps)}, stride {list(steps)} and padding "
            f"{list(before)} would make an output of size {size}"
        )
    return _apply(_conv2d_input, input, weight, bias, dims, size, steps, before, spread, groups)


def _apply(
    op: Primitive,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dims: int,
    size: Sequence[int],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *more: Tensor,
) -> Tensor:
    """Run one of the ops in two dimensions, of which a signal's first has length 1. ``more``: images as well."""
    one, zero = (1,) * (2 - dims), (0,) * (2 - dims)
    result = op(
        as_images(input, dims),
        weight if dims == 2 else reshape(weight, (*weight.shape[:2], 1, weight.shape[2])),
        bias,
        *[as_images(image, dims) for image in more],
        size=(*one, *size),
        stride=one + stride,
        padding=zero + padding,
        dilation=one + dilation,
        groups=groups,
    )
    return like_input(result, input, dims)


def _named_padding(op: str, padding: str, stride: Sequence[int], reach: Sequence[int]) -> tuple[tuple, tuple]:
    """The zeros before each dimension, and before and after it together."""
    if padding == "valid":
        return (0,) * len(reach), (0,) * len(reach)
    if padding != "same":
        raise ValueError(f"{op}: padding must be numbers, 'valid' or 'same', got {padding!r}")
    if max(stride) > 1:
        raise ValueError(f"{op}: padding='same' keeps the size and needs stride 1, got stride {list(stride)}")
    return tuple([(r - 1) // 2 for r in reach]), tuple([r - 1 for r in reach])


def _check(
    op: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool
) -> tuple[int, ...]:
    """Do channels, groups and dtypes agree? Returns the size of the kernel."""
    shape = list(weight.shape)
    if len(shape) != dims + 2 or min(shape[2:]) < 1:
        wanted = ("C, K/groups, " if transposed else "K, C/groups, ") + ("S" if dims == 1 else "R, S")
        raise ValueError(f"{op}: weight must have shape ({wanted}), got {shape}")
    if groups < 1 or shape[0] % groups:
        raise ValueError(f"{op}: groups={groups} do not divide the {shape[0]} channels of weight {shape}")
    takes, makes = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
    if input.shape[-dims - 1] != takes:
        raise ValueError(
            f"{op}: input of shape {list(input.shape)} has {input.shape[-dims - 1]} channels, "
            f"weight of shape {shape} with groups={groups} takes {takes}"
        )
    if bias is not None and bias.shape != (makes,):
        raise ValueError(f"{op}: bias must have shape [{makes}] for weight of shape {shape}, got {list(bias.shape)}")
    if input.dtype != weight.dtype or (bias is not None and bias.dtype != input.dtype):
        raise TypeError(
            f"{op}: input, weight and bias must have one dtype, got {input.dtype}, {weight.dtype}"
            + (f" and {bias.dtype}" if bias is not None else "")
        )
    return weight.shape[2:]
