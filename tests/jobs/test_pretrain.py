"""The pretraining job on a tiny scale, and the checkpoint that it left in the package."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import pretrain_tiny
from dear_jax.clip import text, vision
from dear_jax.clip.checkpoints.weights import EMBEDDED, Backbone, load_backbone
from dear_jax.data.world.pretraining import held_out
from dear_jax.data.world.scenes import NAMES, SIZES
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.jobs import pretrain

FLOORS = {"color": 0.97, "shape": 0.75, "texture": 0.65, "object": 0.93, "position": 0.97, "background": 0.97}
MARGIN = 0.02  # two to three standard errors of an accuracy of 0.97 on 500 pictures


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("embedded")


def small_config() -> ConfigDict:
    config = pretrain_tiny.get_config()
    config.pretrain.update(
        steps=6, batch_size=16, warmup_steps=2, log_every=2, eval_every=6, eval_scenes=60,
        vision_width=32, vision_layers=2, vision_heads=2, text_width=32, text_layers=1, text_heads=2,
        embed_dim=16, dense_layer=1,
    )  # fmt: skip
    return config


def test_a_run_leaves_a_checkpoint_and_its_evaluation(tmp_path: Path) -> None:
    pretrain.run(pretrain.make_plan(small_config()), tmp_path)
    directory = tmp_path / "clip"
    loaded = load_backbone(str(directory))
    assert loaded.config.vision.layers == 2
    assert set(loaded.params) == {
        "logit_scale", "visual_projection", "text_projection", "vision_model", "text_model"
    }  # fmt: skip
    report = json.loads((directory / "evaluation.json").read_text())
    assert report["step"] == 6
    assert set(report["accuracy"]) == set(NAMES)


def test_a_stopped_run_goes_on_and_another_config_or_process_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    config = small_config()
    config.pretrain.eval_every = 2
    plan = pretrain.make_plan(config)
    pretrain.run(plan, tmp_path / "whole")

    real = pretrain._save

    def stop(*arguments) -> None:
        if 4 in arguments:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(pretrain, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(plan, tmp_path / "stopped")
    monkeypatch.undo()
    other = small_config()
    other.pretrain.seed = 1
    with pytest.raises(UserError, match=r"pretrain\.seed was 0, now 1"):
        pretrain.run(pretrain.make_plan(other), tmp_path / "stopped")
    with Workdir(tmp_path / "stopped"), pytest.raises(UserError, match="in use"):
        pretrain.run(plan, tmp_path / "stopped")
    pretrain.run(plan, tmp_path / "stopped")
    assert "Going on from the checkpoint of step 4 of 6" in capsys.readouterr().out
    for name in ("model.safetensors", "evaluation.json", "config.json"):
        assert (tmp_path / "stopped/clip" / name).read_bytes() == (tmp_path / "whole/clip" / name).read_bytes()


@pytest.mark.slow
def test_runs_repeat(tmp_path: Path) -> None:
    fingerprints = set()
    for name in ("one", "other"):
        pretrain.run(pretrain.make_plan(small_config()), tmp_path / name)
        fingerprints.add(load_backbone(str(tmp_path / name / "clip")).fingerprint)
    assert len(fingerprints) == 1


def test_captions_that_are_also_true_do_not_count() -> None:
    logits = np.array([[2.0, 9.0], [0.0, 1.0]])
    also_true = np.array([[False, True], [False, False]])
    expected = np.mean(
        [
            (np.log(np.exp(2)) + np.log(np.exp(2) + 1)) / 2 - 2,
            (np.log(1 + np.exp(1)) + np.log(np.exp(1))) / 2 - 1,
        ]
    )
    loss = pretrain.contrastive_loss(jnp.asarray(logits), jnp.asarray(also_true))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_dense_loss_ignores_patches_without_a_body() -> None:
    outputs = 1 + sum(SIZES[NAMES.index(name)] for name in pretrain.DENSE_NAMES)
    logits = np.random.default_rng(0).normal(size=(2, 3, outputs)).astype(np.float32)
    labels = np.zeros((2, len(NAMES)), np.int32)
    coverage = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]], np.float32)
    changed = logits.copy()
    changed[coverage == 0, 1:] += 5
    one, other = (pretrain.dense_loss(jnp.asarray(values), coverage, labels) for values in (logits, changed))
    assert one == other


def test_the_embedded_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED["embedded"].iterdir()) < 8e6


def test_the_deeper_third_of_the_embedded_clip_holds_at_least_16_heads(backbone: Backbone) -> None:
    tower = backbone.config.vision
    first = 2 * tower.layers // 3 + 1
    assert (tower.layers - first + 1) * tower.heads >= 16


def test_the_embedded_clip_knows_the_attributes(backbone: Backbone) -> None:
    accuracies = pretrain.evaluate(backbone.params, backbone.config, backbone.tokenizer, 500)
    assert {name: accuracy for name, accuracy in accuracies.items() if accuracy < FLOORS[name] - MARGIN} == {}


def test_the_reported_evaluation_of_the_embedded_clip_reaches_the_floors() -> None:
    report = json.loads((EMBEDDED["embedded"] / "evaluation.json").read_text())
    assert report["step"] == pretrain_tiny.get_config().pretrain.steps
    assert {name: value for name, value in report["accuracy"].items() if value < FLOORS[name]} == {}


def test_transformers_loads_the_embedded_clip_and_gives_the_same_features(backbone: Backbone) -> None:
    torch = pytest.importorskip("torch")
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(EMBEDDED["embedded"], local_files_only=True, dtype=torch.float32).eval()
    pixels = vision.normalize(jnp.asarray(held_out(8)[0]), backbone.config)
    token_ids = backbone.tokenizer(["a photo of a striped red heart.", "thing at the top left", "any other words"])
    with torch.no_grad():
        channels_first = torch.from_numpy(np.array(pixels).transpose(0, 3, 1, 2))
        images = model.vision_model(channels_first).pooler_output @ model.visual_projection.weight.T
        texts = model.text_model(torch.from_numpy(token_ids).long()).pooler_output @ model.text_projection.weight.T
    ours = (
        vision.encode(backbone.params, backbone.config, pixels),
        text.encode(backbone.params, backbone.config, jnp.asarray(token_ids)),
    )
    for mine, theirs in zip(ours, (images.numpy(), texts.numpy()), strict=True):
        assert np.abs(np.asarray(mine) - theirs).max() / np.abs(theirs).max() < 1e-5  # float32 rounding
