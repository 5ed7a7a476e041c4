"""Job: pretrain the tiny CLIP that travels with the package, from scratch, on the embedded world.

Comes in: `config.pretrain`. Goes out: `workdir/clip/`, a CLIP in Hugging Face's layout with its
tokenizer and `evaluation.json`; and `workdir/checkpoints/`, from which a start that was stopped goes on.
Copied to `dear_jax/clip/embedded/` the former is the backbone `embedded`.

The contrastive loss alone stays at chance on all but color and background for long, so two auxiliary losses,
both of ground truth that the world gives for free, lead the way; neither leaves anything in the checkpoint:

    loss = contrastive + attribute_weight * attributes + dense_weight * dense

    attributes: cross-entropy of each attribute's prompts ("a photo of a striped thing.", ...) as classifier
    dense:      a linear head on the patches after `dense_layer`: how much of the patch the body covers, and
                the body's attributes where it does
"""

import json
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Float

from dear_jax.clip import byte_pairs, layers, text, vision
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.tokenizer import Tokenizer
from dear_jax.data.world.captions import vocabulary
from dear_jax.data.world.pretraining import Batch, attribute_prompts, batches, held_out
from dear_jax.data.world.render import SIZE
from dear_jax.data.world.scenes import NAMES, SIZES
from dear_jax.data.world.tasks import TEMPLATE
from dear_jax.files import storage
from dear_jax.files.checkpoint import Checkpointer
from dear_jax.files.local_copy import local_folder, upload
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description
from dear_jax.setup.plans.pretrain import PretrainingPlan, make_plan

__all__ = ["describe", "make_plan", "run"]

DENSE_NAMES = ("color", "shape", "texture", "object", "position")  # what the dense head is taught
MAX_SCALE = 100.0  # of the logits, as CLIP clips it
CAPTION_LENGTH = 20  # tokens of the longest caption, marks included
PARTIAL_SCENES = 1000  # held-out scenes of the evaluations on the way
EVALUATION_BATCH = 250

Step = Callable[[Params, Any, Batch], tuple[Params, Any, dict[str, Array]]]


def run(settings: PretrainingPlan, workdir: epath.PathLike) -> None:
    """Train, or go on where an earlier start stopped, evaluate on held-out scenes, and write the CLIP.

    Raises:
        UserError: the workdir is in use, holds a run of another config, or cannot be written.
    """
    with Workdir(workdir) as files:
        files.check_config(settings.config)
        _train(settings, files)


def _train(settings: PretrainingPlan, files: Workdir) -> None:
    target = files.path / "clip"
    directory = local_folder(target)
    directory.mkdir(parents=True, exist_ok=True)
    token_ids = byte_pairs.save(directory, vocabulary(), settings.context_length)
    clip_config = clip_architecture(settings, token_ids)
    tokenizer = Tokenizer(directory, settings.context_length)
    params = initialize(clip_config, settings.seed)
    optimizer = make_optimizer(settings)
    state = optimizer.init(params)
    step = jax.jit(make_step(clip_config, optimizer, settings), donate_argnums=(0, 1))
    with Checkpointer(files.checkpoints) as checkpointer:
        first = 0
        checkpoint = checkpointer.restore((params, state), last=settings.steps)
        if checkpoint is not None:
            (params, state), first = checkpoint.state, checkpoint.step
            print(f"Going on from the checkpoint of step {first} of {settings.steps}.", flush=True)
        stream = batches(
            settings.seed,
            settings.steps,
            settings.batch_size,
            clip_config.patch_size,
            lambda texts: tokenizer(texts)[:, :CAPTION_LENGTH],
            first,
        )
        start = time.monotonic()
        for number, batch in enumerate(stream, start=first + 1):
            params, state, losses = step(params, state, batch)
            if number % settings.log_every == 0:
                _report(number, number - first, settings, losses, start)
            if number % settings.eval_every == 0 or number == settings.steps:
                checkpointer.save(number, (params, state))
                if number < settings.steps:
                    accuracies = evaluate(params["clip"], clip_config, tokenizer, PARTIAL_SCENES)
                    _save(directory, target, clip_config, params["clip"], number, accuracies)
    accuracies = evaluate(params["clip"], clip_config, tokenizer, settings.eval_scenes)
    _save(directory, target, clip_config, params["clip"], settings.steps, accuracies)
    print(f"The checkpoint is {target}.", flush=True)


def clip_architecture(settings: PretrainingPlan, token_ids: dict[str, int]) -> CLIPConfig:
    """The architecture of the tiny CLIP: the pictures of the world, and OpenAI's activation and LayerNorm."""

    def tower(width: int, layer_count: int, heads: int) -> TowerConfig:
        return TowerConfig(width, layer_count, heads, 4 * width, "quick_gelu", 1e-5)

    return CLIPConfig(
        vision=tower(settings.vision_width, settings.vision_layers, settings.vision_heads),
        text=tower(settings.text_width, settings.text_layers, settings.text_heads),
        image_size=SIZE,
        patch_size=settings.patch_size,
        embed_dim=settings.embed_dim,
        vocab_size=len(token_ids),
        context_length=settings.context_length,
        bos_token_id=token_ids[byte_pairs.BEGINNING],
        eos_token_id=token_ids[byte_pairs.END],
    )


