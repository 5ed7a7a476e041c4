"""Studies: every variant is one of the command line, and the tables of made-up results, by hand."""

import dataclasses

import numpy as np
import pytest

from dear_jax import main as command_line
from dear_jax.data.protocols import harmonic_mean
from dear_jax.data.world.tasks import draws as draws_of
from dear_jax.setup import recipes, variants
from experiments.sweep import dose_figure, study
from experiments.sweep.studies import REPORTED, STUDIES, TUNING, Study
from tests.repository import REPOSITORY

TWO = Study("Which?", ("draw_a", "draw_b", "draw_c"), {"one": "loss.reg=0", "two": "loss.reg=1"}, "one", (1, 2))


def result(base: float, new: float, gain: float) -> dict:
    """Variant two has `gain` more on base, and twice that by its class path on new classes."""

    def row(more: float) -> dict:
        rules = {"learned": 0.0, "class_only": more, "equal": -1.0, "0.0": -20.0, "0.9": more / 2}
        return {
            "mean": {"base": base + more, "new": new, "hm": harmonic_mean(base + more, new)},
            "trained_classes": {"base": {rule: {"mean": base + d, "std": 0.0} for rule, d in rules.items()}},
            "new_classes": {"new": {rule: {"mean": new + 2 * d, "std": 0.0} for rule, d in rules.items()}},
        }

    zero_shot = {"base": base - 10, "new": new - 1, "hm": harmonic_mean(base - 10, new - 1)}
    return {"dataset": "d", "zero_shot": zero_shot, "variants": {"one": row(0.0), "two": row(gain)}}


RESULTS = [result(80.0, 70.0, 1.0), result(60.0, 50.0, 2.0), result(70.0, 60.0, 3.0)]


