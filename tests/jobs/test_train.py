"""The whole training job: results, resuming after any end, and what a user may get wrong."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dear_jax import main
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.errors import UserError
from dear_jax.roles import role_map
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "few_test_scenes", "in_the_repository")
CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
# 2 seeds x 20 classes x 4 shots, 80 steps: short, but with several epochs, checkpoints and log rows.
SMALL = [
    "--config.seeds=1,2",
    "--config.data.shots=4",
    "--config.train.epochs=4",
    "--config.train.checkpoint_every=7",
    "--config.train.log_every=5",
]
LOGS = ["--config.log.trackio=project", "--config.log.profile=2:3"]


def start(workdir: Path, cache: Path) -> subprocess.Popen:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment.pop("XLA_FLAGS", None)
    command = [sys.executable, "-m", "dear_jax.main", CONFIG, *SMALL, f"--workdir={workdir}"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def logged_step(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def last_checkpoint(workdir: Path) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint, read without knowing the program."""
    import orbax.checkpoint as ocp

    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    assert step == 80
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(workdir / "checkpoints" / str(step) / "state")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_ends_with_the_same_adapter_and_results(tmp_path):
    cache = tmp_path / "cache"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole, cache))

    def saving() -> bool:
        return any((broken / "checkpoints").glob("*.orbax-checkpoint-tmp*"))

    moments = [
        lambda: (broken / "config.json").exists(),  # before the first step
        lambda: logged_step(broken) >= 10,
        saving,
        lambda: logged_step(broken) >= 45,
        saving,
    ]
    for moment in moments:
        process = start(broken, cache)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    process = start(broken, cache)
    wait_for(lambda: logged_step(broken) >= 60, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: saved step" in output

    assert "Going on from the checkpoint of step" in finish(start(broken, cache))
    assert (broken / "results.json").read_text() == (whole / "results.json").read_text()
    expected, found = last_checkpoint(whole), last_checkpoint(broken)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, broken)]
    evaluations = [run.pop() for run in rows]
    assert evaluations[0]["evaluation"] == evaluations[1]["evaluation"]
    assert not any("evaluation" in row for run in rows for row in run)
    assert [row["step"] for row in rows[0]] == sorted({row["step"] for row in rows[0]})
    same = {row["step"]: row["loss"] for row in rows[0]}
    # A stop between two rows of the log leaves a row of its own; every row that both have is the same.
    shared = [row for row in rows[1] if row["step"] in same]
    assert len(shared) >= 16
    finished = finish(start(broken, cache))
    assert "This run was finished before" in finished


@pytest.fixture(scope="module")
def tracked():
    """A run of a tracker that stands for trackio, and what it was given."""
    rows = []
    run = SimpleNamespace(rows=rows, log=lambda numbers, step: rows.append((step, numbers)), finish=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "trackio", SimpleNamespace(init=lambda **options: run))
        yield run


