"""The job from images to report, the shipped map, and the map that a training job makes for itself."""

import csv
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import base, find_roles
from dear_jax import __version__, errors, main
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.jobs import find_roles as job
from dear_jax.roles import ablation, analysis, contributions, role_map, sentences
from dear_jax.roles.decompose import ablate
from dear_jax.setup import data as setup_data
from dear_jax.setup import roles as setup_roles
from dear_jax.setup.roles import RoleMaps
from tests.report.page import Page
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'find_roles.py'}"
BASE = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
SMALL = ["--config.roles.images=150", "--config.roles.top_images=3", "--config.data.dataset=world_objects"]
# Entropies of the shipped map when other machines round its float16 contributions otherwise: one number in a hundred
# rounded the other way moves them by 5e-5 bits at most.
BITS = 1e-3


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
    assert values["data"] == {
        "dataset": "world_objects",
        "images": 150,
        "of": 320,
        "source": "world",
        "splits": "scenes drawn by index",
    }
    assert values["version"] == __version__
    assert len(values["settings"]["bank_sha256"]) == len(values["settings"]["anchors_sha256"]) == 16
    assert values["sentence_encoder"] == "lexicon of the embedded world"
    low, high = values["thresholds"]["low"], values["thresholds"]["high"]
    for row, entropies, heads in zip(found.roles, values["entropy"], values["heads"], strict=True):
        for role, bits, head in zip(row, entropies, heads, strict=True):
            assert (role == "mixed") == (low < bits < high)
            assert len(head["descriptions"]) == 16  # a head is 16 wide
            assert head["explained"] == pytest.approx(sum(d["variance"] for d in head["descriptions"]), abs=1e-4)
            if role.startswith("attribute:"):
                assert role == f"attribute:{values['clusters'][head['cluster']]['name']}"
    for name, count in (("heads.csv", 24), ("descriptions.csv", 384)):
        with (finished / name).open() as file:
            assert len(list(csv.DictReader(file))) == count
    with np.load(finished / "images.npz") as thumbnails:
        assert thumbnails["top"].shape == (3, 8, 3)
        assert thumbnails["images"].shape[1:] == (48, 48, 3)
        assert thumbnails["top"].max() == len(thumbnails["images"]) - 1
    assert json.loads((finished / "ablation.json").read_text())["heads"]
    page = Page((finished / "roles.html").read_text())
    maps = [tag["title"] for tag in page.find("span", role="img") if tag["title"].startswith("map of")]
    assert len(maps) == 24 * 3
    firsts = [head["descriptions"][0]["text"] for row in values["heads"] for head in row]
    assert all(title.startswith(f"map of {first} in image") for title, first in zip(maps[::3], firsts, strict=True))
    for name in ("role_map.png", "entropy.png", "heads.png", "heads.svg", "heads.pdf", "roles.html"):
        assert (finished / name).stat().st_size > 1000


def test_run_again_it_decomposes_nothing_and_finds_the_same(finished, monkeypatch, capfd):
    before = (finished / "role_map.json").read_text()
    assert "Beside another map" not in (finished / "roles.html").read_text()
    monkeypatch.chdir(REPOSITORY)
    other = f"--config.roles.compare={role_map.EMBEDDED}"
    assert main.main([CONFIG, *SMALL, other, f"--workdir={finished}"]) == 0
    assert "Decomposing" not in capfd.readouterr().err
    assert (finished / "role_map.json").read_text() == before
    assert "Beside another map" in (finished / "roles.html").read_text()


