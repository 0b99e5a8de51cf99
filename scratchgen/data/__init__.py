"""Datasets: what models are trained on, found, checked, split and batched, as NumPy arrays.

    data = scratchgen.data.load("mnist-5k")
    for x, labels in islice(Batches((data.train.x, data.train.labels), 128, seed=0), 1000): ...

`load` gives a dataset by name, `names` lists the names, `describe` says what each is and where it lies.
Every dataset has `train` and `validation` (disjoint, together `trainval`), and `test`, which must never steer
training.
"""

# These enter their datasets into the table when they are imported.
from scratchgen.data import dates, images, multi30k, points, shapes, tasks, text  # noqa: F401
from scratchgen.data.batches import Batches, Bucketed, in_order
from scratchgen.data.dataset import Dataset
from scratchgen.data.errors import DataError
from scratchgen.data.registry import Description, describe, load, names
from scratchgen.data.text import CharVocab
from scratchgen.data.tokens import Subwords, Tokenizer
from scratchgen.data.transforms import binarise, dequantise, dynamic_binarise, flatten, quantise

__all__ = [
    "Batches",
    "Bucketed",
    "CharVocab",
    "DataError",
    "Dataset",
    "Description",
    "Subwords",
    "Tokenizer",
    "binarise",
    "dequantise",
    "describe",
    "dynamic_binarise",
    "flatten",
    "in_order",
    "load",
    "names",
    "quantise",
]
