"""The job from images to report, the shipped map, and the map that a training job makes for itself."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dear_jax import main
from dear_jax.clip.weights import load_backbone
from dear_jax.roles import ablation, role_map
from dear_jax.roles.decompose import ablate

REPOSITORY = Path(__file__).parents[2]
CONFIG = f"--config={REPOSITORY / 'configs' / 'find_roles.py'}"
BASE = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
SMALL = ["--config.roles.images=150", "--config.roles.top_images=3", "--config.data.dataset=world_objects"]
BITS = 0.02  # entropies of the shipped map, from other machines' rounding


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "find"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        assert main.main([CONFIG, *SMALL, f"--workdir={workdir}"]) == 0
    return workdir


def test_files_of_the_job(finished):
    found = role_map.load(finished / "role_map.json")
    values = found.to_dict()
    assert (found.backbone, found.first_layer, len(found.roles), len(found.roles[0])) == ("embedded", 5, 3, 8)
    assert values["settings"]["images"] == 150
    assert values["data"] == {"dataset": "world_objects", "images": 150, "of": 320}
    assert values["sentence_encoder"] == "lexicon of the embedded world"
    low, high = values["thresholds"]["low"], values["thresholds"]["high"]
    for row, entropies, heads in zip(found.roles, values["entropy"], values["heads"], strict=True):
        for role, bits, head in zip(row, entropies, heads, strict=True):
            assert (role == "mixed") == (low < bits < high)
            assert len(head["descriptions"]) == 20
            assert head["explained"] == pytest.approx(sum(d["variance"] for d in head["descriptions"]), abs=1e-4)
            if role.startswith("attribute:"):
                assert role == f"attribute:{values['clusters'][head['cluster']]['name']}"
    for name, count in (("heads.csv", 24), ("descriptions.csv", 480)):
        with (finished / name).open() as file:
            assert len(list(csv.DictReader(file))) == count
    with np.load(finished / "images.npz") as thumbnails:
        assert thumbnails["top"].shape == (3, 8, 3)
        assert thumbnails["images"].shape[1:] == (48, 48, 3)
        assert thumbnails["top"].max() == len(thumbnails["images"]) - 1
    assert json.loads((finished / "ablation.json").read_text())["heads"]
    for name in ("role_map.png", "entropy.png", "heads.png", "roles.html"):
        assert (finished / name).stat().st_size > 1000


def test_run_again_it_decomposes_nothing_and_finds_the_same(finished, monkeypatch, capfd):
    before = (finished / "role_map.json").read_text()
    monkeypatch.chdir(REPOSITORY)
    assert main.main([CONFIG, *SMALL, f"--workdir={finished}"]) == 0
    assert "Decomposing" not in capfd.readouterr().err
    assert (finished / "role_map.json").read_text() == before


def test_the_shipped_map_is_of_the_shipped_clip():
    shipped = role_map.load(role_map.EMBEDDED)
    assert shipped.fingerprint == load_backbone("embedded").fingerprint
    assert len({role for row in shipped.roles for role in row}) >= 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_map_comes_out_again(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main.main([CONFIG, f"--workdir={tmp_path}"]) == 0
    found, shipped = role_map.load(tmp_path / "role_map.json"), role_map.load(role_map.EMBEDDED)
    assert found.roles == shipped.roles
    np.testing.assert_allclose(found.details["entropy"], shipped.details["entropy"], atol=BITS)


@pytest.mark.slow
def test_a_training_job_makes_the_map_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    flags = [
        BASE,
        "--config.tokens.attributes=color,shape",
        "--config.roles.images=100",
        f"--config.roles.cache={tmp_path / 'maps'}",
        "--config.seeds=1",
        "--config.data.shots=1",
        "--config.train.epochs=2",
    ]
    assert main.main([*flags, "--dry_run"]) == 0
    assert "to be made from the training images" in capsys.readouterr().out
    assert main.main([*flags, f"--workdir={tmp_path / 'first'}"]) == 0
    output = capsys.readouterr().out
    assert "No role map is known for backbone embedded" in output
    (path,) = (tmp_path / "maps").iterdir()
    assert str(path) in output
    assert role_map.load(path).attributes == ("color", "shape")
    assert main.main([*flags, "--dry_run"]) == 0
    assert "found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.roles.images=50"], "50 images cannot span a rank of 80"),
        (["--config.roles.weight=votes", "--config.roles.low=2"], "config.roles.low is 2.0, expected 0 to"),
        (["--config.roles.min_cluster_size=1000"], "HDBSCAN finds no cluster"),
        (["--config.roles.bank=absent.txt"], "absent.txt cannot be read"),
        (["--config.roles.sentence_encoder=no/such/folder"], "cannot load"),
        (["--config.roles.descriptions=400", "--config.roles.rank=128"], "fewer than the 400 to pick"),
    ],
)
def test_bad_values_are_refused(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main.main([CONFIG, *SMALL, *flags, f"--workdir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_sets_of_heads():
    roles = (("mixed", "other"), ("mixed", "mixed"))
    alone = ablation.each_head(roles)
    assert alone.shape == (5, 2, 2)
    assert alone.sum((1, 2)).tolist() == [0, 1, 1, 1, 1]
    groups = ablation.each_role(roles, ["mixed", "other"])
    assert groups.tolist() == [[[True, False], [True, True]], [[False, True], [False, False]]]
    nothing = ablate(np.ones((2, 3)), np.ones((2, 2, 2, 3)), np.zeros((2, 2, 3)), alone[:1])
    np.testing.assert_array_equal(nothing, np.ones((2, 1, 3)))
