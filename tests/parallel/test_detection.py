"""A job that finds its other processes by itself: a simulated environment of each kind, and a machine that is alone."""

import os
import socket
import subprocess
import sys
import threading

import jax
import pytest
from jax._src.clusters import cloud_tpu_cluster

from dear_jax.errors import UserError
from dear_jax.parallel import connection, processes
from dear_jax.parallel.processes import Cluster, Found
from tests.repository import REPOSITORY

AUTO = Cluster(distributed="auto")


def slurm(process: int, tasks: int = 2, job: int = 4096) -> dict[str, str]:
    """What `srun` sets."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(process: int, tasks: int = 2, job: int = 4096) -> dict[str, str]:
    """What `mpirun` of Open MPI sets."""
    return {
        "OMPI_MCA_orte_hnp_uri": f"{4096 * job}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(tasks),
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, after those of any scheduler that the tests run under are taken away."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "MEGASCALE_")):
            monkeypatch.delenv(name)

    def place(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return place


@pytest.fixture
def metadata(environment, monkeypatch):
    """A host of a Cloud TPU whose metadata server has these values, and 404 for all others."""
    values: dict[str, str] = {}
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    answer = lambda key: (values[key], 200) if key in values else ("", 404)  # noqa: E731
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", answer)
    return values


@pytest.fixture
def joined(monkeypatch):
    """What JAX is asked to join with."""
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    return calls


def test_alone(environment, joined):
    assert processes.detect() == Found()
    processes.start(AUTO, "train", together=True)
    processes.start(AUTO, "pretrain", together=False)
    assert not joined


@pytest.mark.parametrize(("variables", "where"), [(slurm, "Slurm"), (open_mpi, "Open MPI")])
def test_tasks_of_a_scheduler(environment, joined, monkeypatch, variables, where):
    environment(variables(0))
    found = processes.detect()
    assert found[:3] == (where, 2, 0)
    assert found.coordinator.startswith("127.0.0.1:")
    monkeypatch.setenv("JAX_COORDINATOR_PORT", str(connection.free_port()))
    processes.start(Cluster(distributed="false"), "train", together=True)
    assert not joined
    processes.start(AUTO, "train", together=True)
    (arguments,) = joined
    assert (arguments["num_processes"], arguments["process_id"]) == (2, 0)
    with pytest.raises(UserError, match=rf"runs in one process: it finds itself among 2 of {where}"):
        processes.start(AUTO, "pretrain", together=False)


ONE_STEP = slurm(0, tasks=8) | {"SLURM_STEP_NUM_TASKS": "1"}  # a shell within an allocation of eight


@pytest.mark.parametrize("variables", [slurm(0, tasks=1), open_mpi(0, tasks=1), ONE_STEP])
def test_a_single_task_is_alone(environment, joined, variables):
    environment(variables)
    processes.start(AUTO, "pretrain", together=False)
    assert not joined


def test_a_tpu_slice_of_several_hosts(metadata, joined):
    metadata |= {"agent-worker-number": "1", "worker-network-endpoints": "a:1:10.0.0.1,b:2:10.0.0.2", "tpu-env": ""}
    assert processes.detect() == Found("a Cloud TPU slice", 2, 1, "10.0.0.1:8482")
    metadata["tpu-env"] = "MEGASCALE_NUM_SLICES: '2'\n"
    assert processes.detect().processes == 4
    processes.start(AUTO, "train", together=True)
    assert len(joined) == 1


def test_a_tpu_slice_of_kubernetes(environment, metadata):
    hosts = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"
    environment({"TPU_WORKER_HOSTNAMES": hosts, "TPU_WORKER_ID": "3", "MEGASCALE_NUM_SLICES": "1"})
    assert processes.detect() == Found("a Cloud TPU slice", 4, 3, "10.0.0.1:8482")


def test_a_slice_whose_first_host_has_no_address_yet_is_no_machine_alone(environment, metadata, monkeypatch):
    monkeypatch.setattr(processes, "DETECTION_SECONDS", 0.1)
    environment({"TPU_WORKER_HOSTNAMES": "not-yet.invalid,b", "TPU_WORKER_ID": "0", "MEGASCALE_NUM_SLICES": "1"})
    assert processes.detect() == Found("a Cloud TPU slice", 2)


def test_a_single_tpu_host_is_alone(metadata, joined):
    metadata |= {"agent-worker-number": "0", "worker-network-endpoints": "10.0.0.1", "tpu-env": ""}
    processes.start(AUTO, "pretrain", together=False)
    assert not joined


@pytest.mark.parametrize("says", ["nothing", "no more"])
def test_a_tpu_host_whose_metadata_server_does_not_answer_is_alone(metadata, monkeypatch, says):
    def get_metadata(key):
        if says == "no more":
            raise ConnectionError
        hang.wait(100)

    hang = threading.Event()
    monkeypatch.setattr(processes, "DETECTION_SECONDS", 0.1)
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", get_metadata)
    assert processes.detect() == Found()
    hang.set()


@pytest.mark.parametrize("variables", [slurm, open_mpi])
def test_two_processes_join_without_a_word(variables):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = (
        "from dear_jax.parallel import processes; from dear_jax.parallel.processes import Cluster; import jax; "
        "processes.start(Cluster(distributed='auto'), 'train', True); print(jax.process_index(), jax.process_count())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=os.environ | variables(number) | {"JAX_COORDINATOR_PORT": port, "JAX_PLATFORMS": "cpu"},
            text=True,
            stdout=subprocess.PIPE,
        )
        for number in range(2)
    ]
    assert [process.communicate(timeout=200)[0].strip() for process in started] == ["0 2", "1 2"]


def test_tasks_that_do_not_come_are_said_so_in_time(tmp_path):
    command = [sys.executable, "-m", "dear_jax.main", f"--config={REPOSITORY / 'configs' / 'base2new.py'}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}", "--config.compute.coordinator_timeout=2"],
        cwd=REPOSITORY,
        env=os.environ | slurm(0) | {"JAX_COORDINATOR_PORT": port, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert "error: this process is one of 2 of Slurm, and they were not all joined within 2 seconds" in done.stderr
    assert "config.compute.distributed=false" in done.stderr
    assert "Traceback" not in done.stderr
