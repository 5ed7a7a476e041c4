"""The tables of pods, from results that are there already."""

import json

from experiments.speed import pods

STEP = {
    "chips": 4,
    "refused": "",
    "class_chunk": 0,
    "memory": {"peak": 3 * 2**29},
    "flops": 2.5e12,
    "bytes": 4.24e9,
    "collectives": [{"sent": 1e6}, {"sent": 2.5e6}],
    "bound_seconds": 0.0125,
    "bound_by": "memory",
    "matrix_units": 0.5,
    "cycles": 1000,
    "estimated_seconds": 0.02,
    "matrix_units_estimated": 0.25,
}


def _write(folder, topology, step, seconds):
    folder.mkdir()
    result = {"topology": topology, "programs": [step], "run": {"chips": 4, "seconds": seconds}}
    (folder / "compile.json").write_text(json.dumps(result))


def test_rows_that_are_there_are_not_compiled_again(tmp_path, monkeypatch, capsys):
    for number in range(len(pods.JOBS)):
        _write(tmp_path / f"{number}-v5e-2x2", "v5e:2x2", STEP, 15.6)
        _write(tmp_path / f"{number}-v6e-2x2", "v6e:2x2", {"chips": 3, "refused": "needs 20 GiB: train less"}, None)
    monkeypatch.setattr("sys.argv", ["pods", f"--workdir={tmp_path}", "--slices=v5e:2x2,v6e:2x2"])
    pods.main()
    output = capsys.readouterr().out
    row = "| v5e:2x2 | 4 of 4 | all | 1.5 | 2,500 | 4.2 | 3.5 | 12.5 | memory | 50% | 20.0 | 25% | 16 s |"
    assert output.count(row) == len(pods.JOBS)
    assert output.count("| v6e:2x2 | 3 of 4 | refused: needs 20 GiB |") == len(pods.JOBS)
    widths = {line.count("|") for line in output.splitlines() if line.startswith("|")}
    assert widths == {len(pods.COLUMNS) + 1}
