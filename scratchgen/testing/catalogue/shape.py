"""Elements moved: shapes, padding and windows, indexing, order."""

from __future__ import annotations

import numpy as np

from .table import apart, case, integers, mask, normal

# ----------------------------------------------------------------------------------------------------------- shape

case("reshape", lambda L, x: L.reshape(x, (2, -1)), normal(3, 4))
case("view", lambda L, x: x.contiguous().view(4, 3) * x.contiguous().view(-1).sum(), normal(3, 4))
case("flatten", lambda L, x: L.flatten(x, start_dim=1, end_dim=2), normal(2, 3, 2, 2))
case("unflatten", lambda L, x: L.unflatten(x, 1, (2, -1)), normal(3, 4))
case("ravel", lambda L, x: L.ravel(x), normal(3, 4))
case("squeeze", lambda L, x: L.squeeze(x), normal(1, 3, 1))
case("squeeze a dim", lambda L, x: L.squeeze(x, dim=0), normal(1, 3, 1))
case("unsqueeze", lambda L, x: L.unsqueeze(x, -2), normal(3, 4))
case("permute", lambda L, x: L.permute(x, (2, 0, 1)), normal(2, 3, 4))
case("permute nothing", lambda L, x: L.permute(x, (2, 0, 1)), normal(2, 0, 4))
for name in ("transpose", "swapaxes", "swapdims"):
    case(name, lambda L, x, name=name: getattr(L, name)(x, 0, -1), normal(2, 3, 4))
for name in ("movedim", "moveaxis"):
    case(name, lambda L, x, name=name: getattr(L, name)(x, (0, 1), (-1, 0)), normal(2, 3, 4))
case("t", lambda L, x: L.t(x), normal(3, 4))
case("T and mT", lambda L, x: x.T @ x.mT.T, normal(3, 4))
case("expand", lambda L, x: x.expand(2, -1, 4), normal(3, 1))
case("broadcast_to", lambda L, x: L.broadcast_to(x, (2, 3, 4)), normal(3, 1))
case("broadcast_to of a 0-d tensor", lambda L, x: L.broadcast_to(x, (2, 3)), normal())
case("broadcast_tensors", lambda L, x, y: tuple(L.broadcast_tensors(x, y)), normal(3, 1), normal(4))
case("meshgrid", lambda L, x, y: tuple(L.meshgrid(x, y, indexing="xy")), normal(2), normal(3))
case("atleast_1d", lambda L, x: L.atleast_1d(x), normal())
case("atleast_2d", lambda L, x: L.atleast_2d(x), normal(3))
case("atleast_3d", lambda L, x: L.atleast_3d(x), normal(3, 4))
for name in ("cat", "concat", "concatenate"):
    case(name, lambda L, *xs, name=name: getattr(L, name)(list(xs), dim=1), normal(2, 3), normal(2, 1), normal(2, 2))
case("cat with nothing", lambda L, *xs: L.cat(list(xs), dim=1), normal(2, 3), normal(2, 0), normal(2, 1))
case("stack", lambda L, x, y: L.stack([x, y], dim=1), normal(3, 2), normal(3, 2))
case("stack of 0-d tensors", lambda L, x, y: L.stack([x, y, x]), normal(), normal())
case("hstack", lambda L, x, y: L.hstack([x, y]), normal(3, 2), normal(3, 1))
case("vstack", lambda L, x, y: L.vstack([x, y]), normal(3), normal(2, 3))
case("dstack", lambda L, x, y: L.dstack([x, y]), normal(3), normal(3))
case("split", lambda L, x: tuple(L.split(x, 2, dim=1)), normal(3, 5))
case("split by lengths", lambda L, x: tuple(L.split(x, [1, 0, 2])), normal(3, 4))
case("chunk", lambda L, x: tuple(L.chunk(x, 3, dim=1)), normal(2, 5))
case("tensor_split", lambda L, x: tuple(L.tensor_split(x, [1, 3], dim=1)), normal(2, 5))
case("hsplit", lambda L, x: tuple(L.hsplit(x, 2)), normal(2, 4))
case("vsplit", lambda L, x: tuple(L.vsplit(x, 2)), normal(4, 2))
case("unbind", lambda L, x: tuple(L.unbind(x, dim=1)), normal(2, 3))
case("one slice of unbind", lambda L, x: L.unbind(x)[1], normal(3, 2))
case("flip", lambda L, x: L.flip(x, (0, 2)), normal(2, 3, 2))
case("fliplr", lambda L, x: L.fliplr(x), normal(2, 3))
case("flipud", lambda L, x: L.flipud(x), normal(2, 3))
case("roll", lambda L, x: L.roll(x, (1, -2), dims=(0, 1)), normal(3, 4))
case("roll of all elements", lambda L, x: L.roll(x, 2), normal(3, 4))
for k in (0, 1, 2, 3):
    case(f"rot90 {k} times", lambda L, x, k=k: L.rot90(x, k=k, dims=(2, 0)), normal(2, 3, 4))
