"""Shape, diagonals, rearranging, joining: torch's values and gradients in every layout, and torch's errors."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, both, lying, torch

import scratchgen as sg
from scratchgen.kernels.layout import joined
from scratchgen.testing import check_grad

OF_ONE = {  # label: a function that both libraries understand, of a tensor [2, 3, 4]
    "reshape": lambda m, x: m.reshape(x, (4, -1)),
    "reshape method": lambda m, x: x.reshape(3, 2, 4),
    "reshape to 0 rows more": lambda m, x: x.reshape((1, 2, 12, 1)),
    "reshape_as": lambda m, x: x.reshape_as(m.zeros(6, 4)),
    "permute": lambda m, x: m.permute(x, (2, 0, 1)),
    "permute method": lambda m, x: x.permute(-1, 1, 0),
    "transpose": lambda m, x: m.transpose(x, 0, -1),
    "swapaxes": lambda m, x: m.swapaxes(x, 1, 2),
    "swapdims": lambda m, x: x.swapdims(0, 1),
    "movedim": lambda m, x: m.movedim(x, 0, 2),
    "movedim several": lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)),
    "T": lambda m, x: x[0].T,
    "mT": lambda m, x: x.mT,
    "t": lambda m, x: m.t(x[1]),
    "t of a vector": lambda m, x: x[1, 0].t(),
    "flatten": lambda m, x: m.flatten(x),
    "flatten some": lambda m, x: x.flatten(1, 2),
    "unflatten": lambda m, x: m.unflatten(x, -1, (2, -1)),
    "ravel": lambda m, x: m.ravel(x),
    "squeeze": lambda m, x: m.squeeze(x[:1, :, :1]),
    "squeeze dim": lambda m, x: x[:1, :, :1].squeeze(0),
    "squeeze dim of another length": lambda m, x: x.squeeze(1),
    "squeeze dims": lambda m, x: x[:1, :, :1].squeeze((0, 1, 2)),
    "unsqueeze": lambda m, x: m.unsqueeze(x, 1),
    "unsqueeze last": lambda m, x: x.unsqueeze(-1),
    "expand": lambda m, x: x[:, :1].expand(5, -1, 3, 4),
    "expand_as": lambda m, x: x[:1].expand_as(m.zeros(2, 3, 4)),
    "broadcast_to": lambda m, x: m.broadcast_to(x[:, :, :1], (3, 2, 3, 5)),
    "broadcast_tensors": lambda m, x: m.broadcast_tensors(x[:, :1], x[0])[0],
    "contiguous": lambda m, x: x.mT.contiguous(),
    "atleast_1d": lambda m, x: m.atleast_1d(x[0, 0, 0]),
    "atleast_2d": lambda m, x: m.atleast_2d(x[0, 0]),
    "atleast_3d": lambda m, x: m.atleast_3d(x[0]),
    "atleast_3d of a vector": lambda m, x: m.atleast_3d([x[0, 0], x])[0],
    "diagonal": lambda m, x: m.diagonal(x, 1, -1, 1),
    "diagonal below": lambda m, x: x.diagonal(-1, 1, 2),
    "diagonal outside": lambda m, x: x.diagonal(7, 1, 2),
    "diag of a matrix": lambda m, x: m.diag(x[0], -1),
    "diag of a vector": lambda m, x: x[0, 0].diag(1),
    "diag_embed": lambda m, x: m.diag_embed(x),
    "diag_embed elsewhere": lambda m, x: x.diag_embed(-2, 0, 2),
    "trace": lambda m, x: m.trace(x[0]),
    "tril": lambda m, x: m.tril(x, -1),
    "triu": lambda m, x: x.triu(1),
    "flip": lambda m, x: m.flip(x, (0, -1)),
    "flip method": lambda m, x: x.flip(1),
    "fliplr": lambda m, x: m.fliplr(x),
    "flipud": lambda m, x: x.flipud(),
    "roll": lambda m, x: m.roll(x, 5),
    "roll dims": lambda m, x: x.roll((1, -6), (0, 2)),
    "roll one dim twice": lambda m, x: x.roll((1, 1), (2, -1)),
    "rot90": lambda m, x: m.rot90(x),
    "rot90 twice": lambda m, x: x.rot90(2, (1, 2)),
    "rot90 back": lambda m, x: m.rot90(x, -1, [2, 0]),
    "rot90 around": lambda m, x: m.rot90(x, 4, [2, 0]),
    "repeat": lambda m, x: x.repeat(2, 1, 3, 2),
    "repeat no times": lambda m, x: x.repeat((2, 0, 1)),
    "tile": lambda m, x: m.tile(x, (2, 2)),
    "tile method": lambda m, x: x.tile(1, 2, 1, 2),
    "repeat_interleave": lambda m, x: m.repeat_interleave(x, 2),
    "repeat_interleave dim": lambda m, x: x.repeat_interleave(3, 1),
    "repeat_interleave unequally": lambda m, x: x.repeat_interleave(m.tensor([2, 0, 1]), dim=1),
    "split": lambda m, x: m.split(x, 3, -1)[1],
    "split sizes": lambda m, x: x.split([1, 0, 2], 1)[2],
    "chunk": lambda m, x: m.chunk(x, 3, 2)[1],
    "tensor_split": lambda m, x: m.tensor_split(x, 3, 2)[0],
    "tensor_split at": lambda m, x: x.tensor_split((1, -1), 1)[1],
    "tensor_split overlapping": lambda m, x: x.tensor_split((3, 1), 2)[1],
    "hsplit": lambda m, x: m.hsplit(x, 3)[1],
    "vsplit": lambda m, x: x.vsplit((1,))[1],
    "unbind": lambda m, x: m.unbind(x, -2)[2],
}  # fmt: skip


@pytest.mark.parametrize("label", OF_ONE)
def test_ops_of_one_tensor_are_torchs_and_right_to_second_order(label):
    function = OF_ONE[label]
    for x in lying((2, 3, 4)):
        assert_like_torch(*both(function), x)
    check_grad(lambda x: function(sg, x).sin(), x, order=2)


OF_TWO = {  # of tensors [2, 3, 4] and [2, 3, 4]
    "cat": lambda m, a, b: m.cat([a, b]),
    "cat dim": lambda m, a, b: m.cat((a, b[:, :2], a[:, 1:]), dim=-2),
    "cat leaves out empty vectors": lambda m, a, b: m.cat([m.zeros(0, dtype=a.dtype), a, b], 1),
    "concat": lambda m, a, b: m.concat([a[..., :1], b], -1),
    "concatenate": lambda m, a, b: m.concatenate([a, a]) + m.cat([b, b]),
    "stack": lambda m, a, b: m.stack([a, b, a]),
    "stack last": lambda m, a, b: m.stack((a, b), -1),
    "hstack": lambda m, a, b: m.hstack([a, b]),
    "hstack of vectors": lambda m, a, b: m.hstack([a[0, 0], b[0, 0]]),
    "vstack": lambda m, a, b: m.vstack([a[0, 0], b[0]]),
    "dstack": lambda m, a, b: m.dstack((a[0], b[0])),
    "all of split": lambda m, a, b: m.cat(m.split(a, [1, 2], 1)[::-1], 1) * b,
    "some of unbind": lambda m, a, b: m.unbind(a)[0] * m.unbind(b)[1] * m.unbind(a)[1],
}  # fmt: skip


@pytest.mark.parametrize("label", OF_TWO)
def test_ops_of_two_tensors_are_torchs_and_right_to_second_order(label):
    function = OF_TWO[label]
    for a, b in zip(lying((2, 3, 4)), lying((2, 3, 4), seed=1)):
        assert_like_torch(*both(function), a, b)
    check_grad(lambda a, b: function(sg, a, b).sin(), a, b, order=2)


NO_DIMENSIONS = {
    "reshape": lambda x: x.reshape(1, 1),
    "view": lambda x: x.view(1),
    "flatten": lambda x: x.flatten(),
    "ravel": lambda x: x.ravel(),
    "squeeze": lambda x: x.squeeze(),
    "squeeze 0": lambda x: x.squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "permute": lambda x: x.permute(()),
    "transpose": lambda x: x.transpose(0, -1),
    "t": lambda x: x.t(),
    "expand": lambda x: x.expand(2, 3),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1),
    "repeat": lambda x: x.repeat(2, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2),
    "unfold": lambda x: x.unfold(0, 1, 1),
}


@pytest.mark.parametrize("label", NO_DIMENSIONS)
def test_tensors_without_dimensions(label):
    assert_like_torch(NO_DIMENSIONS[label], NO_DIMENSIONS[label], np.array(1.5))
    check_grad(lambda x: NO_DIMENSIONS[label](x).sin(), np.array(1.5), order=2)


EMPTY = {  # of a tensor [2, 0, 3]
    "reshape": lambda m, x: x.reshape(0, 5),
    "view": lambda m, x: x.view(3, 0),
    "permute": lambda m, x: x.permute(1, 2, 0),
    "flatten": lambda m, x: x.flatten(0, 1),
    "expand": lambda m, x: x.expand(4, 2, 0, 3),
    "diagonal": lambda m, x: x.diagonal(0, 0, 1),
    "diag_embed": lambda m, x: x.diag_embed(0, 0, 1),
    "tril": lambda m, x: x.tril(),
    "flip": lambda m, x: x.flip(0, 1),
    "roll": lambda m, x: x.roll(1, 1),
    "repeat": lambda m, x: x.repeat(2, 2, 2),
    "repeat_interleave": lambda m, x: x.repeat_interleave(2, 1),
    "cat": lambda m, x: m.cat([x, x], 1),
    "cat with a full one": lambda m, x: m.cat([x, x.new_ones(2, 1, 3)], 1),
    "stack": lambda m, x: m.stack([x, x]),
    "chunk": lambda m, x: x.chunk(2, 1)[1],
    "split": lambda m, x: x.split(2, 1)[0],
}


@pytest.mark.parametrize("label", EMPTY)
def test_tensors_without_elements(label):
    assert_like_torch(*both(EMPTY[label]), np.zeros((2, 0, 3)))


def test_lengths_of_pieces_are_torchs():
    for length in (0, 1, 5, 6):
        x, t = sg.zeros(2, length), torch.zeros(2, length)
        for n in (1, 2, 3, 4, 7):
            for name in ("split", "chunk", "tensor_split"):
                ours, theirs = getattr(x, name)(n, 1), getattr(t, name)(n, 1)
                assert [p.shape for p in ours] == [tuple(p.shape) for p in theirs], (name, length, n)
    assert sg.zeros(0, 3).unbind() == ()


def test_views_share_memory_and_copies_do_not():
    x = sg.zeros(2, 3, 4)
    for view in (x.view(6, 4), x.mT, x[0], x.permute(2, 0, 1), x.diagonal(), x.expand(5, 2, 3, 4), x.split(1)[1],
                 x.unbind(2)[3], x.unfold(2, 2, 1), x.unsqueeze(0), x.contiguous()):  # fmt: skip
        assert np.shares_memory(view.array, x.array)
    for copy in (x.flip(0), x.roll(1), x.tril(), x.mT.contiguous(), x.repeat(1, 1, 1), sg.cat([x])):
        assert not np.shares_memory(copy.array, x.array)


def test_view_refuses_to_copy():
    x = sg.zeros(2, 3, 4)
    assert x.mT.view(2, 2, 2, 3).shape == (2, 2, 2, 3)
    with pytest.raises(RuntimeError, match=r"view: shape \[2, 4, 3\].* seen as \[24\] without a copy; use reshape"):
        x.mT.view(-1)


def test_channels_stay_last_in_memory():
    image = sg.zeros(2, 5, 6, 3).permute(0, 3, 1, 2)  # as images lie: NCHW in name, NHWC in memory
    for other in (image.flip(3), image[:, :2, 1:], sg.pad(image, (1, 1, 2, 2))):
        assert other.array.strides[1] == other.array.itemsize


def test_gradients_of_pieces_are_joined_once():
    """Splitting into n pieces costs one node and one cat on the way back, not n full-size gradients."""
    x = sg.ones(4, 6).requires_grad_()
    pieces = x.chunk(3, 1)
    assert len({id(piece.node.node) for piece in pieces}) == 1
    (g,) = sg.grad(pieces[0].sum() + 3 * pieces[2].sum(), x)
    np.testing.assert_array_equal(g.numpy()[0], [1, 1, 0, 0, 3, 3])


def test_pieces_are_joined_where_they_lie():
    """Neighbours in one memory need no copy; whatever else looks like neighbours does."""
    whole = np.arange(24.0).reshape(2, 3, 4)
    for dim in (0, 1, 2):
        parts = np.split(whole, [1], dim)
        view = joined(parts, dim)
        assert view.base is whole.base
        np.testing.assert_array_equal(view, whole)
        assert joined(parts[::-1], dim) is None
        assert joined([parts[0], parts[1].copy()], dim) is None
    assert joined([whole[:, :, :1], whole[:, :, 2:]], 2) is None  # a gap
    assert joined([whole[:1], whole[1:, ::-1]], 0) is None


def test_gradients_share_no_memory():
    """A leaf's gradient may be a view of what nobody else has; two leaves never have one memory."""
    a, b = (sg.ones(6, requires_grad=True) for _ in range(2))
    g = sg.ones(2, 3)
    (a + b).reshape(2, 3).backward(g)
    for one, other in ((a.grad, b.grad), (a.grad, g), (b.grad, g)):
        assert not np.shares_memory(one.array, other.array)
    x = sg.ones(6, requires_grad=True)
    (2 * x.reshape(2, 3)).backward(g)
    assert x.grad.array.base.size == 6
    assert x.grad.tolist() == [2] * 6
    y = sg.ones(2, 3, requires_grad=True)
    kept = []
    z = (2 * y.reshape(6)).reshape(2, 3)
    z.register_hook(kept.append)
    z.backward(g)
    y.grad.add_(1)
    assert y.grad.tolist() == [[3] * 3] * 2
    assert kept[-1].tolist() == [[1] * 3] * 2


