"""Every folder layout of the CoOp family, read exactly; what is missing or another's is refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from dear_jax.data import splits
from dear_jax.data.datasets import DATASETS
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.prompts import prompts
from dear_jax.errors import UserError
from tests.repository import SHARED

PUBLISHED = SHARED / "data" / "coop"
NAMES = [name for name, row in DATASETS.items() if row.layout]
LISTED = [name for name in NAMES if DATASETS[name].layout == "split file"]


def load(name, root, **options):
    return load_dataset(name, Places(root=str(root), **options))


def test_the_table_has_the_fifteen():
    assert len(NAMES) == 15
    assert len(LISTED) == 9


@pytest.mark.parametrize("name", NAMES)
def test_every_layout(name, tmp_path, write_layout):
    row = DATASETS[name]
    folder = write_layout(name, tmp_path)
    dataset = load(name, tmp_path)
    assert dataset.name == name
    assert dataset.missing == ()
    assert dataset.template == row.template
    assert len(dataset.class_names) == row.classes
    per_class = {split: set(counts) for split, counts in dataset.counts().items()}
    if row.layout in ("split file", "variants"):
        assert per_class == {"train": {2}, "val": {1}, "test": {1}}
    elif name == "imagenet":
        assert per_class == {"train": {1}, "val": {1}, "test": {1}}
    else:
        assert per_class == {"train": {0}, "val": {0}, "test": {1}}
    for split in (dataset.train, dataset.val, dataset.test):
        for index in range(0, len(split), 97):
            assert split.load(index).shape == (2, 3, 3)
    assert dataset.notes["source"] == "coop"
    assert dataset.notes["class_names"] == list(dataset.class_names)
    assert not dataset.notes["comparable"]  # these are not the published splits
    assert f"{row.images[2]} test images" in dataset.notes["remark"]
    assert len(prompts(dataset.class_names, dataset.template)) == row.classes
    assert folder.exists()


def test_listed_images_keep_their_order_labels_and_names(tmp_path, write_layout):
    folder = write_layout("eurosat", tmp_path)
    listing = json.loads((folder / "split_zhou_EuroSAT.json").read_text())
    dataset = load("eurosat", tmp_path)
    assert dataset.class_names == tuple(f"name_{label}" for label in range(10))
    assert dataset.train.labels.tolist() == [label for _, label, _ in listing["train"]]
    assert [dataset.train.load(index)[0, 0, 0] for index in range(20)] == list(range(20))
    assert dataset.test.load(0)[0, 0, 0] == 30


def test_aircraft_takes_labels_from_the_variants_and_names_with_blanks(tmp_path, write_layout):
    write_layout("fgvc_aircraft", tmp_path)
    dataset = load("fgvc_aircraft", tmp_path)
    assert dataset.class_names[:2] == ("0 X/0", "1 X/1")
    assert dataset.train.labels[:101].tolist() == [*range(100), 0]


def test_imagenet_is_sorted_and_may_have_names_twice(tmp_path, write_layout):
    folder = write_layout("imagenet", tmp_path)
    first = folder / "images" / "train" / "n01440764"
    for name in ("b.JPEG", "a.JPEG", ".c.JPEG", "list.txt"):
        (first / name).write_bytes((first / "image.JPEG").read_bytes())
    dataset = load("imagenet", tmp_path)
    assert dataset.class_names[0] == dataset.class_names[999] == "name 0"
    assert dataset.distinct_names is False
    assert dataset.train.load.paths[:3] == tuple(
        f"images/train/n01440764/{name}" for name in ("a.JPEG", "b.JPEG", "image.JPEG")
    )
    assert "sorted" in dataset.notes["remark"] or "Not comparable" in dataset.notes["remark"]
    np.testing.assert_array_equal(dataset.val.labels, dataset.test.labels)


def test_variants_of_imagenet_find_the_names_beside_imagenet(tmp_path, write_layout):
    names = (write_layout("imagenet_r", tmp_path) / "classnames.txt").rename(tmp_path / "names")
    with pytest.raises(UserError, match=r"class names are missing: expected .*imagenet-rendition/classnames\.txt"):
        load("imagenet_r", tmp_path)
    (tmp_path / "imagenet").mkdir()
    names.rename(tmp_path / "imagenet" / "classnames.txt")
    assert load("imagenet_r", tmp_path).class_names[:2] == ("name 0", "name 5")


def test_imagenetv2_is_by_number(tmp_path, write_layout):
    """Sorted as text, folder 10 would come before folder 2."""
    write_layout("imagenetv2", tmp_path)
    dataset = load("imagenetv2", tmp_path)
    assert dataset.class_names[10] == "name 10"
    assert dataset.test.load.paths[10].endswith("/10/image.JPEG")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published splits are not at hand")
@pytest.mark.parametrize("name", ["oxford_pets", "dtd"])
def test_published_splits(name, tmp_path, write_pictures):
    """The real split file gives the published counts, is comparable, and the draws are those of the older tools."""
    row = DATASETS[name]
    folder = tmp_path / row.folder
    folder.mkdir()
    with gzip.open(PUBLISHED / f"{row.split_file}.gz") as file:
        (folder / row.split_file).write_bytes(file.read())
    listing = json.loads((folder / row.split_file).read_text())
    write_pictures(folder / row.image_folder[0], [path for entries in listing.values() for path, _, _ in entries])
    dataset = load(name, tmp_path)
    assert tuple(dataset.notes["images"].values()) == row.images
    assert dataset.notes["comparable"]
    assert dataset.notes["remark"] == ""
    with gzip.open(PUBLISHED / f"fewshot_{name}.json.gz") as file:
        published = json.load(file)["16-1"]["train"]
    drawn, _ = splits.few_shot(dataset.train.labels, dataset.val.labels, 16, 1)
    paths = [f"{row.image_folder[0]}/{dataset.train.load.paths[index]}" for index in drawn]
    assert paths == [path for path, _, _ in published]
    assert [dataset.class_names[label] for label in dataset.train.labels[drawn]] == [name for _, _, name in published]


@pytest.mark.parametrize("name", LISTED)
def test_without_its_split_file_nothing_is_drawn(name, tmp_path, write_pictures):
    row = DATASETS[name]
    write_pictures(tmp_path / row.folder / row.image_folder[0], ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"])
    with pytest.raises(UserError) as caught:
        load(name, tmp_path)
    message = str(caught.value)
    assert f"{row.folder}/{row.split_file} is missing" in message
    assert "none is drawn at random" in message
    assert "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md" in message


def test_absent_images_are_counted_and_ten_of_them_named(tmp_path, write_layout):
    folder = write_layout("dtd", tmp_path)
    for label in range(12):
        (folder / "images" / f"class_{label}" / "train_0.jpg").unlink()
    with pytest.raises(UserError, match=r"^12 of the images that dtd \(split_zhou_.*\) lists are not there") as caught:
        load("dtd", tmp_path)
    assert str(caught.value).count("train_0.jpg") == 10
    assert "skip_bad=true" in str(caught.value)
    assert len(load("dtd", tmp_path, skip_bad=True).missing) == 12


def test_everything_that_is_wrong_comes_out_at_once(tmp_path, write_layout):
    folder = write_layout("dtd", tmp_path)
    path = folder / "split_zhou_DescribableTextures.json"
    listing = json.loads(path.read_text())
    listing["train"] = [entry for entry in listing["train"] if entry[1] != 7]
    for entry in (entry for entries in listing.values() for entry in entries if entry[1] == 5):
        entry[2] = "_"
    path.write_text(json.dumps(listing))
    (folder / "images" / "class_1" / "test_0.jpg").unlink()
    with pytest.raises(UserError) as caught:
        load("dtd", tmp_path)
    for problem in (
        "1 of the images that dtd (split_zhou_DescribableTextures.json) lists are not there",
        "Class 5 has an empty name, '_'",
        "1 class has no train image: name_7",
    ):
        assert problem in str(caught.value)


def rename_split_file(folder: Path) -> None:
    (folder / "split_zhou_DescribableTextures.json").rename(folder / "split_zhou_Food101.json")


def nest_split_file(folder: Path) -> None:
    (folder / "split_zhou_DescribableTextures.json").write_text("[" * 100_000)


def cut_split_file(folder: Path) -> None:
    path = folder / "split_zhou_DescribableTextures.json"
    path.write_text(path.read_text()[:1000])


def change_split(change):
    def damage(folder: Path) -> None:
        path = folder / "split_zhou_DescribableTextures.json"
        listing = json.loads(path.read_text())
        change(listing)
        path.write_text(json.dumps(listing))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename_split_file, r"is missing \(there is split_zhou_Food101\.json, of another data set\)"),
        (cut_split_file, "is not JSON"),
        (nest_split_file, "is not JSON"),
        (change_split(lambda listing: listing.pop("val")), r"expected \{\"train\": \[\[path, label"),
        (change_split(lambda listing: listing["val"].append(["x.jpg", -1, "x"])), r"found \['x\.jpg', -1, 'x'\]"),
        (
            change_split(lambda listing: listing["val"].append(["x.jpg", 0, "x"])),
            r"label 0 is called 'name_0' and.*'x'",
        ),
        (change_split(lambda listing: listing["val"].append(["x.jpg", 48, "x"])), r"no image has the label 47"),
        (change_split(lambda listing: listing["val"].append(["x.jpg", 47, "x"])), r"lists 48 classes; dtd has 47"),
        (change_split(lambda listing: listing.update(train=[], val=[], test=[])), r"it lists no image"),
        (
            change_split(lambda listing: listing.update(train=[e for e in listing["train"] if e[1] != 3])),
            r"1 class has no train image: name_3",
        ),
    ],
)
def test_damaged_split_files_are_refused(damage, message, tmp_path, write_layout):
    damage(write_layout("dtd", tmp_path))
    with pytest.raises(UserError, match=message):
        load("dtd", tmp_path)


def test_roots_of_another_kind_are_told_apart(tmp_path, write_layout):
    write_layout("dtd", tmp_path)
    with pytest.raises(UserError, match=r"the folder 'oxford_pets' of oxford_pets in .*It holds dtd\."):
        load("oxford_pets", tmp_path)
    with pytest.raises(UserError, match=r"It is the folder of another data set, dtd"):
        load("oxford_pets", tmp_path / "dtd")
    with pytest.raises(UserError, match=rf"It looks like that folder itself: give the one above, {tmp_path}"):
        load("dtd", tmp_path / "dtd")
    with pytest.raises(UserError, match="and that does not exist"):
        load("dtd", tmp_path / "nowhere")
    (tmp_path / "caltech101" / "3.0.2").mkdir(parents=True)
    with pytest.raises(UserError, match="looks like a data_dir of TFDS"):
        load("caltech101", tmp_path)


def test_class_folders_without_images_or_names_are_refused(tmp_path, write_layout):
    folder = write_layout("imagenet_a", tmp_path) / "imagenet-a"
    (folder / "n01440764" / "image.JPEG").unlink()
    with pytest.raises(UserError, match="imagenet-a: 1 class folder holds no image: n01440764"):
        load("imagenet_a", tmp_path)
    (folder / "n01440764").rmdir()
    with pytest.raises(UserError, match="expected 200 classes, found 199"):
        load("imagenet_a", tmp_path)
    (folder / "cats").mkdir()
    with pytest.raises(UserError, match=r"does not name, such as cats; expected WordNet ids"):
        load("imagenet_a", tmp_path)


def test_imagenets_validation_images_without_class_folders(tmp_path, write_layout):
    """As their archive is extracted."""
    val = write_layout("imagenet", tmp_path) / "images" / "val"
    for number, path in enumerate(sorted(val.glob("*/*"))):
        path.rename(val / f"ILSVRC2012_val_{number:08d}.JPEG")
        path.parent.rmdir()
    with pytest.raises(UserError, match=r"found 0. 1000 images lie flat in it, such as .*_00000000.JPEG: sort"):
        load("imagenet", tmp_path)


def test_aircraft_without_its_lists(tmp_path, write_layout):
    folder = write_layout("fgvc_aircraft", tmp_path)
    (folder / "images_variant_val.txt").write_text("0000001 Concorde\n")
    with pytest.raises(UserError, match=r"names the variant 'Concorde', which variants\.txt beside it does not"):
        load("fgvc_aircraft", tmp_path)
    (folder / "images_variant_val.txt").unlink()
    with pytest.raises(UserError, match=r"The list .*images_variant_val\.txt cannot be read"):
        load("fgvc_aircraft", tmp_path)
