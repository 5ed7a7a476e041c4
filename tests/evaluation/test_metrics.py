"""What predictions are worth, against counting."""

import numpy as np
import pytest

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


def test_macro_f1_is_the_mean_of_the_f1_of_the_classes_that_have_images():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 5, 60), random.integers(0, 7, (2, 3, 60))  # classes 5 and 6 have no image

    def reference(run):
        scores = []
        for label in range(5):
            right = np.sum((run == label) & (labels == label))
            precision, recall = right / max(1, np.sum(run == label)), right / np.sum(labels == label)
            scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
        return 100 * np.mean(scores)

    found = metrics.macro_f1(predicted, labels, 7)
    np.testing.assert_allclose(found, [[reference(run) for run in rows] for rows in predicted])
    assert metrics.macro_f1(labels, labels, 7) == 100
    assert metrics.macro_f1(np.zeros((3, 0, 60), int), labels, 7).shape == (3, 0)


def test_accuracy_of_each_class():
    labels = np.array([0, 0, 0, 0, 2, 2])
    predicted = np.array([[0, 0, 0, 1, 2, 0], [2, 2, 2, 2, 2, 2]])
    found = metrics.class_accuracies(predicted, labels, 4)
    np.testing.assert_array_equal(found, [[75, np.nan, 50, np.nan], [0, np.nan, 100, np.nan]])
    np.testing.assert_array_equal(metrics.class_accuracies(predicted[0], labels, 4), found[0])
    assert metrics.class_accuracies(predicted[:0], labels, 4).shape == (0, 4)


def test_calibration_error_is_the_mean_distance_of_probability_and_accuracy():
    labels = np.array([0, 0, 0, 0])
    sure = np.full((2, 4), 0.9)
    # All four in one bin, with an accuracy of 1 and of 0.5.
    np.testing.assert_allclose(
        metrics.calibration_error(np.array([[0, 0, 0, 0], [0, 0, 1, 1]]), sure, labels), [10, 40], atol=0.005
    )
    # A bin that is too sure by 0.4 and one that is not sure enough by 0.7 do not make up for each other.
    probabilities = np.array([0.4, 0.4, 0.3, 0.3])
    assert metrics.calibration_error(np.array([1, 1, 0, 0]), probabilities, labels) == pytest.approx(55)
    assert metrics.calibration_error(np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 0.0, 0.0]), labels) == 0


def test_calibration_error_against_the_formula_with_its_bins():
    random = np.random.default_rng(1)
    labels, predicted, probabilities = (
        random.integers(0, 3, 500),
        random.integers(0, 3, (2, 500)),
        random.uniform(0, 1, (2, 500)).astype(np.float32),
    )
    probabilities[0, :3] = [1.0, 0.0, 1 / 15]

    def reference(run, sure):
        total = 0.0
        for b in range(15):
            inside = (sure > b / 15) & (sure <= (b + 1) / 15) if b else sure <= 1 / 15
            if inside.any():
                total += inside.mean() * abs(np.mean(run[inside] == labels[inside]) - sure[inside].mean())
        return 100 * total

    expected = [reference(*pair) for pair in zip(predicted, probabilities.astype(float), strict=True)]
    np.testing.assert_allclose(metrics.calibration_error(predicted, probabilities, labels), expected, atol=0.006)
