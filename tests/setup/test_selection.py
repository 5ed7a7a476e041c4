"""Candidates of a selection, and configs that take one."""

import json

import pytest

from configs import base2new
from dear_jax.errors import UserError
from dear_jax.setup import candidates, methods, recipes, selection, values
from dear_jax.setup.plans import select, train
from dear_jax.setup.variants import RATE_FACTORS


def config_of(**changes):
    return values.set_open(base2new.get_config(), {key.replace("__", "."): value for key, value in changes.items()})


def found(new_classes=True, **changes):
    return candidates.find(config_of(**changes), new_classes)


def write(folder, **content):
    folder.mkdir(exist_ok=True)
    chosen = {"name": "b", "settings": {"dear.fusion.class_start": 0.7, "eval.new_classes": "class_only"}}
    whole = {"method": "dear", "protocol": "base2new", "dataset": "dtd", "backbone": "b", "shots": 16, "chosen": chosen}
    (folder / selection.NAME).write_text(json.dumps(whole | content))
    return str(folder)


def test_candidates_are_variants_times_rules_with_the_config_itself_first():
    names = found(variants="a: loss.reg=5 | b: loss.reg=5; mask.pattern=open", select__rules=("class_only",))
    assert [(one.variant, one.rule, dict(one.settings)) for one in names] == [
        ("default", "", {}),
        ("default", "class_only", {"eval.new_classes": "class_only"}),
        ("a", "", {"dear.loss.reg": 5.0}),
        ("a", "class_only", {"dear.loss.reg": 5.0, "eval.new_classes": "class_only"}),
        ("b", "", {"dear.loss.reg": 5.0, "dear.mask.pattern": "open"}),
        ("b", "class_only", {"dear.loss.reg": 5.0, "dear.mask.pattern": "open", "eval.new_classes": "class_only"}),
    ]


def test_a_variant_that_changes_nothing_is_the_config_itself():
    assert [one.variant for one in found(False, variants="x: loss.reg=5 | plain: loss.reg=1")] == ["plain", "x"]


def test_rules_count_where_paths_and_new_classes_are():
    few = found(variants="a: loss.reg=5")
    assert {one.rule for one in found(False, variants="a: loss.reg=5")} == {""}
    distinct = candidates.distinct(few, "learned", several_paths=True)
    assert [one.name for one in distinct if one.variant == "a"] == ["a, learned", "a, class_only", "a, equal"]
    assert distinct[0].settings == {}
    assert [one.name for one in candidates.distinct(few, "learned", several_paths=False)] == ["default", "a"]


def test_shares_are_lengths_of_the_recipe():
    some = found(False, variants="a: loss.reg=5", select__shares=(0.5, 1.0))
    assert [(one.name, one.share) for one in some] == [
        ("default, 1 of the recipe", 1.0),
        ("a, 1 of the recipe", 1.0),
        ("default, 0.5 of the recipe", 0.5),
        ("a, 0.5 of the recipe", 0.5),
    ]
    plan = select.make_plan(config_of(variants="a: loss.reg=5", select__shares=(0.5,)))
    assert [(one.share, one.schedule.epochs) for one in plan.trainings] == [(1.0, 10), (0.5, 5)]
    with pytest.raises(UserError, match=r"select.shares are of the recipe's length.*Leave one out"):
        found(False, select__shares=(0.5,), train__epochs=3)
    for shares in ((-1.0,), (0.5, "half"), (float("nan"),)):
        with pytest.raises(UserError, match=r"select.shares: expected positive numbers"):
            found(False, select__shares=shares)


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_has_candidates(name):
    protocol = "few_shot" if not getattr(methods.METHODS[name], "OPEN_CLASSES", True) else "base2new"
    config = config_of(method=name, protocol=protocol)
    if name in ("tip_adapter", "lpp", "linear_probe"):  # without steps there are no rates
        with pytest.raises(UserError, match=r"has one candidate.*presets of"):
            candidates.find(config, False)
        preset = next(iter(methods.METHODS[name].PRESETS))
        config = values.set_open(config, {"variants": preset})
    plan = select.make_plan(config)
    assert len(plan.candidates) >= 2
    assert plan.candidates[0].settings == {}
    if "all" not in methods.METHODS[name].PRESETS and not config.variants:
        assert len({one.variant for one in plan.candidates}) == len(RATE_FACTORS)


def test_a_run_takes_what_was_chosen_and_says_so(tmp_path):
    config = config_of(selection=write(tmp_path / "chosen"))
    resolved = recipes.resolve(config)
    assert (resolved.dear.fusion.class_start, resolved.eval.new_classes) == (0.7, "class_only")
    assert recipes.resolve(resolved) == resolved
    plan = train.make_plan(config)
    assert plan.selection["settings"] == {"dear.fusion.class_start": 0.7, "eval.new_classes": "class_only"}
    assert plan.selection["dataset"] == "dtd"
    assert plan.variants[0].options.fusion.class_start == 0.7
    assert train.make_plan(config_of()).selection == {}


def test_rates_and_shares_that_were_chosen(tmp_path):
    settings = {"optimizer.learning_rate": 0.01, "train.share": 0.5}
    resolved = recipes.resolve(config_of(selection=write(tmp_path, chosen={"name": "x", "settings": settings})))
    assert (resolved.optimizer.learning_rate, resolved.train.epochs) == (0.01, 5)


def test_selections_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*nowhere/selection.json.*job=select"):
        recipes.resolve(config_of(selection=str(tmp_path / "nowhere")))
    place = write(tmp_path / "chosen")
    with pytest.raises(UserError, match=r"chose settings of dear, and config.method is mmrl"):
        recipes.resolve(config_of(selection=place, method="mmrl"))
    with pytest.raises(UserError, match=r"config.dear.fusion.class_start is given as 0.8.*chose 0.7. Leave one out"):
        recipes.resolve(config_of(selection=place, dear__fusion__class_start=0.8))
    with pytest.raises(UserError, match=r"sets dear.gone, which this version"):
        recipes.resolve(config_of(selection=write(tmp_path / "x", chosen={"name": "", "settings": {"dear.gone": 1}})))
    wrong = {"name": "", "settings": {"dear.fusion.class_start": "much"}}
    with pytest.raises(UserError, match=r"selection.json holds a value of another kind than its key's.*class_start"):
        recipes.resolve(config_of(selection=write(tmp_path / "z", chosen=wrong)))
    with pytest.raises(UserError, match="is no file of the job select"):
        recipes.resolve(config_of(selection=write(tmp_path / "y", chosen=[])))