case("repeat", lambda L, x: x.repeat(2, 1, 3), normal(3, 2))
case("tile", lambda L, x: L.tile(x, (2, 3)), normal(3, 2))
case("repeat_interleave", lambda L, x: L.repeat_interleave(x, repeats=2, dim=1), normal(3, 2))
case("repeat_interleave by counts", lambda L, x, n: L.repeat_interleave(x, n, 0), normal(3, 2), [2, 0, 1])
case("diagonal", lambda L, x: L.diagonal(x, offset=1, dim1=2, dim2=0), normal(3, 2, 4))
case("diag_embed", lambda L, x: L.diag_embed(x, offset=-1, dim1=0, dim2=2), normal(2, 3))
case("diag of a vector", lambda L, x: L.diag(x, diagonal=1), normal(3))
case("diag of a matrix", lambda L, x: L.diag(x), normal(3, 4))
case("trace", lambda L, x: L.trace(x), normal(3, 4))
case("tril", lambda L, x: L.tril(x, diagonal=1), normal(2, 3, 4))
case("triu", lambda L, x: L.triu(x, diagonal=-1), normal(4, 3))

# ------------------------------------------------------------------------------------------- padding and windows

for widths in ([1, 2], [0, 1, 2, 0], [-1, 2, 1, -1]):
    case(f"pad with zeros by {widths}", lambda L, x, w=widths: L.F.pad(x, w), normal(2, 3, 4))
case("pad with a value", lambda L, x: L.F.pad(x, [1, 1], value=2.5), normal(2, 3))
for mode in ("reflect", "replicate", "circular"):
    case(f"pad {mode} 1-D", lambda L, x, mode=mode: L.F.pad(x, [2, 1], mode=mode), normal(2, 2, 4))
    case(f"pad {mode} 2-D", lambda L, x, mode=mode: L.F.pad(x, [2, 1, 1, 2], mode=mode), normal(1, 2, 3, 4))
    case(f"pad {mode} and crop", lambda L, x, mode=mode: L.F.pad(x, [2, -1, 0, 1], mode=mode), normal(1, 2, 3, 4))
case("pad replicate far", lambda L, x: L.F.pad(x, [5, 3], mode="replicate"), normal(2, 2, 2))
case("windows of a dim", lambda L, x: x.unfold(1, 3, 2), normal(2, 7))
case("overlapping windows", lambda L, x: x.unfold(0, 3, 1), normal(5, 2))
case("unfold", lambda L, x: L.F.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)), normal(2, 2, 4, 5))
case("fold", lambda L, x: L.F.fold(x, (4, 5), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)), normal(2, 12, 8))
case("fold of one image", lambda L, x: L.F.fold(x, (3, 3), 2), normal(4, 4))
case("pixel_shuffle", lambda L, x: L.F.pixel_shuffle(x, 2), normal(1, 8, 2, 3))
case("pixel_unshuffle", lambda L, x: L.F.pixel_unshuffle(x, 2), normal(1, 2, 4, 6))

# ------------------------------------------------------------------------------------------------------- indexing

