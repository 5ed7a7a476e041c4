"""What keeps the tests of jobs short."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from dear_jax.clip.checkpoints.weights import EMBEDDED
from dear_jax.data.world import tasks
from dear_jax.training import program
from dear_jax.training.program import Compiled
from tests.repository import REPOSITORY


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory) -> Path:
    """The embedded CLIP without its upper layers, which knows little and compiles fast: 4 vision layers, 2 of text."""
    folder = tmp_path_factory.mktemp("backbones") / "small"
    shutil.copytree(EMBEDDED["embedded"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"], config["text_config"]["num_hidden_layers"] = 4, 2
    (folder / "config.json").write_text(json.dumps(config))
    dropped = [f"vision_model.encoder.layers.{layer}." for layer in range(4, 7)]
    dropped.append("text_model.encoder.layers.2.")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(dropped))}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def write_scenes() -> Callable[[Path, int, str], Path]:
    """Writes scenes of the embedded world as 0.png, 1.png, ... into a folder, and a file beside them that is none."""

    def write(folder: Path, count: int, bad: str) -> Path:
        split = tasks.load("world_compositions").test
        for index in range(count):
            Image.fromarray(split.load(index)).save(folder / f"{index}.png")
        (folder / bad).write_text("no image")
        return folder

    return write


@pytest.fixture
def in_the_repository(monkeypatch) -> None:
    """Configs are found as by a user who stands in a clone."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))


@pytest.fixture
def not_compiled(monkeypatch) -> None:
    """For dry runs of which something else than the step's memory is looked at."""
    monkeypatch.setattr(program, "compile_fitting", lambda made, *rest: Compiled(made, None, 2**20))
