"""What predictions are worth, against counting."""

import numpy as np

from dear_jax.evaluation import metrics


def test_accuracy_is_the_share_of_right_predictions_in_percent():
    labels = np.array([0, 1, 2, 2, 1])
    predicted = np.array([[0, 1, 2, 2, 1], [0, 0, 0, 2, 0], [1, 2, 0, 0, 2]])
    np.testing.assert_array_equal(metrics.accuracy(predicted, labels, 3), [100, 40, 0])
    assert metrics.accuracy(predicted[1], labels, 3) == 40


def test_accuracy_is_what_tables_show():
    assert metrics.MAIN == "accuracy"
    assert metrics.METRICS[metrics.MAIN] is metrics.accuracy
