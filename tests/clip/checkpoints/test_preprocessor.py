"""What preprocessor_config.json asks for is followed or refused."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import hub, preprocessor, weights
from dear_jax.clip.config import OPENAI_MEAN, OPENAI_STD
from dear_jax.errors import UserError

OLD = {"crop_size": 48, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 48}
NEW = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, "do_rescale": True, "do_pad": None}


@pytest.mark.parametrize("values", [{}, OLD, NEW, {"image_processor": NEW}, {"rescale_factor": 0.00392156862745098}])
def test_what_this_package_does(values):
    assert preprocessor.read(values, 48, "file") == (OPENAI_MEAN, OPENAI_STD)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"image_mean": [0.5, 0, 1], "image_std": [0.2, 0.3, 4]}, lambda v: (v / 255 - [0.5, 0, 1]) / [0.2, 0.3, 4]),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, lambda v: v / 127.5 - 1),
    ],
)
def test_scaling_and_normalisation_are_followed(values, expected, tmp_path):
    shutil.copytree(weights.EMBEDDED["embedded"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    config = weights.read_config(hub.Directory(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 2, 3)).astype(np.uint8)
    found = vision.normalize(jnp.asarray(pixels), config)
    np.testing.assert_allclose(found, expected(pixels.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"do_center_crop": False}, "do_center_crop is False, expected True"),
        ({"do_resize": False}, "do_resize is False, expected True"),
        ({"do_rescale": False}, "do_rescale is False, expected True"),
        ({"do_normalize": False}, "do_normalize is False, expected True"),
        ({"resample": 2}, "resample is 2, expected 'bicubic'"),
        ({"size": {"height": 48, "width": 48}}, r"size is .*'height': 48.*, expected \{'shortest_edge': 48\}"),
        ({"size": 56}, r"size is 56, expected"),
        ({"crop_size": {"height": 40, "width": 40}}, r"crop_size is .*, expected .*'height': 48"),
        ({"do_pad": True}, "do_pad is True, expected False"),
        ({"resample": 0, "do_resize": False}, "do_resize is False, .* resample is 0"),
        ({"image_mean": [0.5]}, r"file: image_mean is \[0.5\], expected three numbers"),
        ({"image_std": [0.0, 0.2, 0.2]}, "image_std is .*, expected three positive"),
        ({"image_std": [1e-300, 0.2, 0.2]}, "image_std is .*, expected three positive"),
        ({"image_mean": [10**400, 0.2, 0.2]}, "image_mean is .*, expected three numbers"),
        ({"image_std": [float("nan"), 0.2, 0.2]}, "image_std is .*, expected three positive"),
        ({"rescale_factor": 0}, "rescale_factor is 0, expected a number, 1/255"),
    ],
)
def test_what_this_package_does_not_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        preprocessor.read(values, 48, "file")
