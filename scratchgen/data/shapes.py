"""Captioned pictures of one coloured shape on a coloured background, by a renderer that can be inverted.

A scene is five attributes (`ATTRIBUTES`: 2,880 combinations). Two things vary freely beside them, so that
hardly any two pictures are equal: the shape may lie a pixel off its place, and its colours may be off by a
few levels. Every picture is background * (1 - mask) + colour * mask with one of 810 known masks, so
`recognise` can read the attributes back from any image, real or generated, with no classifier to be trained
or trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from scratchgen.data.dataset import IntArray
from scratchgen.data.images import ImageDataset, Images
from scratchgen.data.registry import dataset

SIDE = 32
COLOURS = {
    "red": (220, 40, 40), "orange": (240, 140, 20), "yellow": (235, 225, 40), "green": (40, 180, 60),
    "cyan": (40, 205, 220), "blue": (50, 90, 235), "purple": (160, 60, 200), "white": (240, 240, 240),
}  # fmt: skip
BACKGROUNDS = {"black": (15, 15, 15), "grey": (125, 125, 125), "navy": (20, 25, 95), "brown": (105, 65, 30)}
SIZES = {"small": 4.0, "large": 6.0}  # half the width, in pixels
POSITIONS = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
OFFSET = 1  # a shape lies up to so many pixels off its place, in x and y
SHADE = 12  # a colour is up to so many levels off, in each channel

# Whether points are inside the shape, by their distances right of and below its centre in half widths.
Inside = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.bool_]]
SHAPES: dict[str, Inside] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.9,
    "triangle": lambda x, y: (abs(x) <= (y + 1) / 2) & (y <= 1),
    "diamond": lambda x, y: abs(x) + abs(y) <= 1,
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "position": POSITIONS,
    "background": tuple(BACKGROUNDS),
}
COUNTS = tuple(len(values) for values in ATTRIBUTES.values())
COMBINATIONS = int(np.prod(COUNTS))

_COLOUR_LEVELS = np.array(list(COLOURS.values()))
_BACKGROUND_LEVELS = np.array(list(BACKGROUNDS.values()))
_OFFSETS = np.array([(dy, dx) for dy in range(-OFFSET, OFFSET + 1) for dx in range(-OFFSET, OFFSET + 1)])
_SUBPIXELS = 8  # a mask counts the covered points of an 8x8 grid in each pixel
_FULL = _SUBPIXELS**2


@cache
def _masks() -> npt.NDArray[np.uint8]:
    """How much of each pixel is covered, out of `_FULL`: (shape, size, position, offset, 32, 32) uint8."""
    grid = (np.arange(SIDE * _SUBPIXELS) + 0.5) / _SUBPIXELS
    masks = np.empty((len(SHAPES), len(SIZES), len(POSITIONS), len(_OFFSETS), SIDE, SIDE), np.uint8)
    for s, inside in enumerate(SHAPES.values()):
        for z, half_width in enumerate(SIZES.values()):
            y, x = np.meshgrid((grid - SIDE / 2) / half_width, (grid - SIDE / 2) / half_width, indexing="ij")
            covered = inside(x, y).reshape(SIDE, _SUBPIXELS, SIDE, _SUBPIXELS).sum((1, 3))
            for p in range(len(POSITIONS)):
                position = np.array(divmod(p, 3)) * 9 - 9  # rows and columns of centres at 7, 16 and 25
                for o, offset in enumerate(_OFFSETS):
                    # No shape reaches the border from the middle, so rolling moves it whole.
                    masks[s, z, p, o] = np.roll(covered, position + offset, axis=(0, 1))
    return masks


class Variation(NamedTuple):
    """What varies beside the attributes, for n pictures."""

    offset: IntArray  # (n,), index of the shift of the shape: row-major in a 3x3 square, 4 is none
    colour: IntArray  # (n, 3), levels added to the colour
    background: IntArray  # (n, 3), levels added to the background


def no_variation(n: int) -> Variation:
    """Every shape in its place, every colour as in the palette."""
    return Variation(np.full(n, len(_OFFSETS) // 2), np.zeros((n, 3), np.int64), np.zeros((n, 3), np.int64))


def random_variation(n: int, rng: np.random.Generator) -> Variation:
    """Uniform shifts and shades."""
    shade = rng.integers(-SHADE, SHADE + 1, size=(2, n, 3))
    return Variation(rng.integers(len(_OFFSETS), size=n), shade[0], shade[1])


def render(attributes: IntArray, variation: Variation | None = None) -> npt.NDArray[np.uint8]:
    """The pictures of n scenes, (n, 3, 32, 32) uint8.

    attributes  (n, 5) int, an index into the values of each of `ATTRIBUTES`
    """
    attributes = np.asarray(attributes)
    if attributes.ndim != 2 or attributes.shape[1] != len(COUNTS):
        raise ValueError(f"render: expected attributes of shape (n, {len(COUNTS)}), got {attributes.shape}")
    if (attributes < 0).any() or (attributes >= COUNTS).any():
        span = f"{attributes.min(0)} ... {attributes.max(0)}"
        raise ValueError(f"render: attributes must be indices below {COUNTS}, got {span}")
    shape, colour, size, position, background = attributes.T
    offset, colour_shade, background_shade = variation or no_variation(len(attributes))
    mask = _masks()[shape, size, position, offset][:, None].astype(np.int16)
    on = (_COLOUR_LEVELS[colour] + colour_shade).astype(np.int16)[..., None, None]
    off = (_BACKGROUND_LEVELS[background] + background_shade).astype(np.int16)[..., None, None]
    return ((on * mask + off * (_FULL - mask) + _FULL // 2) // _FULL).astype(np.uint8)


class Reading(NamedTuple):
    """What `recognise` finds in n images.

    attributes  (n, 5) int64
    rms         (n,) the root mean square difference from the nearest picture that has these attributes
    """

    attributes: IntArray
    rms: npt.NDArray[np.float32]


REAL_RMS = 0.5 / 255  # rounding to 8 bits moves a pixel of a real picture by at most half a level


def recognise(x: npt.NDArray[np.float32]) -> Reading:
    """The attributes of images (n, 3, 32, 32) in [0, 1], by inverting the renderer.

    For each mask m, the two colours that fit best follow from least squares in closed form; the mask with the
    smallest error and the palette's nearest names win. A real picture is read without error, with `rms` below
    `REAL_RMS`; a large `rms` says that the image is not a picture of this kind, whatever its attributes.
    """
    if x.ndim != 4 or x.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(f"recognise: expected images of shape (n, 3, {SIDE}, {SIDE}), got {x.shape}")
    blocks = [_recognise(x[start : start + 512]) for start in range(0, len(x), 512)]
    if not blocks:
        return Reading(np.empty((0, len(COUNTS)), np.int64), np.empty(0, np.float32))
    return Reading(*(np.concatenate(parts) for parts in zip(*blocks)))


def shifts(x: npt.NDArray[np.float32]) -> IntArray:
    """How many pixels below and right of the middle the shape of each image lies, (n, 2), by inverting the renderer.

    The background is even, so rolling an image by as much the other way puts its shape in the middle and changes
    nothing else.
    """
    best = np.concatenate([_fit(x[start : start + 512]).mask for start in range(0, len(x), 512)])
    position, offset = np.unravel_index(best, _masks().shape[:4])[2:]
    return np.stack(np.divmod(position, 3), 1) * 9 - 9 + _OFFSETS[offset]


class _Fit(NamedTuple):
    """The number (n,) of the mask with the smallest error for each image, and the colours (n, 3) that go with it."""

    mask: IntArray
    colour: npt.NDArray[np.float64]
    background: npt.NDArray[np.float64]


def _fit(x: npt.NDArray[np.float32]) -> _Fit:
    masks = _masks().reshape(-1, SIDE * SIDE) / float(_FULL)
    pixels = x.reshape(len(x) * 3, -1).astype(np.float64)
    # Least squares in the basis (1 - m, m): its Gram matrix is [[bb, bc], [bc, cc]] for each mask.
    bb, bc, cc = ((1 - masks) ** 2).sum(1), ((1 - masks) * masks).sum(1), (masks**2).sum(1)
    on = pixels @ masks.T
    off = pixels.sum(1, keepdims=True) - on
    determinant = bb * cc - bc**2
    background = (cc * off - bc * on) / determinant
    colour = (bb * on - bc * off) / determinant
    explained = (background * off + colour * on).reshape(len(x), 3, -1).sum(1)  # |image|^2 - squared error
    best = explained.argmax(1)
    fit = np.arange(3 * len(x)), np.repeat(best, 3)
    return _Fit(best, colour[fit].reshape(-1, 3), background[fit].reshape(-1, 3))


def _recognise(x: npt.NDArray[np.float32]) -> Reading:
    best, colour, background = _fit(x)
    near_colour, colour_index = _nearest(colour, _COLOUR_LEVELS / 255)
    near_background, background_index = _nearest(background, _BACKGROUND_LEVELS / 255)
    mask = _masks().reshape(-1, SIDE * SIDE)[best][:, None] / float(_FULL)
    nearest = near_background[..., None] * (1 - mask) + near_colour[..., None] * mask
    error = x.reshape(nearest.shape) - nearest
    shape, size, position, _ = np.unravel_index(best, _masks().shape[:4])
    attributes = np.stack([shape, colour_index, size, position, background_index], axis=1)
    return Reading(attributes, np.sqrt((error**2).mean((1, 2))).astype(np.float32))


def _nearest(
    colours: npt.NDArray[np.float64], palette: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], IntArray]:
    """The colour that a picture may show nearest to each of `colours` (n, 3), and its name's index."""
    index = ((colours[:, None] - palette) ** 2).sum(-1).argmin(1)
    return palette[index] + np.clip(colours - palette[index], -SHADE / 255, SHADE / 255), index


