"""Data sets of the library `datasets`: columns, classes and splits that are found or named, images by our own rules."""

import io
import pickle
import re

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from dear_jax.data import loading
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.sources import hf
from dear_jax.errors import UserError
from tests.emulated_hub import NOWHERE, use_endpoint

datasets = pytest.importorskip("datasets")
CLASSES = ["cat", "big_dog", "ant"]
NAMES = datasets.ClassLabel(names=CLASSES)


def picture(value: int, rotated: bool = False, mode: str = "RGB") -> dict:
    """A picture of one color, as `datasets` keeps it; its left half is black."""
    array = np.full((6, 8, len(mode)), value, np.uint8)
    array[:, :4] = 0
    image, exif = Image.fromarray(array, mode), Image.Exif()
    exif[0x0112] = 6 if rotated else 1
    content = io.BytesIO()
    image.save(content, "PNG", exif=exif)
    return {"bytes": content.getvalue(), "path": f"{value}.png"}


def rows(count: int = 6, label=NAMES, labels=None, images=None, more: dict | None = None):
    more = more or {}
    features = {"image": datasets.Image(), "label": label, **{key: of for key, (of, _) in more.items()}}
    columns = {
        "image": [picture(value) for value in range(count)] if images is None else images,
        "label": [index % 3 for index in range(count)] if labels is None else labels,
        **{key: values for key, (_, values) in more.items()},
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture
def save(tmp_path):
    def write(found, name: str = "pets") -> str:
        found = datasets.DatasetDict(found) if isinstance(found, dict) else found
        found.save_to_disk(tmp_path / name)
        return str(tmp_path / name)

    return write


def load(root, **options):
    return load_dataset("hf", Places(root=root, **options))


def test_its_own_splits(save):
    root = save({"train": rows(9), "validation": rows(3), "test": rows(6), "unsupervised": rows(1)})
    dataset = load(root)
    assert (dataset.name, dataset.class_names, dataset.template) == ("pets", tuple(CLASSES), "a photo of a {}.")
    assert dataset.counts() == {"train": [3] * 3, "val": [1] * 3, "test": [2] * 3}
    assert (dataset.notes["source"], dataset.notes["comparable"]) == ("hf", False)
    assert dataset.notes["splits"] == "its own (train: train, val: validation, test: test)"
    assert dataset.notes["splits_left_out"] == ["unsupervised"]
    assert dataset.test.names == tuple(f"test/{row}" for row in range(6))
    assert not dataset.drawn_splits
    for index in range(6):
        assert dataset.test.load(index)[0, -1].tolist() == [index] * 3


@pytest.mark.parametrize("single", [True, False])
def test_one_split_is_drawn_from_and_kept(save, single):
    root = save(rows(30) if single else {"train": rows(30)})
    first = load(root)
    assert first.counts() == {"train": [5] * 3, "val": [2] * 3, "test": [3] * 3}
    assert first.notes["splits"] == "splits.json in the workdir, drawn by config.data.split_seed"
    everything = [name for split in (first.train, first.val, first.test) for name in split.names]
    assert len(set(everything)) == 30
    assert load(root).test.names == first.test.names
    other = load(root, split_seed=1)
    assert other.test.names != first.test.names
    again = load_dataset("hf", Places(root=root, split_seed=1), dict(first.drawn_splits))
    assert again.test.names == first.test.names
    for split in (first.train, first.val, first.test):
        for index, name in enumerate(split.names):
            assert split.load(index)[0, -1, 0] == int(name.rpartition("/")[2])


def test_kept_splits_of_another_version_are_refused(save):
    kept = load(save(rows(30))).drawn_splits
    root = save(rows(6), "smaller")
    with pytest.raises(UserError, match=r"splits.json of the workdir has train/\d+ \(.*\), which this data set"):
        load_dataset("hf", Places(root=root), dict(kept))


def test_without_a_test_the_validation_is_for_testing(save):
    dataset = load(save({"train": rows(6), "dev": rows(3)}))
    assert dataset.counts() == {"train": [2] * 3, "val": [0] * 3, "test": [1] * 3}


def test_a_split_without_labels_is_none(save):
    """As the test split of many a competition."""
    hidden = rows(3, labels=[-1, -1, None])
    dataset = load(save({"train": rows(30), "test": hidden}))
    assert dataset.counts()["test"] == [3] * 3
    assert dataset.notes["splits_left_out"] == ["test, without labels"]
    with pytest.raises(UserError, match=r"1 of 3 rows in the split test of .* have no label in the column label"):
        load(save({"train": rows(30), "test": rows(3, labels=[0, -1, 1])}, "half"))


def test_labels_may_be_texts(save):
    text = datasets.Value("string")
    root = save({part: rows(3, text, ["owl", "bee", "owl"]) for part in ("train", "test")})
    dataset = load(root)
    assert dataset.class_names == ("bee", "owl")
    assert dataset.test.labels.tolist() == [1, 0, 1]


def test_classes_without_images_are_none(save):
    """A filtered data set keeps the names of all."""
    dataset = load(save({part: rows(4, labels=[2, 0, 2, 0]) for part in ("train", "test")}))
    assert dataset.class_names == ("cat", "ant")
    assert dataset.train.labels.tolist() == [1, 0, 1, 0]


def test_columns_are_found_or_named(save):
    fine = datasets.ClassLabel(names=["a", "b"])
    more = {"fine": (fine, [1, 0, 1, 0]), "title": (datasets.Value("string"), ["x", "y", "y", "x"])}
    table = rows(4, labels=[0, 1, 0, 1], more=more).rename_columns({"label": "coarse", "image": "photo"})
    root = save({"train": table, "test": table})
    with pytest.raises(UserError, match=r"config.data.label_column: expected a column of labels .* coarse and fine"):
        load(root)
    assert load(root, label_column="fine").class_names == ("a", "b")
    assert load(root, label_column="title").class_names == ("x", "y")
    assert load(root, label_column="coarse").notes["columns"] == "photo, coarse"
    usual = rows(4, labels=[0, 1] * 2, more=more)
    assert load(save({"train": usual, "test": usual}, "usual")).notes["columns"] == "image, label"
    for key, value in (("label_column", "photo"), ("image_column", "coarse"), ("image_column", "absent")):
        with pytest.raises(UserError, match=rf"config.data.{key}: expected .* found '{value}'. Its columns are ph"):
            load(root, **{"label_column": "fine", key: value})


def test_numbers_are_no_names(save):
    numbers = datasets.Value("int64")
    with pytest.raises(UserError, match=r"label_column: expected .* found none. Its columns are image .* label \(int"):
        load(save({part: rows(3, numbers) for part in ("train", "test")}))


def test_images_are_read_by_the_projects_rules(save):
    clear = picture(9, mode="RGBA")  # transparent where it is 0 and nearly so elsewhere
    images = [picture(200, rotated=True), clear, picture(3), {"bytes": b""}, None, {"bytes": b"abc"}]
    root = save({part: rows(6, images=images) for part in ("train", "test")})
    split = load(root).test
    assert split.load(0).shape == (8, 6, 3)
    assert split.load(1)[0, 0].tolist() == [255] * 3
    assert load(root, exif=False).test.load(0).shape == (6, 8, 3)
    for index, said in ((3, "test/3 is empty"), (4, "test/4 is missing in its row"), (5, "test/5 (3 bytes) is no")):
        with pytest.raises(UserError, match=re.escape(said)):
            split.load(index)
    assert [bool(split.problem(index)) for index in range(6)] == [False] * 3 + [True] * 3


def test_loaders_travel_to_worker_processes(save):
    split = load(save({"train": rows(6), "test": rows(3)})).test
    copy = pickle.loads(pickle.dumps(split.subset([2])))
    assert copy.load(0)[0, -1].tolist() == [2] * 3


def test_listings_tell_versions_apart(save):
    one = load(save({"train": rows(6), "test": rows(3)}))
    other = load(save({"train": rows(6), "test": rows(6)}, "b"))
    assert one.notes["listing_sha256"] != other.notes["listing_sha256"]
    assert not loading.same_images(one.val, one.test)


def test_a_folder_of_images_or_tables(tmp_path):
    """What `hf download --repo-type=dataset` leaves, which was not made by save_to_disk."""
    rows(6).to_parquet(tmp_path / "mine" / "data" / "train-00000-of-00001.parquet")
    rows(3).to_parquet(tmp_path / "mine" / "data" / "test-00000-of-00001.parquet")
    assert load(str(tmp_path / "mine")).counts()["test"] == [1] * 3


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (("a", "b"), "has the splits a, b: none is for training or testing"),
        (("train", "val", "dev"), "val and dev are the same split"),
    ],
)
def test_splits_that_say_nothing(save, splits, said):
    with pytest.raises(UserError, match=said):
        load(save({name: rows(3) for name in splits}))


