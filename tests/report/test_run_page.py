"""The page of a run: what its files hold, well formed, self-contained, escaped; in a browser it sorts and filters."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
from etils import epath

from dear_jax.errors import UserError
from dear_jax.report import run_page, sprites
from dear_jax.report.run_page import Files
from tests.report.page import CHROMIUM, HOSTILE, Page, check_self_contained, in_browser

NAMES = ["cat", "dog", "cow"]
PATHS = ("class", "color")
SETTINGS = [("train.steps", 10, 0), ("data.root", "<b>", "")]
COMMAND = "python -m dear_jax.main --config=configs/base.py --config.train.steps=10"


def metric(base: float, new: float) -> dict:
    row = {"base": base, "new": new, "hm": 2 * base * new / (base + new)}
    return {"seeds": {"1": row, "5": row}, "mean": row, "std": dict.fromkeys(row, 0.5)}


@pytest.fixture
def files() -> Files:
    """As a run of base-to-new with two seeds leaves them."""
    of_set = {"names": NAMES, "images": [2, 3, 0], "zero_shot": [50.0, 100.0, None]}
    of_classes = {"seeds": {"1": [100.0, 0.0, None], "5": [100.0, 0.0, None]}, "mean": [100.0, 0.0, None]}
    weights = {path: {"mean": mean, "std": 0.01} for path, mean in zip(PATHS, (0.7, 0.3), strict=True)}
    spread = {"mean": 50.0, "std": 1.0}
    variant = metric(71.0, 61.0) | {
        "new_classes": {"new": {"learned": spread, "class_only": spread}},
        "metrics": {"macro_f1": metric(70.0, 60.0)},
        "classes": {"base": of_classes, "new": of_classes},
        "path_weights": weights,
    }
    results = {
        "protocol": "base2new",
        "dataset": "pets",
        "backbone": "tiny",
        "shots": 4,
        "variants": {"default": variant},
        "zero_shot": {"base": 60.0, "new": 65.0, "hm": 62.4},
        "zero_shot_metrics": {"macro_f1": {"base": 59.0, "new": 64.0, "hm": 61.4}},
        "data": {"comparable": False, "remark": "Own images.", "source": "folder"},
        "trained_on": {"dataset": "pets", "classes": 3},
        "classes": {"base": of_set, "new": of_set},
        "method_title": "DeAR",
        "version": "0.1.0",
    }
    rows = [
        {"step": step, "seconds": 1.0, "loss": {"default": [1.0 / step, 2.0 / step]}, "images_per_second": 10.0}
        for step in (2, 4, 6)
    ]
    rows.append({"step": 6, "seconds": 2.0, "evaluation": {"base": {"zero_shot": 60.0, "default": [71.0, 71.0]}}})
    example = {
        "image": "images/1.jpg",
        "picture": 0,
        "truth": 0,
        "seeds": {"1": [1, 0.9], "5": [0, 0.6]},
        "zero_shot": [0, 0.5],
        "paths": {"class": [1, 0.8], "color": [0, 0.7]},
    }
    shown = {
        "pairs": {"true": [0, 0, 1], "predicted": [0, 1, 0], "images": [1, 3, 6], "zero_shot": [1, 1, 0]},
        "changes": {"gained": [1, 0], "lost": [2, 2]},
        "galleries": {"errors": [example], "gained": [], "lost": [example]},
    }
    pictures = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    examples = {"class_sets": {"base": shown, "new": shown}, "pictures": sprites.sheets(pictures)}
    return Files({"seeds": [1, 5]}, results, tuple(rows), examples)


@pytest.fixture
def zero_shot(files) -> Files:
    """Of zero-shot CLIP alone."""
    results = {key: value for key, value in files.results.items() if key not in ("trained_on", "method_title")}
    examples = copy.deepcopy(files.examples)
    for shown in examples["class_sets"].values():
        shown["galleries"] = {"errors": [shown["galleries"]["errors"][0] | {"seeds": {}, "paths": {}}]}
    return Files(files.config, results | {"variants": {}}, (), examples)


@pytest.fixture
def older(files) -> Files:
    """As versions before the page left them."""
    results = copy.deepcopy(files.results)
    (variant,) = results["variants"].values()
    for key in ("metrics", "classes", "path_weights"):
        del variant[key]
    variant["fusion"] = variant.pop("new_classes")
    for key in ("zero_shot_metrics", "classes", "method_title", "version"):
        del results[key]
    return Files(files.config, results, files.rows, None)


def render(files: Files) -> str:
    return run_page.render(files, SETTINGS, COMMAND)


def rows_of(page: Page, kind: str) -> list:
    return [row for row in page.find("tr") if row.get("data-kind") == kind]


def test_all_that_the_files_hold_is_there(files):
    html = render(files)
    page = Page(html)
    text = " ".join(page.text.split())
    assert "DeAR on pets" in text
    assert "<strong>71.00</strong> ± 0.50" in html
    limit = "thumbnails of 96 pixels at most, and at most 256 on a page"
    for part in (limit, "Own images.", "Macro-F1", "0.700", "62.40", "Seeds", "1, 5", COMMAND, "config.train.steps"):
        assert part in text
    assert "Loss over the steps. seed 1: from 0.5 to 0.1667. seed 5: from 1 to 0.3333." in html
    assert html.count("<polyline") == 3  # two of the loss, one of the images per second
    # A class gained, one lost, and one without images that is neither.
    assert [len(rows_of(page, kind)) for kind in ("gained", "lost", "")] == [2, 2, 2]
    assert "+50.00" in html
    assert "\N{MINUS SIGN}100.00" in html
    assert "0.5 images gained and 2.0 lost, the mean over the seeds" in text
    # Cows have no images; of dogs all are taken for cats: 6 of 2 seeds times 3.
    assert re.search(r"dog</th><td>cat</td><td class=\"number\">3.0</td><td class=\"number\">100 %", html)
    assert len(page.find("span", role="img")) == 4
    assert "not in this run's folder" not in text


def test_the_matrix_has_a_cell_for_every_pair(files):
    cells = files.examples["class_sets"]["base"]["pairs"]
    matrix = run_page.matrix(NAMES, [2, 3, 0], cells, seeds=2)
    drawn = {
        kind: {(int(x), int(y)) for path in paths for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path)}
        for kind, paths in (("right", matrix.right), ("wrong", matrix.wrong))
    }
    assert drawn == {"right": {(0, 0)}, "wrong": {(1, 0), (0, 1)}}
    assert [(pair.true, pair.predicted, pair.images, pair.share) for pair in matrix.pairs] == [
        ("dog", "cat", 3.0, 1.0),
        ("cat", "dog", 1.5, 0.75),
    ]
    assert matrix.wrong[-1] == "M1 0h1v1h-1zM0 1h1v1h-1z"


def test_a_thousand_classes_fit(files):
    random = np.random.default_rng(0)
    names = [f"class {number}" for number in range(1000)]
    labels = random.integers(0, 1000, (2, 15000))
    of_set = {"names": names, "images": [50] * 1000, "zero_shot": [60.0] * 1000}
    results = copy.deepcopy(dict(files.results))
    results["classes"] = {"base": of_set}
    results["variants"]["default"]["classes"]["base"] = {"mean": random.uniform(0, 100, 1000).tolist()}
    examples = copy.deepcopy(files.examples)
    ones = [1] * labels.shape[1]
    examples["class_sets"]["base"]["pairs"] = dict(
        zip(run_page.CELLS, (*labels.tolist(), ones, ones), strict=True)
    )
    html = render(Files(files.config, results, files.rows, examples))
    assert len(Page(html).find("tr", **{"data-kind": "gained"})) > 300
    assert len(html) < 2.5 * 2**20


@pytest.mark.parametrize("kind", ["files", "zero_shot", "older"])
def test_every_kind_of_run_has_a_well_formed_page(kind, request):
    html = render(request.getfixturevalue(kind))
    page = Page(html)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    links = {found["href"][1:] for _, found in page.tags if "href" in found}
    labels = {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found}
    assert links | labels <= set(ids)
    assert page.find("a", **{"class": "skip", "href": "#main"})
    tables, captions = (len(page.find(tag)) for tag in ("table", "caption"))
    assert tables == captions > 0
    assert all("scope" in found for found in page.find("th"))
    assert all("aria-sort" in found for found in page.find("th") if "data-key" in found)


def test_what_older_files_do_not_hold_is_said(older, zero_shot, files):
    text = " ".join(Page(render(older)).text.split())
    assert "has no accuracies of single classes" in text
    assert "DeAR on pets" in text
    assert "class path only" in text
    text = " ".join(Page(render(zero_shot)).text.split())
    assert "Zero-shot CLIP on pets" in text
    assert "metrics.jsonl is not here" in text
    without = Files(files.config, files.results, files.rows, None)
    assert "it has no examples.json" in Page(run_page.render(without, None, "")).text
    assert "configs/base.py was not at hand" in Page(run_page.render(without, None, "")).text


def test_nothing_is_loaded_from_anywhere(files):
    check_self_contained(render(files))


def test_texts_are_escaped(files):
    text = json.dumps([files.config, files.results, files.rows, files.examples])
    for word in ("cat", "images/1.jpg", "pets", "Own images.", "color", "tiny"):
        text = text.replace(json.dumps(word), json.dumps(HOSTILE))
    config, results, rows, examples = json.loads(text)
    html = run_page.render(Files(config, results, tuple(rows), examples), [("a", HOSTILE, HOSTILE)], HOSTILE, HOSTILE)
    page = Page(html)
    assert html.count("<script") == html.count("</script") == 1
    assert not [found for _, found in page.tags if any(name.startswith("on") for name in found)]
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in Page(render(files)).tags}
    assert HOSTILE in page.text
    names = json.loads(page.find("svg", id="set0-cells")[0]["data-names"])
    assert names == [HOSTILE, "dog", "cow"]


def head_curves_of(accuracy: float) -> dict:
    curve = [accuracy, accuracy - 10, accuracy - 30]
    score = {"highest": curve, "lowest": curve, "area": -1.25, "random_area": 2.5}
    scores = dict.fromkeys(("entropy", "variance", "attribution"), score)
    random = {"mean": curve, "low": curve, "high": curve}
    return {"accuracy": accuracy, "points": [0, 12, 24], "random": random, "orders": 30, "scores": scores}


def test_accuracy_without_heads(files):
    of_set = {"variants": {"default": head_curves_of(71.0)}, "zero_shot": head_curves_of(60.0)}
    about = {"role_map": {"path": HOSTILE}, "first_layer": 5, "images": 640}
    ablated = dataclasses.replace(files, ablation=about | {"class_sets": {"base": of_set, "new": of_set}})
    html = render(ablated)
    page = Page(html)
    check_self_contained(html)
    text = " ".join(page.text.split())
    for words in ("Base: accuracy without ever more heads", "New: accuracy without ever more heads"):
        assert words in text
    assert text.count("Area \N{MINUS SIGN}1.25 (± 2.50)") == 12
    assert f"of 640 training images, the entropy is that of the role map {HOSTILE}." in text
    assert "Run: by logit attribution" in text
    assert "Zero-shot CLIP: by logit attribution" in text
    assert "without ever more heads" not in Page(render(files)).text
    alone = dataclasses.replace(ablated, results=files.results | {"variants": {}})
    assert "Run: by" not in Page(render(alone)).text


def test_files_of_a_workdir(files, older, tmp_path):
    folder = epath.Path(tmp_path)
    with pytest.raises(UserError, match=r"holds no config\.json"):
        run_page.read(folder)
    (folder / "config.json").write_text(json.dumps(files.config))
    with pytest.raises(UserError, match=r"holds no results\.json: the run is not finished"):
        run_page.read(folder)
    (folder / "results.json").write_text(json.dumps(older.results))
    assert run_page.read(folder) == Files(older.config, older.results, (), None)
    lines = [*map(json.dumps, files.rows), '{"step": 7, "lo']
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (folder / "examples.json").write_text(json.dumps(files.examples))
    (folder / "results.json").write_text(json.dumps(files.results))
    assert run_page.read(folder) == files
    (folder / "ablation.json").write_text('{"class_sets": {}}')
    assert run_page.read(folder) == dataclasses.replace(files, ablation={"class_sets": {}})
    (folder / "ablation.json").unlink()
    (folder / "results.json").write_text('{"protocol": "base2new"}')
    with pytest.raises(UserError, match="not the results of a run"):
        run_page.read(folder)


def test_examples_of_another_form_are_answered(files):
    broken = Files(files.config, files.results, files.rows, {"class_sets": {"base": {"pairs": 3}}, "pictures": []})
    with pytest.raises(UserError, match=r"The page of the run cannot be made: examples\.json"):
        render(broken)


def test_curves_have_a_line_per_variant_and_seed():
    rows = [{"step": step, "loss": {"a": [step, 1.0], "b": [2.0, 3.0]}, "epoch": 0.5} for step in (1, 2)]
    (chart,) = run_page.charts([*rows, {"step": 2, "evaluation": {}}, {"step": 2, "fit": {}}], ["1", "5"])
    assert [line.name for line in chart.lines] == ["a, seed 1", "a, seed 5", "b, seed 1", "b, seed 5"]
    assert (chart.lines[0].first, chart.lines[0].last) == (1.0, 2.0)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_sorts_filters_and_reads_the_matrix(files, tmp_path):
    does = """
      const click = (key) => document.querySelector(`#set0-classes th[data-key="${key}"] button`).click();
      click("change");
      const form = document.querySelector('form[data-table="set1-classes"]');
      form.querySelector("select").value = "lost";
      form.dispatchEvent(new Event("input", { bubbles: true }));
      const matrix = document.getElementById("set0-cells");
      for (const key of ["ArrowRight", "ArrowLeft", "ArrowDown"]) {
        matrix.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      }
    """
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render(files))
    file = tmp_path / "report.html"
    file.write_text(html.replace("</body>", f"<script>{does}</script></body>"))
    page = in_browser(file.as_uri(), tmp_path)
    text = " ".join(page.text.split())
    assert re.search(r"set0.*", " ".join(found["id"] for found in page.find("table") if "id" in found))
    rows = [row for row in page.find("tr") if "data-kind" in row]
    assert [row["data-kind"] for row in rows[:3]] == ["gained", "lost", ""]  # unknown ones last
    assert ["hidden" in row for row in rows[3:]] == [True, False, True]
    (sorted_by,) = (found for found in page.find("th") if found.get("aria-sort") == "descending")
    assert sorted_by["data-key"] == "change"
    assert "1 of 3 classes" in text
    assert "dog → cat: 3.0 of 3 images, zero-shot CLIP 0" in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_browser_runs_the_page_under_its_own_policy(files, tmp_path):
    (tmp_path / "report.html").write_text(render(files))
    page = in_browser((tmp_path / "report.html").as_uri(), tmp_path)
    assert page.find("rect", **{"class": "cursor"})
    assert page.find("table", id="set0-classes")
