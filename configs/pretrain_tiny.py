"""Pretrain the tiny CLIP that travels with the package, from scratch, in about 20 minutes on two CPU cores.

    python -m dear_jax.main --config=configs/pretrain_tiny.py --workdir=runs/pretrain_tiny

leaves `runs/pretrain_tiny/clip/`, whose files are byte for byte those of `dear_jax/clip/embedded/`. Expected accuracy
on 5,000 held-out pictures, each attribute against its own prompts, in percent: color 100, shape 99.9, texture 99.9,
object 100, position 100, background 100 (`evaluation.json`).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Every key of the job."""
    config = base.get_config()
    config.job = "pretrain"
    with config.unlocked():
        config.pretrain = ConfigDict()
        config.pretrain.seed = 0
        config.pretrain.steps = 1600
        config.pretrain.batch_size = 128  # images
        config.pretrain.learning_rate = 3e-3  # peak, of linear warm-up and cosine decay
        config.pretrain.warmup_steps = 100
        config.pretrain.weight_decay = 0.01
        config.pretrain.attribute_weight = 1.0  # of the cross-entropy over each attribute's prompts
        config.pretrain.dense_weight = 1.0  # of the throwaway head on the patches
        config.pretrain.dense_layer = 4  # the layer that it reads, counted from 1
        config.pretrain.patch_size = 8  # pixels
        config.pretrain.embed_dim = 128  # of the joint space
        config.pretrain.vision_width = 128
        config.pretrain.vision_layers = 7
        config.pretrain.vision_heads = 8
        config.pretrain.text_width = 64
        config.pretrain.text_layers = 3
        config.pretrain.text_heads = 4
        config.pretrain.context_length = 77  # tokens
        config.pretrain.log_every = 20  # steps
        config.pretrain.eval_every = 200  # steps between partial evaluations, which also save the checkpoint
        config.pretrain.eval_scenes = 5000  # held-out scenes of the final evaluation
    config.lock()
    return config
