"""The page of a role map: complete, well formed, self-contained, escaped; in a browser it sorts and filters."""

import re
from collections import Counter

import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.report import role_comparison, role_tables, roles_html
from tests.report.page import CHROMIUM, HOSTILE, Page, check_self_contained, in_browser, in_frame


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 8), (2, 12), (8, 16)])
def test_every_head_has_a_cell_a_row_and_details(make_report, layers, heads):
    role_map, thumbnails, ablation = make_report(layers, heads)
    page = Page(roles_html.render(role_map, thumbnails, ablation))
    names = {f"head-{5 + layer}-{head}" for layer in range(layers) for head in range(heads)}
    assert {found["id"] for found in page.find("details")} == names
    assert {found["data-head"] for found in page.find("tr") if "data-head" in found} == names
    assert Counter(found["href"] for found in page.find("a") if "title" in found) == {f"#{name}": 1 for name in names}
    shown = sum(int((thumbnails["top"][layer][head] >= 0).sum()) for layer in range(layers) for head in range(heads))
    assert len(page.find("span", role="img")) == shown
    for layer, row in enumerate(role_map["heads"]):
        for head, _ in enumerate(row):
            assert f"thing {layer} {head} 4" in page.text


def test_maps_stand_below_the_images_of_their_head(make_report):
    role_map, thumbnails, ablation = make_report()
    thumbnails["top"] = np.maximum(thumbnails["top"], 0)
    role_map["heads"][0][1]["descriptions"][0]["text"] = HOSTILE
    maps = np.arange(2 * 8 * 2).reshape(2, 8, 2)
    html = roles_html.render(role_map, thumbnails | {"maps": maps}, ablation)
    check_self_contained(html)
    pictures = [found["title"] for found in Page(html).find("span", role="img")]
    assert pictures[6:8] == [f"map of thing 0 0 0 in image {index}" for index in thumbnails["top"][0, 0, :2]]
    assert pictures[14:16] == [f"map of {HOSTILE} in image {index}" for index in thumbnails["top"][0, 1, :2]]
    assert "Where they have its first" not in Page(roles_html.render(role_map, thumbnails, ablation)).text


def test_nothing_is_loaded_from_anywhere(make_report):
    check_self_contained(roles_html.render(*make_report()))


def test_references_inside_the_page_lead_somewhere(make_report):
    page = Page(roles_html.render(*make_report()))
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    links = {found["href"][1:] for _, found in page.tags if "href" in found}
    labels = {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found}
    assert links | labels <= set(ids)


def test_texts_are_escaped(make_report):
    role_map, thumbnails, ablation = make_report()
    role_map["backbone"] = role_map["sentence_encoder"] = role_map["data"]["dataset"] = HOSTILE
    role_map["settings"]["bank"] = HOSTILE
    role_map["clusters"][0] |= {"name": HOSTILE, "examples": [HOSTILE]}
    role_map["clusters"][6]["name"] = HOSTILE
    role_map["heads"][0][0]["descriptions"][0]["text"] = HOSTILE
    role_map["attributes"] = [*role_map["attributes"], HOSTILE]
    role_map["roles"][1][1] = f"attribute:{HOSTILE}"
    named = thumbnails | {"names": [HOSTILE] * len(thumbnails["images"])}
    html = roles_html.render(role_map, named, ablation)
    page = Page(html)
    assert html.count("<script") == html.count("</script") == 1
    assert not [found for _, found in page.tags if any(name.startswith("on") for name in found)]
    before, after = (
        Counter(tag for tag, _ in Page(text).tags)
        for text in (html, roles_html.render(role_map | {"backbone": "b"}, named, ablation))
    )
    assert before == after
    assert HOSTILE in page.text


def test_without_ablation_there_is_no_such_column_or_section(make_report):
    role_map, thumbnails, ablation = make_report()
    assert "Accuracy without it" in roles_html.render(role_map, thumbnails, ablation)
    html = roles_html.render(role_map, thumbnails)
    assert "ccuracy" not in html
    columns = len(Page(html).find("th", scope="col")) - len(role_map["roles"][0])
    assert all(len(re.findall("<t[hd]", row)) == columns for row in re.findall("<tr data-head.*?</tr>", html, re.S))


