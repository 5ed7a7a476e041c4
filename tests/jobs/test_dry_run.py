"""A dry run: what it says of a good config, and all problems of a bad one at once."""

from PIL import Image

from dear_jax import main
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"


def test_the_default(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main.main([CONFIG, "--dry_run", "--config.seeds=1,2"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "dear.tokens.beta 0.9",
        "fingerprint ce9ea1d8a70db523",
        "activation quick_gelu (vision), quick_gelu (text)",
        "training images 320 per seed, 16 to 16 per class",
        "base classes 20, with 1,000 test images, 50 to 50 each",
        "base names ringed blue diamond, ",
        "base context 16 tokens, cut to the longest prompt",
        "steps 800 (80 an epoch), 2 seeds x 4 images each",
        # 5 x 128 vision tokens, 5 x 64 text tokens, 128 x 128 projection, 6 fusion weights
        "trainable parameters 17,350 per seed and variant",
        "No problem found.",
    ):
        assert line in output, line
    assert not list(tmp_path.iterdir())


def test_steps_to_trace_that_there_are_not(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main.main([CONFIG, "--dry_run", "--config.log.profile=790:801"]) == 2
    assert "config.log.profile is 790:801, and this run has 800 steps" in capsys.readouterr().err


def test_data_are_looked_at_without_a_backbone(capsys, tmp_path):
    flags = ["--config.backbone=absent/absent/absent", f"--config.data.root={tmp_path}"]
    assert main.main([f"{CONFIG}:oxford_pets", "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    assert "1. config.backbone is 'absent/absent/absent'" in message
    assert "2. " in message
    assert "oxford_pets" in message.split("2. ")[1]


def test_finding_roles(capsys, monkeypatch, tmp_path):
    """What the job works with, and nothing of training."""
    monkeypatch.chdir(tmp_path)
    find = f"--config={REPOSITORY / 'configs' / 'find_roles.py'}"
    assert main.main([find, "--dry_run"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "images 4032 of 4032 training images",
        "heads 24, of layers 5 to 7",
        "contributions 24 MiB on disk",
        "bank 378 descriptions, 16 picked for each head",
        "sentence encoder lexicon of the embedded world",
    ):
        assert line in output, line
    assert "trainable parameters" not in output
    assert main.main([find, "--dry_run", "--config.dear.tokens.text_layer=99"]) == 0  # a key of training alone
    capsys.readouterr()
    flags = ["--config.roles.first_layer=7", "--config.roles.attributes=color,shape"]
    assert main.main([find, "--dry_run", *flags]) == 0
    assert "heads 8, of layers 7 to 7" in " ".join(capsys.readouterr().out.split())
    assert main.main([find, "--dry_run", "--config.roles.first_layer=8"]) == 2
    assert "config.roles.first_layer is 8: expected 1 to 7, the layers of the backbone." in capsys.readouterr().err
    bad = ["--config.roles.images=10", "--config.data.template=none"]
    assert main.main([find, "--dry_run", *bad]) == 2
    message = capsys.readouterr().err
    assert "1. config.data.template" in message
    assert "2. 10 images cannot span a rank of 16" in message
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_with_a_role_map_that_has_to_be_made(not_compiled, capsys, tmp_path):
    (tmp_path / "bank.txt").write_text("a star\na star\n")
    flags = ["--config.dear.tokens.attributes=color,shape", f"--config.roles.cache={tmp_path}"]
    assert main.main([CONFIG, "--dry_run", *flags]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "Role map, made first images 1280 of 1280 training images" in output
    assert main.main([CONFIG, "--dry_run", *flags, f"--config.roles.bank={tmp_path / 'bank.txt'}"]) == 2
    assert "1 problem found" in (message := capsys.readouterr().err)
    assert "line 2 repeats 'a star' of line 1" in message


def test_images_that_would_be_left_out_are_listed(not_compiled, capsys, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "3.png").write_bytes(b"no image")
    flags = ["--config.backbone=embedded", f"--config.data.root={tmp_path}", "--config.data.skip_bad=true"]
    assert main.main([f"{CONFIG}:folder", "--dry_run", "--config.seeds=1", "--config.train.batch_size=2", *flags]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert f"left out 1 image: The file {tmp_path}/cat/3.png (8 bytes) is no image that Pillow knows" in output


def test_pretraining(capsys, monkeypatch, tmp_path):
    """What would be made, from nothing: no backbone is loaded."""
    monkeypatch.chdir(tmp_path)
    flags = ["--config.pretrain.steps=2000", "--config.pretrain.vision_layers=5", "--config.backbone=absent"]
    assert main.main([f"--config={REPOSITORY / 'configs' / 'pretrain_tiny.py'}", "--dry_run", *flags]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "pretrain.vision_layers 5",
        "image 48 pixels in patches of 8",
        "vision 5 layers, 8 heads, width 128",
        "text 3 layers, 4 heads, width 64",
        "steps 2,000 of 128 pictures",
        "evaluation 5,000 held-out pictures, 1,000 on the way",
        "No problem found.",
    ):
        assert line in output, line
    assert not list(tmp_path.iterdir())


def test_pretraining_has_its_own_config_file(capsys):
    assert main.main([CONFIG, "--config.job=pretrain", "--dry_run"]) == 2
    assert "1. config.job=pretrain takes the keys of --config=configs/pretrain_tiny.py" in capsys.readouterr().err


def test_all_problems_at_once(capsys):
    flags = ["--config.dear.tokens.beta=3", "--config.dear.mask.pattern=rolls", "--config.data.template=none"]
    assert main.main([CONFIG, "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    for problem in (
        "3 problems found",
        "1. config.dear.tokens.beta is 3.0",
        "2. config.dear.mask.pattern is 'rolls'",
        "3. config.data.tem",
    ):
        assert problem in message


def test_problems_of_backbone_mask_and_data_at_once(capsys):
    """Where the plan itself is right."""
    flags = ["--config.dear.mask.set=1.0=mixed", "--config.data.template=none"]
    assert main.main([CONFIG, "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    assert "2 problems found" in message
    assert "the masked layers are" in message
    assert "2. config.data.template" in message


def test_variants_that_cannot_be_read_hide_no_problem_of_the_data(capsys):
    flags = ["--config.variants=mask_pattern", "--config.data.root=nowhere", "--config.protocol=base2new"]
    assert main.main([f"{CONFIG}:oxford_pets", "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    assert "2 problems found" in message
    assert "1. config.variants: 'mask_pattern' is no preset" in message
    assert "nowhere" in message.split("2. ")[1]
    assert main.main([CONFIG, "--dry_run", "--config.variants=mask_pattern", "--config.protocol=base"]) == 2
    assert "1 problem found" in capsys.readouterr().err