PHRASINGS = (
    "a {size} {colour} {shape} at the {position} on a {background} background",
    "{position}: {size} {colour} {shape}, {background} background",
    "on a {background} background, at the {position}, a {colour} {shape}, {size}",
)


def caption(attributes: Sequence[int] | IntArray, phrasing: int = 0) -> str:
    """The caption of one scene; attributes (5,)."""
    words = {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), attributes)}
    return PHRASINGS[phrasing].format(**words)


def parse(text: str) -> tuple[int, ...] | None:
    """The attributes that a caption names, in any phrasing, or None if one is missing or named twice."""
    found = []
    for values in ATTRIBUTES.values():
        # Longest first, so that "top left" is not read as "top" and "left".
        pattern = "|".join(sorted(values, key=len, reverse=True))
        words = re.findall(rf"\b({pattern})\b", text)
        if len(words) != 1:
            return None
        found.append(values.index(words[0]))
    return tuple(found)


@dataclass(frozen=True, eq=False, repr=False)
class CaptionedImages(Images):
    """Pictures with their attributes (n, 5) int64 and their captions; the label is the shape."""

    attributes: IntArray
    captions: list[str]

    def take(self, rows: IntArray) -> Self:
        captions = [self.captions[row] for row in rows]
        return type(self)(self.pixels[rows], self.labels[rows], self.levels, self.attributes[rows], captions)


