"""Scores of translations, by sacrebleu, and what they are without a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..data.pairs import Pairs


def bleu(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU, the same without regard to case, and chrF, all from 0 to 100.

    Papineni et al. 2002 and Popović 2015, as sacrebleu has them (its tokenizer 13a), so that figures can be compared.
    """
    try:
        import sacrebleu
    except ImportError:
        raise ValueError(
            "translations are scored by sacrebleu, which is not installed: pip install 'scratchgen[text]'"
        ) from None
    told = [list(references)]
    return {
        "bleu": sacrebleu.corpus_bleu(written, told).score,
        "bleu_lowercase": sacrebleu.corpus_bleu(written, told, lowercase=True).score,
        "chrf": sacrebleu.corpus_chrf(written, told).score,
    }


def commonest(rows: Pairs) -> str:
    """The target that occurs most often."""
    return Counter(rows.target).most_common(1)[0][0]


def most_similar(rows: Pairs, sources: Sequence[str]) -> list[str]:
    """For each source the target of the training source that shares most words with it, rare ones counting more."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    weigh = TfidfVectorizer(sublinear_tf=True)
    known = weigh.fit_transform(rows.source)
    nearest = np.asarray((weigh.transform(sources) @ known.T).argmax(1)).ravel()
    return [rows.target[i] for i in nearest.tolist()]
