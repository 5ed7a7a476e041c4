"""Do heat maps find what a text names? On the embedded world, where the pixels of the body are known.

    python -m experiments.roles.heat_maps --run=WORKDIR --workdir=runs/heat_maps

prints Markdown and writes heat_maps.json. Of each of 400 scenes that no job has seen, and of each attribute, the text
is that of the scene's own value ("a photo of a red thing."), and a map of 6 x 6 patches is resized to the picture
(bilinear). Pointing game: in how many per cent of the pictures the map is largest at a pixel that the text is about.
Average precision: of the pixels ranked by the map as a segmentation of these, the mean over the pictures. The pixels of
color, shape, texture and position are those of the body; of an object the body with its accessories (in a column of
their own these alone: wheels make a body a car); of a background all others. `--run`, a training run of DeAR, adds its
class path, and for each attribute its own token. About two minutes on two CPU cores.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from dear_jax.data.world.scenes import ATTRIBUTES, NAMES, Scenes, draw_scenes
from dear_jax.evaluation import explanation
from dear_jax.evaluation.features import Encoder
from dear_jax.methods import adapter_file
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import sentences
from dear_jax.roles.decompose import plain, walk
from dear_jax.roles.places import locate

SCENES = 400
BATCH = 50
DEEPER = 5  # the first of the layers whose roles are known
SAMPLES = 2000  # of the bootstrap over pictures
CHANCE = "share of the pixels (chance)"
ACCESSORIES = "object's accessories"
COLUMNS = (*NAMES, ACCESSORIES)
Maps = dict[str, dict[str, np.ndarray]]  # way to make them -> attribute -> [N, side, side]


def main() -> None:
    """Maps, their scores, tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/heat_maps"))
    parser.add_argument("--run", default="", help="workdir of a training run of DeAR on the embedded CLIP")
    parser.add_argument("--scenes", type=int, default=SCENES)
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("embedded")
    scenes = draw_scenes(tasks.stream_seed("heat_maps"), np.arange(arguments.scenes))
    pictures, body = render_with_coverage(scenes)
    regions = regions_of(scenes, body)
    maps = plain_maps(backbone, scenes, pictures)
    if arguments.run:
        maps |= run_maps(arguments.run, backbone, scenes, pictures)
    found = {name: score(of_way, regions) for name, of_way in maps.items()}
    (arguments.workdir / "heat_maps.json").write_text(json.dumps({"scenes": len(scenes), "ways": found}, indent=1))
    print(report(found, regions))


def regions_of(scenes: Scenes, body: np.ndarray) -> dict[str, np.ndarray]:
    """Bool [N, SIZE, SIZE] per attribute: the pixels that a text of it is about."""
    accessories = accessory_coverage(scenes)
    either = np.maximum(body, accessories) > 0.5
    regions = dict.fromkeys(NAMES, body > 0.5)
    return regions | {"object": either, "background": ~either, ACCESSORIES: accessories > 0.5}


def plain_maps(backbone: Backbone, scenes: Scenes, pictures: np.ndarray) -> Maps:
    """By plain CLIP."""
    texts = {name: sentences.encode_texts(backbone, phrases(name)) for name in NAMES}
    values = np.stack([texts[name][scenes.label(name)] for name in NAMES], axis=1)  # [N, 6, d]
    means = np.stack([texts[name].mean(0) for name in NAMES])
    vectors = np.concatenate([values, values - means[None]], axis=1)  # of the value, and beside the attribute's others
    compute = compile_maps(backbone)
    found: Maps = {}
    for name, maps in in_batches(lambda at: compute(pictures[at], vectors[at]), len(pictures)).items():
        for start, kind in ((0, ""), (len(NAMES), ", against the mean of the attribute's texts")):
            if maps.shape[1] > 1 or not start:  # else the map knows no text
                found[name + kind] = {a: squared(maps[:, (start + i) % maps.shape[1]]) for i, a in enumerate(NAMES)}
    return found


