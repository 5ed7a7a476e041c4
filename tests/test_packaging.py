import os
import subprocess
import sys
import zipfile

import pytest

from tests.repository import REPOSITORY


@pytest.mark.slow
def test_a_built_wheel_holds_the_package_and_the_configs_and_works_in_an_empty_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("dear_jax-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt"))).decode()
    package = (path for path in (REPOSITORY / "dear_jax").rglob("*") if path.is_file())
    configs = {f"dear_jax/configs/{path.name}" for path in (REPOSITORY / "configs").iterdir() if path.is_file()}
    files = {str(path.relative_to(REPOSITORY)) for path in package if "__pycache__" not in path.parts}
    assert names == files | configs
    assert any(name.startswith("dear_jax/clip/embedded/") and name.endswith("model.safetensors") for name in names)
    assert "dear-jax = dear_jax.main:cli" in entry_points
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    for config in ("base2new", "configs/base2new.py:oxford_pets"):
        done = subprocess.run(
            [sys.executable, "-m", "dear_jax.main", f"--config={config}", "--config.dta=1"],
            cwd=tmp_path / "empty",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert "unknown config key 'config.dta'. Did you mean config.data" in done.stderr, done.stderr
