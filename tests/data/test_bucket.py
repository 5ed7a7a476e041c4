"""Data sets in a bucket are those on a disk, image by image."""

import pickle

import numpy as np
import pytest
from etils import epath
from PIL import Image

from dear_jax.data.loading import Places, load_dataset
from dear_jax.errors import UserError
from dear_jax.files import local_copy


def assert_same(found, expected):
    of_disks = {"in_train_and_test"}  # the files of a bucket are not compared
    assert found.notes == {key: value for key, value in expected.notes.items() if key not in of_disks}
    for split in ("train", "val", "test"):
        one, other = getattr(found, split), getattr(expected, split)
        np.testing.assert_array_equal(one.labels, other.labels)
        for index in range(min(len(one), 5)):
            np.testing.assert_array_equal(one.load(index), other.load(index))


@pytest.mark.parametrize("name", ["eurosat", "fgvc_aircraft", "imagenet_a"])
def test_coops_folders(name, bucket, tmp_path, write_layout):
    write_layout(name, tmp_path)
    local_copy.upload(epath.Path(tmp_path), bucket / "data")
    found = load_dataset(name, Places(root=str(bucket / "data")))
    assert_same(found, load_dataset(name, Places(root=str(tmp_path))))
    again = pickle.loads(pickle.dumps(found.test.load))  # as for a worker process
    np.testing.assert_array_equal(again(0), found.test.load(0))


def test_folders_of_ones_own(bucket, tmp_path):
    for place in ("a/1.png", "a/below/2.png", "a/3.png", "b/4.png", "b/5.png", "b/6.png"):
        (tmp_path / "mine" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), ord(place[-5]), np.uint8)).save(tmp_path / "mine" / place)
    (tmp_path / "mine" / "classnames.txt").write_text("a\tapple\n")
    local_copy.upload(epath.Path(tmp_path / "mine"), bucket / "mine")
    found = load_dataset("folder", Places(root=str(bucket / "mine")))
    assert_same(found, load_dataset("folder", Places(root=str(tmp_path / "mine"))))
    assert found.class_names == ("apple", "b")


def test_what_is_absent_is_named(bucket, tmp_path, write_layout):
    write_layout("eurosat", tmp_path)
    (tmp_path / "eurosat" / "2750" / "class_3" / "test_0.jpg").unlink()
    local_copy.upload(epath.Path(tmp_path), bucket)
    with pytest.raises(UserError, match=f"1 of the images that .* are not there: {bucket}/eurosat/2750/class_3/test_0"):
        load_dataset("eurosat", Places(root=str(bucket)))
    (bucket / "eurosat" / "split_zhou_EuroSAT.json").unlink()
    with pytest.raises(UserError, match=f"The split file {bucket}/eurosat/split_zhou_EuroSAT.json is missing"):
        load_dataset("eurosat", Places(root=str(bucket)))
    with pytest.raises(UserError, match=f"expected the folder 'dtd' of dtd in {bucket}. It holds eurosat"):
        load_dataset("dtd", Places(root=str(bucket)))
    with pytest.raises(UserError, match=r"oxford_iiit_pet:4\.0\.0 is not prepared in gs://.*gcloud storage cp"):
        load_dataset("oxford_pets", Places("tfds", str(bucket)))
    images = load_dataset("eurosat", Places(root=str(tmp_path), skip_bad=True)).test.load
    (tmp_path / "eurosat" / "2750" / "class_3").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be read: No such file or directory"):
        images(6)
