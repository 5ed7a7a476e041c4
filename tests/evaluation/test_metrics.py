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


def test_groups_are_of_one_class_and_one_value():
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    groups = np.array(["sand", "sand", "snow", "snow", "sand", "sand", "sand"])
    predicted = np.array([[0, 0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 1, 1, 1]])
    of_groups = metrics.group_accuracies(predicted, labels, groups)
    np.testing.assert_allclose(of_groups, [[100, 50, 200 / 3], [0, 100, 100]])  # no image of class 1 on snow
    np.testing.assert_allclose(metrics.worst_group(predicted, labels, groups), [50, 0])
    np.testing.assert_allclose(metrics.group_mean(predicted, labels, groups), [650 / 9, 200 / 3])
    assert metrics.worst_group(predicted[0], labels, groups) == 50
    assert metrics.worst_group(np.zeros((2, 3, 0, 7), int), labels, groups).shape == (2, 3, 0)
