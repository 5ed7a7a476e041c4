"""Few-shot draws as JSON lines: read as 2SFS publishes them, the same images when written, refused by name."""

import json

import numpy as np
import pytest
from etils import epath

from dear_jax.data import shots_file
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.data.shots_file import Draw
from dear_jax.errors import UserError

CLASSES = ("beagle", "pug")
PUBLISHED = "shot_{shots}-seed_{seed}_{split}.jsonl"


def split(*names: str) -> ImageSplit:
    labels = np.array([CLASSES.index(name.partition("_")[0]) for name in names])
    return ImageSplit(labels, FileLoader(epath.Path("absent"), tuple(f"images/{name}" for name in names)))


@pytest.fixture
def pets() -> ImageDataset:
    train = split("beagle_1", "beagle_2", "beagle_3", "pug_1", "pug_2", "pug_3")
    return ImageDataset("pets", CLASSES, "a {}", train, split("beagle_4", "pug_4"), split("beagle_5", "pug_5"))


def entry(path: str, **more) -> dict:
    name = path.rsplit("/", 1)[-1].partition("_")[0]
    label = CLASSES.index(name) if name in CLASSES else 0
    return {"_impath": path, "_label": label, "_domain": -1, "_classname": name, **more}


def write(path, *entries: dict) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in entries))


def read(path, pets, seed=1, shots=1):
    return shots_file.read(str(path), pets, pets.val, shots, seed)


@pytest.mark.parametrize("name", [PUBLISHED, "draws.jsonl", "{seed}.jsonl", "new/folder/{split}.jsonl"])
def test_what_is_written_is_read_again(pets, tmp_path, name):
    name = str(tmp_path / name)
    draws = {seed: Draw(np.array([seed, 5 - seed]), np.array([1, 0])) for seed in (1, 2)}
    assert shots_file.read(name, pets, pets.val, 1, 1) is None
    shots_file.write(name, pets, pets.val, 1, draws)
    for seed, draw in draws.items():
        found = shots_file.read(name, pets, pets.val, 1, seed)
        np.testing.assert_array_equal(found.train, draw.train)
        np.testing.assert_array_equal(found.val, draw.val)


def test_the_form_is_that_of_2sfs(pets, tmp_path):
    """Its reader takes these four keys of each line, and leaves others."""
    shots_file.write(str(tmp_path / PUBLISHED), pets, pets.val, 2, {3: Draw(np.array([4]), np.array([0]))})
    assert {path.name for path in tmp_path.iterdir()} == {"shot_2-seed_3_train.jsonl", "shot_2-seed_3_val.jsonl"}
    (line,) = (tmp_path / "shot_2-seed_3_train.jsonl").read_text().splitlines()
    expected = {"_impath": "images/pug_2", "_label": 1, "_domain": -1, "_classname": "pug", "split": "train", "seed": 3}
    assert json.loads(line) == expected


def test_published_files_with_paths_of_another_machine(pets, tmp_path):
    paths = ("/data/oxford_pets/images/pug_3", "C:\\x\\images\\beagle_2")
    write(tmp_path / "shot_1-seed_1_train.jsonl", entry(paths[0]), entry(paths[1]) | {"_label": 0})
    write(tmp_path / "shot_1-seed_1_val.jsonl", entry("images/pug_4"))
    found = read(tmp_path / PUBLISHED, pets)
    assert (found.train.tolist(), found.val.tolist()) == ([5, 1], [1])
    assert read(tmp_path / PUBLISHED, pets, seed=2) is None


def test_lines_that_name_no_split_and_no_seed_are_of_training_and_of_every_seed(pets, tmp_path):
    write(tmp_path / "a", entry("images/pug_3"), entry("images/beagle_2"))
    for seed in (1, 2):
        found = read(tmp_path / "a", pets, seed)
        assert (found.train.tolist(), found.val.tolist()) == ([5, 1], [])


def test_images_may_be_drawn_again_where_a_class_has_too_few(pets, tmp_path):
    """As 2SFS and CoOp do."""
    write(tmp_path / "a", *[entry(f"images/{name}") for name in ["pug_1"] * 4 + ["beagle_1", "beagle_2", "beagle_3"]])
    assert read(tmp_path / "a", pets, shots=4).train.tolist() == [3, 3, 3, 3, 0, 1, 2]


def test_validation_images_that_are_the_tests_are_not_looked_for(pets, tmp_path):
    write(tmp_path / "a", entry("images/pug_3"), entry("images/beagle_2"), entry("elsewhere", split="val"))
    assert not len(shots_file.read(str(tmp_path / "a"), pets, pets.val.subset([]), 1, 1).val)


GOOD = (entry("images/pug_3"), entry("images/beagle_2"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((*GOOD, entry("images/pug_5")), "lists 1 image that the training images of pets do not have: images/pug_5 ("),
        ((*GOOD, entry("images/pug_3", split="val")), "the validation images of pets do not have: images/pug_3 (line"),
        ((entry("images/pug_3") | {"_label": 0},), "line 1: images/pug_3 has the label 0 (pug), and in pets 1 (pug)"),
        ((entry("images/pug_3"),), "has no training image of 1 class for seed 1: beagle"),
        ((*GOOD, entry("images/pug_1")), "has 1 to 2 training images of a class for seed 1, and config.data.shots is"),
        (tuple(one | {"seed": 2} for one in GOOD), "lists no training image of seed 1; it has seeds 2. Give other"),
        ((), "lists no training image of seed 1"),
        (({"path": "images/pug_3"},), "line 1: expected JSON with _impath and _classname, texts, and _label, an int"),
        (([],), "line 1: expected JSON with _impath"),
        ((GOOD[0] | {"_label": True},), "line 1: expected JSON with _impath"),
    ],
)
def test_what_does_not_fit_is_named(pets, tmp_path, lines, said):
    write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(UserError, match=r"config.data.shots_file: .*a.jsonl") as caught:
        read(tmp_path / "a.jsonl", pets)
    assert said in str(caught.value)


def test_what_cannot_be_read_or_written(pets, tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes", ""):
        with pytest.raises(UserError, match=r"config.data.shots_file: .* cannot be read"):
            read(tmp_path / name, pets)
    with pytest.raises(UserError, match=r"config.data.shots_file: cannot write .* Give a file that"):
        shots_file.write(str(tmp_path / "bytes" / "a"), pets, pets.val, 1, {1: Draw(np.array([0]), np.array([0]))})