@dataclass(frozen=True, eq=False, repr=False)
class ShapesDataset(ImageDataset[CaptionedImages]):
    """Captioned shapes.

    held_out  (288,) the combinations (`np.ravel_multi_index(attributes.T, COUNTS)`) that are in none of
              `train`, `validation` and `test`
    unseen    pictures of these combinations only: attributes that training never showed together
    """

    kind: ClassVar[str] = "captioned images"

    held_out: IntArray
    unseen: CaptionedImages


TRAIN, VALIDATION, TEST, UNSEEN = 20_000, 2_000, 2_000, 2_000
HELD_OUT_SHARE, HELD_OUT_SEED = 0.1, 0


@dataset(
    "shapes",
    kind="captioned images",
    what="one coloured shape on a coloured background, with captions; 10 % of the combinations held out",
    size=f"{TRAIN + VALIDATION:,} + {TEST:,} + {UNSEEN:,} unseen",
    shape="3x32x32, 256 levels",
    source="rendered here",
    terms="generated",
)
def shapes(seed: int = 0) -> ShapesDataset:
    """Captioned shapes; the held-out combinations are the same for every seed."""
    order = np.random.default_rng(HELD_OUT_SEED).permutation(COMBINATIONS)
    unseen, seen = np.split(order, [round(HELD_OUT_SHARE * COMBINATIONS)])
    rng = np.random.default_rng(seed)
    return ShapesDataset(
        "shapes",
        trainval=_draw(TRAIN + VALIDATION, seen, rng),
        test=_draw(TEST, seen, rng),
        validation_rows=np.arange(TRAIN, TRAIN + VALIDATION),
        classes=tuple(SHAPES),
        held_out=np.sort(unseen),
        unseen=_draw(UNSEEN, unseen, rng),
    )


def _draw(n: int, combinations: IntArray, rng: np.random.Generator) -> CaptionedImages:
    attributes = np.stack(np.unravel_index(rng.choice(combinations, n), COUNTS), axis=1)
    variation = random_variation(n, rng)
    pixels = np.empty((n, 3, SIDE, SIDE), np.uint8)
    for start in range(0, n, 1024):  # in blocks: the arithmetic takes many times the space of its result
        block = slice(start, start + 1024)
        pixels[block] = render(attributes[block], Variation(*(part[block] for part in variation)))
    phrasings = rng.integers(len(PHRASINGS), size=n)
    captions = [caption(row, phrasing) for row, phrasing in zip(attributes, phrasings)]
    return CaptionedImages(pixels, attributes[:, 0], 256, attributes, captions)
