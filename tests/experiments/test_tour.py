"""The notebook runs from its first cell to its last, and shows what it promises."""

import json

import pytest

from tests.repository import REPOSITORY

TOUR = REPOSITORY / "experiments" / "tour.ipynb"


def outputs(notebook) -> list[str]:
    """The kinds of what its cells show, in their order."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [" ".join(sorted({kind for out in cell["outputs"] for kind in out.get("data", {})})) for cell in cells]


def test_it_is_stored_with_its_pictures_and_small():
    notebook = json.loads(TOUR.read_text())
    assert sum("image/png" in kinds for kinds in outputs(notebook)) >= 6
    assert TOUR.stat().st_size < 1 << 20
    assert "/tmp" not in TOUR.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_runs(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    stored = nbformat.read(TOUR, 4)
    notebook = nbformat.read(TOUR, 4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert outputs(notebook) == outputs(stored)
    assert (tmp_path / "runs" / "tour" / "run" / "report.html").exists()
