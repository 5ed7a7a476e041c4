"""Every program of a run is compiled once: for all its steps and class sets, and with a cache for later starts, too."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.repository import REPOSITORY

SHORT = ["--config.seeds=1", "--config.data.shots=2", "--config.train.epochs=2", "--config.train.checkpoint_every=3"]
PROGRAMS = ("update", "encode_classes", "_encode_prompts", "predict_batch")


def start(workdir: Path, *flags: str) -> tuple[Counter, Counter, str]:
    """How often each function was compiled (or read from the cache), how often read, and what was printed."""
    command = [sys.executable, "-m", "dear_jax.main", f"--config={REPOSITORY / 'configs' / 'base2new.py'}"]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {"JAX_LOG_COMPILES": "1"}
    done = subprocess.run(
        [*command, *SHORT, *flags, f"--workdir={workdir}"],
        **dict(cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=400),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = re.findall(r"Finished XLA compilation of jit\((\w+)\)", done.stderr)
    read = re.findall(r"Persistent compilation cache hit for 'jit_(\w+)'", done.stderr)
    return Counter(compiled), Counter(read), done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_compilation_of_each_program(tmp_path):
    cache, run = f"--config.compute.compilation_cache={tmp_path / 'cache'}", tmp_path / "run"
    compiled, read, _ = start(run, cache)
    # For two class sets of as many classes, and all steps of two epochs.
    assert {name: compiled[name] for name in PROGRAMS} == dict.fromkeys(PROGRAMS, 1)
    assert not read.keys() & set(PROGRAMS)

    (run / "results.json").unlink()
    latest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(latest)
    compiled, read, output = start(run, cache)
    assert "Going on from the checkpoint" in output
    assert {name: (compiled[name], read[name]) for name in PROGRAMS} == dict.fromkeys(PROGRAMS, (1, 1))
