import subprocess
import sys
import zipfile

import pytest

from tests.repository import REPOSITORY


@pytest.mark.slow
def test_a_built_wheel_holds_the_whole_package_and_nothing_else(tmp_path):
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
    assert names == {str(path.relative_to(REPOSITORY)) for path in package if "__pycache__" not in path.parts}
    assert any(name.startswith("dear_jax/clip/embedded/") and name.endswith("model.safetensors") for name in names)
    assert "dear-jax = dear_jax.main:cli" in entry_points
