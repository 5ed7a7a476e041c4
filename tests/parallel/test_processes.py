"""Several processes of one job: the same results as one device, checkpoints for any layout, and what goes wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dear_jax import jobs
from dear_jax.errors import UserError
from dear_jax.parallel import processes, sharding
from dear_jax.parallel.processes import Cluster
from tests.repository import REPOSITORY

# Three seeds on four devices, so that images or runs are filled up: 20 steps, 5 checkpoints.
JOB = [
    f"--config={REPOSITORY / 'configs' / 'base2new.py'}",
    "--config.seeds=1,2,3",
    "--config.data.shots=2",
    "--config.train.epochs=2",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=4",
]
# Float32 rounding: products in another order over 20 steps. Measured: losses within 1e-5 relative, adapters 1e-7.
LOSSES = dict(rtol=2e-4, atol=1e-5)
ADAPTERS = dict(rtol=0, atol=1e-5)


def launch(workdir: Path, cache: Path, devices: int, *flags: str) -> subprocess.Popen:
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "dear_jax.main", *JOB, f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        [*command, f"--config.compute.compilation_cache={cache}"],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def launch_two(workdir: Path, cache: Path) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = [f"--config.compute.coordinator=127.0.0.1:{port}", "--config.compute.processes=2"]
    return [launch(workdir, cache, 2, *common, f"--config.compute.process={number}") for number in range(2)]


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def rows(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while not any((workdir / "checkpoints").glob(str(step))):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_run(workdir: Path, expected: Path) -> None:
    found, wanted = (
        np.array([row["loss"]["default"] for row in rows(path) if "loss" in row]) for path in (workdir, expected)
    )
    assert wanted.shape == (20, 3)
    np.testing.assert_allclose(found, wanted, **LOSSES)
    adapters = load_file(workdir / "adapter.safetensors")
    for name, value in load_file(expected / "adapter.safetensors").items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(adapters[name], value, **ADAPTERS, err_msg=name)
        else:
            np.testing.assert_array_equal(adapters[name], value, err_msg=name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory, cache) -> Path:
    workdir = tmp_path_factory.mktemp("one")
    finish(launch(workdir, cache, 1))
    return workdir


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_of_two_devices_give_what_one_device_gives(tmp_path, cache, on_one_device):
    first, second = launch_two(tmp_path, cache)
    assert "DeAR, mean" in finish(first)
    assert "DeAR, mean" not in finish(second)
    assert_same_run(tmp_path, on_one_device)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_process_stops_the_other_and_one_device_goes_on(tmp_path, cache, on_one_device):
    first, second = launch_two(tmp_path, cache)
    wait_for_step(tmp_path, 8, first)
    second.kill()
    second.communicate()
    start = time.monotonic()
    output, _ = first.communicate(timeout=60)
    assert time.monotonic() - start < 60
    assert first.returncode == processes.LOST, output
    assert output.count("error: another process of this job is lost") == 1
    assert "Traceback" not in output
    assert "***" not in output  # JAX's own watch, which aborts
    assert "Going on from the checkpoint of step" in finish(launch(tmp_path, cache, 1))
    assert_same_run(tmp_path, on_one_device)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_go_on_from_one_device_and_both_answer_a_signal(tmp_path, cache, on_one_device):
    alone = launch(tmp_path, cache, 1)
    wait_for_step(tmp_path, 4, alone)
    alone.send_signal(signal.SIGTERM)
    alone.communicate(timeout=100)
    assert alone.returncode == 128 + signal.SIGTERM
    first, second = launch_two(tmp_path, cache)
    assert "Going on from the checkpoint of step" in finish(first)
    finish(second)
    assert_same_run(tmp_path, on_one_device)


def test_a_coordinator_that_cannot_be_reached_is_said_so_in_time(tmp_path):
    flags = ["--config.compute.coordinator=127.0.0.1:9", "--config.compute.processes=2", "--config.compute.process=1"]
    process = launch(tmp_path / "run", tmp_path / "cache", 1, *flags, "--config.compute.coordinator_timeout=2")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2, output
    assert "error: the coordinator 127.0.0.1:9 could not be reached" in output
    assert "within 2 seconds" in output
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(coordinator="host:1"), "go together"),
        (dict(process=1), "go together"),
        (dict(coordinator="host", processes=2, process=0), "expected HOST:PORT"),
        (dict(coordinator="host:99999", processes=2, process=0), "expected HOST:PORT"),
        (dict(coordinator="host:1", processes=2, process=2), "expected 0 to 1"),
        (dict(coordinator="host:1", processes=2, process=0, coordinator_timeout=0), "1 second or more"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        processes.start(Cluster(**keys), "train", together=True)


@pytest.mark.parametrize("job", [name for name, row in jobs.JOBS.items() if not row.together])
def test_jobs_of_one_process_say_so(job):
    with pytest.raises(UserError, match=rf"config\.job={job} runs in one process"):
        processes.start(Cluster("host:1", processes=2, process=0), job, jobs.find(job).together)


def test_jobs_that_several_processes_run_together():
    assert [name for name, row in jobs.JOBS.items() if row.together] == [
        *("train", "evaluate", "predict", "retrieve", "find_roles")
    ]


def test_a_plain_run_joins_nothing():
    processes.start(Cluster(), "pretrain", together=False)


@pytest.mark.parametrize("mesh", [(2, 2), (3, 1), (4,), (0, 4), (-2, -2)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(mesh):
    with pytest.raises(UserError, match=r"the 6 devices of this job: one of \(1, 6\), \(2, 3\)"):
        sharding.make_layout(1, [1], 4, 10, devices=[None] * 6, shape=mesh)
