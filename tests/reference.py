"""The towers by their definition: layer by layer, every row of every sequence, nothing shared and nothing left out.

What the package computes in fewer steps is compared with this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dear_jax.clip import layers, text, vision
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Analysis, Params, Tokens


def run_layers(
    tower: TowerConfig,
    stack: Params,
    x: Float[Array, "B T D"],
    masks: Sequence[Any],
    first: int = 1,
    tokens: Tokens | None = None,
    start: int = 0,
    replace: bool = False,
    own: Mapping[int, Array] | None = None,
    places: Any = None,
) -> tuple[Float[Array, "B T D"], list[Analysis]]:
    """Layers first..L, each under its own of `masks`; the tokens stand at start, start + 1, ...

    They are put there, or (`replace`) take the places of what is there. `own` are, by the layer before which they
    enter, tokens `[B, K, D]` of each sequence at its own `places` `[B, K]`.
    """
    analyses = []
    for i, mask in enumerate(masks):
        if tokens is not None:
            learned, beta = (entries[i if len(entries) > 1 else 0] for entries in tokens)
            end = start + len(learned)
            if i == 0 and not replace:
                entering = jnp.broadcast_to(learned, (len(x), *learned.shape))
                x = jnp.concatenate([x[:, :start], entering, x[:, start:]], axis=1)
            else:
                x = x.at[:, start:end].set(beta * learned[None] + (1 - beta) * x[:, start:end])
        if own is not None and first + i in own:
            x = x.at[jnp.arange(len(x))[:, None], places].set(own[first + i])
        weights = jax.tree.map(lambda leaf, number=first + i: leaf[number - 1], stack)
        x, analysis = layers.Block(tower).apply({"params": weights}, x, mask)
        analyses.append(analysis)
    return x, analyses


def vision_suffix(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "B 1+P D"],
    first: int,
    tokens: Tokens | None = None,
    head_mask: Any = None,
) -> tuple[Float[Array, "B T D"], list[Analysis]]:
    """All rows that the vision layers first..L make of the input of layer `first`; what each layer's heads did."""
    masks = [None] * (config.vision.layers - first + 1) if head_mask is None else jnp.asarray(head_mask)
    stack = params["vision_model"]["encoder"]["layers"]
    return run_layers(config.vision, stack, x, masks, first, tokens, x.shape[1])


def image_rows(
    params: Params, config: CLIPConfig, images: Array, first: int, tokens: Tokens | None = None, head_mask: Any = None
) -> Float[Array, "B T D"]:
    """All rows of the last vision layer; plain CLIP without tokens."""
    x = vision.embed(params, config, vision.normalize(images, config))
    x, _ = run_layers(config.vision, params["vision_model"]["encoder"]["layers"], x, [None] * (first - 1))
    return vision_suffix(params, config, x, first, tokens, head_mask)[0]


def text_features(
    params: Params, config: CLIPConfig, token_ids: Array, first: int, tokens: Tokens | None = None, **options: Any
) -> Float[Array, "C d"]:
    """Unit features of the prompts, each run whole; the tokens stand behind the beginning of text from `first` on.

    `options` are replace, own and places of `run_layers`.
    """
    tower, stack = config.text, params["text_model"]["encoder"]["layers"]
    count = 0 if tokens is None or options.get("replace") else tokens.length
    x = text.embed(params, config, token_ids)
    x, _ = run_layers(tower, stack, x, [text.causal_mask(x.shape[1])] * (first - 1))
    masks = [text.causal_mask(x.shape[1] + count)] * (tower.layers - first + 1)
    x, _ = run_layers(tower, stack, x, masks, first, tokens, text.TOKEN_START, **options)
    ends = text.end_positions(token_ids, config) + count
    return layers.unit(text.project(params, config, x, ends))