@pytest.mark.parametrize("name", STUDIES)
def test_commands_are_understood(name, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    asked = STUDIES[name]
    assert asked.reference in asked.variants
    families = [{*draws_of(family)} for family in ("world_spurious", "world_stickers")]
    assert set(asked.draws) in ({*TUNING}, {*REPORTED}, *families)
    config, _, _ = command_line.parse(asked.flags(asked.draws[0]))
    assert list(variants.variant_configs(recipes.resolve(config))) == list(asked.variants)
    assert tuple(config.seeds) == asked.seeds
    assert len(asked.twins) in (0, len(asked.draws))
    if asked.choices:
        config, _, _ = command_line.parse(asked.selection_flags(asked.draws[0]))
        assert (config.job, config.select.folds) == ("select", 2)
        assert list(variants.variant_configs(recipes.resolve(config))) == list(asked.choices)


def test_what_a_selection_takes_is_a_row():
    names = ("one", "two", "one")
    results = [one | {"selected": {"chosen": {"name": name}}} for one, name in zip(RESULTS, names, strict=True)]
    asked = dataclasses.replace(TWO, choices=("one", "two"))
    said, table = study.selection_part(asked, results)
    assert "a selection takes one, two, one on the 3 draws" in said
    best = np.mean([harmonic_mean(81, 70), harmonic_mean(62, 50), harmonic_mean(73, 60)])
    assert f"has {best:.2f} HM" in said
    assert table.splitlines()[4].startswith("| as a selection chooses | 70.67 ")
    assert study.tables(asked, results)[-2:] == [said, table]


def test_draws_for_choosing_are_not_reported():
    assert not set(TUNING) & set(REPORTED)


def test_differences_are_paired_by_draw():
    table = study.accuracy_table(TWO, RESULTS, "learned").splitlines()
    assert table[2].startswith("| zero-shot CLIP | 60.00 ± 8.16 | 59.00 ± 8.16 |")
    assert table[3].startswith("| one | 70.00 ± 8.16 | 60.00 ± 8.16 |")
    assert table[3].endswith("|  |  |  |")
    half = 4.302653 / np.sqrt(3)  # Student's t of two degrees of freedom; the differences' deviation is 1
    assert f"| +2.00 ± {half:.2f} | +0.00 ± 0.00 |" in table[4]
    assert f"| +4.00 ± {2 * half:.2f} |" in study.accuracy_table(TWO, RESULTS, "class_only").splitlines()[4]


def test_worst_groups_have_a_table_where_all_draws_know_them():
    def grouped(one: dict, worst: float) -> dict:
        def row(value: float) -> dict:
            return {"base": value, "new": value - 10, "hm": value - 5}

        variants = {
            name: variant | {"metrics": {"worst_group": {"mean": row(worst + 5 * number)}}}
            for number, (name, variant) in enumerate(one["variants"].items())
        }
        return one | {"zero_shot_metrics": {"worst_group": row(worst - 20)}, "variants": variants}

    results = [grouped(one, worst) for one, worst in zip(RESULTS, (50.0, 60.0, 70.0), strict=True)]
    assert study.metric_table(TWO, results, "worst_group").splitlines()[2:] == [
        "| zero-shot CLIP | 40.00 ± 8.16 | 30.00 ± 8.16 | 35.00 ± 8.16 |  |  |  |",
        "| one | 60.00 ± 8.16 | 50.00 ± 8.16 | 55.00 ± 8.16 |  |  |  |",
        "| two | 65.00 ± 8.16 | 55.00 ± 8.16 | 60.00 ± 8.16 | +5.00 ± 0.00 | +5.00 ± 0.00 | +5.00 ± 0.00 |",
    ]
    with_table = study.tables(TWO, results)
    assert sum("Worst-group" in part for part in with_table) == 1
    assert not any("Worst-group" in part for part in study.tables(TWO, [results[0], *RESULTS[1:]]))


def test_paths_by_themselves():
    row = study.paths_table(TWO, RESULTS).splitlines()[3].split(" | ")
    assert row[1:5] == ["72.00 ± 7.79", "50.00 ± 8.16", "70.00 ± 8.16", "72.00 ± 7.79 at 1"]
    assert row[5].startswith("64.00")


def test_the_choice_on_tuning_draws():
    line = study.choice_line(TWO, RESULTS)
    assert line.startswith("Best mean HM: two, class path only. Within one standard error: two, class path only.")


def test_a_finished_draw_is_not_run_again(tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text("{}")
    monkeypatch.setattr(study.subprocess, "run", lambda *command, **options: pytest.fail("it was run"))
    study.run(TWO, "draw_a", tmp_path, [])


def test_the_twin_of_a_draw_is_measured_by_the_same_adapters(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(study.subprocess, "run", lambda command, **options: commands.append(command))
    asked = dataclasses.replace(TWO, twins=("twin_a", "twin_b", "twin_c"))
    (tmp_path / "results.json").write_text('{"a": 1}')
    assert not study.finished(asked, "draw_b", tmp_path)
    study.run(asked, "draw_b", tmp_path, ["--config.seeds=1"])
    (command,) = commands
    assert "--config=configs/base2new.py:twin_b" in command
    assert command[-3:] == [f"--config.run={tmp_path}", "--config.seeds=1", f"--workdir={tmp_path / 'twin'}"]
    (tmp_path / "twin" / "results.json").write_text('{"b": 2}')
    assert study.finished(asked, "draw_b", tmp_path)
    assert study.read(tmp_path) == {"a": 1, "twin": {"b": 2}}


def test_what_a_mark_costs():
    asked = dataclasses.replace(TWO, twins=("clean",) * 3)
    clean = [result(85.0, 75.0, 1.0), result(65.0, 55.0, 2.0), result(75.0, 65.0, 3.0)]
    results = [one | {"twin": twin} for one, twin in zip(RESULTS, clean, strict=True)]
    table = study.loss_table(asked, results, "learned").splitlines()
    assert table[2].startswith("| zero-shot CLIP | -5.00 ± 0.00 | -5.00 ± 0.00 |")
    assert table[4].startswith("| two | -5.00 ± 0.00 | -5.00 ± 0.00 |")
    assert sum("What the same adapters gain" in part for part in study.tables(asked, results)) == 2


def test_the_dose_figure(tmp_path):
    asked = Study("?", ("a", "b"), {f"roles, start {s}": "" for s in (0.3, 0.5)}, "roles, start 0.3")
    row = RESULTS[0]["variants"]["one"]
    results = [{**one, "variants": dict.fromkeys(asked.variants, row)} for one in RESULTS]
    dose_figure.draw(asked, results, tmp_path / "dose")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["dose.pdf", "dose.png", "dose.svg"]


def test_one_draw_makes_no_table(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        study.main(["masks", "--tables", f"--workdir={tmp_path}"])
    assert "0 finished draws; tables need two or more" in capsys.readouterr().err
