"""Checkpoint directories: a round trip, fingerprints, and names that do not fit."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from dear_jax.clip import text, vision
from dear_jax.clip.checkpoints import hub, weights
from dear_jax.clip.config import CLIPConfig
from dear_jax.errors import UserError


@pytest.fixture
def directory(tmp_path, clip_config, clip_params):
    weights.save(tmp_path, clip_config, clip_params, np.float32)
    return tmp_path


def read(directory):
    return weights.load_params(hub.locate(str(directory)))


def test_round_trip(directory, clip_config, clip_params):
    config, params = read(directory)
    assert config == clip_config
    jax.tree.map(np.testing.assert_array_equal, params, clip_params)
    assert weights.fingerprint(params) == weights.fingerprint(clip_params)


def test_half_precision_files_load_as_float32(tmp_path, clip_config, clip_params):
    weights.save(tmp_path, clip_config, clip_params)
    _, params = read(tmp_path)
    for leaf, original in zip(jax.tree.leaves(params), jax.tree.leaves(clip_params), strict=True):
        assert leaf.dtype == np.float32
        np.testing.assert_allclose(leaf, original, rtol=2**-10, atol=1e-7)


def test_the_fingerprint_names_the_values(clip_params):
    changed = jax.tree.map(np.copy, clip_params)
    before = weights.fingerprint(changed)
    changed["vision_model"]["encoder"]["layers"]["mlp"]["fc1"]["bias"][1, 3] += 1e-6
    assert weights.fingerprint(changed) != before
    assert len(before) == 16


def change(key, value):
    def edit(directory):
        file, *keys = key.split(":")
        content = json.loads((directory / file).read_text())
        values = content
        for part in keys[:-1]:
            values = values[part]
        values[keys[-1]] = value
        (directory / file).write_text(json.dumps(content))

    return edit


def swap_merges(directory):
    first, second, *others = (directory / "merges.txt").read_text().split("\n")[1:]
    (directory / "merges.txt").write_text("\n".join((second, first, *others)))


@pytest.mark.parametrize(
    "edit",
    [
        change("preprocessor_config.json:image_mean", [0.5, 0.5, 0.5]),
        change("config.json:vision_config:hidden_act", "gelu"),
        change("config.json:text_config:num_attention_heads", 2),
        swap_merges,
    ],
)
def test_what_weights_do_not_tell_has_a_value_of_its_own(edit, tmp_path):
    shutil.copytree(weights.EMBEDDED["embedded"], tmp_path, dirs_exist_ok=True)
    before = weights.load_backbone(str(tmp_path))
    assert before.reading == weights.load_backbone("embedded", image_size=56).reading
    edit(tmp_path)
    after = weights.load_backbone(str(tmp_path))
    assert after.fingerprint == before.fingerprint
    assert after.reading != before.reading


def test_every_wrong_name_is_listed_at_once(directory):
    path = directory / weights.WEIGHTS
    tensors = load_file(path)
    tensors["vision_model.embeddings.position_ids"] = np.arange(10)[None]  # a buffer of old versions: ignored
    save_file(tensors, path)
    read(directory)
    del tensors["logit_scale"]
    tensors["text_projection.bias"] = np.zeros(16, np.float32)
    tensors["visual_projection.weight"] = np.zeros((32, 16), np.float32)
    save_file(tensors, path)
    with pytest.raises(UserError) as caught:
        read(directory)
    for problem in (
        "missing logit_scale ()",
        "unexpected text_projection.bias (16,)",
        "visual_projection.weight has shape (32, 16), the config says (16, 32)",
    ):
        assert problem in str(caught.value)


def test_a_message_shows_some_of_many_problems(directory):
    path = directory / weights.WEIGHTS
    save_file({f"other.{name}": value for name, value in load_file(path).items()}, path)
    with pytest.raises(UserError) as caught:
        read(directory)
    assert len(str(caught.value)) < 1000
    assert "missing logit_scale ()" in str(caught.value)
    more = len(load_file(path)) - 4
    assert str(caught.value).count(f"and {more} more like these") == 2  # missing, and unexpected


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "clip.", "module._orig_mod."])
def test_what_wrappers_put_before_every_name_does_not_count(prefix, directory, clip_params):
    path = directory / weights.WEIGHTS
    save_file({prefix + name: value for name, value in load_file(path).items()}, path)
    jax.tree.map(np.testing.assert_array_equal, read(directory)[1], clip_params)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_that_are_no_numbers_are_refused(value, dtype, tmp_path, clip_config, clip_params):
    weights.save(tmp_path, clip_config, clip_params, dtype)
    path, name = tmp_path / weights.WEIGHTS, "vision_model.encoder.layers.1.mlp.fc1.weight"
    tensors = load_file(path)
    tensors[name][3, 5] = tensors[name][0, 0] = value
    save_file(tensors, path)
    with pytest.raises(UserError, match=rf"{name} holds 2 values \(of {tensors[name].size}\) that are not finite"):
        read(tmp_path)


def test_a_logit_scale_beyond_reason_is_refused(directory):
    path = directory / weights.WEIGHTS
    tensors = load_file(path)
    save_file({**tensors, "logit_scale": np.array(200, np.float32)}, path)
    with pytest.raises(UserError, match=r"logit_scale is 200, the logarithm of the logit scale; expected at most 12"):
        read(directory)


def test_what_transformers_leaves_out_is_its_default():
    """The config.json of openai/clip-vit-large-patch14-336, as transformers 4.32 to 4.49 wrote such files."""
    text_config = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision_config = {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    }
    written = {"model_type": "clip", "projection_dim": 768, "transformers_version": "4.38.2"}
    for left_out in ((), ("num_attention_heads",)):
        of_text = {key: value for key, value in text_config.items() if key not in left_out}
        values = {**written, "text_config": of_text, "vision_config": vision_config}
        ours, theirs = CLIPConfig.from_hf(values), transformers.CLIPConfig(**json.loads(json.dumps(values)))
        for tower, expected in ((ours.vision, theirs.vision_config), (ours.text, theirs.text_config)):
            assert tower.width == expected.hidden_size
            assert tower.layers == expected.num_hidden_layers
            assert tower.heads == expected.num_attention_heads
            assert tower.mlp_width == expected.intermediate_size
            assert tower.activation == expected.hidden_act
            assert tower.layer_norm_epsilon == expected.layer_norm_eps
        assert (ours.vocab_size, ours.context_length) == (49408, 77)


@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_act", "layer_norm_eps"])
def test_what_weights_cannot_tell_is_not_guessed(key, clip_config):
    values = clip_config.to_hf()
    del values["text_config"][key]
    with pytest.raises(UserError, match=f"text_config does not say {key}"):
        CLIPConfig.from_hf(values)


@pytest.mark.parametrize(
    ("tower", "key", "value", "message"),
    [
        ("vision_config", "hidden_act", "relu", "'relu', expected one of quick_gelu, gelu"),
        ("vision_config", "num_attention_heads", 5, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        ("vision_config", "patch_size", 5, "image_size 12 is not a multiple of patch_size 5"),
        ("vision_config", "patch_size", "5", r"vision_config.patch_size is '5', expected a whole number of 1 or more"),
        ("vision_config", "image_size", [], r"vision_config.image_size is \[\], expected a whole number"),
        ("vision_config", "num_attention_heads", "8", "vision_config.num_attention_heads is '8', expected a whole"),
        ("text_config", "num_hidden_layers", 0, "text_config.num_hidden_layers is 0, expected a whole number"),
        ("text_config", "num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, expected .* at most 1000"),
        ("vision_config", "hidden_size", 8 * 10**9, "hidden_size is 8000000000, expected .* at most 1000000"),
        ("text_config", "layer_norm_eps", None, "text_config.layer_norm_eps is None, expected a small number"),
    ],
)
def test_impossible_architectures_are_refused(tower, key, value, message, clip_config):
    values = clip_config.to_hf()
    values[tower][key] = value
    with pytest.raises(UserError, match=message):
        CLIPConfig.from_hf(values)


def test_an_epsilon_is_a_number(clip_config):
    values = clip_config.to_hf()
    for bad in (float("nan"), 10**400):
        values["text_config"]["layer_norm_eps"] = bad
        with pytest.raises(UserError, match=r"layer_norm_eps is \w+, expected a small number"):
            CLIPConfig.from_hf(values)


def test_other_models_are_refused(directory):
    (directory / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(UserError, match=r"expected a CLIP config .* found model_type 'siglip'"):
        read(directory)


def test_sizes_as_pairs_and_values_of_older_files(clip_config):
    values = clip_config.to_hf()
    values["vision_config"] |= {"image_size": [12, 12], "patch_size": [4, 4]}
    values["text_config_dict"] = {"hidden_act": "gelu", "num_attention_heads": 2}
    values["vision_config_dict"] = None
    config = CLIPConfig.from_hf(values)
    assert (config.image_size, config.patch_size) == (12, 4)
    assert (config.text.activation, config.text.heads) == ("gelu", 2)
    assert config.vision == clip_config.vision
    values["vision_config"]["image_size"] = [12, 16]
    with pytest.raises(UserError, match=r"vision_config.image_size is \[12, 16\], expected a square"):
        CLIPConfig.from_hf(values)


def test_a_checkpoint_in_both_layouts_is_read_in_that_of_transformers(directory, clip_params):
    (directory / "open_clip_config.json").write_text("{}")
    jax.tree.map(np.testing.assert_array_equal, read(directory)[1], clip_params)
    (directory / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224"}))  # timm's own
    with pytest.raises(UserError, match=r"open_clip_config.json: expected model_cfg"):
        read(directory)


@pytest.mark.parametrize("content", ["{", "[]", "\xff", '{"a":' * 100_000])
def test_configs_that_are_not_json_objects(content, directory):
    (directory / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"config.json( is not valid JSON|: expected a JSON object)"):
        read(directory)


def test_cast_keeps_norms_and_projections_exact(clip_params):
    cast = weights.cast(clip_params, jnp.bfloat16)
    encoder = cast["vision_model"]["encoder"]["layers"]
    assert encoder["mlp"]["fc1"]["kernel"].dtype == jnp.bfloat16
    assert encoder["self_attn"]["q_proj"]["kernel"].dtype == jnp.bfloat16
    for exact in (encoder["layer_norm1"]["scale"], cast["visual_projection"]["kernel"], cast["logit_scale"]):
        assert exact.dtype == jnp.float32


def test_text_after_the_end_mark_changes_nothing(clip_config, clip_params):
    """The identity behind the short context, methods/dear section 6."""
    ids = np.zeros((2, clip_config.context_length), np.int32)
    ids[:, :5] = [[48, 3, 4, 5, 49], [48, 7, 49, 0, 0]]
    whole = text.encode(clip_params, clip_config, jnp.asarray(ids))
    short = text.encode(clip_params, clip_config, jnp.asarray(ids[:, :5]))
    np.testing.assert_allclose(short, whole, rtol=0, atol=1e-6)
    noisy = ids.copy()
    noisy[0, 6:] = 11
    np.testing.assert_allclose(text.encode(clip_params, clip_config, jnp.asarray(noisy)), whole, rtol=0, atol=1e-6)


def test_wrong_shapes_are_named(clip_config, clip_params):
    with pytest.raises(ValueError, match=r"expected images of shape \(12, 12, 3\), got \(16, 16, 3\)"):
        vision.encode(clip_params, clip_config, jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(ValueError, match="expected at most 20 tokens, got 21"):
        text.encode(clip_params, clip_config, jnp.zeros((1, 21), jnp.int32))
    x = vision.prefix(clip_params, clip_config, jnp.zeros((1, 12, 12, 3)), 1)
    with pytest.raises(ValueError, match=r"expected a head_mask of shape \(2, 8, 10, 10\)"):
        vision.read_suffix(clip_params, clip_config, x, 2, head_mask=jnp.ones((1, 8, 10, 10), bool))


def test_gelu_and_quick_gelu_differ(clip_config, clip_params):
    tower = dataclasses.replace(clip_config.vision, activation="gelu")
    pixels = jnp.asarray(np.random.default_rng(0).normal(size=(1, 12, 12, 3)), jnp.float32)
    quick = vision.encode(clip_params, clip_config, pixels)
    exact = vision.encode(clip_params, dataclasses.replace(clip_config, vision=tower), pixels)
    assert float(jnp.abs(quick - exact).max()) > 1e-6
