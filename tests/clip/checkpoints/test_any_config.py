"""Every value of a backbone's JSON files replaced by values of every kind: read or refused, nothing else."""

import copy
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dear_jax.clip.checkpoints import hub, weights
from dear_jax.errors import UserError

EMBEDDED = weights.EMBEDDED["embedded"]
VALUES = [None, "x", "", [], {}, -1, 0, 1, 2.5, 1e308, float("nan"), True, [1, 2, 3], [[1]], {"a": 1}, 10**30, 10**9]
VISION = {"image_size": 48, "layers": 7, "width": 128, "head_width": 16, "patch_size": 8, "norm_kwargs": {"eps": 1e-5}}
TEXT = {"context_length": 77, "vocab_size": 681, "width": 64, "heads": 4, "layers": 3, "mlp_ratio": 4.0}
OPEN_CLIP = {
    "model_cfg": {"embed_dim": 128, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "size": 48},
}


def tokenizer() -> dict[str, Any]:
    merges = [line.split() for line in (EMBEDDED / "merges.txt").read_text().split("\n")[1:-1]]
    model = {"type": "BPE", "vocab": json.loads((EMBEDDED / "vocab.json").read_text()), "merges": merges}
    return {"model": model, "added_tokens": [{"id": 679, "content": "<|startoftext|>"}]}


CONTENTS = {
    "config.json": json.loads((EMBEDDED / "config.json").read_text()),
    "preprocessor_config.json": json.loads((EMBEDDED / "preprocessor_config.json").read_text()),
    "open_clip_config.json": OPEN_CLIP,
    "tokenizer.json": tokenizer(),
}


def places(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to every value within; of long lists, to the first three."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in items if len(items) < 30 else items[:3]:
        yield (*above, key)
        yield from places(inner, (*above, key))


@pytest.mark.parametrize("file", CONTENTS)
def test_any_value_anywhere(file, tmp_path):
    shutil.copytree(EMBEDDED, tmp_path, dirs_exist_ok=True)
    if file == "open_clip_config.json":
        (tmp_path / "config.json").unlink()
    refused = 0
    found = list(places(CONTENTS[file]))
    for place in found:
        for value in VALUES:
            content = copy.deepcopy(CONTENTS[file])
            *above, last = place
            node = content
            for key in above:
                node = node[key]
            node[last] = value
            (tmp_path / file).write_text(json.dumps(content))
            try:
                weights._load_tokenizer(hub.Directory(tmp_path))
            except UserError:
                refused += 1
    assert 0.3 < refused / len(found) / len(VALUES) < 1
