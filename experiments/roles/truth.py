"""What heads do on the embedded world, by its truth: scenes with labels, explained variance, linear probes."""

import numpy as np

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import tasks
from dear_jax.data.world.render import render
from dear_jax.data.world.scenes import ATTRIBUTES, NAMES, draw_scenes


def scenes(name: str, count: int, shift: tasks.Shift = tasks.NO_SHIFT) -> tuple[ImageSplit, np.ndarray]:
    """Scenes with all attributes drawn freely."""
    drawn = draw_scenes(tasks.stream_seed(name), np.arange(count))
    images = render(drawn, shift)
    return ImageSplit(np.zeros(count, int), lambda index: images[index]), drawn.labels


def explained_shares(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each head's variance between the values of each attribute (eta squared), `[heads, 6]`.

    The chance level, which more values raise, is subtracted as in omega squared.
    """
    flat = np.asarray(array, np.float64).reshape(len(array), -1, array.shape[-1])
    mean, total = flat.mean(0), flat.var(0).sum(-1)
    shares = np.zeros((flat.shape[1], len(NAMES)))
    for column in range(len(NAMES)):
        values = np.unique(labels[:, column])
        for value in values:
            chosen = labels[:, column] == value
            shares[:, column] += chosen.mean() * ((flat[chosen].mean(0) - mean) ** 2).sum(-1) / total
        chance = (len(values) - 1) / (len(flat) - 1)
        shares[:, column] = np.maximum(shares[:, column] - chance * (1 - shares[:, column]), 0)
    return shares


def probe_accuracy(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy in percent of a ridge classifier from one head's contribution to each attribute, `[heads, 6]`."""
    flat = np.asarray(array, np.float64).reshape(len(array), -1, array.shape[-1])
    half = len(flat) // 2
    found = np.zeros((flat.shape[1], len(NAMES)))
    for head in range(flat.shape[1]):
        x = (flat[:, head] - flat[:half, head].mean(0)) / (flat[:half, head].std() + 1e-12)
        targets = [np.eye(len(ATTRIBUTES[name]))[labels[:, column]] for column, name in enumerate(NAMES)]
        y = np.concatenate(targets, axis=1)
        gram = x[:half].T @ x[:half] + 1e-2 * half * np.eye(x.shape[1]) / x.shape[1]
        predicted = x[half:] @ np.linalg.solve(gram, x[:half].T @ (y[:half] - y[:half].mean(0))) + y[:half].mean(0)
        ends = np.cumsum([len(ATTRIBUTES[name]) for name in NAMES])
        for column, group in enumerate(np.split(predicted, ends[:-1], axis=1)):
            found[head, column] = 100 * (group.argmax(1) == labels[half:, column]).mean()
    return found
