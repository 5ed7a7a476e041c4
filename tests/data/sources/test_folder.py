"""Images of one's own: class folders, given or drawn splits, names, and what is refused."""

import os
import re

import pytest

from dear_jax.data import class_folders
from dear_jax.data.images import HEIC, HEIC_HINT
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.prompts import prompts
from dear_jax.data.sources import folder
from dear_jax.errors import UserError
from dear_jax.files import storage

ROWS = ("train", "val", "test")


@pytest.fixture
def root(tmp_path, write_pictures):
    """Three classes of 10, 4 and 2 images, some of them deeper, and files that are no images."""
    here = tmp_path / "zoo"
    cats = [f"cat/{number}.png" for number in range(9)] + ["cat/more/9.PNG"]
    write_pictures(here, [*cats, *(f"big dog/{number}.jpg" for number in range(4)), "ant/a.webp", "ant/b.webp"])
    (here / "cat" / "Thumbs.db").write_text("")
    (here / ".cache").mkdir()
    (here / "notes.txt").write_text("")
    return here


def load(root, **options):
    return load_dataset("folder", Places(root=str(root), **options))


def paths(dataset) -> dict[str, list[str]]:
    return {name: list(getattr(dataset, name).load.paths) for name in ROWS}


def test_splits_are_drawn_per_class(root):
    dataset = load(root)
    assert dataset.name == "zoo"
    assert dataset.class_names == ("ant", "big dog", "cat")
    assert dataset.template == "a photo of a {}."
    assert dataset.counts() == {"train": [1, 2, 5], "val": [0, 1, 2], "test": [1, 1, 3]}
    everything = [path for split in paths(dataset).values() for path in split]
    assert len(everything) == len(set(everything)) == 16
    assert "cat/more/9.PNG" in everything
    for split in (dataset.train, dataset.val, dataset.test):
        for path, label in zip(split.load.paths, split.labels, strict=True):
            assert path.split("/")[0] == dataset.class_names[label]
    assert (dataset.notes["source"], dataset.notes["comparable"]) == ("folder", False)


def test_the_seed_decides(root):
    assert paths(load(root)) == paths(load(root))
    assert paths(load(root, split_seed=1)) != paths(load(root))


def test_any_name_may_be_given_and_chooses_the_template(root):
    dataset = load_dataset("oxford_pets", Places(source="folder", root=str(root)))
    assert (dataset.name, dataset.template) == ("zoo", "a photo of a {}, a type of pet.")
    assert load_dataset("world_objects", Places(source="folder", root=str(root))).name == "zoo"


def test_drawn_splits_are_taken_again_whatever_came_since(root, write_pictures):
    first = load(root)
    write_pictures(root, ["ant/0.png", "bee/0.png", "bee/1.png"])
    again = load_dataset("folder", Places(root=str(root)), dict(first.drawn_splits))
    assert paths(again) == paths(first)
    assert again.class_names == first.class_names
    assert again.drawn_splits == first.drawn_splits
    assert paths(load(root)) != paths(first)
    (root / "cat" / "3.png").unlink()
    with pytest.raises(UserError, match=r"^1 of the images that zoo \(splits.json in the workdir.*cat/3\.png"):
        load_dataset("folder", Places(root=str(root)), dict(first.drawn_splits))


