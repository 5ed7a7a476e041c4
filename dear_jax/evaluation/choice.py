"""Which of several candidates to take, by accuracies that were measured on the same folds."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Choice(NamedTuple):
    """What was chosen, and what it was chosen among."""

    chosen: int
    best: int  # the highest mean
    tied: tuple[int, ...]  # within one standard error of the best, in their order; `best` is one of them


def choose(scores: Float[np.ndarray, "C K"]) -> Choice:
    """The first of the candidates that are not worse than the best by more than one standard error.

    A candidate is tied with the best where the mean of their differences, paired by sample, is at most the standard
    error of that mean (ddof 1): how hard a fold is counts for neither. Of one sample nothing is tied but equals.

    Args:
        scores: of C candidates, the one to prefer in a tie first, on K samples: folds, or seeds of one fold.
    """
    means = scores.mean(axis=1)
    best = int(np.argmax(means))
    differences = scores[best] - scores
    samples = scores.shape[1]
    errors = differences.std(axis=1, ddof=1) / np.sqrt(samples) if samples > 1 else np.zeros(len(scores))
    tied = np.flatnonzero(differences.mean(axis=1) <= errors)
    return Choice(int(tied[0]), best, tuple(map(int, tied)))
