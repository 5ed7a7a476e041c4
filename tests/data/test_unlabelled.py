"""Images of a user: what a text finds, what a program may hand over, and what is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dear_jax.data import class_folders, class_list, images, pipeline, unlabelled
from dear_jax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    for name in ("a.png", "b[1].png", "deep/er/c.png", "notes.md"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("png"):
            Image.fromarray(PIXELS).save(path)
        else:
            path.write_text("no image")
    (tmp_path / "list.txt").write_text("\ufeffphotos/deep/er/c.png\n\n  photos/a.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("photos", ["photos/a.png", "photos/b[1].png", "photos/deep/er/c.png"]),
        ("photos/*.png", ["photos/a.png", "photos/b[1].png"]),
        ("photos/**/*.png", ["photos/a.png", "photos/b[1].png", "photos/deep/er/c.png"]),
        ("photos/**/c.*", ["photos/deep/er/c.png"]),
        ("photos/*", ["photos/a.png", "photos/b[1].png", "photos/notes.md"]),  # folders are left out
        ("photos/b[1].png", ["photos/b[1].png"]),  # a file, although it reads like a pattern
        ("list.txt", ["photos/deep/er/c.png", "photos/a.png"]),  # in its own order
    ],
)
def test_what_a_text_finds(photos, text, found):
    assert list(unlabelled.find(text)) == found
    assert list(unlabelled.find(str(photos.parent / text))) == (
        found if text == "list.txt" else [str(photos.parent / name) for name in found]
    )


@pytest.mark.parametrize(
    ("text", "top"),
    [("photos", "photos"), ("photos/*/**/*.png", "photos"), ("photos/deep/er/c.png", "photos/deep/er"), ("*.png", ".")],
)
def test_the_folder_that_all_lies_below(photos, text, top):
    assert unlabelled.top(text).resolve() == (photos.parent / top).resolve()
    assert unlabelled.top("list.txt") == photos  # of photos/deep/er/c.png and photos/a.png


def test_what_is_left_out_is_counted_and_named(photos, monkeypatch, capsys):
    for name in ("d.PNG", "e.webp", "f.heic"):
        (photos / name).write_bytes((photos / "a.png").read_bytes())
    monkeypatch.setattr(class_folders, "SUFFIXES", tuple(set(class_folders.SUFFIXES) - set(images.HEIC)))
    assert list(unlabelled.find("photos/*.png")) == ["photos/a.png", "photos/b[1].png"]
    assert capsys.readouterr().out == (
        "photos/*.png: 3 images end otherwise and are left out: photos/d.PNG, photos/e.webp, photos/f.heic. Give the "
        f"folder to have images of every kind. {images.HEIC_HINT}\n"
    )
    assert len(unlabelled.find("photos/e.*")) == len(unlabelled.find("photos/a.png")) == 1
    assert capsys.readouterr().out == ""
    assert len(unlabelled.find("photos")) == 5
    said = "2 files are left out, without the suffix of an image: f.heic, notes.md. 1 of them is HEIC. "
    assert capsys.readouterr().out == f"photos: {said}{images.HEIC_HINT}\n"


@pytest.mark.parametrize("text", ["", "photos/*.jpg", "absent", "empty", "empty.txt"])
def test_a_text_that_finds_nothing(photos, text):
    os.mkdir("empty")
    Path("empty.txt").write_text("\n")
    with pytest.raises(UserError, match=r"No image is found by .*in quotes"):
        unlabelled.gather(text)


def test_the_root_of_the_file_system_is_no_folder_of_images():
    with pytest.raises(UserError, match="/ is the root of the file system: give the folder that holds the images"):
        unlabelled.gather("/")


def test_items_of_every_kind_are_the_same_image(photos):
    lazy = Image.open(photos / "a.png")
    split = unlabelled.gather([str(photos / "a.png"), photos / "a.png", lazy, Image.fromarray(PIXELS), PIXELS])
    for index in range(len(split)):
        np.testing.assert_array_equal(split.load(index), PIXELS)
    assert split.names == (*[str(photos / "a.png")] * 3, "image 3", "image 4")
    assert split.subset([3, 0]).names == ("image 3", str(photos / "a.png"))
    pickle.loads(pickle.dumps(split.subset([0, 1, 4])))


def test_one_item_and_a_stack():
    assert len(unlabelled.gather(PIXELS)) == len(unlabelled.gather(Image.fromarray(PIXELS))) == 1
    stack = unlabelled.gather(np.stack([PIXELS, 255 - PIXELS]))
    np.testing.assert_array_equal(stack.load(1), 255 - PIXELS)
    other = unlabelled.gather([PIXELS[..., 0], np.zeros((4, 4, 4), np.uint8)])
    assert other.load(0).shape == PIXELS.shape
    assert (other.load(1) == 255).all()  # transparent is white


def test_a_large_jpeg_of_the_user_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(unlabelled.images, "LARGE_PIXELS", 100)
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    opened = Image.open(tmp_path / "a.jpg")
    assert unlabelled.gather([opened]).load(0).size < PIXELS.size
    assert opened.size == (15, 12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected at least one image"),
        ([PIXELS, 3], r"images\[1\]: expected a path.*found int"),
        ([PIXELS / 255], r"found an array float64 \[12, 15, 3\].*astype"),
        ([PIXELS.transpose(2, 0, 1)], r"\[3, 12, 15\]"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), r"\[3, 4, 5, 6\]"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        unlabelled.gather(given)


def test_bad_images_are_named_without_advice_for_data_sets(photos):
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:200])
    split = unlabelled.gather([photos / "cut.png", photos / "notes.md", photos / "absent.png", photos / "a.png"])
    problems = [split.problem(index) for index in range(4)]
    assert [name in problem for name, problem in zip(split.names, problems, strict=True)] == [True, True, True, False]
    assert "skip_bad" not in " ".join(problems)


def test_batches_mark_what_cannot_be_read(photos):
    split = unlabelled.gather([photos / "absent.png", photos / "a.png", photos / "notes.md"])
    batches = list(pipeline.eval_batches(split, 2, 8, skip_bad=True))
    assert [batch["valid"].tolist() for batch in batches] == [[False, True], [False, False]]
    assert not batches[0]["image"][0].any()
    assert batches[0]["image"][1].any()
    with pytest.raises(UserError, match=r"absent.png"):
        list(pipeline.eval_batches(split, 2, 8))


def test_class_names(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffcat\n\n jaguar, the animal \n", encoding="utf-8")
    assert class_list.parse(str(path)) == ("cat", "jaguar, the animal")
    assert class_list.parse("cat, sea lion (adult),dog") == ("cat", "sea lion (adult)", "dog")
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no class name"):
        class_list.parse(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        class_list.parse(str(path))
    with pytest.raises(UserError, match=r"absent.txt cannot be read: No such file"):
        class_list.parse("absent.txt")


@pytest.mark.parametrize("name", ["names.csv", "~/names.JSON", "names.list", "names"])
def test_a_file_of_another_kind_is_no_class(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("cat\n")
    with pytest.raises(UserError, match=rf"'{name}' is the name of a file, not of classes. Give .* \*.txt with a name"):
        class_list.parse(name)
    assert class_list.parse("a" * 5000) == ("a" * 5000,)


@pytest.mark.parametrize("name", ["a[1]", "[x", "what?", "*"])
def test_a_pattern_below_a_folder_whose_name_reads_like_one(name, photos):
    photos.rename(photos.parent / name)
    assert list(unlabelled.find(f"{name}/**/c.*")) == [f"{name}/deep/er/c.png"]
    absolute = photos.parent / name
    assert list(unlabelled.find(f"{absolute}/*.png")) == [f"{absolute}/a.png", f"{absolute}/b[1].png"]
