"""The U-Nets of diffusion models, both from one set of blocks, and a plain network for points and tiny images.

``SurveyUNet``  residual blocks, average pooling down, bilinear upsampling up, skips concatenated; the noise level
                enters once, as sinusoids in further input channels (the Keras example of DDIM, Beres 2022)
``UNet``        Ho et al. 2020, appendix B: the time enters every residual block, attention at small sizes, strided
                convolutions down, nearest neighbours and a convolution up. Modules and weights have the names that
                diffusers' ``UNet2DModel`` gives them.

All take x (N, C, H, W) or (N, D), t (N,) floats and labels (N,) or None, and end in a layer of zeros: at the start of
training they say 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


def sinusoids(t: Tensor, width: int, longest: float = 10_000.0, original: bool = False) -> Tensor:
    """cos and sin of t (N,) at frequencies from 1 down towards 1 / ``longest``, in a geometric series: (N, width).

    ``original``: as in Ho et al.'s code, sines first, and the last frequency is 1 / ``longest`` itself.
    """
    half = width // 2
    gap = math.log(longest) / (half - 1 if original else half)
    angle = t[:, None] * sg.exp(sg.arange(half, dtype=t.dtype, device=t.device) * -gap)
    waves = sg.cos(angle), sg.sin(angle)
    return sg.cat(waves[::-1] if original else waves, 1)


def norm_silu(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None = None) -> Tensor:
    """GroupNorm of x + ``shift`` (N, C), then SiLU, in one pass over memory."""
    return F.group_norm_silu(x, norm.num_groups, norm.weight, norm.bias, norm.eps, shift)


def groups_of(channels: int, wanted: int) -> int:
    """The largest number of groups up to ``wanted`` that divides ``channels``."""
    return max(g for g in range(1, wanted + 1) if channels % g == 0)


# --- blocks


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, and a way around them; the last convolution starts as zeros.

    ``embedding``: width of what is added between the two (0: nothing); with ``scale_shift`` half of it scales the
    second norm's output instead (Dhariwal and Nichol 2021, AdaGN).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int = 0,
        groups: int = 32,
        dropout: float = 0.0,
        scale_shift: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = nn.GroupNorm(groups_of(inputs, groups), inputs, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        if embedding:
            self.time_emb_proj = nn.Linear(embedding, outputs * (2 if scale_shift else 1))
        self.norm2 = nn.GroupNorm(groups_of(outputs, groups), outputs, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zeros(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv1(norm_silu(self.norm1, x))
        if embedding is not None and self.scale_shift:
            scale, shift = self.time_emb_proj(embedding)[:, :, None, None].chunk(2, 1)
            h = F.silu(self.norm2(h) * (1 + scale) + shift)
        else:
            h = norm_silu(self.norm2, h, None if embedding is None else self.time_emb_proj(embedding))
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return F.conv2d_residual(self.dropout(h), self.conv2.weight, self.conv2.bias, shortcut, padding=1)


class SelfAttention(nn.Module):
    """Attention of all pixels to all pixels, added to the input; ``head`` channels a head, by default one head."""

    def __init__(self, channels: int, head: int | None = None, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        head = head or channels
        if channels % head:
            raise ValueError(f"SelfAttention: {channels} channels do not divide into heads of {head}")
        self.heads = channels // head
        self.group_norm = nn.GroupNorm(groups_of(channels, groups), channels, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([_zeros(nn.Linear(channels, channels))])

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        pixels = self.group_norm(x).permute(0, 2, 3, 1).reshape(n, height * width, c)
        q, k, v = (
            to(pixels).reshape(n, height * width, self.heads, c // self.heads).transpose(1, 2)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, height * width, c)
        return x + self.to_out[0](mixed).reshape(n, height, width, c).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Half the size by a convolution of stride 2; ``original``: the zeros around lie below and to the right only."""

    def __init__(self, channels: int, original: bool = False) -> None:
        super().__init__()
        self.original = original
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if original else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.original else x)


