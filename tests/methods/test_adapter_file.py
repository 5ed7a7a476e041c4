"""The adapter file: what is saved is what is loaded, and what does not belong together is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.split import Split
from dear_jax.errors import UserError
from dear_jax.methods import adapter_file as adapters
from dear_jax.methods.adapter_file import Part, Trained
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Start
from dear_jax.setup import runs

SEEDS, ATTRIBUTES = (1, 5), ("color", "shape")


@pytest.fixture(scope="module")
def backbone(clip_config, clip_params) -> Backbone:
    return Backbone("tiny", clip_config, clip_params, None, "0123456789abcdef")


def make_part(backbone: Backbone, names: tuple[str, ...], vision_layer: int) -> Part:
    method = DeAR(Split(backbone.config, vision_layer, 2), ATTRIBUTES, text_count=3)
    classes = jnp.zeros((2, backbone.config.embed_dim))
    fresh = [
        method.init(jax.random.key(seed + v), backbone.params, classes, Start())
        for seed in SEEDS
        for v in range(len(names))
    ]
    adapter = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(len(SEEDS), len(names), *leaves[0].shape), *fresh)
    tower = backbone.config.vision
    masks = [
        mask.build(
            patterns.plain_roles("random", tower.layers - vision_layer + 1, tower.heads, ATTRIBUTES, seed),
            ATTRIBUTES,
            1 + backbone.config.patches,
        )
        for seed in range(len(names))
    ]
    rest = {
        name: np.linspace(0, 1, len(names), dtype=np.float32) + k
        for k, name in enumerate(("beta", "reg_weight", "fusion_weight"))
    }
    return Part(method.structure(), names, adapter, {"head_mask": np.stack(masks), **rest})


@pytest.fixture(scope="module")
def trained(backbone) -> Trained:
    return Trained(
        method="dear",
        backbone="tiny",
        fingerprint=backbone.fingerprint,
        image_size=None,
        dataset="pets",
        template="a photo of a {}.",
        class_names=("cat", "dog"),
        shots=4,
        seeds=SEEDS,
        role_maps=({"path": "map.json", "file_sha256": "f" * 64},),
        parts=(make_part(backbone, ("a", "b", "c"), 2), make_part(backbone, ("d",), 3)),
    )


def save(trained: Trained, folder) -> None:
    (folder / adapters.NAME).write_bytes(adapters.to_bytes(trained))


def test_the_same_weights_read_in_another_way_are_refused(trained, backbone):
    as_read = dataclasses.replace(trained, reading="aaaa")
    for other, refused in (("bbbb", True), ("aaaa", False), ("", False)):  # empty: of before it was kept
        found = dataclasses.replace(backbone, reading=other)
        if refused:
            with pytest.raises(UserError, match=r"tokenizer, its preprocessing or its config is another \(bbbb, exp"):
                runs.restore(as_read, found, np.float32)
        else:
            runs.restore(as_read, found, np.float32)
        runs.restore(trained, found, np.float32)


def test_loaded_as_saved(trained, backbone, tmp_path):
    save(trained, tmp_path)
    for path in (tmp_path, tmp_path / adapters.NAME):
        found = adapters.load(path)
        assert found.names == ("a", "b", "c", "d")
        assert dataclasses.replace(found, parts=()) == dataclasses.replace(trained, parts=())
        for part, expected in zip(found.parts, trained.parts, strict=True):
            assert (part.structure, part.names) == (as_json(expected.structure), expected.names)
            jax.tree.map(
                np.testing.assert_array_equal, (part.adapter, part.settings), (expected.adapter, expected.settings)
            )
            assert part.settings["head_mask"].dtype == bool
    first, second = runs.restore(found, backbone, jnp.float32)
    assert (first.method.split.vision_layer, second.method.split.vision_layer) == (2, 3)
    assert first.method == DeAR(Split(backbone.config, 2, 2), ATTRIBUTES, text_count=3)


def test_what_was_trained_on_and_what_was_not_is_kept(trained, tmp_path):
    marks = np.arange(24, dtype=np.uint8).reshape(3, 8)
    save(dataclasses.replace(trained, other_classes=("cow",), images=marks), tmp_path)
    found = adapters.load(tmp_path).select("d", 5)
    assert found.other_classes == ("cow",)
    np.testing.assert_array_equal(found.images, marks)
    save(trained, tmp_path)
    assert (adapters.load(tmp_path).other_classes, len(adapters.load(tmp_path).images)) == ((), 0)


def as_json(value):
    return json.loads(json.dumps(value))


def test_files_of_version_1_are_those_of_today(trained, backbone, tmp_path):
    """They knew DeAR alone: no method is named, the head mask's shape stands by itself."""
    tensors, parts = {}, []
    for number, part in enumerate(trained.parts):
        settings = dict(part.settings)
        settings["head_mask"] = np.packbits(settings["head_mask"].reshape(len(part.names), -1), axis=-1)
        tensors |= {f"{number}/adapter/{name}": np.ascontiguousarray(leaf) for name, leaf in part.adapter.items()}
        tensors |= {f"{number}/settings/{name}": leaf for name, leaf in settings.items()}
        structure = {
            "attributes": ATTRIBUTES,
            "text_count": 3,
            "vision_layer": (2, 3)[number],
            "text_layer": 2,
            "shared_projection": True,
        }
        mask_shape = part.settings["head_mask"].shape
        parts.append({"structure": structure, "names": part.names, "head_mask_shape": mask_shape})
    about = {
        "format": "dear_jax adapter, version 1",
        "backbone": "tiny",
        "fingerprint": "0123456789abcdef",
        "image_size": None,
        "dataset": "pets",
        "template": "a photo of a {}.",
        "class_names": ["cat", "dog"],
        "shots": 4,
        "seeds": [1, 5],
        "parts": parts,
    }
    save_file(tensors, tmp_path / adapters.NAME, metadata={"dear_jax": json.dumps(about)})
    found = adapters.load(tmp_path)
    assert dataclasses.replace(found, parts=()) == dataclasses.replace(trained, parts=(), role_maps=())
    for part, expected in zip(found.parts, trained.parts, strict=True):
        assert part.names == expected.names
        jax.tree.map(
            np.testing.assert_array_equal, (part.adapter, part.settings), (expected.adapter, expected.settings)
        )
        assert part.settings["head_mask"].dtype == bool
    restored, expected = (runs.restore(of, backbone, jnp.float32) for of in (found, trained))
    assert [program.method for program in restored] == [program.method for program in expected]
    save(found, tmp_path)  # as today's files say it
    assert adapters.load(tmp_path).names == trained.names


