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
        margins = (5.1 - random.exponential(size=(layers, heads))).tolist()
        kinds = {role for row in roles for role in row}
        ablation = {
            "images": 2000,
            "accuracy": 71.2,
            "margin": 5.1,
            "heads": accuracies,
            "head_margins": margins,
            "roles": dict.fromkeys(kinds, 60.0),
            "sets": {
                kind: {
                    "lost": 250,
                    "gained": 26,
                    "change": -11.2,
                    "error": 0.73,
                    "margin": -1.5,
                    "random_change": [-2.0, 1.5],
                    "random_margin": [-1.2, 0.5],
                }
                for kind in kinds
            },
        }
        return role_map, thumbnails, ablation

    return make


@pytest.fixture(scope="session")
def with_causes() -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """(role map, ablation) -> the same with causes, p-values and curves."""

    def add(role_map: dict[str, Any], ablation: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        random = np.random.default_rng(1)
        shape = np.shape(role_map["entropy"])
        found = {"moved": random.random((*shape, 5)), "carried": random.normal(size=(*shape, 5)) / 10}
        causes = {name: numbers.tolist() for name, numbers in found.items()}
        causes |= {"attributes": ATTRIBUTES, "entropy": role_map["entropy"], "pairs": 1000}
        count = shape[0] * shape[1]
        falling, low = [70.0, 50.0, 30.0], [70.0, 40.0, 30.0]
        curves = {
            "points": [0, count // 2, count],
            "orders": 30,
            "random": {"mean": falling, "low": low, "high": falling},
            "scores": {
                name: {"highest": low, "lowest": falling, "area": 5.0, "random_area": 2.0}
                for name in ("entropy", "variance", "attribution")
            },
        }
        more = {"causes": causes, "p_values": random.random(shape).tolist(), "settings": {"level": 0.05}}
        return role_map | more, ablation | {"curves": curves}

    return add


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