def test_no_head_without_descriptions_or_images_breaks_it(make_report):
    role_map, thumbnails, ablation = make_report()
    role_map["heads"][0][0]["descriptions"] = []
    thumbnails["top"][0, 0] = -1
    Page(roles_html.render(role_map, thumbnails, ablation))


def test_a_description_without_a_cluster_has_no_concept(make_report):
    role_map, thumbnails, ablation = make_report()
    role_map["clusters"][-1]["name"] = "last"
    for head in (head for row in role_map["heads"] for head in row):
        head["cluster"] = 0
        for description in head["descriptions"]:
            description["cluster"] = -1
    html = roles_html.render(role_map, thumbnails, ablation)
    assert html.count("<small>none</small>") == html.count('<span class="bar"')
    assert html.count("last") == 1 + 1  # in the list of concepts, with its name


def test_what_heads_cause_stands_in_page_and_table(make_report, with_causes):
    role_map, thumbnails, ablation = make_report()
    role_map, ablation = with_causes(role_map, ablation)
    html = roles_html.render(role_map, thumbnails, ablation)
    check_self_contained(html)
    page = Page(html)
    ids = {found["id"] for _, found in page.tags if "id" in found}
    assert {found["href"][1:] for found in page.find("a")} <= ids
    assert {"causes-title", "head-5-0-causes", "head-6-7-images", "head-6-7-descriptions"} <= ids
    assert len(page.find("td", style=None)) < len(page.find("td"))
    first = f"{100 * role_map['causes']['carried'][0][0][0]:.1f}"
    assert first in page.text
    assert "specialists carry most of their main concept" in " ".join(page.text.split())
    assert html.count("<figcaption>") == 3
    (head, *rows) = [line.split(",") for line in role_tables.heads_csv(role_map, ablation).splitlines()]
    assert head[-5:] == [f"carried_{name}" for name in ("color", "shape", "texture", "object", "position")]
    assert float(rows[0][head.index("carried_color")]) == role_map["causes"]["carried"][0][0][0]
    assert float(rows[0][head.index("p_value")]) == role_map["p_values"][0][0]
    without = role_tables.heads_csv({k: v for k, v in role_map.items() if k not in ("causes", "p_values")}, None)
    assert {len(line.split(",")) for line in without.splitlines()} == {10}


def test_ablation_stands_beside_random_sets_with_its_error(make_report):
    role_map, thumbnails, ablation = make_report()
    text = " ".join(Page(roles_html.render(role_map, thumbnails, ablation)).text.split())
    assert "2,000 test images" in text
    assert "one image is 0.05 points" in text
    assert "250, 26" in text
    assert "\N{MINUS SIGN}11.20 ± 0.73 (\N{MINUS SIGN}2.00 ± 1.50)" in text
    html = roles_html.render(role_map, thumbnails, ablation)
    assert "<strong>\N{MINUS SIGN}11.20</strong>" in html  # far from random
    assert "<strong>\N{MINUS SIGN}1.50</strong>" not in html  # as random


def test_filters_that_would_find_nothing_are_disabled(make_report):
    role_map, thumbnails, ablation = make_report()
    role_map["roles"] = [["mixed" for _ in row] for row in role_map["roles"]]
    page = Page(roles_html.render(role_map, thumbnails, ablation))
    buttons = {found["data-role"]: "disabled" in found for found in page.find("button") if "data-role" in found}
    assert not buttons.pop("mixed")
    assert all(buttons.values())


def test_a_map_stands_beside_another_one(make_report):
    role_map, thumbnails, ablation = make_report()
    same = role_comparison.compare(role_map, role_map, "same.json")
    assert (same.by_place, same.alike, same.matched, same.rand_index) == (True, 16, 16, 1.0)
    # Another network: the same heads elsewhere. They are found by what they do.
    turned = {
        name: [row[::-1] for row in role_map[name]] if name in ("roles", "entropy", "heads") else value
        for name, value in role_map.items()
    }
    other = role_comparison.compare(role_map, turned | {"fingerprint": "f" * 16}, "a <other>.json")
    assert not other.by_place
    assert {(pair.head.head, pair.other.head) for pair in other.pairs} == {(head, 7 - head) for head in range(8)}
    assert (other.alike, other.rand_index) == (16, 1.0)
    html = roles_html.render(role_map, thumbnails, ablation, other)
    page = Page(html)
    assert "a <other>.json" in page.text
    assert "16 of 16 pairs have the same role" in " ".join(page.text.split())
    smaller = {
        name: value[:1] if name in ("roles", "entropy", "heads") else value for name, value in turned.items()
    }
    less = role_comparison.compare(role_map, smaller | {"fingerprint": "f" * 16}, "less.json")
    assert (less.matched, len(less.pairs), less.heads) == (8, 16, 8)
    Page(roles_html.render(role_map, thumbnails, ablation, less))


