"""Runs become rows beside the published ones."""

import json

import pytest

from dear_jax import main as command_line
from dear_jax.data.protocols import harmonic_mean
from dear_jax.report.runs import find_runs
from dear_jax.setup import values
from dear_jax.setup.methods import METHODS
from experiments.compare import published
from experiments.compare.comparison import compare
from tests import toy_probe

DEAR, CLIP = "DeAR (ours)", "zero-shot CLIP (ours)"


def pair(base, new):
    return {"base": base, "new": new, "hm": harmonic_mean(base, new)}


SEEDS = {"1": pair(80.0, 60.0), "2": pair(82.0, 64.0), "3": pair(84.0, 62.0)}
OTHERS = {"1": pair(40.0, 90.0), "2": pair(42.0, 90.0), "3": pair(44.0, 90.0)}


def ours(block):
    return [name for name in block.rows if "(ours)" in name]


def tables(*folders):
    runs, problems = find_runs(folders)
    assert not problems
    found, misfits = compare(runs)
    return {table.title: {block.title: block for block in table.blocks} for table in found}, misfits


def test_a_data_set_beside_the_published_rows(write_run):
    found, misfits = tables(write_run("a", SEEDS))
    block = found["Base-to-new generalization"]["dtd"]
    assert not misfits
    clip, dear = ("CLIP", CLIP, "CLIP, difference"), ("DeAR", DEAR, "DeAR, difference")
    assert list(block.rows) == [*clip, "CoOp", "CoCoOp", "MaPLe", "PromptSRC", "MMRL", *dear]
    assert block.rows["CLIP"]["Base"].mean == 53.24
    assert block.rows["MMRL"]["HM"].notes
    cell = block.rows[DEAR]["HM"]
    assert cell.mean == pytest.approx(harmonic_mean(82.0, 62.0))
    assert (cell.seeds, cell.notes) == (3, ())
    assert block.rows[DEAR]["Base"].std == pytest.approx((8 / 3) ** 0.5)


def test_a_row_has_the_title_of_its_method(write_run):
    found, _ = tables(write_run("a", SEEDS, method_title="MaPLe"))
    rows = list(found["Base-to-new generalization"]["dtd"].rows)
    place = rows.index("MaPLe")
    assert rows[place : place + 3] == ["MaPLe", "MaPLe (ours)", "MaPLe, difference"]
    assert "DeAR (ours)" not in rows


def test_the_average_hm_is_that_of_the_averages(write_run):
    found, _ = tables(write_run("a", SEEDS), write_run("b", OTHERS, dataset="eurosat"))
    block = found["Base-to-new generalization"]["Average over 2 data sets"]
    row = block.rows[DEAR]
    assert (row["Base"].mean, row["New"].mean) == (62.0, 76.0)
    assert row["HM"].mean == pytest.approx(harmonic_mean(62.0, 76.0))
    assert row["Base"].std == pytest.approx((8 / 3) ** 0.5)
    assert block.rows["CLIP"]["Base"].mean == pytest.approx((53.24 + 56.48) / 2)
    assert "Computed here" in block.rows["CLIP"]["Base"].notes[0]


def test_averages_of_figures_are_over_the_same_data_sets(write_run):
    """DeAR and its zero-shot CLIP on three, two settings on two of them, another method on one."""
    folders = [write_run(f"a-{name}", SEEDS, dataset=name) for name in ("dtd", "eurosat", "ucf101")]
    for pattern in ("open", "isolated"):
        changes = {"dear.mask.pattern": pattern}
        for name in ("dtd", "eurosat"):
            folders.append(write_run(f"{pattern}-{name}", OTHERS, dataset=name, changes=changes))
    folders.append(write_run("b", OTHERS, dataset="dtd", method_title="MMRL"))
    (table,), _ = compare(find_runs(folders)[0], even=True)
    average = table.blocks[0]
    assert average.title == "Average over 2 of the 3 data sets: dtd, eurosat"
    assert ours(average) == [CLIP, DEAR, f"{DEAR}, mask.pattern=open", f"{DEAR}, mask.pattern=isolated"]
    assert average.rows[DEAR]["Base"].mean == 82.0
    assert not any(cell.notes for name in ours(average) for cell in average.rows[name].values())
    assert average.rows["CLIP"]["Base"].mean == pytest.approx((53.24 + 56.48) / 2)
    assert [block.title for block in table.blocks if block.accuracies][1:] == ["dtd", "eurosat", "ucf101"]
    # Tables say it in a note instead, and such an average is not the best of its column.
    (table,), _ = compare(find_runs(folders)[0])
    cells = table.blocks[0].rows
    assert cells[f"{DEAR}, mask.pattern=open"]["New"].notes == ("Average over 2 of the 3 data sets.",)
    assert [cells[f"{DEAR}, mask.pattern=open"]["New"].competes, cells[DEAR]["New"].competes] == [False, True]


