"""The stream of contributions: what is in the file, and that an interrupted run goes on with it."""

import errno
import json
import os

import numpy as np
import pytest

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.roles import contributions

FLOAT16 = 1e-3  # relative rounding of what is kept


@pytest.fixture
def backbone(clip_config, clip_params):
    return Backbone("tiny", clip_config, clip_params, None, "f" * 16)


def make_split(count=7, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return ImageSplit(np.arange(count), lambda index: images[index]), images


def run(backbone, split, folder, batch_size=3):
    return contributions.stream(backbone, split, 2, folder=folder, batch_size=batch_size)


def test_every_image_is_decomposed(backbone, tmp_path):
    split, images = make_split()
    array = run(backbone, split, tmp_path)
    assert (array.shape, array.dtype) == ((7, 2, 8, 16), np.float16)
    expected = contributions.compile_heads(backbone, 2)(images)
    np.testing.assert_allclose(array, expected, rtol=FLOAT16, atol=FLOAT16)
    np.testing.assert_array_equal(np.load(tmp_path / contributions.ARRAY), array)


def test_an_interrupted_run_goes_on_from_the_decomposed_batches(backbone, tmp_path, capsys):
    split, images = make_split()
    whole = np.array(run(backbone, split, tmp_path / "whole"))
    loaded = []

    def load(index):
        loaded.append(index)
        if len(loaded) > 2 and index >= 5 and not resumed:
            raise KeyboardInterrupt
        return images[index]

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        run(backbone, ImageSplit(split.labels, load), tmp_path / "broken")
    done = json.loads((tmp_path / "broken" / contributions.PROGRESS).read_text())["done"]
    assert done == 3
    resumed = True
    loaded.clear()
    array = run(backbone, ImageSplit(split.labels, load), tmp_path / "broken")
    assert "Going on after the first 3 of 7 images" in capsys.readouterr().out
    assert sorted(set(loaded) - {0}) == [3, 4, 5, 6]  # image 0 names the split
    np.testing.assert_array_equal(array, whole)
    loaded.clear()
    run(backbone, ImageSplit(split.labels, load), tmp_path / "broken")
    assert set(loaded) == {0, 6}


@pytest.mark.parametrize("name", [contributions.PROGRESS, contributions.ARRAY])
def test_a_damaged_file_is_made_again(name, backbone, tmp_path):
    split, _ = make_split()
    whole = np.array(run(backbone, split, tmp_path))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    np.testing.assert_array_equal(run(backbone, split, tmp_path), whole)


def test_other_images_are_not_taken_for_these(backbone, tmp_path):
    first = np.array(run(backbone, make_split(seed=0)[0], tmp_path))
    second = run(backbone, make_split(seed=1)[0], tmp_path)
    assert not np.allclose(first, second)


def test_contributions_that_are_not_finite_are_refused(backbone, tmp_path):
    params = {**backbone.params, "visual_projection": {"kernel": np.full((32, 16), np.nan, np.float32)}}
    damaged = Backbone("tiny", backbone.config, params, None, "0" * 16)
    with pytest.raises(UserError, match="Image 0 gives head contributions that are not finite"):
        run(damaged, make_split()[0], tmp_path)
    assert not (tmp_path / contributions.PROGRESS).exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_disk_without_space_for_all_of_them_is_refused_before_any_is_made(backbone, tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UserError, match=rf"cannot make a file of .* MiB \({os.strerror(number)}\)"):
        run(backbone, make_split()[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_its_space_from_the_start(backbone, tmp_path, monkeypatch):
    """Where the operating system has no call for it, too."""
    split, _ = make_split()
    whole = np.array(run(backbone, split, tmp_path / "one"))
    monkeypatch.setattr(contributions, "ZEROS", 1000)
    monkeypatch.delattr(os, "posix_fallocate")
    np.testing.assert_array_equal(run(backbone, split, tmp_path / "other"), whole)
    for name in ("one", "other"):
        about = (tmp_path / name / contributions.ARRAY).stat()
        assert 512 * about.st_blocks >= about.st_size


@pytest.mark.parametrize("content", [b'{"made_of": 1}', b"[" * 100_000, b"[]"])
def test_a_progress_that_says_nothing_is_passed_over(content, backbone, tmp_path):
    split, _ = make_split()
    whole = np.array(run(backbone, split, tmp_path))
    (tmp_path / contributions.PROGRESS).write_bytes(content)
    np.testing.assert_array_equal(run(backbone, split, tmp_path), whole)