def test_a_map_of_roles_alone_is_no_comparison(make_report):
    role_map, *_ = make_report()
    bare = {name: role_map[name] for name in ("backbone", "fingerprint", "first_layer", "attributes", "roles")}
    with pytest.raises(UserError, match=r"config.roles.compare: bare.json lacks entropy, heads, clusters"):
        role_comparison.check(bare, "bare.json")
    role_comparison.check(role_map, "whole.json")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("sort=-entropy", lambda heads: sorted(heads, key=lambda head: -head["entropy"])),
        (
            "sort=entropy&role=mixed",
            lambda heads: sorted((h for h in heads if h["role"] == "mixed"), key=lambda h: h["entropy"]),
        ),
        ("layer=6&search=THING+1", lambda heads: [head for head in heads if head["layer"] == 6]),
    ],
)
def test_a_browser_shows_the_view_in_the_address(make_report, tmp_path, view, expected):
    role_map, thumbnails, ablation = make_report()
    roles_html.write(tmp_path / "roles.html", role_map, thumbnails, ablation)
    address = f"{(tmp_path / 'roles.html').as_uri()}#{view}"
    rows = [
        found for found in in_browser(address, tmp_path).find("tr") if "data-head" in found
    ]
    heads = [
        {
            "name": f"head-{5 + layer}-{head}",
            "layer": 5 + layer,
            "entropy": entropy,
            "role": role_map["roles"][layer][head],
        }
        for layer, row in enumerate(role_map["entropy"])
        for head, entropy in enumerate(row)
    ]
    assert [row["data-head"] for row in rows if "hidden" not in row] == [head["name"] for head in expected(heads)]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_opens_the_head_of_a_link_and_disables_what_finds_nothing(make_report, with_causes, tmp_path):
    role_map, thumbnails, ablation = make_report()
    role_map, ablation = with_causes(role_map, ablation)
    roles_html.write(tmp_path / "roles.html", role_map, thumbnails, ablation)
    address = (tmp_path / "roles.html").as_uri()
    opened = [found["id"] for found in in_browser(f"{address}#head-6-3-causes", tmp_path).find("details", open="")]
    assert opened == ["head-6-3"]
    page = in_browser(f"{address}#layer=5&role=mixed", tmp_path)
    concepts = {
        role_map["clusters"][head["cluster"]]["name"] or f"unnamed {head['cluster']}"
        for head, role in zip(role_map["heads"][0], role_map["roles"][0], strict=True)
        if role == "mixed"
    }
    pressed = [found["data-role"] for found in page.find("button", **{"aria-pressed": "true"})]
    assert pressed == ["mixed"]
    shown = {found["data-concept"] for found in page.find("tr") if "data-head" in found and "hidden" not in found}
    assert shown == concepts
    present = set(role_map["roles"][0])
    off = {found["data-role"] for found in page.find("button", disabled="") if "data-role" in found}
    assert not off & present
    assert off


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_a_browser_shows_it_without_scrolling_sideways(make_report, with_causes, tmp_path, width, scheme):
    """In a frame of that width, since Chromium's windows are wider than a phone."""
    role_map, thumbnails, ablation = make_report()
    role_map, ablation = with_causes(role_map, ablation)
    comparison = role_comparison.compare(role_map, role_map, "same.json")
    roles_html.write(tmp_path / "roles.html", role_map, thumbnails, ablation, comparison)
    found = in_frame(tmp_path / "roles.html", width, scheme)
    assert found.size[0] == width
    colors = np.asarray(found.convert("RGB"))
    page = (0x16, 0x18, 0x1B) if scheme == "dark" else (0xFF, 0xFF, 0xFF)
    assert (colors[:, :4] == page).all()  # the margins are the page's color: nothing hangs over
    assert (colors[:, -2:] == page).all()