class Upsample(nn.Module):
    """Twice the size by nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class _Level(nn.Module):
    """The blocks of one size, with attention after each where it is asked for, and the way to the next size."""

    def __init__(self, resnets: Sequence[ResidualBlock], attentions: Sequence[SelfAttention]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(list(resnets))
        if attentions:
            self.attentions = nn.ModuleList(list(attentions))
        self.attends = bool(attentions)

    def block(self, i: int, x: Tensor, embedding: Tensor | None) -> Tensor:
        x = self.resnets[i](x, embedding)
        return self.attentions[i](x) if self.attends else x


def _zeros(layer: Layer) -> Layer:
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


# --- Ho's network


class _TimeEmbedding(nn.Module):
    """Two dense layers on the sinusoids of t."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, outputs)
        self.linear_2 = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class UNet(nn.Module):
    """Ho et al.'s U-Net for images (N, channels, H, W).

    widths     channels of each size, from the full one down; the image must halve ``len(widths) - 1`` times
    attention  the levels (0 is the full size) with attention; the middle always has it
    blocks     residual blocks of a level on the way down; one more on the way up
    head       channels of a head of attention; None: one head
    classes    0, or the number of labels: their embedding, and that of the null label ``classes``, join the time's
    original   as in the authors' code, and not as is usual now: ``sinusoids``, ``Downsample``
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        attention: Sequence[int] = (),
        blocks: int = 2,
        outputs: int | None = None,
        groups: int = 32,
        head: int | None = None,
        dropout: float = 0.0,
        scale_shift: bool = False,
        classes: int = 0,
        original: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.levels, self.width, self.original = len(widths), widths[0], original
        embedded = 4 * widths[0]

        def residual(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, embedded, groups, dropout, scale_shift, eps)

        def attend(level: int, width: int, count: int) -> list[SelfAttention]:
            return [SelfAttention(width, head, groups, eps) for _ in range(count if level in attention else 0)]

        self.time_embedding = _TimeEmbedding(widths[0], embedded)
        if classes:
            self.class_embedding = nn.Embedding(classes + 1, embedded)
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        skips, width = [widths[0]], widths[0]
        self.down_blocks = nn.ModuleList()
        for level, wide in enumerate(widths):
            resnets = [residual(width if i == 0 else wide, wide) for i in range(blocks)]
            block = _Level(resnets, attend(level, wide, blocks))
            skips += [wide] * blocks
            if level + 1 < len(widths):
                block.downsamplers = nn.ModuleList([Downsample(wide, original)])
                skips.append(wide)
            self.down_blocks.append(block)
            width = wide
        middle = SelfAttention(width, head, groups, eps)
        self.mid_block = _Level([residual(width, width) for _ in range(2)], [middle])
        self.up_blocks = nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            resnets = []
            for _ in range(blocks + 1):
                resnets.append(residual(width + skips.pop(), wide))
                width = wide
            block = _Level(resnets, attend(level, wide, blocks + 1))
            if level:
                block.upsamplers = nn.ModuleList([Upsample(wide)])
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(groups_of(width, groups), width, eps)
        self.conv_out = _zeros(nn.Conv2d(width, outputs or channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        factor = 2 ** (self.levels - 1)
        if x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(f"UNet: height and width must be divisible by {factor}, x is {list(x.shape)}")
        embedding = self.time_embedding(sinusoids(t, self.width, original=self.original))
        if label is not None:
            embedding = embedding + self.class_embedding(label)
        embedding = F.silu(embedding)  # once for all blocks
        h = self.conv_in(x)
        skips = [h]
        for level in self.down_blocks:
            for i in range(len(level.resnets)):
                h = level.block(i, h, embedding)
                skips.append(h)
            if hasattr(level, "downsamplers"):
                h = level.downsamplers[0](h)
                skips.append(h)
        h = self.mid_block.block(0, h, embedding)
        h = self.mid_block.resnets[1](h, embedding)
        for level in self.up_blocks:
            for i in range(len(level.resnets)):
                h = level.block(i, sg.cat([h, skips.pop()], 1), embedding)
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0](h)
        return self.conv_out(norm_silu(self.conv_norm_out, h))


# --- the survey's network


class SurveyUNet(nn.Module):
    """The U-Net of the survey for images (N, channels, H, W).

    DownBlock: ``blocks`` residual blocks, then average pooling. UpBlock: bilinear upsampling, then as many residual
    blocks, each on its input and the skip of the same size side by side. The sinusoids of t, ``embedding`` of them, are
    constant images beside x; so is a class's embedding.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        blocks: int = 2,
        outputs: int | None = None,
        groups: int = 8,
        embedding: int = 32,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.levels, self.embedding = len(widths), embedding
        if classes:
            self.class_embedding = nn.Embedding(classes + 1, embedding)
        width = widths[0]
        self.first = nn.Conv2d(channels + embedding * (2 if classes else 1), width, 1)
        self.down = nn.ModuleList()
        skips = []
        for wide in widths[:-1]:
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, wide, groups=groups))
                width = wide
                skips.append(width)
        self.middle = nn.ModuleList()
        for _ in range(blocks):
            self.middle.append(ResidualBlock(width, widths[-1], groups=groups))
            width = widths[-1]
        self.up = nn.ModuleList()
        for wide in reversed(widths[:-1]):
            for _ in range(blocks):
                self.up.append(ResidualBlock(width + skips.pop(), wide, groups=groups))
                width = wide
        self.blocks = blocks
        self.last = _zeros(nn.Conv2d(width, outputs or channels, 1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        factor = 2 ** (self.levels - 1)
        if x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(f"SurveyUNet: height and width must be divisible by {factor}, x is {list(x.shape)}")
        beside = [sinusoids(t, self.embedding)]
        if label is not None:
            beside.append(self.class_embedding(label))
        planes = sg.cat(beside, 1)[:, :, None, None]
        h = self.first(sg.cat([x, planes.expand(*planes.shape[:2], *x.shape[2:])], 1))
        skips = []
        for i, block in enumerate(self.down):
            h = block(h)
            skips.append(h)
            if (i + 1) % self.blocks == 0:
                h = F.avg_pool2d(h, 2)
        for block in self.middle:
            h = block(h)
        for i, block in enumerate(self.up):
            if i % self.blocks == 0:
                h = F.interpolate(h, scale_factor=2, mode="bilinear")
            h = block(sg.cat([h, skips.pop()], 1))
        return self.last(h)


# --- points and tiny images


class ResidualMLP(nn.Module):
    """Residual dense blocks for points (N, D), or for images (N, C, H, W) taken as their pixels.

    Time and class are added to what each block's normed input is.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        blocks: int = 3,
        outputs: int | None = None,
        classes: int = 0,
        steps: int = 1000,
    ) -> None:
        super().__init__()
        self.shape, self.outputs, self.steps = tuple(shape), outputs or shape[0], steps
        size = math.prod(shape)
        self.time = nn.Linear(64, width)
        if classes:
            self.class_embedding = nn.Embedding(classes + 1, width)
            nn.init.normal_(self.class_embedding.weight, 0.0, 0.02)
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks)])
        self.wide = nn.ModuleList([nn.Linear(width, width) for _ in range(blocks)])
        self.back = nn.ModuleList([_zeros(nn.Linear(width, width)) for _ in range(blocks)])
        self.last = _zeros(nn.Linear(width, size // shape[0] * self.outputs))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        known = F.silu(self.time(sinusoids(t * (1000 / self.steps), 64)))
        if label is not None:
            known = known + self.class_embedding(label)
        h = self.first(x.flatten(1))
        for norm, wide, back in zip(self.norms, self.wide, self.back, strict=True):
            h = h + back(F.silu(wide(norm(h) + known)))
        return self.last(h).reshape(len(x), self.outputs, *self.shape[1:])