def test_the_shipped_map_is_of_the_shipped_clip():
    shipped = role_map.load(role_map.EMBEDDED)
    assert shipped.fingerprint == load_backbone("embedded").fingerprint
    assert len({role for row in shipped.roles for role in row}) >= 4


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """The job that makes the shipped map."""
    workdir = tmp_path_factory.mktemp("runs") / "shipped"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        assert main.main([CONFIG, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_map_comes_out_again(made_again):
    found, shipped = role_map.load(made_again / "role_map.json"), role_map.load(role_map.EMBEDDED)
    assert found.roles == shipped.roles
    np.testing.assert_allclose(found.details["entropy"], shipped.details["entropy"], atol=BITS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_shipped_map_does_not_hang_on_the_last_bit_of_the_contributions(seed, made_again):
    shipped, backbone = role_map.load(role_map.EMBEDDED), load_backbone("embedded")
    options = setup_roles.read(find_roles.get_config()).options
    texts, anchors = analysis.load_texts(options, backbone, shipped.attributes)
    encoder = sentences.choose(options.sentence_encoder, backbone)
    array = np.load(made_again / contributions.ARRAY)
    generator = np.random.default_rng(seed)
    chosen, upwards = generator.random(array.shape) < 0.01, generator.random(array.shape) < 0.5
    other = np.nextafter(array, np.where(upwards, np.float16(np.inf), np.float16(-np.inf)))
    details = analysis.explain(backbone, np.where(chosen, other, array), texts, anchors, encoder, options)
    np.testing.assert_allclose(details["entropy"], shipped.details["entropy"], atol=BITS)


@pytest.mark.slow
def test_a_training_job_makes_the_map_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    flags = [
        BASE,
        "--config.dear.tokens.attributes=color,shape",
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


def test_an_interrupted_training_job_goes_on_with_its_map(tmp_path, monkeypatch, capsys):
    """What it had decomposed stays in the cache folder until the map is there."""
    monkeypatch.chdir(REPOSITORY)
    config, _, _ = main.parse(
        [
            BASE,
            "--config.roles.images=100",
            "--config.roles.batch_size=40",
            f"--config.roles.cache={tmp_path / 'maps'}",
        ]
    )
    maps, wanted = RoleMaps(setup_roles.read(config), load_backbone("embedded")), ("", 5, ("color", "shape"))
    compile_heads, broken = contributions.compile_heads, True

    def failing(*arguments):
        compute, calls = compile_heads(*arguments), []

        def heads(images):
            calls.append(1)
            if broken and len(calls) > 1:
                raise KeyboardInterrupt
            return compute(images)

        return heads

    monkeypatch.setattr(contributions, "compile_heads", failing)
    with pytest.raises(KeyboardInterrupt):
        maps.roles(*wanted)
    (partial,) = (tmp_path / "maps").iterdir()
    assert partial.suffix == ".partial"
    with Workdir(partial), pytest.raises(UserError, match=r"below config.roles.cache: .* in use by another process"):
        maps.roles(*wanted)
    broken = False
    capsys.readouterr()
    roles = maps.roles(*wanted)
    assert "Going on after the first 40 of 100 images" in capsys.readouterr().out
    (path,) = (tmp_path / "maps").iterdir()
    assert role_map.load(path).roles == roles


@pytest.mark.slow
def test_images_that_cannot_be_read_are_left_out_when_asked_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            picture = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{number:02d}.png")
    for number in range(0, 60, 20):  # in training and in test images, by the draw of the splits
        (tmp_path / "photos" / "cat" / f"{number:02d}.png").write_bytes(b"no image")
    flags = [CONFIG, "--config.data.dataset=folder", f"--config.data.root={tmp_path / 'photos'}"]
    flags += ["--config.roles.rank=20", f"--workdir={tmp_path / 'run'}", "--config.data.skip_bad=true"]
    assert main.main(flags) == 0
    data = role_map.load(tmp_path / "run" / "role_map.json").details["data"]
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    bad = [path for path, _, _ in splits["train"] if path in ("cat/00.png", "cat/20.png", "cat/40.png")]
    assert len(bad) > 0
    assert (data["images"], data["of"], len(data["skipped"])) == (60 - len(bad), 60, len(bad))
    assert all(path in reason for path, reason in zip(sorted(bad), data["skipped"], strict=True))
    left_out = errors.count(len(bad), "image")
    assert f"Left out {left_out} that cannot be read; the role map lists them." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.roles.images=10"], "10 images cannot span a rank of 16"),
        (["--config.roles.min_cluster_size=1000"], "HDBSCAN finds no cluster"),
        (["--config.roles.bank=absent.txt"], "absent.txt cannot be read"),
        (["--config.roles.compare=absent.json"], "Role map absent.json cannot be read"),
        (["--config.roles.by=causes", "--config.roles.level=0"], "config.roles.level is 0.0, expected a probability"),
        (["--config.roles.sentence_encoder=no/such/folder"], "cannot load"),
        (["--config.data.template=none"], "config.data.template is 'none': expected a prompt with {} once"),
    ],
)
def test_bad_values_are_refused(flags, message, tmp_path, monkeypatch, capsys):
    """Before any image is decomposed, but for the clusters."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main.main([CONFIG, *SMALL, *flags, f"--workdir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / contributions.ARRAY).exists() == ("HDBSCAN" in message)


def test_layer_and_attributes_are_keys_of_the_analysis_and_not_of_a_method(monkeypatch, tmp_path):
    asked = ["--config.roles.first_layer=6", "--config.roles.attributes=color,shape"]
    others = ["--config.dear.tokens.vision_layer=2", "--config.dear.tokens.attributes=object"]
    config, _, _ = main.parse([CONFIG, *SMALL, *asked, *others])
    given = {}

    def stop(backbone, dataset, **analysis):
        given.update(analysis)
        raise UserError("far enough")

    monkeypatch.setattr(job, "analyse", stop)
    with pytest.raises(UserError, match="far enough"):
        job.run(job.make_plan(config), tmp_path)
    assert (given["first_layer"], given["attributes"]) == (6, ("color", "shape"))


def test_a_description_longer_than_the_context_is_named_before_any_image_is_read():
    backbone = load_backbone("embedded")
    unread = ImageSplit(np.zeros(200, int), lambda index: pytest.fail("read"))
    options = setup_roles.read(base.get_config()).options
    bank = [*(f"a red thing {number}" for number in range(30)), "star " * 90]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.banks, "load", lambda path: tuple(bank))
        with pytest.raises(UserError, match=r"1 prompt has more tokens .*'star star .*bank \(config.roles.bank\)"):
            analysis.prepare(backbone, unread, ("color",), options)


@pytest.mark.slow
def test_classes_of_one_name_are_no_mistake_where_the_data_set_has_them(tmp_path, monkeypatch):
    """ImageNet's list has such pairs."""
    monkeypatch.chdir(REPOSITORY)
    opened = setup_data.open_dataset

    def open_twins(*arguments):
        dataset = opened(*arguments)
        names = (dataset.class_names[1], *dataset.class_names[1:])
        return dataclasses.replace(dataset, class_names=names, distinct_names=False)

    monkeypatch.setattr(setup_data, "open_dataset", open_twins)
    assert main.main([CONFIG, *SMALL, "--config.roles.images=100", f"--workdir={tmp_path}"]) == 0


def test_sets_of_heads():
    roles = (("mixed", "other"), ("mixed", "mixed"))
    alone = ablation.each_head(roles)
    assert alone.shape == (5, 2, 2)
    assert alone.sum((1, 2)).tolist() == [0, 1, 1, 1, 1]
    groups = ablation.each_role(roles, ["mixed", "other"])
    assert groups.tolist() == [[[True, False], [True, True]], [[False, True], [False, False]]]
    nothing = ablate(jnp.ones((2, 3)), jnp.ones((2, 2, 2, 3)), jnp.zeros((2, 2, 3)), jnp.asarray(alone[:1]))
    np.testing.assert_array_equal(nothing, np.ones((2, 1, 3)))
