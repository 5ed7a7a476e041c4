"""A role map, thumbnails and ablation as the report gets them, of any size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ATTRIBUTES = ["color", "shape", "texture", "object", "position"]
CONCEPTS = [*ATTRIBUTES, "person", ""]


@pytest.fixture(scope="session")
def make_report() -> Callable[..., tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """(layers, heads) -> role map's JSON dictionary, thumbnails, ablation."""

    def make(layers: int = 2, heads: int = 8) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        random = np.random.default_rng(0)
        entropy = random.permutation(np.linspace(0, 2.8, layers * heads)).reshape(layers, heads)
        low, high = (float(threshold) for threshold in np.quantile(entropy, [1 / 3, 2 / 3]))
        cells = [[_head(random, layer, head) for head in range(heads)] for layer in range(layers)]
        roles = [
            [_role(e, low, high, head["cluster"]) for e, head in zip(*rows, strict=True)]
            for rows in zip(entropy, cells, strict=True)
        ]
        role_map = {
            "format": "dear_jax role map, version 1",
            "backbone": "embedded",
            "fingerprint": "0123456789abcdef",
            "first_layer": 5,
            "attributes": ATTRIBUTES,
            "roles": roles,
            "entropy": entropy.tolist(),
            "thresholds": {"low": low, "high": high},
            "clusters": [{"name": n, "similarity": 0.8, "size": 9, "examples": [f"a {n} thing"]} for n in CONCEPTS],
            "heads": cells,
            "data": {"dataset": "world_compositions", "images": 1280},
            "sentence_encoder": "text tower of embedded",
            "settings": {"descriptions": 5},
        }
        thumbnails = {
            "images": random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8),
            "top": random.integers(-1, 40, (layers, heads, 6)),
        }
        accuracies = (71.2 - random.exponential(size=(layers, heads))).tolist()
        ablation = {"accuracy": 71.2, "heads": accuracies, "roles": {role: 60.0 for row in roles for role in row}}
        return role_map, thumbnails, ablation

    return make


def _head(random: np.random.Generator, layer: int, head: int) -> dict[str, Any]:
    variances = np.sort(random.dirichlet(np.ones(5)))[::-1] * 0.9
    descriptions = [
        {
            "text": f"thing {layer} {head} {rank}",
            "variance": float(variance),
            "cluster": int(random.integers(len(CONCEPTS))),
        }
        for rank, variance in enumerate(variances)
    ]
    cluster = int(random.integers(len(CONCEPTS)))
    return {"cluster": cluster, "share": 0.6, "explained": 0.9, "descriptions": descriptions}


def _role(entropy: float, low: float, high: float, cluster: int) -> str:
    if entropy >= high:
        return "generalization"
    if entropy > low:
        return "mixed"
    return f"attribute:{CONCEPTS[cluster]}" if CONCEPTS[cluster] in ATTRIBUTES else "other"
