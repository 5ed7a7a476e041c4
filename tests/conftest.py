"""Several CPU devices, so that sharding is tested anywhere; shapes are checked, silent promotion is an error."""

import atexit
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# TEST_DEVICES=8 for the layouts that need more than four, which are skipped otherwise.
os.environ["XLA_FLAGS"] = " ".join(
    (
        # Programs of tests are many, run once, on little: to make them fast takes four times as long as to make them.
        # Tests that start `python -m dear_jax.main` leave XLA as users have it.
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        f"--xla_force_host_platform_device_count={os.environ.get('TEST_DEVICES', '4')}",
        os.environ.get("XLA_FLAGS", ""),  # the last value of a flag counts
    )
)

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have what is set here
    # The user's cache is none of the tests' business, but for matplotlib, which lists the fonts of the machine there.
    os.environ.setdefault("MPLCONFIGDIR", os.path.expanduser("~/.cache/matplotlib"))
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="dear_jax-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from tests import shapes

shapes.install()  # before anything of the package is imported

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.data.world import tasks
from dear_jax.files import program_cache
from dear_jax.methods import adapter_file as adapters
from dear_jax.methods.adapter_file import Part, Trained
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import Start
from dear_jax.setup import config_files, recipes, values
from dear_jax.setup.methods import METHODS, dear

pytest_plugins = ["tests.emulated_bucket", "tests.emulated_hub"]
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def _declare_torchvision_operators() -> None:
    """Let torchvision, and transformers' models with it, be imported beside a torch without CUDA.

    PyPI's wheel for Linux is built for CUDA: beside a CPU build of torch its operators do not load, and the import
    stops at the two that it looks up. Nothing here calls them.
    """
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or torchvision.origin is None or torch.version.cuda:
        return
    try:
        torch.ops.load_library(str(Path(torchvision.origin).with_name("_C.so")))
    except OSError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


_declare_torchvision_operators()


class ByFile(LoadFileScheduling):
    """With `-n`, the tests of a file stay together, so that they share what they make; the largest files start first.

    Methods share nothing, and each takes as long as a file: their contract is a file for each of them.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}[{test.partition('[')[2]}" if file.endswith("methods/test_contract.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session")
def clip_config() -> CLIPConfig:
    """A CLIP small enough for exact tests: 3 vision layers of 8 heads, 9 patches."""
    return CLIPConfig(
        vision=TowerConfig(32, 3, 8, 64, "quick_gelu", 1e-5),
        text=TowerConfig(24, 3, 4, 48, "quick_gelu", 1e-5),
        image_size=12,
        patch_size=4,
        embed_dim=16,
        vocab_size=50,
        context_length=20,
        bos_token_id=48,
        eos_token_id=49,
    )


@pytest.fixture(scope="session")
def clip_params(clip_config):
    """Random parameters of that CLIP."""
    return weights.initialize(clip_config, seed=0)


@pytest.fixture(scope="module", autouse=True)
def _program_cache() -> Iterator[None]:
    """The program, called in this process, sets JAX's cache: that ends with the module that called it."""
    with program_cache.kept():
        yield


@pytest.fixture(scope="module")
def compilation_cache(_program_cache, tmp_path_factory):
    """Runs of a module's tests, in this process, compile the same programs: each of them once."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module")
def few_test_scenes() -> Iterator[None]:
    """What is measured matters, not how well: five test images of each of 40 classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TEST_SCENES", 200)
        yield


@pytest.fixture
def write_run(tmp_path) -> Callable[..., Path]:
    """Writes the config.json and results.json of a finished run, with any accuracies, below `tmp_path`."""

    def write(
        name: str,
        seeds: Mapping[str, Mapping[str, float]],
        *,
        protocol: str = "base2new",
        dataset: str = "dtd",
        changes: Mapping[str, Any] | None = None,
        variants: tuple[str, ...] = ("default",),
        data: Mapping[str, Any] | None = None,
        **results: Any,
    ) -> Path:
        config = config_files.load(f"configs/{protocol}.py:{dataset}")
        changed = values.set_all(config, dict(changes or {}))
        if changed.method in METHODS:
            config = recipes.resolve(changed)
        else:  # of another version of this project
            config = values.set_all(recipes.resolve(config), dict(changes or {}))
        notes = {"comparable": True, "remark": "", "source": "coop", "class_names": ["a", "b", "c"]}
        content = {
            "protocol": protocol,
            "dataset": dataset,
            "backbone": config.backbone,
            "shots": config.data.shots,
            "trained_on": {"dataset": dataset, "classes": 2 if protocol == "base2new" else 3},
            "variants": {variant: {"seeds": dict(seeds)} for variant in variants},
            "zero_shot": dict.fromkeys(next(iter(seeds.values())), 50.0),
            "data": notes | dict(data or {}),
        }
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        (folder / "results.json").write_text(json.dumps(content | results))
        return folder

    return write


def _adapter_of(method, params, seed):
    """An adapter as training might leave it: every leaf moved away from its start."""
    classes = jnp.zeros((3, method.split.config.embed_dim))
    fresh = method.init(jax.random.key(seed), params, classes, Start())
    random = np.random.default_rng(seed)
    return {name: leaf + random.normal(0, 0.05, leaf.shape).astype(np.float32) for name, leaf in fresh.items()}


@pytest.fixture(scope="session")
def embedded_run(tmp_path_factory):
    """The adapter file of a run on the embedded CLIP that was never trained: two seeds of two variants."""
    backbone = weights.load_backbone("embedded")
    attributes = ("color", "shape", "texture")
    options = dear.Options(tokens=dear.Tokens(attributes, text_count=2))
    method = dear.build(options, backbone.config, np.float32)
    layers, heads, *_ = method.settings_like().head_mask.shape
    masks = [
        mask.build(patterns.plain_roles(pattern, layers, heads, attributes, 0), attributes, 1 + backbone.config.patches)
        for pattern in ("open", "random")
    ]
    adapters_of_runs = [_adapter_of(method, backbone.params, seed) for seed in range(4)]
    weight = np.array([0.9, 0.7], np.float32)
    part = Part(
        method.structure(),
        ("open", "random"),
        jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 2, *leaves[0].shape), *adapters_of_runs),
        {"head_mask": np.stack(masks)} | dict.fromkeys(("beta", "reg_weight", "fusion_weight"), weight),
    )
    trained = Trained(
        method="dear",
        backbone="embedded",
        fingerprint=backbone.fingerprint,
        image_size=None,
        dataset="world_compositions",
        template="a photo of a {}.",
        class_names=("red heart", "blue star", "green circle"),
        shots=1,
        seeds=(3, 7),
        parts=(part,),
    )
    folder = tmp_path_factory.mktemp("run")
    (folder / adapters.NAME).write_bytes(adapters.to_bytes(trained))
    return folder
