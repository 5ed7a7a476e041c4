"""Several processes of one job (`config.compute`): they start together, agree on errors, and stop together.

The same command starts on every host. Each process prepares the images of its own devices; the first alone writes
files and prints.
"""

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dear_jax.errors import UserError, first_line
from dear_jax.files.workdir import RunConfig, Workdir
from dear_jax.parallel import agreement, connection
from dear_jax.parallel.connection import Relay

LOST = 75  # exit code after another process was lost: the same command may be tried again
DETECTION_SECONDS = 20  # for the answer of a Cloud TPU's metadata server
SCHEDULERS = {"gketpu": "a Cloud TPU slice", "gcetpu": "a Cloud TPU slice", "slurm": "Slurm", "ompi": "Open MPI"}
HEARTBEAT_SECONDS = 150  # after which JAX aborts, heard every half of it: more than `connection.SILENCE_SECONDS`
NOTICE_SECONDS = 5  # within which a relay sees that another process has ended
SHUTDOWN_SECONDS = 30  # that a process waits for the others at its end


_relays: list[Relay] = []  # of this process's connections
_leaving = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a job: the keys of `config.compute` that say how they find each other."""

    coordinator: str = ""  # HOST:PORT of process 0
    processes: int = 0
    process: int = -1  # which of them this is
    distributed: str = "false"  # find the three above from a TPU slice, Slurm or Open MPI: auto (if any) | true | false
    coordinator_timeout: int = 300  # seconds

    @property
    def given(self) -> tuple[bool, bool, bool]:
        """Which of the first three are given."""
        return bool(self.coordinator), self.processes > 0, self.process >= 0


class Found(NamedTuple):
    """Processes of one job that JAX's own detection sees."""

    where: str = ""  # one of SCHEDULERS' titles; empty: this process is alone
    processes: int = 1
    process: int = 0  # which of them this is
    coordinator: str = ""  # HOST:PORT of process 0


def detect() -> Found:
    """The processes around this one: of a Cloud TPU slice of several hosts, of Slurm or of Open MPI.

    Nothing is joined. The environment answers at once, a Cloud TPU's metadata server within `DETECTION_SECONDS`.
    """
    answer = [Found()]

    def ask() -> None:
        # What `jax.distributed.initialize()` looks at; JAX has no public way to ask without joining.
        from jax._src.clusters import ClusterEnv

        for kind in ClusterEnv._cluster_types:
            if kind.name not in SCHEDULERS or not kind.is_env_present():
                continue
            # A shell within an allocation has the allocation's number of tasks, and is one step of a single task.
            alone = kind.name == "slurm" and os.environ.get("SLURM_STEP_NUM_TASKS") == "1"
            several = 1 if alone else kind.get_process_count()
            if several > 1:
                answer[0] = Found(SCHEDULERS[kind.name], several)  # whatever is still to be found out about them
                port = os.environ.get("JAX_COORDINATOR_PORT")
                address = kind.get_coordinator_address(timeout_secs=DETECTION_SECONDS, override_coordinator_port=port)
                answer[0] = Found(SCHEDULERS[kind.name], several, kind.get_process_id(), address)
            return

    def answered() -> None:
        with contextlib.suppress(Exception):  # no metadata server, or one that says otherwise: no slice
            ask()

    thread = threading.Thread(target=answered, daemon=True)
    thread.start()
    thread.join(DETECTION_SECONDS)
    return answer[0]


def start(cluster: Cluster, job: str, together: bool) -> None:
    """Join the other processes, before anything else is done with JAX; a plain run has none.

    Args:
        cluster: how they find each other.
        job: the name of the job.
        together: whether it is one that several processes can run together.

    Raises:
        UserError: keys that contradict each other; a coordinator that cannot be reached in time.
    """
    given = cluster.given
    found = detect() if cluster.distributed != "false" and not any(given) else Found()
    if not (any(given) or cluster.distributed == "true" or found.processes > 1):
        return
    if not together:
        reason = (
            f"it finds itself among {found.processes} of {found.where}. Start it once, or give "
            "config.compute.distributed=false"
            if found.where
            else "leave config.compute.coordinator, .processes, .process and .distributed alone"
        )
        raise UserError(f"config.job={job} runs in one process: {reason}.")
    if any(given) and not all(given):
        raise UserError(
            "config.compute.coordinator (HOST:PORT of process 0), config.compute.processes (how many) and "
            "config.compute.process (which of them this is, from 0) go together, found "
            f"{cluster.coordinator!r}, {cluster.processes} and {cluster.process}. Give all three, or none and "
            "config.compute.distributed=auto on a TPU pod or under Slurm."
        )
    _check(cluster)
    if all(given):
        found = Found("", cluster.processes, cluster.process, cluster.coordinator)
    # JAX ends the process itself, with a stack trace, when its own time is up: so ours comes first.
    message = _describe_failure(cluster, found, "the time is up")
    limit = threading.Timer(cluster.coordinator_timeout, _give_up, [message])
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            **(_watched(found) if found.coordinator else {}),  # what we do not find JAX may, in Kubernetes
            initialization_timeout=cluster.coordinator_timeout + SHUTDOWN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(_describe_failure(cluster, found, first_line(error))) from error
    finally:
        limit.cancel()