def initialize(clip_config: CLIPConfig, seed: int) -> Params:
    """{"clip": a random CLIP, "dense": the throwaway head, zero}.

    Patches start with smooth waves over the picture as their positions (class token: zero), so that neighbours
    start alike; OpenAI's start is random and small.
    """
    outputs = 1 + sum(SIZES[NAMES.index(name)] for name in DENSE_NAMES)
    head = {"kernel": jnp.zeros((clip_config.vision.width, outputs)), "bias": jnp.zeros(outputs)}
    clip_params = weights.initialize(clip_config, seed)
    positions = clip_params["vision_model"]["embeddings"]["position_embedding"]["embedding"]
    generator = np.random.default_rng(seed)
    side = clip_config.image_size // clip_config.patch_size
    grid = np.stack(np.divmod(np.arange(side**2), side), axis=1)
    frequencies = generator.normal(0, 0.8, (2, clip_config.vision.width))  # radians per patch
    phases = generator.uniform(0, 2 * np.pi, clip_config.vision.width)
    positions[:] = np.concatenate([np.zeros((1, len(phases))), 0.5 * np.cos(grid @ frequencies + phases)])
    return {"clip": jax.tree.map(jnp.asarray, clip_params), "dense": head}


def make_optimizer(settings: PretrainingPlan) -> optax.GradientTransformation:
    """Muon (Jordan, 2024) for the towers' matrices, AdamW for the rest, at one learning rate.

    `consistent_rms` gives Muon's update the size of AdamW's (Liu et al., arXiv 2502.16982).
    """

    def matrices(params: Params) -> Any:
        stacked = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        return jax.tree.map_with_path(
            lambda path, leaf: stacked if path[-1].key == "kernel" and leaf.ndim == 3 else None, params
        )

    peak = settings.learning_rate
    muon = optax.contrib.muon(
        optax.warmup_cosine_decay_schedule(0.0, peak, settings.warmup_steps, settings.steps, 0.01 * peak),
        weight_decay=settings.weight_decay,
        adam_weight_decay=settings.weight_decay,
        adam_b2=0.98,
        muon_weight_dimension_numbers=matrices,
        consistent_rms=0.2,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), muon)


def make_step(clip_config: CLIPConfig, optimizer: optax.GradientTransformation, settings: PretrainingPlan) -> Step:
    """The pure training step: (params, optimizer state, batch) -> (params, state, losses by name)."""
    loss_weights = {"contrastive": 1.0, "attributes": settings.attribute_weight, "dense": settings.dense_weight}

    def total(params: Params, batch: Batch) -> tuple[Array, dict[str, Array]]:
        losses = compute_losses(params, clip_config, batch, settings.dense_layer)
        return cast(Array, sum(loss_weights[name] * loss for name, loss in losses.items())), losses

    def step(params: Params, state: Any, batch: Batch) -> tuple[Params, Any, dict[str, Array]]:
        gradients, losses = jax.grad(total, has_aux=True)(params, batch)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of an int32 count
            updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, losses

    return step


def compute_losses(params: Params, clip_config: CLIPConfig, batch: Batch, dense_layer: int) -> dict[str, Array]:
    """The three losses of one batch."""
    images, labels, coverage, token_ids, also_true = (jnp.asarray(values) for values in batch)
    clip_params = params["clip"]
    x = vision.embed(clip_params, clip_config, vision.normalize(images, clip_config))
    stack = clip_params["vision_model"]["encoder"]["layers"]
    x = _unrolled(clip_config.vision, stack, x, 1, dense_layer)
    dense_logits = x[:, 1:] @ params["dense"]["kernel"] + params["dense"]["bias"][None, None]
    x = _unrolled(clip_config.vision, stack, x, dense_layer + 1, clip_config.vision.layers)
    features = layers.unit(vision.project(clip_params, clip_config, x[:, 0]))
    captions, prompts = jnp.split(_encode_texts(clip_params, clip_config, token_ids), [len(images)])
    scale = jnp.minimum(jnp.exp(clip_params["logit_scale"]), MAX_SCALE)
    return {
        "contrastive": contrastive_loss(scale * features @ captions.T, also_true),
        "attributes": attribute_loss(scale * features @ prompts.T, labels),
        "dense": dense_loss(dense_logits, coverage, labels),
    }


def contrastive_loss(logits: Float[Array, "B B"], also_true: Array) -> Float[Array, ""]:
    """CLIP's symmetric loss; a caption that happens to be true of another image is not its negative."""
    logits = jnp.where(also_true, -jnp.inf, logits)
    own = jnp.diagonal(logits)
    rows, columns = jax.nn.logsumexp(logits, axis=1), jax.nn.logsumexp(logits, axis=0)
    return jnp.mean(0.5 * (rows + columns) - own)


