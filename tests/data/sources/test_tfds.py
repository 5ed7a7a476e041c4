"""TFDS: all data sets mocked, one prepared for real and read without TensorFlow, CoOp's splits found in records.

What needs TensorFlow is skipped where it is not installed.
"""

import dataclasses
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from dear_jax.data import loading, pipeline
from dear_jax.data.datasets import DATASETS
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.sources import tfds_records
from dear_jax.data.sources.tfds_names import readable
from dear_jax.errors import UserError
from dear_jax.files import local_copy
from tests.repository import REPOSITORY

tfds = pytest.importorskip("tensorflow_datasets")

NAMES = [name for name, row in DATASETS.items() if row.tfds]
BY_FILES = [name for name in NAMES if DATASETS[name].tfds_path]
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own
    pytest.mark.timeout(600),  # its import alone may take a while
]


@pytest.fixture
def names_folder(tmp_path) -> Path:
    """With a classnames.txt for the WordNet ids that TFDS knows."""
    folder = tmp_path / "names"
    folder.mkdir()
    labels = tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()
    (folder / "classnames.txt").write_text("".join(f"{wnid} name of {wnid}\n" for wnid in labels))
    return folder


def test_fourteen_are_in_tfds():
    assert len(NAMES) == 14
    assert set(DATASETS) - set(NAMES) >= {"fgvc_aircraft", "folder"}


@needs_tensorflow
@pytest.mark.parametrize("name", NAMES)
def test_all_data_sets_mocked(name, tmp_path, names_folder, monkeypatch):
    # mock_data draws boxes that end before they start, and TFDS refuses to encode those.
    monkeypatch.setattr(tfds.features.BBoxFeature, "encode_example", lambda self, box: np.zeros(4, np.float32))
    for archive in tfds_records.IMAGENET_ARCHIVES:
        (tmp_path / "data" / "downloads" / "manual").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "downloads" / "manual" / archive).touch()
    row = DATASETS[name]
    splits = str(names_folder) if row.layout in ("wnids", "indices") else ""
    monkeypatch.setattr(loading, "problems", lambda dataset: [])  # 40 records leave most classes without an image
    with tfds.testing.mock_data(num_examples=40, policy=tfds.testing.MockPolicy.USE_CODE):
        dataset = load_dataset(name, Places("tfds", str(tmp_path / "data"), splits))
        if name in ("imagenet_a", "imagenet_r"):  # a random 40 of the 1000 labels
            assert len(dataset.class_names) == len(set(dataset.test.labels.tolist()))
        else:
            assert len(dataset.class_names) == row.classes
        assert len(set(dataset.class_names)) == len(dataset.class_names)
        if not row.tfds_splits[2]:
            assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 40
        for split, own in zip((dataset.train, dataset.val, dataset.test), row.tfds_splits, strict=True):
            assert (len(split) > 0) == bool(own) or not row.tfds_splits[2]
            for index in range(min(3, len(split))):
                image = split.load(index)
                assert image.dtype == np.uint8
                assert image.shape[2] == 3
    assert dataset.notes["source"] == "tfds"
    assert dataset.notes["tfds"] == row.tfds
    assert not dataset.notes["comparable"]


def test_names_are_those_of_the_split_files():
    """Facts read from CoOp's split files."""
    assert readable("stanford_cars", ["Audi TT Hatchback 2011", "smart fortwo Convertible 2012"], {}) == [
        "2011 Audi TT Hatchback",
        "2012 smart fortwo Convertible",
    ]
    assert readable("sun397", ["/a/abbey", "/a/apartment_building/outdoor"], {}) == [
        "abbey",
        "outdoor apartment_building",
    ]
    assert readable("ucf101", ["ApplyEyeMakeup", "TaiChi"], {}) == ["Apply_Eye_Makeup", "Tai_Chi"]
    assert readable("caltech101", ["faces_easy", "leopards", "ant"], {}) == [None, "leopard", "ant"]
    assert readable("eurosat", ["SeaLake", "River"], {}) == ["Sea or Lake", "River"]
    assert readable("oxford_pets", ["British_Shorthair"], {}) == ["british_shorthair"]
    assert readable("oxford_flowers", ["pink-yellow dahlia?"], {}) == ["pink-yellow dahlia"]
    assert readable("dtd", ["banded"], {}) == ["banded"]
    assert readable("imagenet", ["n01440764"], {"n01440764": "tench"}) == ["tench"]


