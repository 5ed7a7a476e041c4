"""OpenAI's archives, as OpenAI's code downloads them, and OpenAI's names: TorchScript modules of random weights."""

import copy
import re
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip.tokenizer import default_bpe

from dear_jax.clip import text, vision
from dear_jax.clip.checkpoints import architectures, hub, openai, weights
from dear_jax.clip.tokenizer import OPENAI
from dear_jax.errors import UserError

RELATIVE = 1e-5  # float32 rounding
VISION = dict(layers=3, width=128, head_width=64, patch_size=7, image_size=35)
TEXT = dict(context_length=13, vocab_size=49408, width=64, heads=1, layers=2)


def script(module: torch.nn.Module, path, *inputs: torch.Tensor) -> None:
    """Trace and save a module; torch 2.13 says that TorchScript is to be left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), str(path))


class Archive(torch.nn.Module):
    """A CLIP with the numbers that OpenAI's archives hold beside the weights."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        for name, parameter in model.named_parameters(recurse=False):
            setattr(self, name, parameter)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logit_scale * x


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = open_clip.CLIP(24, open_clip.CLIPVisionCfg(**VISION), open_clip.CLIPTextCfg(**TEXT), quick_gelu=True)
    open_clip.convert_weights_to_fp16(built)
    return built


@pytest.fixture
def archive(model, tmp_path):
    path = tmp_path / "ViT-B-16.pt"
    script(Archive(model), path, torch.ones(2))
    shutil.copy(default_bpe(), tmp_path / OPENAI)
    return path


def relative_error(ours, theirs) -> float:
    return float(jnp.abs(ours - theirs.numpy()).max() / np.abs(theirs.numpy()).max())


def test_features_of_an_archive_are_open_clips(model, archive):
    backbone = weights.load_backbone(str(archive))
    generator = np.random.default_rng(0)
    pixels = generator.normal(size=(2, 35, 35, 3)).astype(np.float32)
    ids = backbone.tokenizer(["a cat!", "two dogs on a red sofa"])
    exact = copy.deepcopy(model).float().eval()
    with torch.no_grad():
        images = exact.encode_image(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        words = exact.encode_text(torch.from_numpy(ids))
    assert relative_error(vision.encode(backbone.params, backbone.config, jnp.asarray(pixels)), images) < RELATIVE
    assert relative_error(text.encode(backbone.params, backbone.config, jnp.asarray(ids)), words) < RELATIVE
    assert (backbone.config.vision.activation, backbone.config.bos_token_id) == ("quick_gelu", 49406)


def test_a_folder_with_an_archive_names_it(archive):
    with pytest.raises(UserError, match=r"found ViT-B-16.pt. Copy it there, or set config.backbone to the path of one"):
        weights.load_backbone(str(archive.parent))


def test_other_archives_are_refused(tmp_path):
    script(torch.nn.Linear(2, 2), tmp_path / "RN50.pt", torch.ones(2))
    with pytest.raises(UserError, match=r"RN50.pt is a TorchScript archive, but not of one of OpenAI's ViTs"):
        weights.load_backbone(str(tmp_path / "RN50.pt"))


def test_an_archive_without_a_tokenizer_says_where_it_is(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (archive.parent / OPENAI).unlink()
    with pytest.raises(UserError, match=r"ViT-B-16.pt holds no tokenizer, .* Copy bpe_simple_vocab_16e6.txt.gz, which"):
        weights.load_backbone(str(archive))


def test_an_archive_on_this_machine_is_named_where_the_hub_cannot_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    with pytest.raises(UserError, match=r"set config.backbone to its path.$"):
        weights.load_backbone("ViT-B/16")
    (tmp_path / ".cache" / "clip" / "ViT-B-16.pt").touch()
    with pytest.raises(UserError, match=r"Or set config.backbone to .*/clip/ViT-B-16.pt, OpenAI's archive of it"):
        weights.load_backbone("ViT-B/16")


def test_a_training_checkpoint_of_open_clip_by_its_name(model, archive, tmp_path):
    """epoch_K.pt, with the config that open_clip publishes beside weights."""
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    path = tmp_path / "epoch_3.pt"
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, path)
    with pytest.raises(UserError, match=r"expected config.json .* or open_clip_config.json, found no such file"):
        weights.load_backbone(str(path))
    (tmp_path / "open_clip_config.json").write_text(
        str(dict(model_cfg=dict(embed_dim=24, quick_gelu=1, vision_cfg=VISION, text_cfg=TEXT))).replace("'", '"')
    )
    of_archive = weights.load_params(hub.locate(str(archive)))
    jax.tree.map(np.testing.assert_array_equal, weights.load_params(hub.locate(str(path)))[1], of_archive[1])


@pytest.mark.parametrize(
    ("names", "repository"),
    [
        ("ViT-B/32 ViT-B-32 ViT-B-32.pt ViT-B-32-quickgelu", "openai/clip-vit-base-patch32"),
        ("ViT-B/16 ViT-B-16 ViT-B-16.pt openai/ViT-B-16 hf-hub:ViT-B-16", "openai/clip-vit-base-patch16"),
        ("ViT-L/14 ViT-L-14 ViT-L-14-quickgelu.pt", "openai/clip-vit-large-patch14"),
        ("ViT-L/14@336px ViT-L-14-336px.pt ViT-L-14-336 ViT-L-14-336-quickgelu", "openai/clip-vit-large-patch14-336"),
    ],
)
def test_names_lead_to_the_repository(names, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in names.split():
        assert openai.repository(name) == repository
        assert hub.locate(name).name == repository
        assert architectures.find(name) == architectures.OPENAI[repository]


@pytest.mark.parametrize("name", ["ViT-H-14", "ViT-L-16", "ViT-B-32-256", "RN50", "laion/CLIP-ViT-B-16-laion2B"])
def test_other_names_stay(name):
    assert openai.repository(name) == name


def test_a_folder_of_that_name_counts_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ViT-B-16").mkdir()
    with pytest.raises(UserError, match=re.escape("ViT-B-16: expected config.json")):
        weights.load_backbone("ViT-B-16")
