"""A disk that fills up during a run: one paragraph, nothing lost. A limit on the size of files stands for it."""

import subprocess
import sys

import pytest

from tests.repository import REPOSITORY

FLAGS = ["--config=configs/base2new.py", "--config.seeds=1", "--config.data.shots=1", "--config.train.epochs=2"]
LIMITED = """
import resource, sys
from dear_jax.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_full_disk_is_answered_in_one_paragraph_and_the_run_goes_on_later(tmp_path):
    flags = [*FLAGS, f"--workdir={tmp_path}"]
    stopped = subprocess.run([sys.executable, "-c", LIMITED, *flags], cwd=REPOSITORY, capture_output=True, text=True)
    assert stopped.returncode == 2, stopped.stderr
    assert "Traceback" not in stopped.stderr
    (error,) = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot save step" in error
    assert "File too large" in error
    assert not (tmp_path / "results.json").exists()
    command = [sys.executable, "-m", "dear_jax.main", *flags]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    assert (tmp_path / "results.json").exists()