def test_curves_of_the_average_have_the_same_data_sets_for_all_shots(write_run, tmp_path):
    few = {"1": {"accuracy": 50.0}}
    for name, numbers in (("dtd", (1, 2)), ("eurosat", (1, 2)), ("ucf101", (2,))):
        for shots in numbers:
            write_run(f"runs/{name}-{shots}", few, protocol="few_shot", dataset=name, changes={"data.shots": shots})
    table = compare(find_runs([tmp_path / "runs"])[0], even=True)[0][0]
    assert table.blocks[0].title == "Average over 2 of the 3 data sets: dtd, eurosat"
    assert list(table.blocks[0].rows[CLIP]) == list(table.blocks[0].rows[DEAR]) == ["1 shot", "2 shots"]


def test_the_average_of_all_data_sets_is_the_published_one(write_run):
    folders = [write_run(name, SEEDS, dataset=name) for name in published.DATASETS.values()]
    block = tables(*folders)[0]["Base-to-new generalization"]["Average over 11 data sets"]
    assert block.rows["CLIP"]["HM"].mean == 71.70
    assert block.rows["DeAR"]["Base"].mean == 85.94
    assert [name for name in block.rows if name.startswith(DEAR)] == [DEAR]  # ImageNet's own recipe is no setting


def test_settings_and_variants_are_rows(write_run):
    found, misfits = tables(
        write_run("a", SEEDS, changes={"dear.mask.pattern": "open", "train.log_every": 3}),
        write_run("b", SEEDS),
        write_run("c", OTHERS, variants=("roles", "isolated")),
    )
    rows = list(found["Base-to-new generalization"]["dtd"].rows)
    settings = [f"{DEAR}, mask.pattern=open", f"{DEAR}, roles", f"{DEAR}, isolated"]
    assert not misfits
    assert rows[rows.index("DeAR") :] == ["DeAR", DEAR, "DeAR, difference", *settings]


def test_seeds_of_several_runs_are_one_row(write_run):
    first, second = {"1": SEEDS["1"]}, {"2": SEEDS["2"], "3": SEEDS["3"]}
    found, misfits = tables(
        write_run("a", first, changes={"seeds": (1,)}), write_run("b", second, changes={"seeds": (2, 3)})
    )
    assert not misfits
    cell = found["Base-to-new generalization"]["dtd"].rows[DEAR]["Base"]
    assert (cell.mean, cell.seeds, len(cell.source.split("; "))) == (82.0, 3, 2)


def test_what_contradicts_is_left_out_and_named(write_run):
    first = write_run("a", SEEDS)
    again = write_run("b", OTHERS)
    elsewhere = write_run("c", {"4": pair(1.0, 1.0)}, data={"source": "tfds"})
    found, misfits = tables(first, again, elsewhere)
    assert found["Base-to-new generalization"]["dtd"].rows[DEAR]["Base"].mean == 82.0
    assert "seed 1 of the same setting with other accuracies, by up to 40.00 points" in misfits[0]
    assert "the same setting on other images or splits" in misfits[1]


def test_what_does_not_compare_is_marked_with_the_reason(write_run):
    two = {"1": SEEDS["1"], "2": SEEDS["2"]}
    data = {"comparable": False, "remark": "Splits are TFDS's."}
    found, _ = tables(write_run("a", two, changes={"backbone": "clip-l14", "data.shots": 4}, data=data))
    rows = found["Base-to-new generalization"]["dtd"].rows
    notes = rows[f"{DEAR}, backbone=clip-l14, data.shots=4"]["Base"].notes
    assert notes == (
        "dtd: Splits are TFDS's.",
        "Backbone clip-l14; published: openai/clip-vit-base-patch16.",
        "4 shots; published: 16.",
        "Fewer than 3 seeds (2).",
    )
    assert rows[f"{CLIP}, backbone=clip-l14"]["Base"].notes == notes[:2]


@pytest.mark.parametrize("source", ["folder", "hf"])
def test_images_of_ones_own_have_a_table_of_their_own(write_run, source):
    """Results have the folder's name, not that of the row."""
    folder = write_run("a", SEEDS, dataset=source, changes={"data.root": "my/photos"})
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {"dataset": "photos"}))
    found, _ = tables(folder)
    assert [block.title for table in found.values() for block in table.values()] == ["folder my/photos"]


def test_the_embedded_world_has_a_table_of_its_own(write_run):
    world = write_run("a", SEEDS, dataset="world_objects", data={"comparable": False})
    found, _ = tables(world, write_run("b", SEEDS))
    assert list(found) == ["Base-to-new generalization", "Base-to-new generalization, embedded world"]
    rows = found["Base-to-new generalization, embedded world"]["world_objects"].rows
    assert list(rows) == [CLIP, DEAR]
    assert rows[DEAR]["Base"].notes == ()