def test_given_splits(tmp_path, write_pictures):
    files = [f"{split}/{name}/{n}.png" for split, n in (("train", 1), ("val", 2), ("test", 3)) for name in ("b", "a")]
    write_pictures(tmp_path, [*files, "test/a/4.png"])
    dataset = load(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert dataset.counts() == {"train": [1, 1], "val": [1, 1], "test": [2, 1]}
    assert paths(dataset)["test"] == ["test/a/3.png", "test/a/4.png", "test/b/3.png"]
    assert dataset.drawn_splits == {}
    assert dataset.notes["splits"] == "folders train, val, test"


def test_val_is_for_testing_where_there_is_no_test(tmp_path, write_pictures):
    write_pictures(tmp_path, [f"{split}/{name}/1.png" for split in ("train", "val") for name in "ab"])
    dataset = load(tmp_path)
    assert dataset.counts() == {"train": [1, 1], "val": [0, 0], "test": [1, 1]}


def test_train_alone_is_split(tmp_path, write_pictures):
    write_pictures(tmp_path, [f"train/{name}/{n}.png" for n in range(4) for name in "ab"])
    dataset = load(tmp_path)
    assert dataset.counts() == {"train": [2, 2], "val": [1, 1], "test": [1, 1]}
    assert dataset.drawn_splits


def test_a_class_may_be_called_train(tmp_path, write_pictures):
    write_pictures(tmp_path, [f"{name}/{n}.png" for n in range(2) for name in ("train", "test")])
    assert load(tmp_path).class_names == ("test", "train")
    write_pictures(tmp_path, ["car/0.png", "car/1.png"])
    assert load(tmp_path).class_names == ("car", "test", "train")


def test_classes_are_renamed(root):
    (root / "classnames.txt").write_text("cat house cat\nbig dog\tgreat Dane\n\n")
    assert load(root).class_names == ("ant", "great Dane", "house cat")
    assert load(root).drawn_splits["train"][-1][2] == "house cat"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cow\tbovine\n", "names folders that are not there: cow"),
        ("cat\n", "line 1: expected a class folder and the name"),
    ],
)
def test_wrong_names_are_refused(root, line, message):
    (root / "classnames.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        load(root)


def test_names_in_other_encodings(root):
    """With the mark that some editors write before UTF-8, and in none that can be read."""
    (root / "classnames.txt").write_bytes("cat\tch\u00e2t\n".encode("utf-8-sig"))
    assert load(root).class_names == ("ant", "big dog", "ch\u00e2t")
    (root / "classnames.txt").write_bytes("cat\tch\u00e2t\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classnames\.txt cannot be read .*Save it as UTF-8 text"):
        load(root)


def test_file_names_that_are_no_utf8_are_read_and_class_folders_of_such_names_refused(root):
    (root / "cat" / "0.png").rename(root / "cat" / os.fsdecode(b"caf\xe9.png"))
    dataset = load(root)
    assert "cat/caf\udce9.png" in [path for found in paths(dataset).values() for path in found]
    assert all(getattr(dataset, row).load(0).size for row in ROWS)
    storage.write_atomically(root / "written.csv", "cat/caf\udce9.png,1")
    assert (root / "written.csv").read_text() == "cat/caf\\udce9.png,1"
    (root / "cat").rename(root / os.fsdecode(b"ch\xe4t"))
    with pytest.raises(UserError, match=r"The name of class 2, 'ch\\udce4t', is not UTF-8; rename the folder"):
        prompts(load(root).class_names, "a {}")


def test_results_say_how_images_are_read(root):
    assert load(root).notes["read_as"].startswith("upright by their EXIF tags")
    assert load(root, exif=False).notes["read_as"].startswith('Image.open(path).convert("RGB")')


@pytest.mark.parametrize("earlier", [{}, [], {"train": []}])
def test_earlier_splits_that_are_none_are_refused(earlier, root):
    with pytest.raises(UserError, match=r"splits.json of the workdir: expected {\"train\": "):
        folder.load(str(root), template="a {}", earlier=earlier)


def test_what_cannot_be_split_or_told_apart_is_refused(root, tmp_path):
    (root / "ant" / "a.webp").unlink()
    with pytest.raises(UserError, match=r"1 class has a single image, which cannot be split.*: ant"):
        load(root)
    (root / "ant" / "b.webp").unlink()
    with pytest.raises(UserError, match="1 class folder holds no image: ant"):
        load(root)
    with pytest.raises(UserError, match=r"expected one folder per class in .*, found no folder"):
        load(root / "big dog")
    for nowhere in ("", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"data\.root: expected a folder with one folder of images per class"):
            folder.load(str(nowhere), template="a {}")


def test_a_class_that_is_missing_in_a_given_split_is_named(tmp_path, write_pictures):
    write_pictures(tmp_path, ["train/a/1.png", "train/b/1.png", "test/a/1.png"])
    with pytest.raises(UserError, match="1 class has no test image: b"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "valid", "test"), ("train", "valid", "test")),
        (("Train", "Test"), ("Train", "", "Test")),
        (("training", "validation", "testing"), ("training", "validation", "testing")),
        (("train_set", "dev", "TEST_SET"), ("train_set", "dev", "TEST_SET")),
        (("TRAIN", "Validation"), ("TRAIN", "", "Validation")),  # without a test it is for testing
    ],
)
def test_splits_go_by_their_usual_names(names, expected, tmp_path, write_pictures):
    classes = ("cat", "dog")
    write_pictures(tmp_path, [f"{part}/{name}/{place}.png" for place, part in enumerate(names) for name in classes])
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    found = {name: {path.split("/")[0] for path in of_split} for name, of_split in paths(dataset).items()}
    assert found == {row: {part} - {""} for row, part in zip(ROWS, expected, strict=True)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/cat/a.png", "test/1.png"), r"mixture of splits and classes: train with class folders; test without"),
        (("train/cat/a.png", "Training/cat/a.png"), r"mixture.*Training, train with class folders"),
        (("train/a/1.png", "test/a/1.png", "more/1.png"), r"train with class folders; more called after no split"),
    ],
)
def test_mixtures_of_splits_and_classes_are_refused(files, message, tmp_path, write_pictures):
    write_pictures(tmp_path, list(files))
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_what_lies_in_hidden_folders_is_no_image(root, write_pictures):
    hidden = (".ipynb_checkpoints", ".thumbnails", ".Trash-1000", "@eaDir", "__MACOSX", "more/.cache")
    write_pictures(root, [f"cat/{place}/{number}.png" for place in hidden for number in range(2)])
    everything = [path for split in paths(load(root)).values() for path in split]
    assert len(everything) == len(set(everything)) == 16
    assert not any(part in path for path in everything for part in ("/.", "@eaDir", "__MACOSX"))


