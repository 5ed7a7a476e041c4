"""A dry run: what it says of a good config, and all problems of a bad one at once."""

from pathlib import Path

from dear_jax import main

REPOSITORY = Path(__file__).parents[1]
CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"


def test_the_default(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main.main([CONFIG, "--dry_run", "--config.seeds=1,2"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "tokens.beta 0.9",
        "fingerprint ce9ea1d8a70db523",
        "activation quick_gelu (vision), quick_gelu (text)",
        "training images 320 per seed, 16 to 16 per class",
        "base classes 20, with 1000 test images, 50 to 50 each",
        "base context 16 tokens, cut to the longest prompt",
        "steps 800 (80 an epoch), 2 seeds x 4 images each",
        # 5 x 128 vision tokens, 5 x 64 text tokens, 128 x 128 projection, 6 fusion weights
        "trainable parameters 17,350 per seed and variant",
        "No problem found.",
    ):
        assert line in output, line
    assert not list(tmp_path.iterdir())


def test_data_are_looked_at_without_a_backbone(capsys, tmp_path):
    flags = ["--config.backbone=absent/absent/absent", f"--config.data.root={tmp_path}"]
    assert main.main([f"{CONFIG}:oxford_pets", "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    assert "1. config.backbone is 'absent/absent/absent'" in message
    assert "2. " in message
    assert "oxford_pets" in message.split("2. ")[1]


def test_all_problems_at_once(capsys):
    flags = ["--config.tokens.beta=3", "--config.mask.pattern=rolls", "--config.data.template=none"]
    assert main.main([CONFIG, "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    for problem in (
        "3 problems found",
        "1. config.tokens.beta is 3.0",
        "2. config.mask.pattern is 'rolls'",
        "3. data.tem",
    ):
        assert problem in message
