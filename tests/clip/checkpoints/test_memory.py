"""Loading never holds much more than the parameters themselves."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dear_jax.clip.checkpoints import names
from dear_jax.clip.config import CLIPConfig, TowerConfig

LARGE_PATCH14 = CLIPConfig(
    vision=TowerConfig(1024, 24, 16, 4096, "quick_gelu", 1e-5),
    text=TowerConfig(768, 12, 12, 3072, "quick_gelu", 1e-5),
    image_size=224,
    patch_size=14,
    embed_dim=768,
    vocab_size=49408,
    context_length=77,
    bos_token_id=49406,
    eos_token_id=49407,
)

# In a process of its own, because the peak of a process never falls; read from /proc, because getrusage's starts at the
# size of the process that started this one. Importing is part of the baseline.
MEASURE = """
import json, re, sys
from dear_jax.clip.checkpoints import hub, weights
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
config, params = weights.load_params(hub.locate(sys.argv[1]))
weights.fingerprint(params)
print(json.dumps([peak() - before, 4 * weights.parameter_count(params)]))
"""


@pytest.fixture(scope="module")
def tensors():
    return {name: np.zeros(shape, np.float32) for name, shape in names.shapes(LARGE_PATCH14).items()}


def write(directory: Path, form: str, tensors: dict[str, np.ndarray]) -> None:
    """A checkpoint in one of the forms in which they are published."""
    (directory / "config.json").write_text(json.dumps(LARGE_PATCH14.to_hf()))
    if form == "bin":
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, directory / "pytorch_model.bin")
        return
    if form == "float16":
        tensors = {name: value.astype(np.float16) for name, value in tensors.items()}
    count = 2 if form == "shards" else 1
    table = {name: f"model-{1 + index % count}.safetensors" for index, name in enumerate(tensors)}
    for file in set(table.values()):
        save_file({name: tensors[name] for name in tensors if table[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("form", ["float32", "float16", "shards", "bin"])
def test_loading_large_patch14_peaks_below_1_3_times_its_parameters(form, tensors):
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), form, tensors)
        command = [sys.executable, "-c", MEASURE, directory]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    used, size = json.loads(result.stdout)
    print(f"{form}: {used / size:.3f} times the {size / 2**20:.0f} MiB of the parameters")
    assert size == sum(value.nbytes for value in tensors.values())
    assert 1.0 < used / size < 1.3
