"""Captioned shapes: the renderer, its inverse, the captions, and the combinations that are held out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scratchgen import data
from scratchgen.data import shapes
from scratchgen.data.shapes import (
    ATTRIBUTES,
    COUNTS,
    ShapesDataset,
    Variation,
    caption,
    parse,
    recognise,
    render,
    shifts,
)

EVERYTHING = np.stack(np.unravel_index(np.arange(shapes.COMBINATIONS), COUNTS), axis=1)


@pytest.fixture(scope="module")
def dataset() -> ShapesDataset:
    loaded = data.load("shapes")
    assert isinstance(loaded, ShapesDataset)
    return loaded


def indices(**values: str) -> np.ndarray:
    return np.array([[ATTRIBUTES[name].index(values[name]) for name in ATTRIBUTES]])


def as_x(pixels: np.ndarray) -> np.ndarray:
    return pixels / np.float32(255)


def test_a_square_is_drawn_where_and_how_it_should_be() -> None:
    scene = indices(shape="square", colour="red", size="large", position="top right", background="navy")
    (picture,) = render(scene)
    assert (picture.shape, picture.dtype) == ((3, 32, 32), np.uint8)
    red = (picture == np.array([220, 40, 40])[:, None, None]).all(0)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    # Centre at (25, 7), half width 0.9 * 6 = 5.4: from 1.6 to 12.4 down, from 19.6 to 30.4 across.
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 11, 20, 29)
    assert (picture[:, 16:, :] == np.array([20, 25, 95])[:, None, None]).all()
    # The pixels on the edge are covered in part: here from 12 to 12.4, which holds 3 of 8 rows of the sub-grid.
    edge = [round((3 * on + 5 * off) / 8) for on, off in ((220, 20), (40, 25), (40, 95))]
    assert picture[:, 12, 25].tolist() == edge


def test_the_area_of_every_shape_is_right() -> None:
    """Coverage summed over the pixels against the area of the shape, in units of its half width."""
    areas = {"circle": np.pi, "square": 1.8**2, "triangle": 2.0, "diamond": 2.0, "cross": 4 * 0.6 - 0.36}
    for name, area in areas.items():
        scene = indices(shape=name, colour="white", size="large", position="centre", background="black")
        picture = render(scene)[0, 0].astype(float)
        covered = ((picture - 15) / (240 - 15)).sum()
        assert covered == pytest.approx(area * 36, rel=0.03), name


def test_every_combination_is_read_back_exactly() -> None:
    rng = np.random.default_rng(0)
    for variation in (None, shapes.random_variation(len(EVERYTHING), rng)):
        attributes, rms = recognise(as_x(render(EVERYTHING, variation)))
        assert np.array_equal(attributes, EVERYTHING)
        assert rms.max() < shapes.REAL_RMS


def test_a_shape_is_rolled_to_the_middle_by_its_shift() -> None:
    variation = shapes.random_variation(len(EVERYTHING), np.random.default_rng(1))
    rows = np.arange(0, len(EVERYTHING), 11)
    moved = Variation(*(part[rows] for part in variation))
    by = shifts(as_x(render(EVERYTHING[rows], moved)))
    assert abs(by).max() == 10
    middle = EVERYTHING[rows].copy()
    middle[:, 3] = ATTRIBUTES["position"].index("centre")
    there = render(middle, moved._replace(offset=np.full(len(rows), 4)))
    back = np.stack([np.roll(x, -way, (1, 2)) for x, way in zip(render(EVERYTHING[rows], moved), by)])
    assert np.array_equal(back, there)


def test_the_extremes_of_the_variation_are_read_back_and_nothing_is_clipped() -> None:
    scenes = EVERYTHING[::7]
    n = len(scenes)
    for offset, shade in itertools.product((0, 8), (-shapes.SHADE, shapes.SHADE)):
        shades = np.full((n, 3), shade)
        pictures = render(scenes, Variation(np.full(n, offset), shades, shades))
        attributes, rms = recognise(as_x(pictures))
        assert np.array_equal(attributes, scenes)
        assert rms.max() < shapes.REAL_RMS
    palette = np.array([*shapes.COLOURS.values(), *shapes.BACKGROUNDS.values()])
    assert palette.min() - shapes.SHADE >= 0
    assert palette.max() + shapes.SHADE <= 255


def test_no_two_colours_can_be_confused() -> None:
    """Any two palette colours lie further apart than twice what the variation can move them."""
    palette = np.array([*shapes.COLOURS.values(), *shapes.BACKGROUNDS.values()], float)
    distances = np.sqrt(((palette[:, None] - palette) ** 2).sum(-1))
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 2 * np.sqrt(3) * shapes.SHADE


def test_recognition_stands_noise_and_reports_it(dataset: ShapesDataset) -> None:
    x = dataset.test.x[:500]
    noisy = x + 0.1 * np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32)
    attributes, rms = recognise(noisy)
    assert (attributes == dataset.test.attributes[:500]).all(1).mean() > 0.99
    assert rms == pytest.approx(np.full(500, 0.1), rel=0.1)


def test_what_is_no_picture_of_this_kind_has_a_large_rms(dataset: ShapesDataset) -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((50, 3, 32, 32), dtype=np.float32)
    assert recognise(noise).rms.min() > 0.2
    two_shapes = np.where(np.arange(32) < 16, dataset.test.x[:50], dataset.test.x[50:100])
    different = (dataset.test.attributes[:50, 4] != dataset.test.attributes[50:100, 4]).nonzero()[0]
    assert recognise(two_shapes[different]).rms.min() > 10 * shapes.REAL_RMS
    # A colour that no scene shows is not excused by a good fit of the mask.
    white = np.full((1, 3, 32, 32), 1.0, np.float32)
    assert recognise(white).rms[0] > 0.1


def test_recognise_takes_nothing_and_refuses_other_shapes() -> None:
    attributes, rms = recognise(np.zeros((0, 3, 32, 32), np.float32))
    assert (attributes.shape, rms.shape) == ((0, 5), (0,))
    with pytest.raises(ValueError, match=r"expected images of shape \(n, 3, 32, 32\), got \(2, 1, 28, 28\)"):
        recognise(np.zeros((2, 1, 28, 28), np.float32))


def test_render_refuses_wrong_attributes() -> None:
    with pytest.raises(ValueError, match=r"expected attributes of shape \(n, 5\), got \(5,\)"):
        render(np.zeros(5, int))
    for wrong in ([[5, 0, 0, 0, 0]], [[0, 0, 0, 0, -1]]):
        with pytest.raises(ValueError, match=r"indices below \(5, 8, 2, 9, 4\)"):
            render(np.array(wrong))
    assert render(np.zeros((0, 5), int)).shape == (0, 3, 32, 32)


def test_captions() -> None:
    scene = indices(shape="cross", colour="cyan", size="small", position="bottom left", background="brown")[0]
    assert caption(scene) == "a small cyan cross at the bottom left on a brown background"
    assert caption(scene, 1) == "bottom left: small cyan cross, brown background"
    assert caption(scene, 2) == "on a brown background, at the bottom left, a cyan cross, small"


@pytest.mark.parametrize("phrasing", range(len(shapes.PHRASINGS)))
def test_every_caption_is_parsed_back(phrasing: int) -> None:
    captions = [caption(row, phrasing) for row in EVERYTHING]
    assert len(set(captions)) == shapes.COMBINATIONS
    assert [parse(text) for text in captions] == [tuple(row) for row in EVERYTHING.tolist()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle at the left on a black background",  # no size
        "a small red circle at the left on a black ground, large",  # two sizes
        "a small red circle at the top on the left on a black background",  # two positions
        "a small redcircle at the left on a black background",
    ],
)
def test_an_invalid_caption_is_none(text: str) -> None:
    assert parse(text) is None


def test_the_dataset(dataset: ShapesDataset) -> None:
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test, dataset.unseen)]
    assert sizes == [20_000, 2_000, 2_000, 2_000]
    assert (dataset.shape, dataset.levels, dataset.classes) == ((3, 32, 32), 256, tuple(shapes.SHAPES))
    for split in (dataset.train, dataset.validation, dataset.test, dataset.unseen):
        assert np.array_equal(split.labels, split.attributes[:, 0])
        assert [parse(text) for text in split.captions] == [tuple(row) for row in split.attributes.tolist()]
        assert np.array_equal(recognise(split.x[:300]).attributes, split.attributes[:300])


def test_held_out_combinations_are_seen_nowhere_else(dataset: ShapesDataset) -> None:
    assert len(np.unique(dataset.held_out)) == 288
    for split in (dataset.trainval, dataset.test):
        assert not np.isin(np.ravel_multi_index(split.attributes.T, COUNTS), dataset.held_out).any()
    assert np.isin(np.ravel_multi_index(dataset.unseen.attributes.T, COUNTS), dataset.held_out).all()
    assert np.array_equal(dataset.held_out, data.load("shapes", seed=5).held_out)


def test_training_shows_every_pair_of_attribute_values(dataset: ShapesDataset) -> None:
    """What is held out are combinations of five; a model can learn all of their parts, two by two."""
    for a, b in itertools.combinations(range(5), 2):
        seen = np.zeros((COUNTS[a], COUNTS[b]), bool)
        seen[dataset.train.attributes[:, a], dataset.train.attributes[:, b]] = True
        assert seen.all()
