"""Weights in every form in which they are published: precisions, shards, torch's zip files; and what is refused."""

import json
import pickle
import zipfile
from collections.abc import Iterator

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dear_jax.clip.checkpoints import hub, weights
from dear_jax.errors import UserError


@pytest.fixture
def directory(tmp_path, clip_config, clip_params):
    weights.save(tmp_path, clip_config, clip_params, np.float32)
    return tmp_path


def load(directory):
    return weights.load_params(hub.locate(str(directory)))[1]


def shard(directory, extension: str = "safetensors", save=save_file) -> list:
    tensors = load_file(directory / weights.WEIGHTS)
    (directory / weights.WEIGHTS).unlink()
    stem = "model" if extension == "safetensors" else "pytorch_model"
    files = [f"{stem}-0000{number}-of-00003.{extension}" for number in (1, 2, 3)]
    table = {name: files[index % 3] for index, name in enumerate(tensors)}
    for file in files:
        save({name: tensors[name] for name in tensors if table[name] == file}, directory / file)
    index = {"metadata": {}, "weight_map": table}
    (directory / f"{stem}.{extension}.index.json").write_text(json.dumps(index))
    return files


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_precisions(form, dtype, directory, clip_params):
    path = directory / weights.WEIGHTS
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    path.unlink()
    if form == "bin":
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, path)
    rounded = jax.tree.map(lambda leaf: torch.from_numpy(leaf).to(dtype).float().numpy(), clip_params)
    jax.tree.map(np.testing.assert_array_equal, load(directory), rounded)


def test_shards(directory, clip_params):
    files = shard(directory)
    jax.tree.map(np.testing.assert_array_equal, load(directory), clip_params)
    (directory / files[1]).unlink()
    with pytest.raises(UserError, match=r"the shards model-00002-of-00003.safetensors that model.safetensors.index"):
        load(directory)


def test_pickled_shards(directory, clip_params):
    shard(directory, "bin", torch.save)
    jax.tree.map(np.testing.assert_array_equal, load(directory), clip_params)


def test_an_index_that_is_none(directory):
    shard(directory)
    (directory / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index.json is not an index of shards"):
        load(directory)


def test_views_and_parameters_in_a_pickled_file(directory, clip_params):
    """Tensors that share one storage, and parameters in place of tensors."""
    tensors = load_file(directory / weights.WEIGHTS)
    (directory / weights.WEIGHTS).unlink()
    names = [name for name in tensors if "layer_norm1" in name and name.startswith("vision")]
    together = torch.cat([tensors[name] for name in names])
    for name, part in zip(names, together.split(32), strict=True):
        tensors[name] = part
    tensors["logit_scale"] = torch.nn.Parameter(tensors["logit_scale"])
    torch.save(tensors, directory / "pytorch_model.bin")
    jax.tree.map(np.testing.assert_array_equal, load(directory), clip_params)


class _Command:
    def __reduce__(self):
        return print, ("code ran",)


def write_refused(path) -> Iterator[str]:
    """Write one bad file after the other; yield what is said about each."""
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    yield "is not a plain file of tensors as torch 1.6"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    yield "expected a dictionary of tensors"
    torch.save({"a": torch.zeros(3, 2).T}, path)
    yield r"a tensor of shape \(2, 3\) has the strides \(1, 2\)"
    torch.save(torch.nn.Linear(2, 2), path)
    yield r"it refers to torch.nn.modules.linear.Linear"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": _Command()}))
    yield r"it refers to builtins.print"
    path.write_bytes(path.read_bytes()[:100])
    yield "is not a plain file"


def test_other_pickled_files_are_refused_and_run_no_code(directory, capsys):
    (directory / weights.WEIGHTS).unlink()
    for message in write_refused(directory / "pytorch_model.bin"):
        with pytest.raises(UserError, match=message):
            load(directory)
    assert "code ran" not in capsys.readouterr().out


def test_truncated_and_quantised_files(directory):
    path = directory / weights.WEIGHTS
    tensors = load_file(path)
    tensors["visual_projection.weight"] = tensors["visual_projection.weight"].to(torch.int8)
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"visual_projection.weight holds int8 numbers, expected float16"):
        load(directory)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
        load(directory)
