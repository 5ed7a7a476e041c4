"""The choice among candidates, by hand."""

import numpy as np

from dear_jax.evaluation.choice import choose


def test_the_best_where_nothing_is_near():
    assert choose(np.array([[50.0, 51.0], [70.0, 71.5], [60.0, 60.0]])) == (1, 1, (1,))


def test_of_ties_the_first():
    """Differences to the best: 1 and -0.8, mean 0.1, standard error 0.9."""
    assert choose(np.array([[70.0, 70.8], [71.0, 70.0], [50.0, 50.0]])) == (0, 1, (0, 1))


def test_what_all_have_in_common_does_not_count():
    """Folds differ by 40 points, the candidates by one in each."""
    assert choose(np.array([[50.0, 90.0, 70.0], [51.0, 91.1, 70.9]])) == (1, 1, (1,))


def test_one_sample_ties_nothing_but_equals():
    assert choose(np.array([[70.0], [70.1]])) == (1, 1, (1,))
    assert choose(np.array([[70.0], [70.0]])) == (0, 0, (0, 1))