@pytest.fixture(scope="module")
def finished_run(compilation_cache, few_test_scenes, tmp_path_factory, tracked):
    """One short run in this process, which the tests below read and damage copies of."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    here = os.getcwd()
    os.chdir(REPOSITORY)
    sys.path.insert(0, str(REPOSITORY))
    try:
        assert main.main([CONFIG, *SMALL, *LOGS, "--config.train.epochs=1", f"--workdir={workdir}"]) == 0
    finally:
        sys.path.remove(str(REPOSITORY))
        os.chdir(here)
    return workdir


@pytest.fixture
def run_copy(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def test_files_of_a_run(finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    assert (results["protocol"], results["dataset"], results["shots"]) == ("base2new", "world_compositions", 4)
    (used,) = results["role_maps"]
    assert used["file_sha256"] == hashlib.sha256(role_map.EMBEDDED.read_bytes()).hexdigest()
    assert used["sentence_encoder"] == "lexicon of the embedded world"
    seeds = results["variants"]["default"]["seeds"]
    assert list(seeds) == ["1", "2"]
    for row in (*seeds.values(), results["zero_shot"]):
        assert row["hm"] == pytest.approx(2 * row["base"] * row["new"] / (row["base"] + row["new"]))
        assert row["base"] == pytest.approx(round(row["base"]))  # 100 images: a percent each
    mean = results["variants"]["default"]["mean"]
    assert mean["base"] == pytest.approx((seeds["1"]["base"] + seeds["2"]["base"]) / 2)
    assert "zero-shot CLIP" in (finished_run / "results.md").read_text()
    rows = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 7, 10, 14, 15, 20, 20]
    evaluation = rows.pop()["evaluation"]
    assert evaluation["new"]["default"] == [row["new"] for row in seeds.values()]
    assert evaluation["base"]["zero_shot"] == results["zero_shot"]["base"]
    assert len(rows[0]["loss"]["default"]) == 2
    assert json.loads((finished_run / "config.json").read_text())["seeds"] == [1, 2]
    assert sorted(path.name for path in (finished_run / "checkpoints").iterdir()) == ["14", "20"]


def test_metrics_go_where_they_are_asked_to_and_chosen_steps_are_traced(finished_run, tracked):
    rows = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in tracked.rows] == [row["step"] for row in rows]
    assert tracked.rows[0][1]["loss/seed_2"] == rows[0]["loss"]["default"][1]
    assert tracked.rows[-1][1]["evaluation/base/seed_1"] == rows[-1]["evaluation"]["base"]["default"][0]
    assert list((finished_run / "profile").rglob("*.trace.json.gz"))


def test_the_page_of_a_run(finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    variant = results["variants"]["default"]
    for name, of_set in results["classes"].items():  # as many images of each class, so that the mean is the accuracy
        assert np.mean(of_set["zero_shot"]) == pytest.approx(results["zero_shot"][name])
        for seed, values in variant["classes"][name]["seeds"].items():
            assert np.mean(values) == pytest.approx(variant["seeds"][seed][name])
    assert sum(path["mean"] for path in variant["path_weights"].values()) == pytest.approx(1)
    examples = json.loads((finished_run / "examples.json").read_text())
    assert examples["class_sets"].keys() == results["classes"].keys()
    page = (finished_run / "report.html").read_text()
    for part in ("DeAR on world_compositions", "<polyline", "Most certain errors", "config.train.epochs", "url(data:"):
        assert part in page


def test_the_page_of_a_finished_run_is_made_again(run_copy, finished_run):
    (run_copy / "report.html").unlink()
    assert main.main([CONFIG, *SMALL, *LOGS, "--config.train.epochs=1", f"--workdir={run_copy}"]) == 0
    assert (run_copy / "report.html").read_bytes() == (finished_run / "report.html").read_bytes()


def test_the_table_of_a_finished_run_is_printed_again(finished_run, capsys):
    assert main.main([CONFIG, *SMALL, "--config.train.epochs=1", f"--workdir={finished_run}"]) == 0
    assert "This run was finished before" in capsys.readouterr().out


def test_a_workdir_of_another_config_is_refused(finished_run, capsys):
    assert main.main([CONFIG, *SMALL, "--config.dear.tokens.beta=0.5", f"--workdir={finished_run}"]) == 2
    message = capsys.readouterr().err
    assert "dear.tokens.beta was 0.9, now 0.5" in message
    assert "train.epochs was 1, now 4" in message


def test_a_damaged_checkpoint_is_passed_over(run_copy, finished_run, capsys):
    (run_copy / "results.json").unlink()
    victim = max((run_copy / "checkpoints" / "20").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    victim.write_bytes(victim.read_bytes()[:100])
    assert main.main([CONFIG, *SMALL, *LOGS, "--config.train.epochs=1", f"--workdir={run_copy}"]) == 0
    output = capsys.readouterr().out
    assert "is damaged: trying the one before" in output
    assert "Going on from the checkpoint of step 14 of 20" in output
    assert (run_copy / "results.json").read_text() == (finished_run / "results.json").read_text()


def damage_results(run: Path) -> None:
    content = (run / "results.json").read_text()
    place = content.index('"new": ') + len('"new": ')
    (run / "results.json").write_text(content[:place] + ("7" if content[place] != "7" else "8") + content[place + 1 :])


def damage_adapter(run: Path) -> None:
    content = bytearray((run / "adapter.safetensors").read_bytes())
    content[-5] ^= 1
    (run / "adapter.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_results, "results.json has changed since it was written"),
        (damage_adapter, "adapter.safetensors cannot be read as an adapter"),
        (lambda run: (run / "adapter.safetensors").unlink(), "holds no adapter.safetensors"),
    ],
)
def test_what_a_finished_run_has_lost_is_made_again(run_copy, finished_run, capsys, damage, said):
    shutil.copytree(run_copy / "checkpoints" / "20", run_copy / "checkpoints" / "40")  # of another run
    damage(run_copy)
    assert main.main([CONFIG, *SMALL, *LOGS, "--config.train.epochs=1", f"--workdir={run_copy}"]) == 0
    output = capsys.readouterr().out
    assert f"This run was finished before, but {'config.run: ' if 'adapter' in said else ''}" in output
    assert said in output
    assert "Going on from the checkpoint of step 20 of 20" in output
    for name in ("results.json", "results.md", "adapter.safetensors"):
        assert (run_copy / name).read_bytes() == (finished_run / name).read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_the_table_of_a_finished_run_is_written_again(run_copy, finished_run, capsys, content):
    (run_copy / "results.md").unlink()
    if content is not None:
        (run_copy / "results.md").write_bytes(content)
    assert main.main([CONFIG, *SMALL, "--config.train.epochs=1", f"--workdir={run_copy}"]) == 0
    assert "This run was finished before, in" in capsys.readouterr().out
    assert (run_copy / "results.md").read_bytes() == (finished_run / "results.md").read_bytes()


def test_a_non_finite_loss_stops_and_keeps_the_last_checkpoint(small_clip, tmp_path, capsys):
    clip = [f"--config.backbone={small_clip}", "--config.dear.mask.pattern=isolated"]
    flags = [CONFIG, *SMALL, *clip, "--config.optimizer.learning_rate=1e30", "--config.optimizer.warmup_epochs=1"]
    workdir = tmp_path / "diverging"
    assert main.main([*flags, f"--workdir={workdir}"]) == 2
    message = capsys.readouterr().err
    assert "the loss is nan" in message
    assert "Step 2" in message  # warm-up is epoch 1, steps 1 to 20
    assert (workdir / "checkpoints" / "14").is_dir()
    assert not (workdir / "results.json").exists()


@pytest.mark.slow
def test_the_other_choice_of_every_decision_trains(small_clip, tmp_path):
    flags = [
        f"--config.backbone={small_clip}",
        "--config.compute.dtype=bfloat16",
        "--config.seeds=7",
        "--config.dear.tokens.attributes=color,size",
        "--config.dear.tokens.text_count=2",
        "--config.dear.tokens.vision_layer=4",
        "--config.dear.tokens.text_layer=1",
        "--config.dear.tokens.projection_init=normal",
        "--config.dear.tokens.shared_projection=false",
        "--config.dear.mask.pattern=random",
        "--config.dear.mask.own_token_alone=false",
        "--config.dear.mask.set=4.*=attribute:size",
        "--config.dear.fusion.class_start=0.5",
        "--config.dear.loss.reg_form=l1",
        "--config.dear.loss.reg_paths=all",
        "--config.data.flip=false",
        "--config.data.template={}, pixel art",
        "--config.data.shots=2",
        "--config.train.epochs=1",
    ]
    assert main.main([CONFIG, *flags, f"--workdir={tmp_path / 'run'}"]) == 0
    row, evaluation = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2:])
    assert row["step"] == evaluation["step"] == 10
    assert row["class_weight"]["default"][0] == pytest.approx(0.5, abs=0.01)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["variants"]["default"]["std"]["base"] == 0.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.backbone=no/such/place"], "config.backbone is 'no/such/place'"),
        (["--config.eval.ablation=auto"], "config.eval.ablation is 'auto', expected empty: --config.job=evaluate with"),
        (["--config.dear.mask.set=1.0=mixed"], "the masked layers are"),
        (["--config.seeds=1,1", "--config.dear.tokens.beta=2"], "config.dear.tokens.beta is 2.0, expected a number"),
    ],
)
def test_bad_values_are_refused(flags, message, tmp_path, capsys):
    """What is refused is tested at setup; here, that the job answers in one paragraph."""
    assert main.main([CONFIG, *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_classes_with_fewer_images_than_shots_are_named(tmp_path, capsys):
    missing = "--config.dear.mask.role_map=absent.json"  # refused after the images are drawn
    main.main([CONFIG, "--config.data.shots=1000", missing, f"--workdir={tmp_path / 'run'}"])
    assert "Warning: 40 classes have fewer than 1000 training images" in capsys.readouterr().out


def damage_weights(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes()[:5000])


def remove_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def change_architecture(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["intermediate_size"] = 999
    config["text_config"]["num_hidden_layers"] += 1
    (directory / "config.json").write_text(json.dumps(config))


def remove_activation(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    del config["vision_config"]["hidden_act"]
    (directory / "config.json").write_text(json.dumps(config))


def damage_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "model.safetensors cannot be read"),
        (remove_weights, "expected the weights in model.safetensors"),
        (change_architecture, "missing text_model.encoder.layers.3.self_attn.q_proj.weight"),
        (change_architecture, "the config says (999, 128)"),
        (remove_activation, "vision_config does not say hidden_act"),
        (damage_tokenizer, "tokenizer.json is not valid JSON"),
    ],
)
def test_damaged_backbones_are_refused(damage, message, tmp_path):
    directory = tmp_path / "clip"
    shutil.copytree(REPOSITORY / "dear_jax" / "clip" / "embedded", directory)
    damage(directory)
    with pytest.raises(UserError, match=re.escape(message)):
        load_backbone(str(directory))


def test_zero_shot_is_a_job_whatever_the_keys_of_a_method(finished_run, tmp_path):
    flags = ["--config.job=evaluate", "--config.dear.tokens.text_count=0"]
    assert main.main([CONFIG, *flags, f"--workdir={tmp_path / 'run'}"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["variants"] == {}
    trained = json.loads((finished_run / "results.json").read_text())
    assert results["zero_shot"] == trained["zero_shot"]