def test_promotion_when_joining():
    assert sg.cat([sg.ones(1), sg.ones(1, dtype=sg.float64)]).dtype == sg.float64
    assert sg.stack([sg.ones(1, dtype=sg.int64), sg.ones(1, dtype=sg.float16)]).dtype == sg.float16


x = sg.zeros(2, 3, 4)
MISTAKES = [
    (lambda: x.reshape(5, -1), ValueError, r"cannot reshape array of size 24"),
    (lambda: x.transpose(0, 3), IndexError, r"transpose: dim 3 is out of range for a tensor of shape \[2, 3, 4\]"),
    (lambda: x.permute(0, 1), ValueError, r"permute: 2 dims \[0, 1\] for a tensor of shape \[2, 3, 4\]"),
    (lambda: x.permute(0, 1, 1), ValueError, r"permute: dims \[0, 1, 1\] name a dimension"),
    (lambda: x.movedim((0, 1), 0), ValueError, r"movedim: 2 source dims"),
    (lambda: x.unsqueeze(4), IndexError, r"unsqueeze: dim 4 .* expected -4 to 3"),
    (lambda: x.flatten(2, 1), ValueError, r"flatten: start_dim 2 comes after end_dim 1"),
    (lambda: x.unflatten(2, (3, -1)), ValueError, r"unflatten: sizes \[3, -1\] do not multiply up to the 4 of dim 2"),
    (lambda: x.expand(3, 3, 4), ValueError, r"expand: shape \[2, 3, 4\] cannot become \[3, 3, 4\]"),
    (lambda: x.expand(-1, 2, 3, 4), ValueError, r"expand: "),
    (lambda: x.t(), ValueError, r"t: expects at most 2 dimensions, got shape \[2, 3, 4\]"),
    (lambda: x[0, 0].mT, ValueError, r"mT: expects at least 2 dimensions, got shape \[4\]"),
    (lambda: x.diagonal(0, 1, -2), ValueError, r"diagonal: dim1 1 and dim2 -2 are one dimension"),
    (lambda: x.diag_embed(0, 1, 1), ValueError, r"diag_embed: "),
    (lambda: x.diag(), ValueError, r"diag: expects 1 or 2 dimensions"),
    (lambda: x.trace(), ValueError, r"trace: expects a matrix"),
    (lambda: x[0, 0].tril(), ValueError, r"tril: expects at least 2 dimensions"),
    (lambda: x.flip(0, 0), ValueError, r"flip: dims \[0, 0\] name a dimension"),
    (lambda: x.roll((1, 2), 0), ValueError, r"roll: 2 shifts \[1, 2\] for 1 dims \[0\]"),
    (lambda: x.rot90(1, (0, 0)), ValueError, r"rot90: dims \[0, 0\]"),
    (lambda: x.repeat(2, 2), ValueError, r"repeat: 2 repeats \[2, 2\] for a tensor of shape \[2, 3, 4\]"),
    (lambda: x.repeat_interleave(-1), ValueError, r"repeat_interleave: repeats -1"),
    (lambda: x.repeat_interleave(sg.tensor([1, 2]), 1), ValueError, r"repeat_interleave: .*or 3 of them"),
    (lambda: sg.cat([]), ValueError, r"cat: expects at least one tensor"),
    (lambda: sg.cat(x), TypeError, r"cat: expects a sequence of tensors"),
    (lambda: sg.cat([x, x[0]]), ValueError, r"cat: shapes \[2, 3, 4\] and \[3, 4\] \(tensor 1\) differ"),
    (lambda: sg.cat([x, x[:, :2]]), ValueError, r"cat: shapes .* differ outside dim 0"),
    (lambda: sg.cat([x[0, 0, 0]]), ValueError, r"cat: 0-d tensors cannot be joined"),
    (lambda: sg.stack([x, x[0]]), ValueError, r"stack: tensor 1 has shape \[3, 4\], tensor 0 has \[2, 3, 4\]"),
    (lambda: x.split([1, 1], 1), ValueError, r"split: sections \[1, 1\] do not add up to the 3 of dim 1"),
    (lambda: x.split(0, 1), ValueError, r"split: pieces of 0 along dim 1"),
    (lambda: x.chunk(0), ValueError, r"chunk: chunks must be positive"),
    (lambda: x.tensor_split(0), ValueError, r"tensor_split: the number of sections must be positive"),
    (lambda: x[0, 0, 0].unbind(), ValueError, r"unbind: a 0-d tensor has no dimension"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
