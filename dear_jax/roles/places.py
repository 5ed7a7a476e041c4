"""Where a logit comes from: an image's contributions by head AND image position, for any text and any path.

Comes in: normalised pixels, text vectors, how the tower is read (`decompose.ReadOut`: plain CLIP's class token, or the
paths of a method with tokens, a mask and projections of its own). Goes out: `Places`, which sum up to the logit.

With a the attention of row r to position p in head h, v the value there, W_O^h the head's rows of the output
projection, sigma_r the deviation by which the final LayerNorm divides row r, and q = scale_LN * (kernel w), centred,

    heads[h, p] = scale / (|f| sigma_r) * decay * a[r, p] v[p] W_O^h q

in points of a logit, scale * cos(f, w). Nothing of it is an approximation: it is linear in everything that a layer adds
to row r once sigma_r and |f|, which are the image's own, are known. What it does NOT say: these are direct
contributions. What a position got from others in earlier layers counts for that position, MLPs are of a row and not of
a position, and sigma_r and |f| would change if a part were taken away. After Gandelsman et al., arXiv 2310.05916.

A learned token that is mixed anew before each layer (`clip.layers.Tokens`) keeps the share 1 - beta of what a layer has
made of it: `decay` of layer J + i is the product of 1 - beta over the later layers, and what was learned enters by the
rest. That is exact, too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Analysis, Params
from dear_jax.clip.split import logit_scale
from dear_jax.roles.decompose import (
    ReadOut,
    Stretch,
    deviation,
    entered,
    head_kernels,
    layer_parts,
    plain,
    walk_rows,
)


class Places(NamedTuple):
    """Direct contributions to the logits of C texts for each of B images on N paths, in points of the logit.

    `total()` is scale * cos(f, w): of n layers J..L and H heads, all T positions (the class token, the P patches in
    reading order, the learned tokens), the MLPs, the biases of the attention, what entered layer J, and the bias of the
    final LayerNorm. Texts that are no unit vectors, such as differences of two, are taken as they are.
    """

    heads: Float[Array, "B N C n H T"]
    mlps: Float[Array, "B N C n"]
    biases: Float[Array, "B N C n"]
    before: Float[Array, "B N C"]  # what entered layer J; of learned tokens: what was learned, of all layers
    norm_bias: Float[Array, "B N C"]
    attention: Float[Array, "B N n H T"]  # of the path's rows, their mean; sums to 1 over T where these are there

    def total(self) -> Float[Array, "B N C"]:
        """The logits."""
        layers = self.heads.sum((3, 4, 5)) + self.mlps.sum(3) + self.biases.sum(3)
        return layers + self.before + self.norm_bias


def locate(
    read: ReadOut,
    config: CLIPConfig,
    pixels: Float[Array, "B h w 3"],
    texts: Float[Array, "B C d"],
    first_layer: int = 1,
) -> Places:
    """Where the logits of each image's own C texts come from, of layers first_layer..L, in float32.

    Below the layer where learned tokens enter, their places and the paths that read them have nothing: zeros.
    """
    start = vision.prefix(read.params, config, pixels, first_layer - 1)
    rows = np.array([row for _, row in read.entries])  # M of them, path after path
    paths = np.array([path for path, _ in read.entries])
    norm = read.params["vision_model"]["post_layernorm"]
    along = jnp.einsum("nDd,bcd->bnDc", norm["scale"][None, :, None] * read.kernels, texts)
    # (u - mean(u)) q = u (q - mean(q)): the direction is centred once, in place of every part.
    along = (along - along.mean(2, keepdims=True))[:, paths]  # [B, M, D, C]

    def look(one: Params, x: Array, analysis: Analysis, there: tuple[int, ...]) -> _Seen:
        chosen, directions = rows[list(there)], along[:, np.array(there)]
        attention = jnp.moveaxis(analysis.probabilities[:, :, chosen], 1, 2)
        parts = layer_parts(one, config, x[:, chosen], analysis.head_outputs[:, chosen])
        kernels = jnp.einsum("hkD,bmDc->bmhkc", head_kernels(one, config), directions)
        heads = attention[:, :, None] * jnp.einsum("bthk,bmhkc->bmcht", analysis.values, kernels)
        mlp, bias = jnp.einsum("bmD,bmDc->bmc", parts.mlp, directions), parts.bias
        return _Seen(heads, mlp, jnp.einsum("D,bmDc->bmc", bias, directions), attention)

    end, stretches = walk_rows(read, config, start, first_layer, look)
    *below, (_, seen) = stretches
    learned = 0 if read.tokens is None else read.tokens.length
    filled = [_fill(stretch, len(rows), learned) for stretch in below]
    heads, mlps, biases, attention = _Seen(*(jnp.concatenate(leaves) for leaves in zip(*filled, seen, strict=True)))

    ends, mean = end[:, rows], read.shares()
    features = jnp.einsum("nm,bmD,nDd->bnd", mean, vision.final_norm(read.params, config, ends), read.kernels)
    scale = logit_scale(read.params) / jnp.linalg.norm(features, axis=-1)  # [B, N]
    weight = scale[:, :, None] * mean[None] / deviation(config, ends)[:, None]  # [B, N, M]
    decay, before = entered(read.tokens, start, len(heads), len(seen.heads))
    decay, before = decay[:, rows], before[:, rows]
    return Places(
        heads=jnp.einsum("bnm,lm,lbmcht->bnclht", weight, decay, heads),
        mlps=jnp.einsum("bnm,lm,lbmc->bncl", weight, decay, mlps),
        biases=jnp.einsum("bnm,lm,lbmc->bncl", weight, decay, biases),
        before=jnp.einsum("bnm,bmD,bmDc->bnc", weight, before, along),
        norm_bias=scale[:, :, None] * jnp.einsum("D,nDd,bcd->bnc", norm["bias"], read.kernels, texts),
        attention=jnp.einsum("nm,lbmht->bnlht", mean, attention),
    )


class _Seen(NamedTuple):
    """Of some rows: leaves `[...]` of a layer, `[n, ...]` of n layers."""

    heads: Float[Array, "*n B rows C H T"]
    mlps: Float[Array, "*n B rows C"]
    biases: Float[Array, "*n B rows C"]
    attention: Float[Array, "*n B rows H T"]


def _fill(stretch: Stretch, count: int, tokens: int) -> _Seen:
    """With zeros for the other rows, and, at the end of T, for the tokens that are not there yet."""

    def fill(leaf: Array, wide: bool) -> Array:
        shape = (*leaf.shape[:2], count, *leaf.shape[3:])
        whole = jnp.zeros(shape, leaf.dtype).at[:, :, np.array(stretch.entries)].set(leaf)
        return jnp.pad(whole, [*[(0, 0)] * (leaf.ndim - 1), (0, tokens)]) if wide else whole

    return _Seen(*(fill(leaf, wide) for leaf, wide in zip(stretch.seen, (True, False, False, True), strict=True)))


def map_heads(
    backbone: Backbone,
    images: UInt8[np.ndarray, "M h w 3"],
    texts: Float[np.ndarray, "n H d"],
    first_layer: int,
    batch_size: int = 8,
) -> Float[np.ndarray, "M n H P"]:
    """What each patch adds through a head to the similarity with that head's own text, in points of plain CLIP's logit.

    Args:
        backbone: the CLIP.
        images: as the model sees them.
        texts: unit features, one for each head of layers first_layer..L.
        first_layer: counted from 1.
        batch_size: images at a time.
    """
    config, (count, heads, _) = backbone.config, texts.shape
    layer, head = (places.reshape(-1) for places in np.indices((count, heads)))

    @jax.jit
    def compute(params: Params, images: Array) -> Array:
        own = jnp.broadcast_to(jnp.asarray(texts.reshape(1, len(head), -1)), (len(images), len(head), texts.shape[-1]))
        found = locate(plain(params), config, vision.normalize(images, config), own, first_layer)
        shown = found.heads[:, 0, np.arange(len(head)), layer, head, 1:]
        return shown.reshape(len(images), count, heads, -1)

    params = jax.device_put(backbone.params)
    filled = np.pad(images, ((0, -len(images) % batch_size), *[(0, 0)] * 3))
    starts = range(0, len(filled), batch_size)
    parts = [np.asarray(compute(params, jnp.asarray(filled[start : start + batch_size]))) for start in starts]
    return np.concatenate(parts)[: len(images)]


class Summary(NamedTuple):
    """What is kept of `Places`, in points of a logit: `patches` and, from `first` to `norm_bias`, single numbers.

    patches.sum(-1) + first + learned + mlps + biases + before + norm_bias = logits; heads.sum((3, 4)) = patches.sum(-1)
    + first + learned.
    """

    logits: Float[Array, "B N C"]
    patches: Float[Array, "B N C P"]  # over all layers and heads
    first: Float[Array, "B N C"]  # of the class token's place
    learned: Float[Array, "B N C"]  # of the learned tokens' places
    mlps: Float[Array, "B N C"]
    biases: Float[Array, "B N C"]
    before: Float[Array, "B N C"]
    norm_bias: Float[Array, "B N C"]
    heads: Float[Array, "B N C n H"]  # over all places
    attention: Float[Array, "B N P"]  # in [0, 1]: the mean over the layers and heads that may look at patches
    looking: Float[Array, "N"]  # how many of these there are


def summarize(places: Places, read: ReadOut, patches: int, first_layer: int = 1) -> Summary:
    """Sums over layers and heads, and over places.

    Args:
        places: of layers first_layer..L.
        read: by which they were found: its mask says which heads of layers J..L let a path's row look at a patch. Of
            tokens, and of the class token beside them, the attention below J is left out: there are none yet.
        patches: P.
        first_layer: counted from 1.
    """
    by_place = places.heads.sum((3, 4))  # [B, N, C, T]
    end = 1 + patches
    count = places.heads.shape[3]
    shown = places.attention[:, :, :, :, 1:end]  # [B, N, n, H, P]
    below = max(0, read.first_layer - first_layer) if read.tokens is not None else 0
    looks = jnp.broadcast_to((jnp.arange(count) >= below)[None, :, None], (len(read.rows), *shown.shape[2:4]))
    if read.head_mask is not None:
        own = jnp.stack([read.head_mask[:, :, np.array(rows), 1:end].any((2, 3)) for rows in read.rows])
        looks &= jnp.pad(own, ((0, 0), (count - own.shape[1], 0), (0, 0)), constant_values=True)
    looks = looks.astype(jnp.float32)
    looking = looks.sum((1, 2))
    return Summary(
        logits=places.total(),
        patches=by_place[..., 1:end],
        first=by_place[..., 0],
        learned=by_place[..., end:].sum(-1),
        mlps=places.mlps.sum(3),
        biases=places.biases.sum(3),
        before=places.before,
        norm_bias=places.norm_bias,
        heads=places.heads.sum(5),
        attention=jnp.einsum("bnlhp,nlh->bnp", shown, looks) / jnp.maximum(looking, 1)[None, :, None],
        looking=looking,
    )
