"""Do heat maps find what a text names? On the embedded world, where the pixels of the body are known.

    python -m experiments.roles.heat_maps --workdir=runs/heat_maps

prints Markdown and writes heat_maps.json. Of each of 400 scenes that no job has seen, and of each attribute, the text
is that of the scene's own value ("a photo of a red thing."), and a map of 6 x 6 patches is resized to the picture
(bilinear). Pointing game: in how many per cent of the pictures the map is largest at a pixel that the text is about.
Average precision: of the pixels ranked by the map as a segmentation of these, the mean over the pictures. The pixels of
color, shape, texture and position are those of the body, of an object the body with its accessories, of a background
all others. About two minutes on two CPU cores.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image
from sklearn.metrics import average_precision_score

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone, load_backbone
from dear_jax.clip.layers import Analysis, Params, unit
from dear_jax.data import prompts
from dear_jax.data.world import captions, tasks
from dear_jax.data.world.render import SIZE, accessory_coverage, render_with_coverage
from dear_jax.data.world.scenes import NAMES, Scenes, draw_scenes
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import sentences
from dear_jax.roles.decompose import plain, walk
from dear_jax.roles.places import locate

SCENES = 400
BATCH = 50
DEEPER = 5  # the first of the layers whose roles are known
SAMPLES = 2000  # of the bootstrap over pictures
CHANCE = "share of the pixels (chance)"


def main() -> None:
    """Maps, their scores, tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/heat_maps"))
    parser.add_argument("--scenes", type=int, default=SCENES)
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("embedded")
    scenes = draw_scenes(tasks.stream_seed("heat_maps"), np.arange(arguments.scenes))
    pictures, body = render_with_coverage(scenes)
    regions = regions_of(scenes, body)
    found = {name: score(maps, regions) for name, maps in all_maps(backbone, scenes, pictures).items()}
    (arguments.workdir / "heat_maps.json").write_text(json.dumps({"scenes": len(scenes)} | found, indent=1))
    print(report(found, regions))


def regions_of(scenes: Scenes, body: np.ndarray) -> dict[str, np.ndarray]:
    """Bool [N, SIZE, SIZE] per attribute: the pixels that a text of it is about."""
    with_accessories = np.maximum(body, accessory_coverage(scenes)) > 0.5
    regions = dict.fromkeys(NAMES, body > 0.5)
    return regions | {"object": with_accessories, "background": ~with_accessories}


def all_maps(backbone: Backbone, scenes: Scenes, pictures: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Maps [N, side, side] per attribute, of each way to make them."""
    texts = {
        name: sentences.encode_texts(backbone, prompts.prompts(captions.attribute_phrases(name), tasks.TEMPLATE))
        for name in NAMES
    }
    values = np.stack([texts[name][scenes.label(name)] for name in NAMES], axis=1)  # [N, 6, d]
    means = np.stack([texts[name].mean(0) for name in NAMES])
    vectors = np.concatenate([values, values - means[None]], axis=1)  # of the value, and beside the attribute's others
    parts = [
        jax.device_get(_maps(backbone.params, jnp.asarray(pictures[at]), jnp.asarray(vectors[at])))
        for start in range(0, len(pictures), BATCH)
        for at in [slice(start, start + BATCH)]
    ]
    found = {}
    for name in parts[0]:
        maps = np.concatenate([part[name] for part in parts])  # [N, 12 or 1, P]
        side = round(maps.shape[-1] ** 0.5)
        maps = maps.reshape(*maps.shape[:2], side, side)
        for start, kind in ((0, ""), (len(NAMES), ", against the attribute's mean text")):
            if maps.shape[1] > 1 or not start:
                found[name + kind] = {a: maps[:, min(start + i, maps.shape[1] - 1)] for i, a in enumerate(NAMES)}
    return found


def _maps(params: Params, images: Array, texts: Array) -> dict[str, Float[Array, "B C P"]]:
    """Maps of a batch."""
    config = load_backbone("embedded").config

    @jax.jit
    def compute(params: Params, images: Array, texts: Array) -> dict[str, Array]:
        pixels = vision.normalize(images, config)
        heads = locate(plain(params), config, pixels, texts).heads[:, 0, :, :, :, 1:]  # [B, C, n, H, P]
        x = vision.embed(params, config, pixels)

        def look(one: Params, x: Array, analysis: Analysis) -> Array:
            return analysis.probabilities.mean(1)

        end, attention = walk(plain(params), config, x, 1, look)
        patches = unit(vision.project(params, config, end[:, 1:]))
        rolled = jnp.eye(x.shape[1])[None]
        for layer in attention:  # Abnar & Zuidema, arXiv 2005.00928: half of it is the residual's
            rolled = (0.5 * layer + 0.5 * jnp.eye(x.shape[1])[None]) @ rolled
        return {
            "contributions of heads, layers 1 to 7": heads.sum((2, 3)),
            f"contributions of heads, layers {DEEPER} to 7": heads[:, :, DEEPER - 1 :].sum((2, 3)),
            "similarity of raw patch features": jnp.einsum("bpd,bcd->bcp", patches, texts),
            "attention rollout": rolled[:, None, 0, 1:],
            "attention of the class token, last layer": attention[-1][:, None, 0, 1:],
        }

    return compute(params, images, texts)


def score(maps: dict[str, np.ndarray], regions: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Per attribute and picture: whether the map points at its region, and the average precision, in percent."""
    found = {}
    for attribute, of_attribute in maps.items():
        hits, precisions = [], []
        for small, region in zip(of_attribute, regions[attribute], strict=True):
            picture = Image.fromarray(small.astype(np.float32))
            large = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            hits.append(100.0 * bool(region.reshape(-1)[large.argmax()]))
            precisions.append(100.0 * average_precision_score(region.reshape(-1), large.reshape(-1)))
        found[attribute] = {"pointing": hits, "precision": precisions}
    return found


def report(found: dict, regions: dict[str, np.ndarray]) -> str:
    """Both tables."""
    chance = {attribute: 100 * region.mean((1, 2)) for attribute, region in regions.items()}
    parts = []
    for measure, title in (("pointing", "Pointing game"), ("precision", "Mean average precision")):
        rows = [[CHANCE, *(f"{chance[name].mean():.1f}" for name in NAMES)]]
        for way, scores in found.items():
            rows.append([way, *(interval(scores[name][measure]) for name in NAMES)])
        parts.append(to_markdown([title, *NAMES], rows))
    return "\n\n".join(parts)


def interval(values: list[float]) -> str:
    """The mean with half of its 95 % interval, by the bootstrap over pictures."""
    draws = np.random.default_rng(0).integers(0, len(values), (SAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(1), [2.5, 97.5])
    return f"{np.mean(values):.1f} ± {(high - low) / 2:.1f}"


if __name__ == "__main__":
    main()