PREPARE = """
import io, sys
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import dtd, eurosat

def picture(number):
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(buffer, "PNG")
    buffer.seek(0)
    return buffer

def of_dtd(self, first, count):
    names = tfds.core.tfds_path("image_classification/dtd_key_attributes.txt").read_text().split()
    for number in range(first, first + count):
        name = f"{names[number % 47]}/{number}.jpg"
        yield name, {"file_name": name, "image": picture(number), "label": number % 47}

def of_eurosat(self):
    for number in range(60):
        label = eurosat._LABELS[number % 10]
        yield str(number), {"image": picture(number), "label": label, "filename": f"{label}_{number}.jpg"}

dtd.Dtd._split_generators = lambda self, _: {
    "train": of_dtd(self, 0, 94), "validation": of_dtd(self, 94, 47), "test": of_dtd(self, 141, 47)
}
eurosat.Eurosat._split_generators = lambda self, _: {"train": of_eurosat(self)}
for name in ("dtd:3.0.1", "eurosat/rgb:2.0.0"):
    tfds.builder(name, data_dir=sys.argv[1], file_format=sys.argv[2]).download_and_prepare()
"""


def prepare(data_dir: Path, file_format: str = "array_record") -> None:
    command = [sys.executable, "-c", PREPARE, str(data_dir), file_format]
    subprocess.run(command, check=True, capture_output=True, timeout=500)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """DTD and EuroSAT with pictures of our own, prepared by TFDS; picture i is of brightness i."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder)
    return folder


def brightness(split) -> list[int]:
    return [int(split.load(index)[0, 0, 0]) for index in range(len(split))]


@needs_tensorflow
def test_prepared_data_is_read_without_tensorflow(data_dir):
    program = (
        "import sys\n"
        "from dear_jax.data.loading import Places, load_dataset\n"
        f"dataset = load_dataset('dtd', Places('tfds', {str(data_dir)!r}))\n"
        "print(dataset.counts()['train'], dataset.train.load(5).shape, dataset.class_names[:2])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[0] == f"{[2] * 47} (64, 64, 3) ('banded', 'blotchy')", run.stderr


@needs_tensorflow
def test_tfds_splits_and_the_kept_index(data_dir):
    dataset = load_dataset("dtd", Places("tfds", str(data_dir)))
    for split, first, count in ((dataset.train, 0, 94), (dataset.val, 94, 47), (dataset.test, 141, 47)):
        found = brightness(split)
        assert sorted(found) == list(range(first, first + count))
        assert [number % 47 for number in found] == split.labels.tolist()
    assert dataset.notes["splits"] == "TFDS's own (train: train, val: validation, test: test)"
    assert dataset.notes["remark"].startswith("Not comparable with published tables: splits, and base and new")
    assert (data_dir / "dtd" / "3.0.1" / "dear_jax_index_train.npz").exists()
    again = load_dataset("dtd", Places("tfds", str(data_dir)))
    np.testing.assert_array_equal(again.train.labels, dataset.train.labels)


@needs_tensorflow
@pytest.mark.parametrize("workers", [0, 1])
def test_the_pipeline_reads_records_from_threads_and_processes(workers, data_dir):
    dataset = load_dataset("dtd", Places("tfds", str(data_dir)))
    expected = brightness(dataset.test)  # the files are open when the workers start
    batches = pipeline.eval_batches(dataset.test, 10, 8, workers)
    found = np.concatenate([batch["image"][batch["valid"]] for batch in batches])
    assert found[:, 0, 0, 0].tolist() == expected


@needs_tensorflow
def test_without_a_test_split_all_are_drawn(data_dir):
    dataset = load_dataset("eurosat", Places("tfds", str(data_dir)))
    assert dataset.counts() == {"train": [3] * 10, "val": [1] * 10, "test": [2] * 10}
    everything = [*brightness(dataset.train), *brightness(dataset.val), *brightness(dataset.test)]
    assert sorted(everything) == list(range(60))
    other = load_dataset("eurosat", Places("tfds", str(data_dir), split_seed=1))
    assert brightness(other.train) != brightness(dataset.train)
    assert dataset.class_names[-1] == "Sea or Lake"


@needs_tensorflow
@pytest.mark.parametrize("below", ["", "dtd"])
def test_split_files_are_found_in_the_records(below, data_dir, tmp_path):
    """Across TFDS's own splits, in the file's order, with its labels and names."""
    own = load_dataset("dtd", Places("tfds", str(data_dir)))
    entries = [[f"{own.class_names[n % 47]}/{n}.jpg", 46 - n % 47, f"name {46 - n % 47}"] for n in range(188)]
    listing = {"test": entries[:94], "val": entries[94:141], "train": entries[141:]}
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(listing))
    dataset = load_dataset("dtd", Places("tfds", str(data_dir), str(tmp_path)))
    assert brightness(dataset.test) == list(range(94))
    assert brightness(dataset.train) == list(range(141, 188))
    assert dataset.test.labels[:2].tolist() == [46, 45]
    assert dataset.class_names[46] == "name 46"
    assert "found by file name" in dataset.notes["splits"]

    listing["test"][0][0] = "banded/absent.jpg"
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(listing))
    places = Places("tfds", str(data_dir), str(tmp_path))
    with pytest.raises(UserError, match=r"^1 of the images that dtd \(split_zhou.*banded/absent\.jpg"):
        load_dataset("dtd", places)
    with pytest.raises(UserError, match=r"TFDS has no record of banded/absent\.jpg"):
        load_dataset("dtd", dataclasses.replace(places, skip_bad=True)).test.load(0)


@pytest.mark.parametrize(
    ("name", "split", "label", "file", "path"),
    [  # from CoOp's split files
        ("oxford_pets", "train", "Abyssinian", "Abyssinian_122.jpg", "Abyssinian_122.jpg"),
        ("caltech101", "test", "faces", "image_0201.jpg", "Faces/image_0201.jpg"),
        ("stanford_cars", "train", "", "00467", "cars_train/00467.jpg"),
        ("oxford_flowers", "test", "", "image_00144.jpg", "image_00144.jpg"),
        ("food101", "train", "apple_pie", "apple_pie/3065929", "apple_pie/3065929.jpg"),
        ("sun397", "train", "/a/abbey", "/a/abbey/sun_anunhwbsxmmdzwmk.jpg", "a/abbey/sun_anunhwbsxmmdzwmk.jpg"),
        ("dtd", "train", "banded", "banded/banded_0117.jpg", "banded/banded_0117.jpg"),
        ("eurosat", "train", "AnnualCrop", "AnnualCrop_2365.jpg", "AnnualCrop/AnnualCrop_2365.jpg"),
    ],
)
def test_file_names_of_tfds_are_paths_of_coop(name, split, label, file, path):
    from dear_jax.data.sources import tfds as tfds_source

    records = tfds_records.Records("", [], (label,), np.array([0]), (file,))
    assert tfds_source._paths(DATASETS[name], split, records) == [path.lower()]


def test_split_files_can_be_found_for_eight_of_nine():
    listed = {name for name in NAMES if DATASETS[name].layout == "split file"}
    assert listed - set(BY_FILES) == {"ucf101"}


def test_the_middle_frame_of_a_video(monkeypatch):
    from tensorflow_datasets.proto import tf_example_pb2

    from dear_jax.data.sources.tfds import RecordLoader

    example = tf_example_pb2.Example()
    for number in range(5):
        buffer = io.BytesIO()
        Image.fromarray(np.full((2, 2, 3), number, np.uint8)).save(buffer, "PNG")
        example.features.feature["video"].bytes_list.value.append(buffer.getvalue())
    records = tfds_records.Records("ucf101", [example.SerializeToString()], ("a",), np.array([0]), ("",))
    assert RecordLoader((records,), np.array([[0, 0]]))(0)[0, 0, 0] == 2


def no_tensorflow(monkeypatch) -> None:
    monkeypatch.setattr(tfds_records, "_has_tensorflow", lambda: False)


@pytest.mark.parametrize("name", ["oxford_pets", "ucf101"])
def test_preparing_needs_tensorflow(name, tmp_path, monkeypatch):
    no_tensorflow(monkeypatch)
    with pytest.raises(UserError) as caught:
        load_dataset(name, Places("tfds", str(tmp_path)))
    message = str(caught.value)
    assert f"{DATASETS[name].tfds} is not prepared in {tmp_path}, and preparing it needs TensorFlow" in message
    assert "pip install -e '.[tfds]'" in message
    assert f"tfds.builder('{DATASETS[name].tfds}'" in message


def test_without_root_and_source_tfds_is_meant(monkeypatch, tmp_path):
    no_tensorflow(monkeypatch)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"oxford_iiit_pet:4\.0\.0 is not prepared in"):
        load_dataset("oxford_pets")


def test_another_version_is_refused(tmp_path):
    (tmp_path / "oxford_iiit_pet" / "3.2.0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"TFDS version mismatch: .* holds version 3\.2\.0, and .* 4\.0\.0"):
        load_dataset("oxford_pets", Places("tfds", str(tmp_path)))


def test_a_version_that_the_installed_tfds_does_not_know(tmp_path, monkeypatch):
    import dataclasses

    monkeypatch.setattr(tfds_records, "_has_tensorflow", lambda: True)
    row = dataclasses.replace(DATASETS["oxford_pets"], tfds="oxford_iiit_pet:9.0.0")
    with pytest.raises(UserError, match=r"TFDS version mismatch: tensorflow-datasets .* cannot open .*only: 4\.0\.0"):
        tfds_records.open_splits(row, str(tmp_path))


@needs_tensorflow
def test_another_file_format_is_refused(tmp_path):
    prepare(tmp_path, "tfrecord")
    with pytest.raises(UserError, match="is not in the file format array_record, the one with random access"):
        load_dataset("dtd", Places("tfds", str(tmp_path)))


def test_imagenet_says_which_archives_it_needs(tmp_path, names_folder):
    with pytest.raises(UserError, match=r"put ILSVRC2012_img_train\.tar and ILSVRC2012_img_val\.tar into"):
        load_dataset("imagenet", Places("tfds", str(tmp_path), str(names_folder)))


@pytest.mark.parametrize(
    ("name", "splits", "message"),
    [
        ("fgvc_aircraft", "", r"fgvc_aircraft is not in TFDS\. Give the folder that holds fgvc_aircraft/"),
        ("imagenet", "", r"WordNet ids such as n01440764.*classnames\.txt.*--config\.data\.splits"),
        ("imagenet_r", "nowhere", r"class names are missing: expected nowhere/classnames\.txt or"),
        ("ucf101", "nowhere", r"TFDS keeps no file names of ucf101.*they can for caltech101, oxford_pets"),
        ("dtd", "nowhere", r"nowhere/split_zhou_DescribableTextures\.json is missing"),
    ],
)
def test_what_tfds_cannot_give_is_refused(name, splits, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_dataset(name, Places("tfds", str(tmp_path), splits))


@needs_tensorflow
def test_prepared_data_in_a_bucket_is_copied_once(data_dir, bucket, capsys):
    local_copy.upload(epath.Path(data_dir) / "eurosat", bucket / "data" / "eurosat")
    places = Places("tfds", str(bucket / "data"))
    found, expected = load_dataset("eurosat", places), load_dataset("eurosat", Places("tfds", str(data_dir)))
    assert found.notes == expected.notes
    np.testing.assert_array_equal(found.train.load(3), expected.train.load(3))
    assert f"from {bucket}/data/eurosat/rgb/2.0.0" in capsys.readouterr().out
    load_dataset("eurosat", places)
    assert "Copying" not in capsys.readouterr().out