def test_shots_are_columns(write_run):
    folders = [
        write_run(f"{shots}", {"1": {"accuracy": 50.0 + shots}}, protocol="few_shot", changes={"data.shots": shots})
        for shots in (16, 1, 2)
    ]
    block = tables(*folders)[0]["Few-shot classification"]["dtd"]
    assert block.columns == ("1 shot", "2 shots", "16 shots")
    assert [block.rows[DEAR][column].mean for column in block.columns] == [51.0, 52.0, 66.0]


def transfer(**scores):
    return dict.fromkeys("123", scores)


@pytest.mark.parametrize(
    ("protocol", "title", "targets"),
    [
        ("cross_dataset", "Cross-dataset transfer", {"caltech101": 92.94, "dtd": 44.56, "average": 65.12}),
        (
            "domain_generalization",
            "Domain generalization",
            {"imagenetv2": 60.83, "imagenet_r": 73.96, "average": 57.18},
        ),
    ],
)
def test_targets_are_columns(write_run, protocol, title, targets):
    names = list(targets)[:-1]
    notes = {name: {"comparable": name != names[0], "remark": "Cut."} for name in names}
    seeds = transfer(imagenet=70.0, **dict.fromkeys(targets, 60.0))
    run = write_run("a", seeds, protocol=protocol, dataset="imagenet", data={"targets": notes})
    block = tables(run)[0][title]["trained on imagenet"]
    heads = ["imagenet", *names, "Average"]
    assert list(block.columns) == heads
    assert [block.rows["CLIP"][head].mean for head in heads[1:]] == list(targets.values())
    marked = [head for head in heads if block.rows[DEAR][head].notes]
    assert marked == [names[0], "Average"]


def test_an_evaluation_has_the_settings_of_its_training(write_run, tmp_path):
    seeds = transfer(imagenet=70.0, imagenetv2=60.0, average=60.0)
    changes = {"dear.mask.pattern": "open", "dear.loss.reg": 0.5}
    trained = write_run("a", seeds, protocol="cross_dataset", dataset="imagenet", changes=changes)
    evaluation = dict(protocol="domain_generalization", dataset="imagenet")
    same = write_run("b", seeds, **evaluation, changes={"job": "evaluate", "run": str(trained)})
    fused = {"job": "evaluate", "run": str(trained), "eval.new_classes": "class_only"}
    gone = {"job": "evaluate", "run": str(tmp_path / "gone")}
    few = {"dataset": "dtd", "classes": 24}
    folders = [
        same,
        write_run("c", seeds, **evaluation, changes=fused),
        write_run("d", seeds, **evaluation, changes=gone),
    ]
    folders.append(write_run("e", seeds, **evaluation, changes=changes, trained_on=few))
    rows = list(tables(*folders)[0]["Domain generalization"]["trained on imagenet"].rows)
    assert rows[-4:] == [
        f"{DEAR}, loss.reg=0.5, mask.pattern=open",
        f"{DEAR}, eval.new_classes=class_only, loss.reg=0.5, mask.pattern=open",
        f"{DEAR}, adapter of {tmp_path / 'gone'}",
        f"{DEAR}, trained on dtd (24 classes), loss.reg=0.5, mask.pattern=open",
    ]


def test_runs_of_an_older_config_are_read(write_run):
    folder = write_run("a", SEEDS)
    config = json.loads((folder / "config.json").read_text())
    del config["dear"]["tokens"]["beta"]
    (folder / "config.json").write_text(json.dumps(config | {"forgotten": 1}))
    assert ours(tables(folder)[0]["Base-to-new generalization"]["dtd"]) == [CLIP, DEAR]


def test_runs_from_before_keys_were_renamed_make_the_same_rows(write_run):
    changes = {"dear.mask.pattern": "open", "dear.loss.reg": 0.5, "eval.new_classes": "equal"}
    first, second = {"1": SEEDS["1"]}, {"2": SEEDS["2"], "3": SEEDS["3"]}
    new = write_run("new", first, changes=changes | {"dear.fusion.class_start": 0.25})
    old = write_run("old", second, changes=changes | {"dear.fusion.class_start": 0.25})
    config = json.loads((old / "config.json").read_text())
    config |= config.pop("dear")  # the groups that the method's keys were in
    config["fusion"]["new_classes"] = config["eval"].pop("new_classes")
    del config["method"], config["roles"]["attributes"], config["roles"]["first_layer"]
    (old / "config.json").write_text(json.dumps(config))
    found, misfits = tables(new, old)
    row = f"{DEAR}, eval.new_classes=equal, fusion.class_start=0.25, loss.reg=0.5, mask.pattern=open"
    block = found["Base-to-new generalization"]["dtd"]
    assert not misfits
    assert ours(block) == [CLIP, row]
    assert (block.rows[row]["Base"].mean, block.rows[row]["Base"].seeds) == (82.0, 3)