def attribute_loss(logits: Float[Array, "B prompts"], labels: Array) -> Float[Array, ""]:
    """Cross-entropy over each attribute's own prompts, mean over the attributes."""
    groups = jnp.split(logits, np.cumsum(SIZES)[:-1], axis=1)
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(group, labels[:, column]).mean()
        for column, group in enumerate(groups)
    ]
    return sum(losses) / len(losses)


def dense_loss(logits: Float[Array, "B P outputs"], coverage: Float[Array, "B P"], labels: Array) -> Float[Array, ""]:
    """Coverage by binary cross-entropy, and the attributes by cross-entropy, each patch by its coverage."""
    loss = optax.sigmoid_binary_cross_entropy(logits[..., 0], coverage).mean()
    columns = [NAMES.index(name) for name in DENSE_NAMES]
    groups = jnp.split(logits[..., 1:], np.cumsum([SIZES[column] for column in columns])[:-1], axis=-1)
    for column, group in zip(columns, groups, strict=True):
        targets = jnp.broadcast_to(labels[:, None, column], coverage.shape)
        errors = optax.softmax_cross_entropy_with_integer_labels(group, targets)
        loss = loss + (errors * coverage).sum() / coverage.sum() / len(columns)
    return loss


def _unrolled(tower: TowerConfig, stack: Params, x: Array, first: int, last: int, mask: Array | None = None) -> Array:
    """Layers first..last one by one: on CPU a third faster than the scan, which compiles faster."""
    for layer in range(first, last + 1):
        x = layers.run_blocks(tower, layers.slice_layers(stack, layer, layer), x, mask)
    return x


def _encode_texts(clip_params: Params, clip_config: CLIPConfig, token_ids: Array) -> Float[Array, "C d"]:
    x = text.embed(clip_params, clip_config, token_ids)
    stack = clip_params["text_model"]["encoder"]["layers"]
    x = _unrolled(clip_config.text, stack, x, 1, clip_config.text.layers, text.causal_mask(x.shape[1]))
    return layers.unit(text.project(clip_params, clip_config, x, text.end_positions(token_ids, clip_config)))


def evaluate(params: Params, clip_config: CLIPConfig, tokenizer: Tokenizer, scenes: int) -> dict[str, float]:
    """Accuracy in [0, 1] on held-out scenes, for each attribute against its own prompts."""
    encode = jax.jit(lambda images: vision.encode(params, clip_config, vision.normalize(images, clip_config)))
    images, labels = held_out(scenes)
    parts = np.split(images, range(EVALUATION_BATCH, scenes, EVALUATION_BATCH))
    features = np.concatenate([np.asarray(encode(part)) for part in parts])
    token_ids = tokenizer(attribute_prompts(TEMPLATE))[:, :CAPTION_LENGTH]
    classifier = np.asarray(_encode_texts(params, clip_config, jnp.asarray(token_ids)))
    groups = np.split(features @ classifier.T, np.cumsum(SIZES)[:-1], axis=1)
    return {
        name: float(np.mean(logits.argmax(1) == labels[:, column]))
        for column, (name, logits) in enumerate(zip(NAMES, groups, strict=True))
    }


def _save(
    directory: epath.Path,
    target: epath.Path,
    clip_config: CLIPConfig,
    params: Params,
    step: int,
    accuracies: dict[str, float],
) -> None:
    """Write the CLIP into `directory`, and from there to its `target` in a bucket."""
    params = jax.tree.map(np.asarray, params)
    scale = np.minimum(params["logit_scale"], np.log(np.float32(MAX_SCALE)))
    weights.save(directory, clip_config, {**params, "logit_scale": scale})
    report = {"step": step, "accuracy": accuracies}
    storage.write(directory / "evaluation.json", json.dumps(report, indent=2) + "\n")
    if storage.is_remote(target):
        upload(directory, target)
    percentages = "  ".join(f"{name} {100 * accuracy:.1f}" for name, accuracy in accuracies.items())
    print(f"step {step}: {percentages}", flush=True)


def _report(step: int, taken: int, settings: PretrainingPlan, losses: dict[str, Array], start: float) -> None:
    """`taken` steps since `start`."""
    seconds = time.monotonic() - start
    values = "  ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
    rate = taken * settings.batch_size / seconds
    minutes = (settings.steps - step) * settings.batch_size / rate / 60
    print(f"step {step}  {values}  {rate:.0f} images/s  {minutes:.1f} min left", flush=True)


def describe(plan: PretrainingPlan, description: Description) -> None:
    """The dry run: the CLIP that would be made, and how."""
    pictures = f"{SIZE} pixels in patches of {plan.patch_size}"
    rows = {
        "image": pictures,
        "vision": f"{plan.vision_layers} layers, {plan.vision_heads} heads, width {plan.vision_width}",
        "text": f"{plan.text_layers} layers, {plan.text_heads} heads, width {plan.text_width}",
        "steps": f"{plan.steps:,} of {plan.batch_size} pictures",
        "evaluation": f"{plan.eval_scenes:,} held-out pictures, {PARTIAL_SCENES:,} on the way",
    }
    description.section("Work", rows)
