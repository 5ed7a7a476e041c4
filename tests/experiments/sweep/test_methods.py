"""The page of all methods, of made-up results."""

import json

import pytest

from experiments.sweep import methods


@pytest.fixture
def sweep(tmp_path):
    """Two methods on two draws; of few-shot one draw is unfinished with four shots."""

    def write(method, draw, protocol, gain, shots=16, steps=0):
        folder = tmp_path / f"{method}-{protocol}-{draw}-{shots}"
        folder.mkdir()
        base2new = protocol == "base2new"
        mean = {"base": 60.0 + gain, "new": 40.0, "hm": 0.0} if base2new else {"accuracy": 50.0 + gain}
        row = {"mean": mean, "new_classes": {"new": {"class_only": {"mean": 40.0 + gain}}} if base2new else {}}
        results = {
            "protocol": protocol,
            "dataset": draw,
            "shots": shots,
            "method": method,
            "trained_on": {"classes": 10},
            "trainable_parameters": {"default": 1234},
            "zero_shot": {"base": 50.0, "new": 50.0, "hm": 50.0} if base2new else {"accuracy": 45.0},
            "variants": {"default": row},
        }
        train = {"share": 0.5, "steps": steps, "epochs": 3, "batch_size": 32}
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "config.json").write_text(json.dumps({"train": train, "seeds": [1, 2]}))

    for number, draw in enumerate(("a", "b")):
        write("dear", draw, "base2new", 10.0 + 2 * number)
        write("clip_lora", draw, "base2new", 20.0, steps=7)
        for shots in (1, 4):
            write("dear", draw, "few_shot", 1.0, shots)
            if draw == "a" or shots == 1:
                write("clip_lora", draw, "few_shot", 2.0 + shots, shots)
    return tmp_path


def test_the_page(sweep, capsys):
    methods.main([str(sweep), f"--page={sweep / 'pages'}"])
    text = (sweep / "side_by_side.md").read_text()
    assert text == (sweep / "pages" / "methods.md").read_text()
    assert "a share of 0.5 is trained; 2 seeds a run" in text
    lines = text.splitlines()
    lora, dear = (next(line for line in lines if line.startswith(name)) for name in ("| CLIP-LoRA", "| DeAR"))
    assert lines.index(lora) < lines.index(dear)
    assert dear.startswith("| DeAR | 71.00 ± 1.00 | 40.00 ± 0.00 | 51.00 ± 1.00 | 51.17 ± 0.26 |")
    assert dear.endswith("| 1,234 | 480 | 2 |")  # 3 epochs of 5 batches of 32
    assert lora.endswith("| 1,234 | 224 | 2 |")
    assert "## Few-shot classification, 2 draws (a, b)" in text
    assert "|  | 1 shot, 2 draws | 4 shots, 1 draw |" in text  # the draw that all have
    assert "| CLIP-LoRA | 53.00 ± 0.00 | 56.00 ± 0.00 |" in text
    assert "| zero-shot CLIP | 45.00 ± 0.00 | 45.00 ± 0.00 |" in text


def test_without_runs(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        methods.main([str(tmp_path)])
    assert "has no finished run" in capsys.readouterr().err
