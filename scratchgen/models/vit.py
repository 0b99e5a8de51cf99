"""The vision transformer: an image as a sequence of patches.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (arXiv:2010.11929); the equation numbers are theirs. Patches
x_p of P x P pixels are projected to tokens by a matrix E, a learned class token stands in front of them, and an
encoder of transformer blocks, norms first, mixes them:

    z_0 = [x_class; x_p^1 E; ... x_p^N E] + E_pos                                                              (1)
    z'_l = MSA(LN(z_{l-1})) + z_{l-1},   z_l = MLP(LN(z'_l)) + z'_l                                        (2), (3)
    y = LN(z_L^0)                                                                                              (4)

A dense head on y gives the logits of the classes. With ``pool="mean"`` there is no class token and y is the mean of
LN(z_L) over patches (appendix D.3). Images are (N, C, H, W), whose sides P divides.
"""

from __future__ import annotations

from typing import Literal

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .transformer_blocks import Block

Pool = Literal["class", "mean"]


def patches(x: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) as rows of patches (N, H/size * W/size, C * size * size), in reading order."""
    n, c, height, width = x.shape
    _check_divides(size, height, width)
    grid = x.reshape(n, c, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * size * size)


def _check_divides(size: int, height: int, width: int) -> None:
    if height % size or width % size:
        raise ValueError(f"ViT: patches of {size} pixels do not divide an image of {height} x {width}")


class ViT(nn.Module):
    """Logits (N, classes) of images.

    shape   (channels, height, width) that the positions are learned for; others take interpolated positions
    patch   side of a patch in pixels
    hidden  width between the two dense layers of a block
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int,
        classes: int,
        layers: int,
        heads: int,
        width: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        pool: Pool = "class",
    ) -> None:
        super().__init__()
        _check_divides(patch, *shape[1:])
        channels, self.patch, self.pool = shape[0], patch, pool
        self.grid = shape[1] // patch, shape[2] // patch
        self.embed = nn.Linear(channels * patch * patch, width)
        count = self.grid[0] * self.grid[1]
        if pool == "class":
            self.token = nn.Parameter(sg.zeros((1, 1, width)))
        self.places = nn.Parameter(sg.empty((1, count + (pool == "class"), width)))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, hidden, dropout=dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.places, 0.0, 0.02)
        for p in self.head.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        z = self.tokens(x)
        for block in self.blocks:
            z = block(z)
        return self.head(self.norm(z[:, 0]) if self.pool == "class" else self.norm(z).mean(1))

    def tokens(self, x: Tensor) -> Tensor:
        """z_0 of (1), (N, tokens, width)."""
        z = self.embed(patches(x, self.patch))
        if self.pool == "class":
            z = sg.cat([self.token.expand(len(z), 1, z.shape[2]), z], 1)
        return self.dropout(z + self.positions(x.shape[2] // self.patch, x.shape[3] // self.patch))

    def positions(self, rows: int, columns: int) -> Tensor:
        """E_pos for a grid of patches: the learned ones, or interpolated between them (section 3.2)."""
        if (rows, columns) == self.grid:
            return self.places
        own = self.places[:, -self.grid[0] * self.grid[1] :]
        width = own.shape[2]
        plane = own.reshape(1, *self.grid, width).permute(0, 3, 1, 2)
        other = F.interpolate(plane, size=(rows, columns), mode="bilinear").permute(0, 2, 3, 1).reshape(1, -1, width)
        return sg.cat([self.places[:, :1], other], 1) if self.pool == "class" else other

    def rollout(self, x: Tensor) -> Tensor:
        """How much of each patch reaches y through all blocks, (N, rows, columns), adding up to 1.

        Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers": each block passes on half of a token and
        half of what its heads, averaged, attend to; the product over blocks says how much of which input is where. What
        stays at the class token itself is left out.
        """
        z = self.tokens(x)
        identity = sg.eye(z.shape[1], dtype=z.dtype, device=z.device)
        flow = identity
        for block in self.blocks:
            attention = block.attention.weights(block.norm1(z)).mean(1)
            flow = (0.5 * attention + 0.5 * identity) @ flow
            z = block(z)
        reached = flow[:, 0, 1:] if self.pool == "class" else flow.mean(1)
        reached = reached / reached.sum(1, keepdim=True)
        return reached.reshape(len(x), x.shape[2] // self.patch, x.shape[3] // self.patch)
