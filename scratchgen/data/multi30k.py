"""Multi30k: captions of photographs in English, and their translations into German."""

from __future__ import annotations

from scratchgen.data.files import DataDir, DataFile, FileSet
from scratchgen.data.pairs import PairDataset, TextPair, pair_dataset
from scratchgen.data.registry import dataset
from scratchgen.data.tokens import Tokenizer

_ADDRESS = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
_SHA256 = {
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
}

MULTI30K = FileSet(
    name="multi30k",
    files=tuple(DataFile(name, digest, f"{_ADDRESS}/{name}.gz") for name, digest in _SHA256.items()),
    folders=("multi30k",),
)

MIN_COUNT = 2  # a word that training shows only once is unknown, as in the usual recipes for this data


@dataset(
    "multi30k",
    kind="pairs",
    what="German -> English captions of photographs",
    size="30,014 + 1,000",
    shape="words",
    source="Elliott et al. 2016, task 1, test_2016_flickr",
    terms="for research and education only",
    needs=MULTI30K,
)
def multi30k(source: str = "de", target: str = "en", data_dir: DataDir = None, download: bool = False) -> PairDataset:
    """Multi30k with its own three splits; the words are those that training shows at least twice.

    source, target  "de" and "en", in either order

    The texts keep their spelling, for BLEU and for other tokenizers.
    """
    if {source, target} != {"de", "en"}:
        raise ValueError(f"multi30k: source and target must be 'de' and 'en', got {source!r} and {target!r}")
    contents = MULTI30K.read(data_dir, download)

    def lines(part: str, language: str) -> list[str]:
        return contents[f"{part}.{language}"].decode().removesuffix("\n").split("\n")

    def pairs(part: str) -> list[TextPair]:
        return list(zip(lines(part, source), lines(part, target), strict=True))

    train = pairs("train")
    return pair_dataset(
        "multi30k",
        train,
        pairs("val"),
        pairs("test_2016_flickr"),
        Tokenizer.learn((s for s, _ in train), "words", MIN_COUNT),
        Tokenizer.learn((t for _, t in train), "words", MIN_COUNT),
    )
