"""Contact sheets: complete, well formed, escaped, and the same in words as in colors."""

import io

import numpy as np
import pytest
from PIL import Image

from dear_jax.report import contact_sheet, retrieval_tables
from dear_jax.report.contact_sheet import Hit, Query, Ranking, Sheet
from tests.report.page import Page, check_self_contained

HOSTILE = """</style><script>alert(1)</script>" onload="x $5 & $"""


@pytest.fixture
def sheet() -> Sheet:
    pictures = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    known = Ranking("color", "color", (Hit(2, 0.91, True, "red"), Hit(299, 0.5, False, HOSTILE)))
    unknown = Ranking(HOSTILE, "", (Hit(2, 0.4, None),))
    queries = (Query(0, (known, unknown)), Query(1, (known,)))
    return Sheet(HOSTILE, f"DeAR, seed 1, {HOSTILE}", pictures, (HOSTILE,) * 300, queries)


def test_page(sheet):
    text = contact_sheet.to_html(sheet)
    page = Page(text)
    pictures = [attributes for _, attributes in page.tags if "picture" in (attributes.get("class") or "")]
    assert [attributes["class"].split()[1] for attributes in pictures] == [
        *("query", "same", "other", "unknown"),
        *("query", "same", "other"),
    ]
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "link")]
    check_self_contained(text)
    assert all(attributes["title"].startswith(HOSTILE) for attributes in pictures)
    assert "DeAR, seed 1, " in page.text
    assert "precision@2 of color: 50 %" in page.text
    assert "cropped to a square" in page.text
    # Once below its picture, once in the list for whoever cannot point at it.
    for said in ("✓ 0.91", "✗ 0.50"):
        assert page.text.count(said) == 4
    assert len(page.find("li")) == 5
    assert [found["aria-labelledby"] for found in page.find("section")] == ["q1", "q2"]
    assert text.count("data:image/jpeg") == 2  # sheets of 256 pictures
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")


def test_png(sheet):
    image = Image.open(io.BytesIO(contact_sheet.to_png(sheet)))
    assert image.width > image.height / 2 > 50
    colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00), (0x99, 0x99, 0x99)} <= colors


def test_table():
    def summary(*seeds):
        return {"mean": float(np.mean(seeds)), "std": float(np.std(seeds)), "seeds": list(seeds)}

    def both(*seeds):
        return {"precision": summary(*seeds), "mean_average_precision": summary(*seeds)}

    results = {
        "data": {"name": "pets"},
        "trained_on": "pets",
        "backbone": "embedded",
        "variant": "default",
        "seeds": [1, 2],
        "queries": 5,
        "gallery": 9,
        "top": 9,
        "queries_with_a_match": {"class": 4},
        "chance": {"class": both(12.34)},
        "features": {"zero-shot CLIP": {"class": both(50.0)}, "class": {"class": both(60.0, 70.0)}},
    }
    table = retrieval_tables.markdown(results)
    assert "| Precision@9, ranked by | class |" in table
    assert "| chance | 12.3 |\n| zero-shot CLIP | 50.0 |\n| class | 65.0 ± 5.0 |" in table
    assert "1 query without a relevant image is left out of class." in table
    assert "Nothing is known" in retrieval_tables.markdown(results | {"chance": {}})
