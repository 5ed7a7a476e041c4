"""Weights in every form in which they are published: precisions, shards, torch's zip files; and what is refused."""

import argparse
import collections
import json
import pickle
import random
import zipfile
from collections.abc import Iterator

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dear_jax.clip.checkpoints import hub, weights
from dear_jax.clip.checkpoints.tensors import open_tensors
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


def modules_within_each_other(depth: int) -> bytes:
    """The pickle of a TorchScript module whose two attributes are one module, whose two attributes are one, ..."""
    module = b"c__torch__\nM\n)\x81"
    data = b"\x80\x02" + module + b"}bq\x00"
    for number in range(1, depth):
        inner = bytes([number - 1])
        data += module + b"}(U\x01ah" + inner + b"U\x01bh" + inner + b"ubq" + bytes([number])
    return data + b"."


def write_refused(path) -> Iterator[str]:
    """Write one bad file after the other; yield what is said about each."""
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    yield "is not a plain file of tensors as torch 1.6"
    torch.save({"epoch": 3, "weights": {"a": torch.zeros(2)}}, path)
    yield "expected a dictionary of tensors, or a training checkpoint with one under 'state_dict', .*a int"
    torch.save({"a": torch.zeros(3, 2).T}, path)
    yield r"a tensor of shape \(2, 3\) has the strides \(1, 2\)"
    torch.save(torch.nn.Linear(2, 2), path)
    yield r"it refers to torch.nn.modules.linear.Linear"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": _Command()}))
    yield r"it refers to builtins.print"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))
    yield r"data.pkl in it is said to have 100000000 bytes, more than the file"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    yield r"data.pkl in it is compressed, as torch never writes it"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}r\xff\xff\xff\x7f.")  # place 2,147,483,647 of the memo
    yield r"it numbers an object 2147483647, in 9 bytes"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04\x8e" + (10**12).to_bytes(8, "little") + b"a.")
    yield r"expected 1000000000000 bytes"
    with zipfile.ZipFile(path, "w") as archive:  # two modules that contain each other forty times twice
        archive.writestr("archive/data.pkl", modules_within_each_other(40))
    yield "its modules contain each other"
    path.write_bytes(path.read_bytes()[:100])
    yield "is not a plain file"


def test_other_pickled_files_are_refused_and_run_no_code(directory, capsys):
    (directory / weights.WEIGHTS).unlink()
    for message in write_refused(directory / "pytorch_model.bin"):
        with pytest.raises(UserError, match=message):
            load(directory)
    assert "code ran" not in capsys.readouterr().out


def test_a_training_checkpoint(directory, clip_params):
    """Beside the weights lie an optimizer's state and objects of any class; names may have a wrapper's prefix."""
    tensors = load_file(directory / weights.WEIGHTS)
    (directory / weights.WEIGHTS).unlink()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "name": "run",
        "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "optimizer": optimizer.state_dict(),
        "arguments": argparse.Namespace(lr=1e-3, names=["a"], best=np.float64(3)),
        "scheduler": {"milestones": collections.Counter([1, 2]), "history": collections.defaultdict(list, a=[1])},
    }
    path = directory / "epoch_3.pt"
    torch.save(content, path)
    jax.tree.map(np.testing.assert_array_equal, load(path), clip_params)
    with pytest.raises(UserError, match=r"expected the weights .*, found epoch_3.pt. Copy it there, or set"):
        load(directory)
    path.rename(directory / "pytorch_model.bin")
    jax.tree.map(np.testing.assert_array_equal, load(directory), clip_params)


def test_mutated_files_are_read_or_refused(tmp_path):
    generator = random.Random(0)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"state_dict": {"a": torch.ones(3, 2), "b": torch.nn.Parameter(torch.ones(2))}, "epoch": 1}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    whole, read, refused = path.read_bytes(), 0, 0
    for _ in range(300):
        mutated = {name: mutate(data, generator) if name.endswith(".pkl") else data for name, data in content.items()}
        if generator.random() < 0.5:
            path.write_bytes(mutate(whole, generator))
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in mutated.items():
                    archive.writestr(name, data)
        try:
            found = open_tensors(hub.Directory(tmp_path), [path.name])
            for name in found.shapes:
                found.read(name)
        except UserError as error:
            refused += len(str(error)) < 3000
        else:
            read += 1
    assert read + refused == 300
    assert min(read, refused) > 50


def mutate(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 3))):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def test_sizes_beyond_the_file(directory):
    """Headers that claim more than there is are answered without memory for it."""
    path = directory / weights.WEIGHTS
    tensors = load_file(path)
    path.unlink()
    bin_file = directory / "pytorch_model.bin"
    tensors["logit_scale"] = torch.zeros(()).expand(10**12, 1)[:, 0]
    torch.save(tensors, bin_file)
    with pytest.raises(UserError, match=r"the strides \(0,\)"):
        load(directory)
    torch.save(tensors | {"logit_scale": torch.zeros(())}, bin_file)
    with zipfile.ZipFile(bin_file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bin_file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data[:100] if "/data/" in name else data)
    with pytest.raises(UserError, match=r"pytorch_model.bin cannot be read \(.* holds \d+ numbers, not \d+"):
        load(directory)
    bin_file.unlink()
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    for length in (len(header), 10**12):
        path.write_bytes(length.to_bytes(8, "little") + header)
        with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
            load(directory)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint16])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_other_numbers_than_weights(form, dtype, directory):
    path = directory / weights.WEIGHTS
    tensors = load_file(path)
    tensors["visual_projection.weight"] = tensors["visual_projection.weight"].to(dtype)
    path.unlink()
    if form == "bin":
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, path)
    with pytest.raises(UserError, match=r"visual_projection.weight holds \w+ numbers, expected float16"):
        load(directory)


def test_truncated_files(directory):
    path = directory / weights.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors cannot be read"):
        load(directory)
