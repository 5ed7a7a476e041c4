"""A trace of some steps: of those that are asked for, where the run has them."""

import re

import jax
import pytest
from etils import epath

from dear_jax import main
from dear_jax.errors import UserError
from dear_jax.setup import values
from dear_jax.setup.plans import train
from dear_jax.training import profile
from dear_jax.training.profile import Profile
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"


@pytest.fixture
def traced(monkeypatch):
    """What JAX's profiler is told, and the steps."""
    told = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: told.append(f"start {epath.Path(folder).name}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("stop"))
    return told


def run(span, folder, first_step, steps, told):
    trace = Profile(span, epath.Path(folder), first_step)
    with trace.steps():
        for number in range(first_step + 1, steps + 1):
            trace.before(number)
            told.append(number)
            trace.after(number, ())


@pytest.mark.parametrize(
    ("span", "first_step", "expected"),
    [
        (None, 0, [1, 2, 3, 4, 5]),
        ((2, 3), 0, [1, "start profile", 2, 3, "stop", 4, 5]),
        ((1, 1), 0, ["start profile", 1, "stop", 2, 3, 4, 5]),
        ((2, 5), 3, ["start profile", 4, 5, "stop"]),  # goes on within the span
        ((2, 3), 3, [4, 5]),
    ],
)
def test_the_steps_of_the_span_are_traced(tmp_path, traced, capsys, span, first_step, expected):
    run(span, tmp_path, first_step, 5, traced)
    assert traced == expected
    said = capsys.readouterr().out
    if "stop" in expected:
        begin = expected[expected.index("start profile") + 1]
        assert f"Trace of the steps {begin} to {span[1]}: {tmp_path}/profile." in said
        assert "ui.perfetto.dev" in said
    elif span:
        assert said == "Steps 2 to 3 were before this start: they are not traced.\n"
    else:
        assert not said


def test_a_run_that_stops_within_the_span_leaves_the_trace_so_far(tmp_path, traced, capsys):
    trace = Profile((2, 9), epath.Path(tmp_path), 0)

    def stopped():
        with trace.steps():
            for number in (1, 2, 3):
                trace.before(number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert traced == ["start profile", "stop"]
    assert "Trace of the steps 2 to 3" in capsys.readouterr().out


def test_a_trace_is_one_that_perfetto_reads(tmp_path):
    trace = Profile((1, 1), epath.Path(tmp_path), 0)
    with trace.steps():
        trace.before(1)
        trace.after(1, (jax.jit(lambda x: x + 1)(1.0),))
    assert list((tmp_path / "profile").rglob("*.trace.json.gz"))


def test_a_trace_in_a_bucket(bucket, traced, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: (epath.Path(folder) / "x.pb").write_text("trace"))
    run((1, 2), bucket / "run", 0, 3, traced)
    assert (bucket / "run" / "profile" / "x.pb").read_text() == "trace"


@pytest.mark.parametrize("text", ["3", "0:2", "5:2", "a:b", "1:2:3", ":", "-1:2"])
def test_other_spans_are_refused_in_advance(text):
    config, *_ = main.parse([CONFIG, f"--config.log.profile={text}"])
    message = f"config.log.profile is '{text}', expected FIRST:LAST, the first and the last of the steps"
    with pytest.raises(UserError, match=re.escape(message)):
        train.make_plan(config)


def test_the_steps_of_a_plan():
    assert train.make_plan(main.parse([CONFIG, "--config.log.profile=20:25"])[0]).schedule.profile == (20, 25)
    assert values.span("") is None


@pytest.mark.parametrize(("steps", "message"), [(24, "this run has 24 steps"), (0, "fitted to its images at once")])
def test_steps_that_a_run_does_not_have_are_refused(steps, message):
    with pytest.raises(UserError, match=rf"config\.log\.profile is 20:25, and .*{message}"):
        profile.check((20, 25), steps)
    profile.check((20, 25), 25)
    profile.check(None, steps)
