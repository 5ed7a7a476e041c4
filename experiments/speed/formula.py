"""FLOPs of a training step by formula: what the mathematics needs with nothing computed twice (methods/dear section 6).

A product `[n, k] x [k, m]` counts 2 n k m. The frozen weights take no gradient, so that a dense layer costs in the
backward pass what it costs forward; attention costs twice. Norms, softmax, activations and what is computed again to
save memory are not counted.
"""

from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.packing import GAP, Packing
from dear_jax.methods.dear.model import DeAR


def step_flops(method: DeAR, packing: Packing, shared: int, batch: int, variants: int = 1) -> float:
    """Of one seed's step: `batch` images through prefix and plain suffix, and per variant both adapted suffixes.

    Args:
        method: architecture, tokens and layers.
        packing: of the class prompts.
        shared: R, the leading positions that all prompts share.
        batch: images of the step.
        variants: runs that share the images.
    """
    split, config, count = method.split, method.split.config, len(method.attributes)
    originals = 1 + config.patches
    frozen = _embedding(config)
    frozen += (split.vision_layer - 1) * _layer(config.vision, originals, originals)
    frozen += _forward(config.vision, split.vision_layer, originals, originals, read=1)
    length = originals + count
    adapted = _forward(config.vision, split.vision_layer, length, length, read=1 + count)
    adapted += _backward(config.vision, split.vision_layer, length, length, read=1 + count)

    classes, ahead = len(packing.order), shared + method.text_count
    rows = int((packing.segments != GAP).sum())
    keys = ahead + rows // classes
    text = _forward(config.text, split.text_layer, rows, keys, read=classes)
    text += _backward(config.text, split.text_layer, rows, keys, read=classes)
    depth = config.text.layers - split.text_layer + 1
    text += 2 * depth * _layer(config.text, ahead, ahead)
    return batch * (frozen + variants * adapted) + variants * text


def reference_flops(method: DeAR, classes: int, batch: int) -> float:
    """Of `torch_reference.py`: both towers whole for both branches, and backward through the adapted layers."""
    split, config = method.split, method.split.config
    towers = (
        (config.vision, split.vision_layer, 1 + config.patches, len(method.attributes), batch),
        (config.text, split.text_layer, config.context_length, method.text_count, classes),
    )
    total = 2 * batch * _embedding(config)
    for tower, first, plain, learned, sequences in towers:
        longer, depth = plain + learned, tower.layers - first + 1
        forward = (tower.layers + first - 1) * _layer(tower, plain, plain) + depth * _layer(tower, longer, longer)
        backward = depth * (_dense(tower, longer) + 2 * _attention(tower, longer, longer))
        total += sequences * (forward + backward)
    return total


def _embedding(config: CLIPConfig) -> float:
    return 2 * config.patches * 3 * config.patch_size**2 * config.vision.width


def _dense(tower: TowerConfig, rows: int) -> float:
    return 2 * rows * (4 * tower.width**2 + 2 * tower.width * tower.mlp_width)


def _attention(tower: TowerConfig, queries: int, keys: int) -> float:
    return 4 * queries * keys * tower.width


def _layer(tower: TowerConfig, rows: int, keys: int) -> float:
    return _dense(tower, rows) + _attention(tower, rows, keys)


def _last(tower: TowerConfig, rows: int, read: int) -> float:
    """Keys and values of all rows; query, output and MLP of those that are read."""
    half = 4 * rows * tower.width**2
    return half + 2 * read * (2 * tower.width**2 + 2 * tower.width * tower.mlp_width)


def _forward(tower: TowerConfig, first: int, rows: int, keys: int, read: int) -> float:
    whole = (tower.layers - first) * _layer(tower, rows, keys)
    return whole + _last(tower, rows, read) + _attention(tower, read, keys)


def _backward(tower: TowerConfig, first: int, rows: int, keys: int, read: int) -> float:
    """The first layer's input takes no gradient but at the learned tokens: its projections cost nothing."""
    last = _last(tower, rows, read) + 2 * _attention(tower, read, keys)
    if first == tower.layers:
        return last
    middle = (tower.layers - first - 1) * (_dense(tower, rows) + 2 * _attention(tower, rows, keys))
    outputs = 2 * rows * (tower.width**2 + 2 * tower.width * tower.mlp_width)
    return last + middle + outputs + 2 * _attention(tower, rows, keys)
