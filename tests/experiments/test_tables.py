"""The command lines of tables and figures."""

import json

import pytest

from experiments import figures, tables

SEEDS = {"1": {"base": 80.0, "new": 60.0, "hm": 68.571}, "2": {"base": 82.0, "new": 62.0, "hm": 70.611}}


def test_tables_are_printed_and_written_and_bad_folders_named(write_run, tmp_path, capsys):
    write_run("runs/good", SEEDS)
    (write_run("runs/bad", SEEDS) / "results.json").write_text("{")
    assert tables.main([str(tmp_path / "runs"), str(tmp_path / "none"), f"--output={tmp_path / 'out'}"]) == 0
    output = capsys.readouterr()
    assert "| DeAR (ours) | 81.00 ± 1.00 [c] | 61.00 ± 1.00 [c] |" in output.out  # two seeds do not compare
    assert "| MMRL | **85.67** " in output.out
    assert "| DeAR, difference | -2.90 [b,c] |  |" in output.out
    assert "[b] From a secondary listing of the paper's results.  \n[c] Fewer than 3 seeds (2)." in output.out
    assert "bad/results.json: half-written" in output.err
    assert "none: there is no such folder" in output.err
    assert (tmp_path / "out" / "tables.md").read_text() in output.out
    assert (tmp_path / "out" / "tables.csv").read_text().startswith("table,block,row")
    assert "\\begin{tabular}" in (tmp_path / "out" / "tables.tex").read_text()


def test_figures_of_both_kinds(write_run, tmp_path, capsys):
    write_run("runs/a", SEEDS)
    for shots in (1, 2):
        write_run(f"runs/{shots}", {"1": {"accuracy": 50.0}}, protocol="few_shot", changes={"data.shots": shots})
    assert figures.main([str(tmp_path / "runs"), f"--output={tmp_path / 'out'}"]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stems = ("base-to-new_generalization-base_against_new", "base-to-new_generalization-dtd", "few-shot_classification")
    assert names == [f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "svg")]
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_figures_of_what_methods_cost(write_run, tmp_path):
    for title, parameters, seconds in (("DeAR", 10, 1.0), ("MMRL", 1000, 2.0)):
        costs = dict(method_title=title, trainable_parameters={"default": parameters})
        shots = {"protocol": "few_shot", "changes": {"data.shots": 16}}
        folders = [
            write_run(f"runs/{title}-{dataset}", SEEDS, dataset=dataset, **costs) for dataset in ("dtd", "eurosat")
        ]
        folders.append(write_run(f"runs/{title}-shots", {"1": {"accuracy": 50.0}}, **shots, **costs))
        for folder in folders:
            (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "seconds": seconds}))
    assert figures.main([str(tmp_path / "runs"), f"--output={tmp_path / 'out'}"]) == 0
    found = {path.stem for path in (tmp_path / "out").glob("*.png")}
    costs = {"over_trainable_parameters", "over_time_of_a_step"}
    assert {name for name in found if name.endswith(tuple(costs))} == {
        *(f"base-to-new_generalization-hm_{cost}" for cost in costs),
        *(f"few-shot_classification-16_shots_{cost}" for cost in costs),
    }
    assert "base-to-new_generalization-base_against_new" in found
    assert not any("ranks" in name for name in found)
    drawn = (tmp_path / "out" / "base-to-new_generalization-base_against_new.svg").read_text()
    assert "<!-- MMRL (published) -->" in drawn
    assert "<!-- MMRL (ours) -->" in drawn


def test_a_part_of_the_data_sets_is_no_point_among_averages(write_run, tmp_path):
    for title, datasets in (("DeAR", ("dtd", "eurosat")), ("MMRL", ("dtd",))):
        for dataset in datasets:
            write_run(f"runs/{title}-{dataset}", SEEDS, dataset=dataset, method_title=title)
    assert figures.main([str(tmp_path / "runs"), f"--output={tmp_path / 'out'}"]) == 0
    drawn = (tmp_path / "out" / "base-to-new_generalization-base_against_new.svg").read_text()
    assert "<!-- DeAR (ours) -->" in drawn
    assert "<!-- MMRL (ours) -->" not in drawn


def test_a_method_looks_the_same_whatever_else_there_is():
    few = ["DeAR (ours)", "MMRL (ours)"]
    many = [
        "CLIP",
        "zero-shot CLIP (ours)",
        "MMRL (ours), layer=9",
        "MMRL",
        "CoOp",
        *few,
        "DeAR (ours), open",
        "New (ours)",
    ]
    looks = figures.make_looks([*many, "MMRL, difference"])
    assert {name: looks[name] for name in few} == figures.make_looks(few)
    assert list(looks.keys()) == sorted(looks, key=lambda name: name.startswith(("MMRL (ours),", "DeAR (ours),")))
    assert looks["MMRL"] == looks["MMRL (ours)"]
    assert looks["CLIP"] == looks["zero-shot CLIP (ours)"]
    pairs = {(look.color, look.marker) for look in looks.values()}
    assert len(pairs) == len(many) - 2  # CLIP and MMRL have their looks twice
    for name, plain in (("MMRL (ours), layer=9", "MMRL (ours)"), ("DeAR (ours), open", "DeAR (ours)")):
        assert looks[name].color != looks[plain].color
        assert looks[name].bar == looks[plain].color
    alone = figures.make_looks(["MMRL (ours), layer=9"])  # stands for its method where no plain row does
    assert alone["MMRL (ours), layer=9"] == looks["MMRL (ours)"]


@pytest.mark.parametrize("program", [tables, figures])
def test_nothing_usable_and_nowhere_to_write(program, write_run, tmp_path, capsys):
    assert program.main([str(tmp_path / "none")]) == 2
    assert "error: no finished run" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert program.main([str(write_run("a", SEEDS)), f"--output={tmp_path / 'file'}"]) == 2
    assert "Give another --output" in capsys.readouterr().err
