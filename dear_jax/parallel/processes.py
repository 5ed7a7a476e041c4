"""Several processes of one job (`config.compute`): they start together, agree on errors, and stop together.

The same command starts on every host. Each process prepares the images of its own devices; the first alone writes
files and prints.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.parallel import agreement as hosts

JOBS = ("train", "evaluate")  # that several processes can run together
LOST = 75  # exit code after another process was lost: the same command may be tried again
HEARTBEAT_SECONDS = 30  # after which a process that is not heard of counts as dead, and the others stop


def start(config: ConfigDict) -> None:
    """Join the other processes, before anything else is done with JAX; a plain run has none.

    Raises:
        UserError: keys that contradict each other; a coordinator that cannot be reached in time.
    """
    compute = config.compute
    given = (bool(compute.coordinator), compute.processes > 0, compute.process >= 0)
    if not any(given) and not compute.distributed:
        return
    if config.job not in JOBS:
        raise UserError(
            f"config.job={config.job} runs in one process: leave config.compute.coordinator, .processes, .process and "
            f".distributed alone. Several processes run {' and '.join(JOBS)}."
        )
    if any(given) and not all(given):
        raise UserError(
            "config.compute.coordinator (HOST:PORT of process 0), config.compute.processes (how many) and "
            "config.compute.process (which of them this is, from 0) go together, found "
            f"{compute.coordinator!r}, {compute.processes} and {compute.process}. Give all three, or none and "
            "config.compute.distributed=true on a TPU pod or under Slurm."
        )
    _check(compute, all(given))
    arguments = (
        dict(coordinator_address=compute.coordinator, num_processes=compute.processes, process_id=compute.process)
        if all(given)
        else {}
    )
    # JAX ends the process itself, with a stack trace, when its own time is up: so ours comes first.
    limit = threading.Timer(compute.coordinator_timeout, _give_up, [_describe_failure(compute, "the time is up")])
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=compute.coordinator_timeout + HEARTBEAT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        raise UserError(_describe_failure(compute, reason)) from error
    finally:
        limit.cancel()


def _give_up(message: str) -> None:
    """End the process as after any user's mistake, from a thread beside the one that waits."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _check(compute: ConfigDict, given: bool) -> None:
    host, colon, port = compute.coordinator.rpartition(":")
    if given and not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UserError(
            f"config.compute.coordinator is {compute.coordinator!r}, expected HOST:PORT, such as 10.0.0.1:8476."
        )
    if given and compute.process >= compute.processes:
        raise UserError(
            f"config.compute.process is {compute.process}, expected 0 to {compute.processes - 1}, because "
            f"config.compute.processes is {compute.processes}."
        )
    if compute.coordinator_timeout < 1:
        raise UserError(
            f"config.compute.coordinator_timeout is {compute.coordinator_timeout}, expected 1 second or more."
        )


def _describe_failure(compute: ConfigDict, reason: str) -> str:
    if not compute.coordinator:
        return (
            f"config.compute.distributed: the processes of this job could not be found or joined ({reason}). It works "
            "on a TPU pod and under Slurm or Open MPI; elsewhere give config.compute.coordinator, .processes and "
            ".process."
        )
    if compute.process == 0:
        return (
            f"process 0 waited {compute.coordinator_timeout} seconds at {compute.coordinator} for "
            f"{compute.processes} processes, and they did not all come ({reason}). Start every process with the same "
            "config.compute.coordinator and .processes, and each with its own .process; the port must be free; "
            "config.compute.coordinator_timeout is the limit."
        )
    return (
        f"the coordinator {compute.coordinator} could not be reached, or not all {compute.processes} processes came, "
        f"within {compute.coordinator_timeout} seconds ({reason}). Check that process 0 runs on that host with this "
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
    messages = hosts.gather(str(error) if error else "") if jax.process_count() > 1 else []
    if error:
        raise error
    for process, message in enumerate(messages):
        if message:
            raise UserError(f"process {process}: {message}")


@contextlib.contextmanager
def open_workdir(config: ConfigDict, path: epath.Path) -> Iterator[tuple[Workdir, str]]:
    """The workdir, which the first process alone locks and writes, and the SHA-256 of its config.json."""
    with contextlib.ExitStack() as stack:
        with together():
            files = stack.enter_context(Workdir(path, writes=is_first()))
            config_sha256 = files.check_config(config)
        yield files, config_sha256


@contextlib.contextmanager
def losses_answered() -> Iterator[None]:
    """Say in one paragraph that another process of the job is lost, and leave at once.

    JAX would otherwise wait for the lost one at exit.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(
            f"error: process {jax.process_index()}: another process of this job is lost, or the network between them "
            f"({str(error).splitlines()[0]}). Start all processes again with the same --workdir: they go on from the "
            "last checkpoint.",
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