def run_maps(run: str, backbone: Backbone, scenes: Scenes, pictures: np.ndarray) -> Maps:
    """By the class path of a run and, where an attribute has one, by its own token; the mean over the seeds."""
    encoder = Encoder(adapter_file.load(run).select(), backbone, jnp.float32, BATCH)
    texts = [text for name in NAMES for text in phrases(name)]
    starts = np.cumsum([0, *(len(ATTRIBUTES[name]) for name in NAMES)])
    chosen = np.stack([start + scenes.label(name) for start, name in zip(starts, NAMES, strict=False)], axis=1)
    explainer = explanation.of_run(encoder, encoder.classes(texts, "{}"), "learned")

    def compute(at: slice) -> dict[str, Array]:
        found = explainer.compute(jnp.asarray(pictures[at]), jnp.asarray(chosen[at]))
        return {"contributions": found.patches, "attention": found.attention}

    found = in_batches(compute, len(pictures))
    ways: Maps = {"DeAR's class path, contributions": {}, "own token, contributions": {}, "own token, attention": {}}
    for column, name in enumerate(NAMES):
        ways["DeAR's class path, contributions"][name] = squared(
            found["contributions"][:, explainer.paths.index("class"), column]
        )
        if name in explainer.paths:
            path = explainer.paths.index(name)
            ways["own token, contributions"][name] = squared(found["contributions"][:, path, column])
            ways["own token, attention"][name] = squared(found["attention"][:, path])
    return ways


def phrases(attribute: str) -> list[str]:
    """A prompt for each of its values."""
    return prompts.prompts(captions.attribute_phrases(attribute), tasks.TEMPLATE)


def in_batches(compute: Callable[[slice], dict[str, Array]], count: int) -> dict[str, np.ndarray]:
    """All that it gives of `count` pictures."""
    parts = [jax.device_get(compute(slice(start, start + BATCH))) for start in range(0, count, BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def squared(maps: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N side side"]:
    """Patches by row and column."""
    side = round(maps.shape[-1] ** 0.5)
    return maps.reshape(len(maps), side, side)


def compile_maps(backbone: Backbone) -> Callable[[np.ndarray, np.ndarray], dict[str, Array]]:
    """Pictures and texts `[B, C, d]` to maps `[B, C, P]`, or `[B, 1, P]` where a map knows no text."""
    config, eye = backbone.config, jnp.eye(1 + backbone.config.patches)[None]

    @jax.jit
    def compute(params: Params, images: Array, texts: Array) -> dict[str, Array]:
        pixels = vision.normalize(images, config)
        heads = locate(plain(params), config, pixels, texts).heads[:, 0, :, :, :, 1:]  # [B, C, n, H, P]

        def look(one: Params, x: Array, analysis: Analysis) -> Array:
            return analysis.probabilities.mean(1)

        end, attention = walk(plain(params), config, vision.embed(params, config, pixels), 1, look)
        patches = unit(vision.project(params, config, end[:, 1:]))
        rolled = eye
        for layer in attention:  # Abnar & Zuidema, arXiv 2005.00928: half of it is the residual's
            rolled = (0.5 * layer + 0.5 * eye) @ rolled
        return {
            "contributions of heads, layers 1 to 7": heads.sum((2, 3)),
            f"contributions of heads, layers {DEEPER} to 7": heads[:, :, DEEPER - 1 :].sum((2, 3)),
            "similarity of raw patch features": jnp.einsum("bpd,bcd->bcp", patches, texts),
            "attention rollout": rolled[:, None, 0, 1:],
            "attention of the class token, last layer": attention[-1][:, None, 0, 1:],
        }

    params: Any = jax.device_put(backbone.params)
    return lambda images, texts: compute(params, jnp.asarray(images), jnp.asarray(texts))


def score(maps: dict[str, np.ndarray], regions: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Per attribute and picture: whether the map points at its region, and the average precision, in percent."""
    found = {}
    for attribute, of_attribute in (maps | {ACCESSORIES: maps["object"]}).items():
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
        rows = [[CHANCE, *(f"{chance[name].mean():.1f}" for name in COLUMNS)]]
        for way, scores in found.items():
            rows.append([way, *(interval(scores[name][measure]) if name in scores else "" for name in COLUMNS)])
        parts.append(to_markdown([title, *COLUMNS], rows))
    return "\n\n".join(parts)


def interval(values: list[float]) -> str:
    """The mean with half of its 95 % interval, by the bootstrap over pictures."""
    draws = np.random.default_rng(0).integers(0, len(values), (SAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(1), [2.5, 97.5])
    return f"{np.mean(values):.1f} ± {(high - low) / 2:.1f}"


if __name__ == "__main__":
    main()
