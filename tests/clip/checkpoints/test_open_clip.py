"""open_clip's layout against open_clip itself, float32, random weights; options that are refused by name."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from dear_jax.clip import text, vision
from dear_jax.clip.checkpoints import hub, positions, weights
from dear_jax.clip.checkpoints.open_clip import read_config
from dear_jax.errors import UserError

RELATIVE = 1e-5  # float32 rounding; measured errors are below 1e-6

VISION = dict(layers=3, width=48, head_width=12, patch_size=7, image_size=35, mlp_ratio=2.5)
TEXT = dict(context_length=13, vocab_size=99, width=40, heads=5, layers=2)
TINY = dict(embed_dim=24, vision_cfg=VISION, text_cfg=TEXT)
PREPROCESS = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], interpolation="bicubic", resize_mode="shortest")
LAION_B32 = dict(
    embed_dim=512,
    vision_cfg=dict(image_size=224, layers=12, width=768, patch_size=32),
    text_cfg=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12),
)
VARIANTS = {
    "plain": TINY,
    "quick-gelu": TINY | dict(quick_gelu=True),
    "own-text-tower": TINY | dict(custom_text=True, quick_gelu=True),
    "epsilon": TINY | dict(vision_cfg=VISION | dict(norm_kwargs=dict(eps=1e-3)), text_cfg=TEXT | dict(mlp_ratio=3.0)),
    "scale-of-one-element": TINY | dict(nonscalar_logit_scale=True),
    "neutral-options": TINY | dict(vision_cfg=VISION | dict(patch_dropout=0.5, pool_type="tok", no_ln_pre=False)),
    "laion-b32": LAION_B32,
}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "laion-b32" else ()) for name in VARIANTS]


def publish(directory, model_cfg: dict, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Write a random model as open_clip publishes it, and read it back by open_clip."""
    config = dict(model_cfg=model_cfg, preprocess_cfg=PREPROCESS)
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    kind = open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP
    torch.manual_seed(0)
    model = kind(**copy.deepcopy({key: value for key, value in model_cfg.items() if key != "custom_text"}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:  # also where open_clip starts with zeros and ones
                parameter.add_(0.1 * torch.randn_like(parameter))
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / "open_clip_model.safetensors")
    return open_clip.create_model(f"local-dir:{directory}").eval()


def relative_error(ours, theirs: torch.Tensor) -> float:
    reference = theirs.detach().numpy()
    return float(np.linalg.norm(np.asarray(ours) - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_open_clip(name, tmp_path):
    model = publish(tmp_path, VARIANTS[name])
    config, params = weights.load_params(hub.locate(str(tmp_path)))
    size, length, vocabulary = config.image_size, config.context_length, config.vocab_size
    generator = np.random.default_rng(1)
    pixels = generator.normal(size=(2, size, size, 3)).astype(np.float32)
    ids = generator.integers(1, vocabulary - 1, (3, length)).astype(np.int32)
    ids[:, 4] = vocabulary - 1  # the end of the text is the largest id
    with torch.no_grad():
        image = model.encode_image(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        words = model.encode_text(torch.from_numpy(ids).long())
    errors = (
        relative_error(vision.encode(params, config, jnp.asarray(pixels)), image),
        relative_error(text.encode(params, config, jnp.asarray(ids)), words),
    )
    assert max(errors) < RELATIVE
    assert params["logit_scale"] == model.logit_scale.item()
    assert config.pixel_mean == tuple(model.visual.image_mean) == (0.5, 0.4, 0.3)
    assert config.pixel_std == tuple(model.visual.image_std)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(dtype, tmp_path):
    publish(tmp_path, TINY, dtype)
    _, params = weights.load_params(hub.locate(str(tmp_path)))
    exact = open_clip.create_model(f"local-dir:{tmp_path}").state_dict()
    table = params["vision_model"]["encoder"]["layers"]["self_attn"]["k_proj"]["kernel"]
    fused = exact["visual.transformer.resblocks.1.attn.in_proj_weight"].numpy()
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[1].T, fused[48:96])


def test_torchs_own_file_is_read_where_there_is_no_other(tmp_path):
    publish(tmp_path, TINY)
    _, expected = weights.load_params(hub.locate(str(tmp_path)))
    path = tmp_path / "open_clip_model.safetensors"
    torch.save(load_file(path), tmp_path / "open_clip_pytorch_model.bin")
    path.unlink()
    jax.tree.map(np.testing.assert_array_equal, weights.load_params(hub.locate(str(tmp_path)))[1], expected)


def test_image_size_is_resized_as_open_clip_does(tmp_path):
    publish(tmp_path, TINY)
    model = open_clip.create_model(f"local-dir:{tmp_path}", force_image_size=56).eval()
    config, params = weights.load_params(hub.locate(str(tmp_path)))
    config, params = positions.resize(config, params, 56)
    pixels = np.random.default_rng(1).normal(size=(2, 56, 56, 3)).astype(np.float32)
    with torch.no_grad():
        image = model.encode_image(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    assert relative_error(vision.encode(params, config, jnp.asarray(pixels)), image) < RELATIVE


def test_every_unsupported_option_is_named(tmp_path):
    model = TINY | dict(
        vision_cfg=VISION | dict(ls_init_value=1e-5, attentional_pool=True, no_ln_pre=True, timm_model_name="vit"),
        text_cfg=TEXT | dict(hf_model_name="roberta", pool_type="last", proj_bias=True),
        multimodal_cfg=dict(width=4),
        init_logit_bias=-10,
    )
    with pytest.raises(UserError) as caught:
        read_config(dict(model_cfg=model, preprocess_cfg=dict(resize_mode="squash")), "open_clip_config.json")
    for option in (
        "model_cfg.multimodal_cfg is {'width': 4}",
        "model_cfg.init_logit_bias is -10",
        "vision_cfg.ls_init_value is 1e-05",
        "vision_cfg.attentional_pool is True",
        "vision_cfg.no_ln_pre is True",
        "vision_cfg.timm_model_name is 'vit'",
        "text_cfg.hf_model_name is 'roberta'",
        "text_cfg.pool_type is 'last'",
        "text_cfg.proj_bias is True",
        "preprocess_cfg.resize_mode is 'squash'",
    ):
        assert option in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(vision_cfg=VISION | dict(layers=[3, 4, 6, 3])), r"vision_cfg.layers is \[3, 4, 6, 3\] \(a ResNet\)"),
        (dict(vision_cfg=VISION | dict(norm_kwargs=dict(bias=False))), "vision_cfg.norm_kwargs.bias"),
        (dict(vision_cfg=VISION | dict(head_width=9)), "vision_cfg: width 48 cannot be shared by 5 heads"),
        (dict(vision_cfg=VISION | dict(image_size=[35, 28])), r"image_size is \[35, 28\], expected a square"),
        (dict(vision_cfg=VISION | dict(head_width=0)), "vision_cfg.head_width is 0, expected a whole number"),
        (dict(vision_cfg=VISION | dict(layers=10**9)), "layers is 1000000000, expected a whole number of at most 1000"),
        (dict(text_cfg=TEXT | dict(mlp_ratio=1e300)), r"mlp_ratio is 1e\+300, expected a positive number of at most"),
        (dict(text_cfg=TEXT | dict(mlp_ratio="4")), "text_cfg.mlp_ratio is '4', expected a positive number"),
        (dict(vision_cfg=None), "expected model_cfg with embed_dim, vision_cfg and text_cfg"),
    ],
)
def test_other_architectures_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        read_config(dict(model_cfg=TINY | change), "open_clip_config.json")


def test_most_of_open_clips_own_plain_vits_are_read():
    """Every architecture that open_clip ships is read like open_clip builds it, or refused; none fails otherwise."""
    read = []
    for name in open_clip.list_models():
        try:
            config = read_config(dict(model_cfg=open_clip.get_model_config(name)), name)
        except UserError:
            continue
        read.append(name)
        assert config.vision.width % config.vision.heads == 0
    assert {"ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14-336", "ViT-H-14", "ViT-bigG-14"} <= set(read)
    assert not {"RN50", "coca_ViT-L-14", "ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32"} & set(read)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"expected config.json .* or open_clip_config.json, found no such file"):
        weights.load_backbone(str(tmp_path))
    publish(tmp_path, TINY)
    with pytest.raises(UserError, match=r"expected a tokenizer: tokenizer.json, or vocab.json and merges.txt"):
        weights.load_backbone(str(tmp_path))
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"the weights in open_clip_model.safetensors or open_clip_pytorch_model.bin"):
        weights.load_params(hub.locate(str(tmp_path)))