def test_classes_that_were_not_trained_on_are_new(trained):
    assert not trained.is_new(("dog",))
    assert trained.is_new(("dog", "bird"))


def test_another_backbone_is_refused(trained, backbone):
    other = dataclasses.replace(backbone, name="other", fingerprint="f" * 16)
    with pytest.raises(UserError, match=r"trained on the backbone tiny with the fingerprint 0123.*other has ffff"):
        runs.restore(trained, other, jnp.float32)


@pytest.mark.parametrize("change", [{"attributes": ("color",)}, {"vision_layer": 3}, {"text_count": 4}])
def test_arrays_of_another_structure_are_refused(change, trained, backbone):
    part = trained.parts[0]
    changed = dataclasses.replace(part, structure={**part.structure, **change})
    message = r"\(vision_layer .*, attributes .*\) does not fit the backbone tiny: .*, expected"
    with pytest.raises(UserError, match=message):
        runs.restore(dataclasses.replace(trained, parts=(changed,)), backbone, jnp.float32)


def test_places_without_an_adapter_are_refused(tmp_path):
    with pytest.raises(UserError, match="no file or folder"):
        adapters.load(tmp_path / "absent")
    with pytest.raises(UserError, match="this folder is none"):
        adapters.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="start it again with its command"):
        adapters.load(tmp_path)


def test_damaged_and_foreign_files_are_refused(trained, tmp_path):
    save(trained, tmp_path)
    path = tmp_path / adapters.NAME
    whole = path.read_bytes()
    for content in (b"", b"{}", whole[:100], whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as an adapter"):
            adapters.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(UserError, match="no adapter of this project"):
        adapters.load(path)
    for version in adapters.FORMATS[:2]:
        save_file({"x": np.zeros(3)}, path, metadata={"dear_jax": json.dumps({"format": version})})
        with pytest.raises(UserError, match="cannot be read as an adapter"):
            adapters.load(path)


def test_every_flipped_bit_is_noticed(trained, tmp_path):
    path = tmp_path / adapters.NAME
    whole = adapters.to_bytes(trained)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header, 3), *np.linspace(header, len(whole) - 1, 100).astype(int).tolist()]
    for number, place in enumerate(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << number % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=adapters.NAME):
            adapters.load(path)
    path.write_bytes(whole)
    assert adapters.load(path).names == trained.names


def test_files_without_a_checksum_are_read_and_what_is_not_finite_refused(trained, tmp_path):
    path = tmp_path / adapters.NAME
    save(trained, tmp_path)
    with safetensors.safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["dear_jax"])
    tensors = load_file(path)
    older = {name: value for name, value in about.items() if name != "sha256"} | {"format": adapters.FORMATS[1]}
    metadata = {"dear_jax": json.dumps(older)}
    save_file(tensors, path, metadata=metadata)
    assert adapters.load(path).names == trained.names
    tensors["1/settings/beta"] = np.full(1, np.nan, np.float32)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError, match="1/settings/beta holds values that are not finite"):
        adapters.load(path)
    about.pop("sha256")
    save_file(load_file(path), path, metadata={"dear_jax": json.dumps(about)})  # its version has one
    with pytest.raises(UserError, match="has no sha256"):
        adapters.load(path)
    save_file(load_file(path), path, metadata={"dear_jax": "[" * 100_000})
    with pytest.raises(UserError, match="nested too deep"):
        adapters.load(path)
