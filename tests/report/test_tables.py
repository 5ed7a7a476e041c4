"""The table of a run."""

from dear_jax.report import tables

ZERO_SHOT = {"base": 70.0, "new": 60.0, "hm": 64.6153}
RESULTS = {
    "protocol": "base2new",
    "dataset": "pets",
    "backbone": "embedded",
    "shots": 16,
    "data": {"remark": ""},
    "zero_shot": ZERO_SHOT,
    "variants": {
        "default": {
            "seeds": {"1": {"base": 80.0, "new": 61.0, "hm": 69.2}, "2": {"base": 82.0, "new": 63.0, "hm": 71.3}},
            "mean": {"base": 81.0, "new": 62.0, "hm": 70.24},
            "std": {"base": 1.0, "new": 1.0, "hm": 1.05},
            "new_classes": {"new": {"learned": {"mean": 62.0, "std": 1.0}, "0.3": {"mean": 61.5, "std": 0.5}}},
        }
    },
}


def test_one_run():
    assert tables.results_markdown(RESULTS).splitlines() == [
        "base2new, pets, embedded, 16 shots; top-1 accuracy in percent.",
        "",
        "|  | Base | New | HM |",
        "| --- | ---: | ---: | ---: |",
        "| zero-shot CLIP | 70.00 | 60.00 | 64.62 |",
        "| DeAR, seed 1 | 80.00 | 61.00 | 69.20 |",
        "| DeAR, seed 2 | 82.00 | 63.00 | 71.30 |",
        "| DeAR, mean ± std | **81.00** ± 1.00 | **62.00** ± 1.00 | **70.24** ± 1.05 |",
        "",
        "Classes not trained on, by fusion (mean ± std); the first is the one in the table above. MMRL and MMRL++ "
        "predict them by the class path only.",
        "",
        "|  | learned | alpha_cls 0.3 |",
        "| --- | ---: | ---: |",
        "| New | 62.00 ± 1.00 | 61.50 ± 0.50 |",
    ]


def test_older_results_call_it_fusion():
    variant = dict(RESULTS["variants"]["default"])
    variant["fusion"] = variant.pop("new_classes")
    assert tables.results_markdown(RESULTS | {"variants": {"default": variant}}) == tables.results_markdown(RESULTS)


def test_results_name_their_method():
    table = tables.results_markdown(RESULTS | {"method_title": "MaPLe"})
    assert "| MaPLe, mean ± std |" in table
    assert "DeAR" not in table


def test_a_remark_on_the_data_stands_below():
    table = tables.results_markdown(RESULTS | {"data": {"remark": "Not comparable."}})
    assert table.endswith("| 61.50 ± 0.50 |\n\nNot comparable.\n")
    note = "3 of 9 test images are in both training and test."
    table = tables.results_markdown(RESULTS | {"data": {"remark": "Not comparable.", "in_train_and_test": note}})
    assert table.endswith(f"Not comparable.\n\n{note}\n")
    assert tables.results_markdown(RESULTS | {"trial": "A trial."}).endswith("\n\nA trial.\n")
    assert tables.results_markdown(RESULTS | {"shots": 1}).startswith("base2new, pets, embedded, 1 shot;")


def test_further_metrics_have_a_small_table_each():
    more = {
        "metrics": {
            "macro": {
                "seeds": {},
                "mean": {"base": 79.5, "new": 60.5, "hm": 68.71},
                "std": {"base": 0.5, "new": 1.5, "hm": 0.7},
            }
        }
    }
    results = RESULTS | {
        "zero_shot_metrics": {"macro": {"base": 69.0, "new": 59.0, "hm": 63.61}},
        "variants": {"default": RESULTS["variants"]["default"] | more},
        "data": {"remark": "Not comparable."},
    }
    without = tables.results_markdown(RESULTS)
    table = tables.results_markdown(results)
    assert table.startswith(without)
    assert table.removeprefix(without).splitlines() == [
        "",
        "By the metric macro.",
        "",
        "|  | Base | New | HM |",
        "| --- | ---: | ---: | ---: |",
        "| zero-shot CLIP | 69.00 | 59.00 | 63.61 |",
        "| DeAR, mean ± std | 79.50 ± 0.50 | 60.50 ± 1.50 | 68.71 ± 0.70 |",
        "",
        "Not comparable.",
    ]


def test_zero_shot_alone():
    assert len(tables.results_markdown(RESULTS | {"variants": {}}).splitlines()) == 5
