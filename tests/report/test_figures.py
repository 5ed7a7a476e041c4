"""Figures of a role map are written for every size of map."""

import numpy as np
import pytest
from PIL import Image

from dear_jax.report import figures


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 8), (8, 16)])
def test_every_figure_is_a_picture_with_something_on_it(make_report, tmp_path, layers, heads):
    role_map, thumbnails, _ = make_report(layers, heads)
    role_map["heads"][0][0]["descriptions"][0]["text"] = "costs $5 or $x_{$ to make"
    role_map["backbone"] = "a $\\name"
    figures.draw_role_map(role_map, tmp_path / "map")
    figures.draw_entropy_histogram(role_map, tmp_path / "entropy")
    figures.draw_heads(role_map, thumbnails, tmp_path / "heads")
    for name in ("map", "entropy", "heads"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width >= 600
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text()
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