def _watched(found: Found) -> dict[str, Any]:
    """What JAX is to join with, so that the end of a process is noticed by a relay, and answered here."""
    host, _, port = found.coordinator.rpartition(":")
    if found.process == 0:
        service = f"{connection.HERE}:{connection.free_port()}"
        _relays.append(Relay((connection.HERE, int(service.rpartition(":")[2])), leave, int(port)))
        addresses = dict(coordinator_address=service, coordinator_bind_address=service)
    else:
        _relays.append(Relay((host.strip("[]"), int(port)), leave))
        addresses = dict(coordinator_address=_relays[-1].address)
    return {**addresses, "num_processes": found.processes, "process_id": found.process}


def _give_up(message: str) -> None:
    """End the process as after any user's mistake, from a thread beside the one that waits."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _check(cluster: Cluster) -> None:
    host, colon, port = cluster.coordinator.rpartition(":")
    given = all(cluster.given)
    if given and not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UserError(
            f"config.compute.coordinator is {cluster.coordinator!r}, expected HOST:PORT, such as 10.0.0.1:8476."
        )
    if given and cluster.process >= cluster.processes:
        raise UserError(
            f"config.compute.process is {cluster.process}, expected 0 to {cluster.processes - 1}, because "
            f"config.compute.processes is {cluster.processes}."
        )
    if cluster.coordinator_timeout < 1:
        raise UserError(
            f"config.compute.coordinator_timeout is {cluster.coordinator_timeout}, expected 1 second or more."
        )


def _describe_failure(cluster: Cluster, found: Found, reason: str) -> str:
    if found.where:
        return (
            f"this process is one of {found.processes} of {found.where}, and they were not all joined within "
            f"{cluster.coordinator_timeout} seconds ({reason}). Start the same command for each of them, or give "
            "config.compute.distributed=false, to run this one alone; config.compute.coordinator_timeout is the limit."
        )
    if not cluster.coordinator:
        return (
            f"config.compute.distributed: the processes of this job could not be found or joined ({reason}). It works "
            "on a TPU pod and under Slurm or Open MPI; elsewhere give config.compute.coordinator, .processes and "
            ".process."
        )
    if cluster.process == 0:
        return (
            f"process 0 waited {cluster.coordinator_timeout} seconds at {cluster.coordinator} for "
            f"{cluster.processes} processes, and they did not all come ({reason}). Start every process with the same "
            "config.compute.coordinator and .processes, and each with its own .process; the port must be free; "
            "config.compute.coordinator_timeout is the limit."
        )
    return (
        f"the coordinator {cluster.coordinator} could not be reached, or not all {cluster.processes} processes came, "
        f"within {cluster.coordinator_timeout} seconds ({reason}). Check that process 0 runs on that host with this "
        "port and that no firewall is between; config.compute.coordinator_timeout is the limit."
    )


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A part of the start after which a user's mistake that one process has met is raised by all of them.

    Raises:
        UserError: that of the first process that has one.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as caught:
        error = caught
    messages = agreement.gather(str(error) if error else "") if jax.process_count() > 1 else []
    if error:
        raise error
    for process, message in enumerate(messages):
        if message:
            raise UserError(f"process {process}: {message}")


@contextlib.contextmanager
def open_workdir(config: RunConfig, path: epath.Path) -> Iterator[tuple[Workdir, str]]:
    """The workdir, which the first process alone locks and writes, and the SHA-256 of its config.json."""
    with contextlib.ExitStack() as stack:
        with together():
            files = stack.enter_context(Workdir(path, writes=is_first()))
            config_sha256 = files.check_config(config)
        yield files, config_sha256


@contextlib.contextmanager
def losses_answered() -> Iterator[None]:
    """Answer what a computation raises when another process of the job is lost; after it, processes may end."""
    try:
        yield
        agreement.from_first(None)  # nobody ends before all are done
    except UserError:
        raise
    except Exception as error:
        # Communication fails in words of many kinds, and before the relay has seen why: it ends this process meanwhile.
        if jax.process_count() > 1:
            time.sleep(NOTICE_SECONDS)
            if isinstance(error, jax.errors.JaxRuntimeError):
                leave(first_line(error))
        raise
    finally:
        for relay in _relays:
            relay.close()


def leave(why: str) -> NoReturn:
    """Say in one paragraph that another process of the job is lost, and end this one at once, from any thread.

    JAX would otherwise wait for the lost one at exit.
    """
    _leaving.acquire()  # for good: whoever notices first says so
    print(  # on a line of its own, below a progress bar
        f"\nerror: another process of this job is lost, or the network between them ({why}). Start all processes again "
        "with the same --workdir: they go on from the last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST)


class SharedRequest:
    """A request to stop that any process may get (a signal), answered by all of them after the same step.

    What the processes say at a step is read at the next one, so that no device waits for it.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._pending: jax.Array | None = None
        if self._several:
            mesh = Mesh(np.asarray(jax.devices()), ("device",))
            self._spread = NamedSharding(mesh, PartitionSpec("device"))
            self._largest = jax.jit(jax.numpy.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def update(self, requested: int) -> int:
        """What to answer now, given this process's own request (0: none)."""
        if not self._several:
            return requested
        previous = self._pending
        own = np.full(len(jax.devices()), requested, np.int32)
        flags = jax.make_array_from_callback(own.shape, self._spread, lambda index: own[index])
        self._pending = self._largest(flags)
        return 0 if previous is None else int(np.asarray(previous))