@pytest.mark.parametrize("root", ["", "/no/such folder", "a/b/c", "me/pets@"])
def test_names_that_can_be_neither(root):
    with pytest.raises(UserError, match=r"config.data.root: expected a data set of the Hugging Face Hub as USER"):
        load(root)


def test_a_damaged_folder(save, tmp_path):
    root = save({"train": rows(3), "test": rows(3)})
    (tmp_path / "pets" / "train" / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"config.data.root: datasets cannot load .*pets: JSONDecodeError"):
        load(root)


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(hf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the library datasets: pip install -e '.\[hf\]'"):
        load("me/pets")


def test_the_hub_is_asked_for_a_name(monkeypatch, hub_cache, tmp_path, capsys):
    """What `datasets` does with a hub is its own; here: what it is asked for, and what is said without a hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    with pytest.raises(UserError) as caught:
        load("me/pets")
    for hint in ("config.data.root is 'me/pets'", f"from {NOWHERE} (Connect", str(tmp_path / "datasets"), "save_to"):
        assert hint in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        load("me/pets")

    asked = []

    def load_from_cache(*arguments, **options):
        asked.append((*arguments, options))
        return datasets.DatasetDict(train=rows(6), test=rows(3))

    (tmp_path / "datasets" / "me___pets").mkdir(parents=True)
    monkeypatch.setattr(datasets, "load_dataset", load_from_cache)
    dataset = load("me/pets:plain@v1")
    assert asked == [("me/pets", "plain", {"revision": "v1"})]
    assert (dataset.name, dataset.notes["hf"]) == ("pets:plain", "me/pets:plain@v1")
    assert "the copy in" in capsys.readouterr().out


def test_a_name_that_the_hub_does_not_have(monkeypatch, emulated_hub, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    with pytest.raises(UserError, match="there is no such public repository: correct the name"):
        load("me/pets")


def test_a_data_set_of_the_hub(monkeypatch, emulated_hub, tmp_path, capsys):
    """Through the library itself, from a hub here and then from its cache."""
    for name, folder in (("HF_DATASETS_CACHE", "datasets"), ("HF_MODULES_CACHE", "modules")):
        monkeypatch.setattr(datasets.config, name, tmp_path / folder)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", constants.ENDPOINT)
    files = {}
    for part, count in (("train", 6), ("test", 3)):
        rows(count).to_parquet(tmp_path / part)
        files[f"data/{part}-00000-of-00001.parquet"] = (tmp_path / part).read_bytes()
    emulated_hub.repositories["datasets/me/Pets"] = [("a" * 40, files)]
    dataset = load("me/Pets")
    assert dataset.counts() == {"train": [2] * 3, "val": [0] * 3, "test": [1] * 3}
    assert dataset.notes["hf"] == f"me/Pets@{'a' * 40}"
    assert dataset.test.load(2)[0, -1].tolist() == [2] * 3
    use_endpoint(monkeypatch, NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    capsys.readouterr()
    again = load("me/Pets")
    assert "counts (HF_HUB_OFFLINE is set" in capsys.readouterr().out
    assert again.notes["listing_sha256"] == dataset.notes["listing_sha256"]
