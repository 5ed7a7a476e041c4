"""Overlays, the table, the arrays and the page of explanations: all there, escaped, and the numbers as they were."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from dear_jax.report import heat_maps
from dear_jax.report.heat_maps import Explained, OfImage
from tests.report.page import HOSTILE, Page, check_self_contained

SIZE, SIDE = 44, 4  # a patch has a pixel in its middle


def explained(path, text, seed, attention=True):
    random = np.random.default_rng(seed)
    patches = random.normal(size=(SIDE, SIDE))
    parts = dict(zip(list(heat_maps.PARTS)[1:], random.normal(size=6).tolist(), strict=True))
    return Explained(
        path=path,
        text=text,
        logit=float(patches.sum() + sum(parts.values())),
        patches=patches,
        parts=parts,
        heads=random.normal(size=(3, 2)),
        attention=random.random((SIDE, SIDE)) if attention else None,
        looking=5 if attention else 0,
    )


@pytest.fixture
def images() -> list[OfImage]:
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    paths = [("all paths", False), ("class", True)]
    rows = [
        [explained(path, text, n, attention) for path, attention in paths for text in ("a", HOSTILE)] for n in range(2)
    ]
    return [OfImage(1, HOSTILE, pictures[0], rows[0]), OfImage(7, "=b.png", pictures[1], rows[1])]


def test_an_overlay_goes_from_the_least_to_the_greatest_value():
    grey = np.full((SIZE, SIZE, 3), 100, np.uint8)
    values = np.zeros((SIDE, SIDE))
    values[1, 2] = 3.0
    found = heat_maps.overlay(grey, values).astype(float)
    for (row, column), color in {(38, 38): (68, 1, 84), (16, 27): (253, 231, 37)}.items():  # the ends of viridis
        expected = heat_maps.OPACITY * np.array(color) + (1 - heat_maps.OPACITY) * 100
        np.testing.assert_allclose(found[row, column], expected, atol=1)
    brightness = found.sum(-1)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (16, 27)
    np.testing.assert_array_equal(found[:3, :3], np.broadcast_to(found[0, 0], (3, 3, 3)))
    assert heat_maps.overlay(grey, np.ones((SIDE, SIDE))).shape == grey.shape  # a map without any difference


def test_all_files(images):
    files = dict(heat_maps.files_of(images, {"bad.png": "no image"}, HOSTILE, "about", 3))
    maps = [name for name in files if name.startswith("maps/")]
    assert [name for name in maps if "0001" in name] == [
        "maps/0001-all_paths-1-contribution.png",
        "maps/0001-all_paths-2-contribution.png",
        "maps/0001-class-1-contribution.png",
        "maps/0001-class-attention.png",
        "maps/0001-class-2-contribution.png",
    ]
    for name in maps:
        with Image.open(io.BytesIO(files[name])) as picture:
            assert picture.size == (SIZE, SIZE)

    rows = list(csv.DictReader(io.StringIO(files[heat_maps.TABLE].decode())))
    assert [row["number"] for row in rows] == ["1"] * 4 + ["7"] * 4 + [""]
    assert rows[-1]["image"] == "bad.png"
    assert rows[-1]["problem"] == "no image"
    assert rows[4]["image"] == "'=b.png"
    for row in rows[:-1]:
        total = sum(float(row[name]) for name in heat_maps.PARTS.values())
        assert total == pytest.approx(float(row["logit"]), abs=1e-4)
        assert row["map"] in files
    assert [row["heads looking"] for row in rows[:4]] == ["", "", "5", "5"]

    with np.load(io.BytesIO(files[heat_maps.ARRAYS])) as arrays:
        assert arrays["maps"].shape == (8, SIDE, SIDE)
        assert arrays["heads"].shape == (8, 3, 2)
        np.testing.assert_array_equal(arrays["maps"][7], images[1].rows[3].patches)
        assert np.isnan(arrays["attention"][0]).all()
        np.testing.assert_allclose(arrays["logits"], [row.logit for image in images for row in image.rows], rtol=1e-6)


def test_the_page(images):
    text = heat_maps.html(images, HOSTILE, "about", 3)
    check_self_contained(text)
    page = Page(text)
    assert not page.find("script")
    assert page.text.count("Parts of the logit") == 8
    assert len([found for _, found in page.tags if found.get("role") == "img"]) == 2 + 8 + 4
    assert "3 more images were not explained" in page.text
    assert "mean over 5 heads" in page.text
    heads = images[0].rows[0].heads
    layer, head = np.unravel_index(heads.argmax(), heads.shape)
    assert f"{layer + 1}.{head} ({heads.max():+.2f})" in page.text


def test_heads_that_may_not_look_are_said(images):
    row = images[0].rows[2]
    blind = Explained(**{**vars(row), "looking": 0, "attention": np.zeros((SIDE, SIDE))})
    text = heat_maps.html([OfImage(1, "a.png", images[0].picture, [blind])], "title", "about", 0)
    assert "no head of this path may look at a patch" in text
    assert "were not explained" not in text


def test_without_any_image_there_is_the_table_alone():
    assert [name for name, _ in heat_maps.files_of([], {"bad.png": "no image"}, "title", "about", 0)] == [
        heat_maps.TABLE
    ]
