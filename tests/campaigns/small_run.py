"""The training run that the campaigns damage and kill: 20 classes of the embedded world, 8 steps, in half a minute."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.repository import REPOSITORY

FLAGS = [
    f"--config={REPOSITORY / 'configs' / 'base2new.py'}",
    "--config.seeds=1,2",
    "--config.data.shots=2",
    "--config.train.epochs=2",
    "--config.train.checkpoint_every=2",
    "--config.train.log_every=1",
]
# Fewer test images than the world has: what is measured matters here, not how well.
CODE = """
import sys
from dear_jax import main
from dear_jax.data.world import tasks
tasks.TEST_SCENES = 200
sys.exit(main.main(sys.argv[1:]))
"""


def start(workdir: Path, cache: Path, more: Sequence[str] = ()) -> subprocess.Popen:
    """A process that trains in `workdir`, or goes on there; compiled programs are kept in `cache`."""
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", CODE, *FLAGS, f"--workdir={workdir}", *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | settings, text=True, stdout=pipe, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen) -> str:
    """What a process prints that must end well."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {output}")
    return output
