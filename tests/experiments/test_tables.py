"""The command lines of tables and figures."""

import pytest

from experiments import figures, tables

SEEDS = {"1": {"base": 80.0, "new": 60.0, "hm": 68.571}, "2": {"base": 82.0, "new": 62.0, "hm": 70.611}}


def test_tables_are_printed_and_written_and_bad_folders_named(write_run, tmp_path, capsys):
    write_run("runs/good", SEEDS)
    (write_run("runs/bad", SEEDS) / "results.json").write_text("{")
    assert tables.main([str(tmp_path / "runs"), str(tmp_path / "none"), f"--output={tmp_path / 'out'}"]) == 0
    output = capsys.readouterr()
    assert "| DeAR (ours) | 81.00 ± 1.00 [b] | 61.00 ± 1.00 [b] |" in output.out
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
    stems = ("base-to-new_generalization-dtd", "few-shot_classification")
    assert names == [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")]
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("program", [tables, figures])
def test_nothing_usable_and_nowhere_to_write(program, write_run, tmp_path, capsys):
    assert program.main([str(tmp_path / "none")]) == 2
    assert "error: no finished run" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert program.main([str(write_run("a", SEEDS)), f"--output={tmp_path / 'file'}"]) == 2
    assert "Give another --output" in capsys.readouterr().err