NEGATIVE = "torch takes no negative steps"
case("x[1]", lambda L, x: x[1], normal(3, 4))
case("x[-1, 2] to 0-d", lambda L, x: x[-1, 2], normal(3, 4))
case("slices", lambda L, x: x[1:, ::2], normal(3, 4))
case("slices to nothing", lambda L, x: x[2:2], normal(3, 4))
case("slices backwards", lambda L, x: x[::-1, 3:0:-2], normal(3, 4), unlike_torch=NEGATIVE)
case("None and ...", lambda L, x: x[None, ..., 1, None], normal(2, 3, 4))
case("positions", lambda L, x, i: x[i], normal(3, 4), [2, 0, 2, -1])
case("positions in a matrix", lambda L, x, i: x[:, i], normal(2, 3, 2), [[2, 0], [2, 2]])
case("two arrays of positions", lambda L, x, i, j: x[i, j], normal(3, 4), [[2], [2], [0]], [3, 3, 1])
case("positions apart", lambda L, x, i, j: x[i, :, j], normal(3, 2, 4), [2, 2], [3, 3])
case("positions and slices", lambda L, x, i: x[1:, i, None, ::2], normal(3, 2, 4), [1, 1, 0])
case("no positions", lambda L, x, i: x[i], normal(3, 4), np.zeros(0, np.int64))
case("a mask", lambda L, x, m: x[m], normal(3, 4), mask(3, 4))
case("a mask of rows", lambda L, x, m: x[m, 1:], normal(3, 4), mask(3))
case("a mask and positions", lambda L, x, m, i: x[m, i], normal(3, 4), np.array([True, False, True]), [3, 3])
case("select", lambda L, x: L.select(x, 1, -1), normal(3, 4))
case("narrow", lambda L, x: L.narrow(x, 1, 1, 2), normal(3, 4))
case("index_select", lambda L, x, i: L.index_select(x, 1, i), normal(3, 4), [3, 0, 3])
case("index_add", lambda L, x, i, y: L.index_add(x, 1, i, y, alpha=0.5), normal(3, 4), [3, 0, 3], normal(3, 3))
case("take", lambda L, x, i: L.take(x, i), normal(3, 4), [[11, 0], [11, -1]])
case("gather", lambda L, x, i: L.gather(x, 1, i), normal(3, 4), integers(4, 2, 5))
case("gather of a 0-d tensor", lambda L, x, i: L.gather(x, 0, i), normal(), np.array(0))
case("take_along_dim", lambda L, x, i: L.take_along_dim(x, i, dim=1), normal(3, 4), integers(4, 1, 5))
case("take_along_dim of all", lambda L, x, i: L.take_along_dim(x, i), normal(3, 4), integers(12, 5))
case("scatter_add", lambda L, x, i, y: L.scatter_add(x, 1, i, y), normal(3, 4), integers(4, 2, 5), normal(2, 5))
case("scatter_add of a part", lambda L, x, i, y: L.scatter_add(x, 1, i, y), normal(3, 4), integers(4, 2, 5),
     normal(3, 6))  # fmt: skip
case("scatter", lambda L, x, i, y: L.scatter(x, 1, i, y), normal(3, 4), [[0, 3], [2, 1]], normal(2, 2))
case("scatter of a number", lambda L, x, i: L.scatter(x, 0, i, 2.0), normal(3, 4), integers(3, 2, 4))
case("scatter with duplicates", lambda L, x, i, y: L.scatter(x, 0, i, y), normal(3), [1, 1], normal(2),
     unlike_torch="torch gives every writer the gradient")  # fmt: skip
for how in ("sum", "mean"):
    case(f"scatter_reduce {how}", lambda L, x, i, y, how=how: L.scatter_reduce(x, 1, i, y, how), normal(3, 4),
         integers(4, 3, 5), normal(3, 5))  # fmt: skip
    case(f"scatter_reduce {how} without self",
         lambda L, x, i, y, how=how: L.scatter_reduce(x, 1, i, y, how, include_self=False),
         normal(2, 4), [[0, 0, 2], [3, 3, 3]], normal(2, 3))  # fmt: skip
case("embedding", lambda L, i, w: L.F.embedding(i, w), [[2, 0], [2, 2]], normal(3, 4))
case("embedding with padding", lambda L, i, w: L.F.embedding(i, w, padding_idx=1) * 2, [[2, 1], [2, 0]], normal(3, 4),
     order=0)  # fmt: skip  # the row of the padding gets no gradient
case("masked_fill", lambda L, x, m: L.masked_fill(x, m, 2.0), normal(3, 4), mask(4))
case("masked_fill with a tensor", lambda L, x, m, v: L.masked_fill(x, m, v), normal(3, 4), mask(3, 1), normal())
case("masked_select", lambda L, x, m: L.masked_select(x, m), normal(3, 4), mask(3, 4))
case("masked_scatter", lambda L, x, m, y: L.masked_scatter(x, m, y), normal(2, 3), mask(2, 3), normal(7))
case("sort", lambda L, x: L.sort(x, dim=0, descending=True)[0], apart(3, 4))
case("sort of a 0-d tensor", lambda L, x: L.sort(x)[0], apart())
case("msort", lambda L, x: L.msort(x), apart(3, 4))
case("topk", lambda L, x: L.topk(x, 2, dim=0)[0], apart(4, 3))
case("topk of the smallest", lambda L, x: L.topk(x, 2, largest=False)[0], apart(3, 4))
case("kthvalue", lambda L, x: L.kthvalue(x, 2, dim=0, keepdim=True)[0], apart(4, 3))
case("cummax", lambda L, x: L.cummax(x, 1)[0], apart(3, 4))
case("cummin", lambda L, x: L.cummin(x, 1)[0], apart(3, 4))