def test_links_that_lead_back_give_each_image_once(root):
    (root / "cat" / "loop").symlink_to(root / "cat", target_is_directory=True)
    (root / "cat" / "again").symlink_to(root / "cat" / "more", target_is_directory=True)
    assert sum(map(sum, load(root).counts().values())) == 16


def test_every_suffix_that_pillow_reads_is_one_and_the_rest_is_said(root, write_pictures, capsys, monkeypatch):
    monkeypatch.setattr(class_folders, "SUFFIXES", tuple(set(class_folders.SUFFIXES) - set(HEIC)))
    read = ("jfif", "jpe", "avif", "jp2", "tga", "PPM", "apng")
    write_pictures(root, [f"ant/of_{suffix}.{suffix}" for suffix in read])
    for name in ("a.heic", "b.txt", "c"):
        (root / "ant" / name).write_text("")
    dataset = load(root)
    assert sum(dataset.counts()[row][0] for row in ROWS) == 2 + len(read)
    said = "3 files are left out, without the suffix of an image: ant/a.heic, ant/b.txt, ant/c. "
    said += f"1 of them is HEIC. {HEIC_HINT}"
    assert dataset.notes["files_left_out"] == said
    assert said in capsys.readouterr().out
    assert dataset.notes["nested"].startswith("1 image lies deeper than in the folder of the class")
    (root / "photos").mkdir()
    (root / "photos" / "a.heic").write_text("")
    with pytest.raises(UserError, match=rf"1 class folder holds no image: photos. Add .* {re.escape(HEIC_HINT)}"):
        load(root)
