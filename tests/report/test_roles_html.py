"""The page of a role map: complete, well formed, self-contained, escaped; in a browser it sorts and filters."""

import re
from collections import Counter

import pytest

from dear_jax.report import roles_html
from tests.report.page import CHROMIUM, HOSTILE, Page, check_self_contained, in_browser


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
