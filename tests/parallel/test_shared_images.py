"""`predict`, `retrieve` and `find_roles` on two processes: images are shared out, and the files are those of one."""

import csv
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.repository import REPOSITORY

ROUNDING = dict(rtol=0, atol=2e-5)  # of probabilities and cosines: products of other batches, float32
BITS = 1e-3  # as in tests/jobs/test_find_roles.py


def start(name: str, workdir, *flags: str) -> subprocess.Popen:
    config = f"--config={REPOSITORY / 'configs' / f'{name}.py'}"
    return subprocess.Popen(
        [sys.executable, "-m", "dear_jax.main", config, f"--workdir={workdir}", *flags],
        cwd=REPOSITORY,
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run_alone_and_together(name: str, folder, *flags: str, code: int = 0):
    """The workdirs of one process and of two, and what the second printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = [f"--config.compute.coordinator=127.0.0.1:{port}", "--config.compute.processes=2"]
    pair = [start(name, folder / "two", *flags, *common, f"--config.compute.process={i}") for i in range(2)]
    outputs = [process.communicate(timeout=500)[0] for process in pair]
    assert [process.returncode for process in pair] == [code, code], outputs
    alone = start(name, folder / "one", *flags)
    output, _ = alone.communicate(timeout=500)
    assert alone.returncode == code, output
    return folder / "one", folder / "two", outputs[1]


def rows(path):
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture
def photos(tmp_path):
    """Seven images, one of them damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        noise = np.random.default_rng(number).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no image")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_predictions(tmp_path, photos, embedded_run):
    flags = [f"--config.run={embedded_run}", f"--config.images={photos}", "--config.eval.batch_size=4"]
    flags.append("--config.predict.explain=true")
    one, two, said = run_alone_and_together("predict", tmp_path, *flags, code=2)
    assert "1 of 7 images could not be read" in said
    expected, found = (rows(path / "probabilities.csv") for path in (one, two))
    assert len(found) == 8
    assert [row[0] for row in found] == [row[0] for row in expected]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        values, wanted = (np.array([float(cell or -1) for cell in row[1:]]) for row in (ours, theirs))
        np.testing.assert_allclose(values, wanted, **ROUNDING)
    assert found[4][1:] == [""] * 3
    assert [row[:2] for row in rows(two / "predictions.csv")] == [row[:2] for row in rows(one / "predictions.csv")]
    with np.load(one / "explanations.npz") as expected_maps, np.load(two / "explanations.npz") as maps:
        np.testing.assert_allclose(maps["maps"], expected_maps["maps"], rtol=0, atol=1e-3)
    assert len([*(two / "maps").iterdir()]) == len([*(one / "maps").iterdir()])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_retrieval(tmp_path, photos, embedded_run):
    flags = [f"--config.run={embedded_run}", f"--config.images={photos}", "--config.retrieve.queries=2"]
    one, two, _ = run_alone_and_together("retrieve", tmp_path, *flags, code=2)
    expected, found = (rows(path / "rankings.csv")[1:] for path in (one, two))
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    np.testing.assert_allclose(*(np.array([float(row[4]) for row in table]) for table in (found, expected)), **ROUNDING)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_roles(tmp_path):
    flags = ["--config.roles.images=90", "--config.roles.batch_size=35", "--config.data.dataset=world_objects"]
    one, two, said = run_alone_and_together("find_roles", tmp_path, *flags)
    assert "Roles:" not in said
    expected, found = (json.loads((path / "role_map.json").read_text()) for path in (one, two))
    np.testing.assert_allclose(found["entropy"], expected["entropy"], rtol=0, atol=BITS)
    assert (found["roles"], found["data"]) == (expected["roles"], expected["data"])
    effects, wanted = (json.loads((path / "ablation.json").read_text()) for path in (two, one))
    np.testing.assert_allclose(effects["heads"], wanted["heads"], rtol=0, atol=0.2)  # a few images at a tie
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
