"""Writing the likeliest target sequence: greedily, by drawing, or by beam search.

A model takes part as a ``Step``: a function that holds whatever it keeps of the hypotheses so far (a cache, or a
recurrent network's state) and gives the next token's logits. Hypotheses are in NumPy, whatever device the model is on.

Beam search keeps the best ``beams`` unfinished hypotheses of each sentence. Finished ones are ranked by their
log-probability over a length penalty (Wu et al. 2016, arXiv:1609.08144, eq. 14):

    s(Y, X) = log P(Y | X) / lp(Y),   lp(Y) = ((5 + |Y|) / 6)^alpha

without which short sentences win, because every token costs. |Y| counts the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scratchgen import Generator

from .decoding import Floats, Ids, Sampling

# logits (n, vocabulary) after tokens (n,) that go on from the rows (n,) of the last call; None: in the same order
Step = Callable[[Ids, Ids | None], np.ndarray]


def write(step: Step, count: int, bos: int, eos: int, longest: int, sampling: Sampling, rng: Generator) -> list[Ids]:
    """One sequence for each of ``count`` sentences, token by token; without ``eos``, at most ``longest`` tokens."""
    tokens, running = np.full(count, bos), np.arange(count)
    found: list[list[int]] = [[] for _ in range(count)]
    rows: Ids | None = None
    for _ in range(longest):
        drawn = sampling.draw(step(tokens, rows), rng)
        goes_on = drawn != eos
        for sentence, token in zip(running[goes_on].tolist(), drawn[goes_on].tolist()):
            found[sentence].append(token)
        running, tokens = running[goes_on], drawn[goes_on]
        if not len(running):
            break
        rows = None if goes_on.all() else np.flatnonzero(goes_on)
    return [np.array(ids, np.int64) for ids in found]


@dataclass(order=True)
class Hypothesis:
    """A finished sequence, without its end, and its score."""

    score: float
    tokens: Ids = field(compare=False)


def beam_search(
    step: Step, count: int, bos: int, eos: int, longest: int, beams: int = 5, alpha: float = 0.6
) -> list[list[Hypothesis]]:
    """For each of ``count`` sentences up to ``beams`` hypotheses, the best first.

    A sentence ends when no unfinished hypothesis could still beat its worst finished one, or after ``longest`` tokens,
    where what has not ended counts as it stands.
    """
    if beams < 1 or longest < 1:
        raise ValueError(f"beam_search: beams and longest must be 1 or more, got {beams} and {longest}")
    penalty = ((5 + np.arange(longest + 2)) / 6) ** alpha
    finished: list[list[Hypothesis]] = [[] for _ in range(count)]
    alive = np.arange(count)  # the sentence of each group of hypotheses
    # All hypotheses of a sentence begin alike, so but for the first they may not be chosen yet.
    scores = np.where(np.arange(beams) == 0, 0.0, -np.inf)[None].repeat(count, 0)
    written = np.empty((count, beams, 0), np.int64)
    tokens, rows = np.full(count * beams, bos), np.repeat(np.arange(count), beams)
    for length in range(1, longest + 1):
        log_p = _log_softmax(step(tokens, rows)).reshape(len(alive), beams, -1)
        vocabulary = log_p.shape[2]
        totals = (scores[:, :, None] + log_p).reshape(len(alive), -1)
        # Twice as many as stay: at most one in each hypothesis is its end.
        best, chosen = _largest(totals, 2 * beams)
        parent, token = np.divmod(chosen, vocabulary)
        ends = token == eos
        for group, place in zip(*np.nonzero(ends & np.isfinite(best))):
            ended = Hypothesis(best[group, place] / penalty[length], written[group, parent[group, place]])
            _keep(finished[alive[group]], ended, beams)
        scores, order = _largest(np.where(ends, -np.inf, best), beams)
        parent, token = np.take_along_axis(parent, order, 1), np.take_along_axis(token, order, 1)
        written = np.concatenate([np.take_along_axis(written, parent[:, :, None], 1), token[:, :, None]], 2)
        if length == longest:
            for group, place in zip(*np.nonzero(np.isfinite(scores))):
                _keep(
                    finished[alive[group]],
                    Hypothesis(scores[group, place] / penalty[length], written[group, place]),
                    beams,
                )
            break
        # Scores are negative: the best that an unfinished one can come to is at the largest penalty.
        reach = scores[:, 0] / (penalty[longest] if alpha > 0 else penalty[length + 1])
        done = [len(f) == beams and f[-1].score >= r for f, r in zip((finished[s] for s in alive), reach)]
        kept = np.flatnonzero(~np.array(done))
        if not len(kept):
            break
        rows = (kept[:, None] * beams + parent[kept]).ravel()
        alive, scores, written, tokens = alive[kept], scores[kept], written[kept], token[kept].ravel()
    return finished


def _keep(finished: list[Hypothesis], new: Hypothesis, most: int) -> None:
    finished.append(new)
    finished.sort(reverse=True)
    del finished[most:]


def _largest(x: Floats, count: int) -> tuple[Floats, Ids]:
    """The ``count`` largest of each row, or all, the largest first, and where they are."""
    count = min(count, x.shape[1])
    where = np.argpartition(-x, count - 1, 1)[:, :count]
    values = np.take_along_axis(x, where, 1)
    order = np.argsort(-values, 1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(where, order, 1)


def _log_softmax(logits: np.ndarray) -> Floats:
    x = logits.astype(np.float64)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))
