"""The campaign for an accelerator: its parts at small sizes, what it keeps, and what it says of what fails."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

from dear_jax.tpu import hlo
from experiments.speed import accelerator, attention, trace
from experiments.speed.accelerator import Part
from experiments.speed.trace import Event


@pytest.mark.slow
def test_every_part_at_small_sizes(tmp_path):
    assert accelerator.run(accelerator.small_parts(), tmp_path, minutes=40) == []
    page = (tmp_path / "summary.md").read_text()
    assert page.count("seconds\n") == 5
    for said in ("of the product rate", "matrix products", "no cudnn: "):
        assert said in page
    (traced,) = map(json.loads, (tmp_path / "trace.jsonl").read_text().splitlines())
    assert traced["by_kind"]["matrix products"] > 0


def test_parts_are_kept_and_failures_named(tmp_path, capsys):
    parts = [Part("good", "platform", (), 1), Part("bad", "no_such_module", (), 1), Part("slow", "asyncio", (), 0.0)]
    assert accelerator.run(parts, tmp_path, minutes=1) == ["bad"]
    page = (tmp_path / "summary.md").read_text()
    for said in ("## good: ", "## bad: failed or cut off", "No module named no_such_module", "## slow: not run"):
        assert said in page
    assert "  exit code 1; see " in capsys.readouterr().out
    assert accelerator.run(parts[:1], tmp_path, minutes=1) == []
    assert "good: done before" in capsys.readouterr().out


def test_a_part_that_takes_too_long_is_ended(tmp_path):
    with (tmp_path / "log").open("w") as log:
        said = accelerator.execute([sys.executable, "-c", "import time; time.sleep(60)"], log, 0.5)
    assert said == "cut off after 0 minutes"


def test_the_parts_of_a_gpu(monkeypatch, capsys, tmp_path):
    flags = ["x", f"--out={tmp_path}", "--method=mmrl", "--beside=official=run {classes}", "--dry_run"]
    monkeypatch.setattr(sys, "argv", flags)
    accelerator.main()
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 4 * 2 * 2 + 5
    assert "--case=50,4,1 --dtype=bfloat16" in commands[0]
    assert any("--method=mmrl" in command and "'--beside=official=run {classes}'" in command for command in commands)


def test_own_times_leave_out_what_is_inside():
    events = [Event(0, 10, "loop"), Event(1, 4, "dot"), Event(2, 1, "inner"), Event(6, 3, "dot"), Event(20, 5, "copy")]
    assert trace.own_times(events) == [("loop", 3), ("dot", 3), ("inner", 1), ("dot", 3), ("copy", 5)]


def test_kinds_are_those_of_what_is_inside():
    def program(x):
        return jax.nn.softmax(jnp.tanh(x @ x) * 2).T

    module = hlo.parse(jax.jit(program).lower(jnp.ones((64, 64))).compile().as_text())
    kinds = {trace.kind(module, one) for one in module.computations[module.entry].instructions.values()}
    assert {trace.PRODUCTS, trace.REDUCTIONS, trace.COPIES} <= kinds


def test_implementations_of_attention_agree():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 7, 4, 8))
    mask = jax.random.bernoulli(jax.random.key(1), 0.7, (4, 7, 7)).at[:, :, 0].set(True)
    for chosen in (None, mask):
        found = attention.implementations(chosen)
        assert jnp.allclose(found["package"](query, key, value), found["xla"](query, key, value), atol=1e-6)