def test_a_run_has_the_settings_of_its_own_method_alone(write_run):
    folder = write_run("a", SEEDS, method_title="MaPLe")
    config = json.loads((folder / "config.json").read_text())
    config["dear"]["loss"]["reg"] = 0.5
    (folder / "config.json").write_text(json.dumps(config | {"method": "other"}))
    assert ours(tables(folder)[0]["Base-to-new generalization"]["dtd"]) == [CLIP, "MaPLe (ours)"]


def test_a_run_of_an_unknown_method_has_the_settings_of_the_protocol(write_run):
    changes = {"method": "other", "train.epochs": 3}
    folder = write_run("a", SEEDS, method_title="Other", changes=changes)
    assert ours(tables(folder)[0]["Base-to-new generalization"]["dtd"]) == [CLIP, "Other (ours), train.epochs=3"]


def test_the_recipe_of_a_method_is_no_setting_of_its_rows_and_one_of_zero_shot_clip(write_run, monkeypatch):
    parse, changed = command_line.parse, {"train.epochs": 3, "data.template": "{}?"}

    def with_recipe(arguments):
        config, *rest = parse(arguments)
        return (values.set_all(config, changed) if config.method == "with_recipe" else config), *rest

    monkeypatch.setattr(command_line, "parse", with_recipe)
    monkeypatch.setitem(METHODS, "with_recipe", toy_probe)
    probe = write_run("a", SEEDS, method_title="Linear probe", changes={"method": "with_recipe", **changed})
    found, misfits = tables(probe, write_run("b", SEEDS))
    assert not misfits
    rows = [CLIP, f"{CLIP}, data.template={{}}?", DEAR, "Linear probe (ours)"]
    assert ours(found["Base-to-new generalization"]["dtd"]) == rows


def test_rounding_of_zero_shot_clip_is_no_contradiction(write_run):
    first, rounded, other = (dict.fromkeys(("base", "new", "hm"), value) for value in (50.0, 50.2, 50.4))
    found, misfits = tables(
        write_run("a", {"1": SEEDS["1"]}, zero_shot=first, changes={"seeds": (1,)}),
        write_run("b", {"2": SEEDS["2"]}, zero_shot=rounded, changes={"seeds": (2,)}),
        write_run("c", {"3": SEEDS["3"]}, zero_shot=other, changes={"seeds": (3,)}),
    )
    rows = found["Base-to-new generalization"]["dtd"].rows
    assert rows[CLIP]["Base"].mean == 50.0
    assert rows[DEAR]["Base"].seeds == 3
    (misfit,) = misfits
    assert "zero-shot CLIP with other accuracies, by up to 0.40 points" in misfit


def test_costs_are_those_of_each_data_set(write_run):
    folders = [
        write_run("a", SEEDS, trainable_parameters={"default": 10}),
        write_run("b", SEEDS, dataset="eurosat", trainable_parameters={"default": 40}),
    ]
    for folder, seconds in zip(folders, (6.0, 18.0), strict=True):  # of two steps of three seeds
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 2, "seconds": seconds}) + "\n")
    found = tables(*folders)[0]["Base-to-new generalization"]
    for title, parameters, seconds in (("dtd", (10,), 1.0), ("Average over 2 data sets", (10, 40), 2.0)):
        for head in ("Base", "HM"):
            cell = found[title].rows[DEAR][head]
            assert (cell.parameters, cell.step_seconds) == (parameters, seconds)
        assert (found[title].rows[CLIP]["HM"].parameters, found[title].rows[CLIP]["HM"].step_seconds) == ((), None)
    older = write_run("c", SEEDS, dataset="ucf101")
    cell = tables(*folders, older)[0]["Base-to-new generalization"]["Average over 3 data sets"].rows[DEAR]["HM"]
    assert (cell.parameters, cell.step_seconds) == ((), None)


def test_ranks_follow_the_average_and_published_rows_have_no_part_in_them(write_run):
    folders = [
        write_run(f"{title}-{name}", seeds, method_title=title, dataset=name)
        for name in ("dtd", "eurosat")
        for title, seeds in (("DeAR", OTHERS), ("MMRL", SEEDS))
    ]
    found = tables(*folders)[0]["Base-to-new generalization"]
    assert list(found) == ["Average over 2 data sets", "Ranks by HM", "dtd", "eurosat"]
    assert list(found["Ranks by HM"].rows) == ["MMRL (ours)", DEAR]
    assert "Ranks by HM" not in tables(folders[0], folders[2])[0]["Base-to-new generalization"]
