"""A whole job with workdir, images and backbone in a bucket; Orbax writes there through TensorStore.

It has to end with the very results of the same job on a disk, also after a SIGKILL.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from dear_jax.clip.checkpoints.weights import EMBEDDED
from dear_jax.files import local_copy, storage
from dear_jax.roles.role_map import EMBEDDED as EMBEDDED_MAP
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
SMALL = [
    "--config.data.source=folder",
    "--config.seeds=1",
    "--config.data.shots=4",
    "--config.train.epochs=6",
    "--config.train.batch_size=2",
    "--config.train.checkpoint_every=3",
    "--config.train.log_every=1",
]
COLORS = {"blue circle": (0, 0, 255), "green_circle": (0, 255, 0), "red": (255, 0, 0), "yellow": (255, 255, 0)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # of aiohttp, to gcsfs
]


@pytest.fixture
def disk(tmp_path) -> epath.Path:
    """A folder with `photos`, four classes of twelve pictures, and `clip`, the embedded CLIP."""
    generator = np.random.default_rng(0)
    for name, color in COLORS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(12):
            image = np.clip(np.array(color) + generator.integers(-40, 40, (50, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{number:02d}.png")
    shutil.copytree(EMBEDDED["embedded"], tmp_path / "clip")
    return epath.Path(tmp_path)


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "compiled"


def start(place: epath.Path, cache: Path, *more: str) -> subprocess.Popen:
    """The job on what lies at a place, which may be a disk or a bucket."""
    places = [
        f"--config.data.root={place / 'photos'}",
        f"--config.backbone={place / 'clip'}",
        f"--workdir={place / 'run'}",
    ]
    return launch(cache, CONFIG, *SMALL, *places, *more)


def launch(cache: Path, *flags: str) -> subprocess.Popen:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "dear_jax.main", *flags],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def results(place: epath.Path) -> dict:
    found = json.loads((place / "run" / "results.json").read_text())
    return {name: found[name] for name in ("variants", "zero_shot")}


def rows(place: epath.Path) -> list[dict]:
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def test_a_killed_job_in_a_bucket_ends_as_on_a_disk(bucket, disk, cache):
    finish(start(disk, cache))
    local_copy.upload(disk / "photos", bucket / "photos")
    local_copy.upload(disk / "clip", bucket / "clip")

    process = start(bucket, cache)
    deadline = time.monotonic() + 200
    while not (bucket / "run" / "checkpoints" / "6" / "commit_success.txt").exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    output = finish(start(bucket, cache))
    assert "run was opened by process" in output
    assert "Going on from the checkpoint of step" in output
    assert results(bucket) == results(disk)
    assert rows(bucket) == rows(disk)
    files = storage.files_below(bucket / "run")
    assert {"config.json", "results.md", "splits.json", "checkpoints/24/sha256.json"} <= set(files)
    assert ".lock" not in files
    assert not (REPOSITORY / "gs:").exists()

    again = finish(start(bucket, cache))
    assert "This run was finished before" in again
    assert "Copying" not in again


def test_a_damaged_checkpoint_in_a_bucket_is_set_aside(bucket, disk, cache):
    local_copy.upload(disk / "photos", bucket / "photos")
    embedded = "--config.backbone=embedded"
    finish(start(bucket, cache, embedded))
    step = bucket / "run" / "checkpoints" / "24"
    expected = results(bucket)
    (bucket / "run" / "results.json").unlink()
    (step / "about" / "metadata").write_text("{}")
    output = finish(start(bucket, cache, embedded))
    assert f"checkpoint {step} (about/metadata has changed) is damaged" in output
    assert "Going on from the checkpoint of step 21" in output
    assert results(bucket) == expected
    assert (bucket / "run" / "checkpoints_damaged" / "24" / "about" / "metadata").exists()


def test_roles_are_found_into_a_bucket_as_on_a_disk(bucket, tmp_path, cache):
    roles = bucket / "roles"
    find = f"--config={REPOSITORY / 'configs' / 'find_roles.py'}"
    small = ["--config.roles.images=100", "--config.data.dataset=world_objects"]
    finish(launch(cache, find, *small, f"--workdir={roles}"))
    finish(launch(cache, find, *small, f"--workdir={tmp_path / 'roles'}"))
    names = {"roles.html", "images.npz", "role_map.png", "entropy.svg", "heads.pdf", "heads.csv", "ablation.json"}
    assert names <= set(storage.entries(roles)[1])
    assert (roles / "role_map.json").read_text() == (tmp_path / "roles" / "role_map.json").read_text()
    with (
        (roles / "images.npz").open("rb") as file,
        np.load(file) as mine,
        np.load(tmp_path / "roles/images.npz") as other,
    ):
        np.testing.assert_array_equal(mine["images"], other["images"])


def test_an_adapter_in_a_bucket_is_evaluated(bucket, cache):
    """And its role map lies there as well."""
    run = bucket / "run"
    (bucket / "map.json").write_text(EMBEDDED_MAP.read_text())
    train = [CONFIG, "--config.seeds=1", "--config.data.shots=1", "--config.train.epochs=1"]
    finish(launch(cache, *train, f"--config.dear.mask.role_map={bucket / 'map.json'}", f"--workdir={run}"))
    finish(launch(cache, CONFIG, "--config.job=evaluate", f"--config.run={run}", f"--workdir={bucket / 'again'}"))
    measured = json.loads((bucket / "again" / "results.json").read_text())["variants"]
    assert measured == json.loads((run / "results.json").read_text())["variants"]
