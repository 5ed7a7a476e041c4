"""Curves of ever more ablated heads: how accuracy falls when those with the highest or the lowest score go first.

In: scores of the heads. Out: the sets of heads at the points of each curve (for `ablation.effects`), beside those of
random orders; and, of the accuracies there, the curves with the area between them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dear_jax.roles import textspan
from dear_jax.roles.ablation import CONTROLS

POINTS = 13  # at most, of a curve


def points(heads: int) -> list[int]:
    """How many heads are ablated at the points of a curve, from none to all."""
    return [int(point) for point in np.unique(np.linspace(0, heads, min(POINTS, heads + 1)).round())]


def first_heads(order: Int[np.ndarray, "heads"], shape: tuple[int, int]) -> Bool[np.ndarray, "points n H"]:
    """The first heads of an order, ever more of them."""
    place = np.argsort(order)
    return np.stack([(place < count).reshape(shape) for count in points(len(order))])


def random_orders(heads: int, count: int = CONTROLS) -> list[Int[np.ndarray, "heads"]]:
    """Of all heads."""
    generator = np.random.default_rng(heads)
    return [generator.permutation(heads) for _ in range(count)]


def area(upper: Float[np.ndarray, "points"], lower: Float[np.ndarray, "points"], at: Sequence[int]) -> float:
    """Between two curves, over the share of heads: their mean difference, in the curves' unit."""
    return float(np.trapezoid(upper - lower, at) / at[-1])


def attribution(
    contributions: Float[np.ndarray, "images heads d"],
    labels: Int[np.ndarray, "images"],
    classes: Float[np.ndarray, "C d"],
) -> Float[np.ndarray, "heads"]:
    """Logit attribution: what a head adds, beyond its mean, to the true class's logit beyond the mean class's."""
    text = classes[labels] - classes.mean(0)
    text = text - text.mean(0)  # then the contributions' mean drops out
    return np.asarray(np.einsum("nhd,nd->h", contributions, text, dtype=np.float64, optimize=True) / len(labels))


def score_orders(
    contributions: Float[np.ndarray, "images n H d"],
    entropy: Sequence[Sequence[float]],
    labels: Int[np.ndarray, "images"],
    classes: Float[np.ndarray, "C d"],
) -> dict[str, list[int]]:
    """Heads by falling score: Concept Entropy (what the roles rest on), variance, logit attribution."""
    images, layers, heads, _ = contributions.shape
    array = contributions.reshape(images, layers * heads, -1)
    scores = {
        "entropy": np.ravel(entropy),
        "variance": np.trace(textspan.moments(array).covariance, axis1=1, axis2=2),
        "attribution": attribution(array, labels, classes),
    }
    return by_score(scores)


def by_score(scores: Mapping[str, Float[np.ndarray, "heads"]]) -> dict[str, list[int]]:
    """Heads by each falling score, those of equal ones by their place."""
    return {name: np.argsort(-score, kind="stable").tolist() for name, score in scores.items()}


def sets(orders: Mapping[str, Sequence[int]], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Sets of heads for the curves of each order and its reverse, and of the random orders; none without orders."""
    if not orders:
        return {}
    found: dict[str, np.ndarray] = {}
    for name, order in orders.items():
        found |= {f"{name}, highest": np.array(order), f"{name}, lowest": np.array(order)[::-1]}
    found |= {f"random {place}": order for place, order in enumerate(random_orders(shape[0] * shape[1]))}
    return {name: first_heads(order, shape) for name, order in found.items()}


def summarize(at: list[int], names: list[str], accuracies: np.ndarray) -> dict[str, Any]:
    """Accuracy in percent at each point: the band of random orders, and each score's two curves with their area."""
    curves = dict(zip(names, accuracies.reshape(len(names), len(at)), strict=True))
    random = np.stack([curve for name, curve in curves.items() if name.startswith("random")])
    scores = {}
    for name in dict.fromkeys(name.rpartition(", ")[0] for name in names if not name.startswith("random")):
        highest, lowest = curves[f"{name}, highest"], curves[f"{name}, lowest"]
        areas = [area(one, two, at) for one, two in itertools.combinations(random, 2)]
        scores[name] = {
            "highest": highest.tolist(),
            "lowest": lowest.tolist(),
            "area": area(lowest, highest, at),  # positive: accuracy needs the heads of a high score
            "random_area": float(np.std([*areas, *(-one for one in areas)])),  # of two random orders, around 0
        }
    low, high = np.percentile(random, [5, 95], axis=0)
    band = {"mean": random.mean(0).tolist(), "low": low.tolist(), "high": high.tolist()}
    return {"points": at, "random": band, "orders": len(random), "scores": scores}
