"""Metrics beside metrics.jsonl: event files and trackers get every row once, also where a run is started again."""

import json
import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest

from dear_jax import main
from dear_jax.errors import UserError
from dear_jax.files import live_metrics
from dear_jax.files.live_metrics import Logging
from dear_jax.files.workdir import Workdir
from dear_jax.setup import config_files, values
from dear_jax.setup.plans import train
from tests.repository import REPOSITORY

CONFIG = {"seeds": (1, 5)}
ROW = {"step": 2, "epoch": 0.5, "loss": {"default": [1.5, None]}, "rate": {"open": [0.1, 0.2]}, "note": "text"}
LAST = {"step": 4, "evaluation": {"base": {"zero_shot": 72.5, "default": [80.0, 81.0]}, "rules": {"open": [[1, 2, 3]]}}}


def test_a_row_is_taken_apart_into_numbers():
    assert live_metrics.numbers(ROW, (1, 5)) == {
        "epoch": 0.5,
        "loss/seed_1": 1.5,
        "rate/open/seed_1": 0.1,
        "rate/open/seed_5": 0.2,
    }
    assert live_metrics.numbers(LAST, (1, 5)) == {
        "evaluation/base/zero_shot": 72.5,
        "evaluation/base/seed_1": 80.0,
        "evaluation/base/seed_5": 81.0,
        "evaluation/rules/open/0/0": 1.0,
        "evaluation/rules/open/0/1": 2.0,
        "evaluation/rules/open/0/2": 3.0,
    }


class FakeMessage(SimpleNamespace):
    """As a protocol buffer, in JSON."""

    def SerializeToString(self) -> bytes:
        return json.dumps(self, default=vars).encode()


@pytest.fixture(params=["fake", "real"])
def tensorboard(request, monkeypatch):
    """tensorboardX, or a small module in its place; and what reads an event."""
    monkeypatch.delitem(sys.modules, "dear_jax.files.event_file", raising=False)
    if request.param == "real":
        pytest.importorskip("tensorboardX")
        from tensorboardX.proto.event_pb2 import Event

        yield lambda content: _plain_event(Event.FromString(content))
        return
    parts = {
        "": {},
        ".proto": {},
        ".proto.event_pb2": {"Event": FakeMessage, "SessionLog": type("SessionLog", (FakeMessage,), {"START": 1})},
        ".proto.summary_pb2": {"Summary": type("Summary", (FakeMessage,), {"Value": FakeMessage})},
        ".record_writer": {"masked_crc32c": lambda data: len(data)},
    }
    for name, content in parts.items():
        module = ModuleType(f"tensorboardX{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield lambda content: json.loads(content)
    sys.modules.pop("dear_jax.files.event_file", None)


def _plain_event(event) -> dict:
    scalars = [{"tag": one.tag, "simple_value": one.simple_value} for one in event.summary.value]
    kind = event.WhichOneof("what")
    return {"step": event.step, "summary": {"value": scalars}} if kind == "summary" else {kind: True}


def read_events(folder, parse) -> dict[int, dict[str, float]]:
    """Step -> tag -> number, of the only event file of a workdir."""
    (path,) = (path for path in folder.iterdir() if path.name.startswith("events.out.tfevents."))
    content, found, place = path.read_bytes(), [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(parse(content[place + 12 : place + 12 + length]))
        place += 12 + length + 4
    assert "file_version" in found[0]
    assert "session_log" in found[1]
    steps = [(event["step"], event["summary"]["value"]) for event in found[2:]]
    assert len(steps) == len({step for step, _ in steps})
    return {step: {one["tag"]: one["simple_value"] for one in scalars} for step, scalars in steps}


def start(folder, first_step: int, steps, logging: Logging) -> None:
    """A start of a run that writes these steps."""
    with Workdir(folder) as files:
        files.send_metrics(logging, CONFIG)
        files.trim_metrics(first_step)
        for step in steps:
            files.append_metrics({"step": step, "loss": {"default": [step / 2, step]}})


def test_event_files_have_every_step_once(tmp_path, tensorboard):
    start(tmp_path, 0, (1, 2, 3, 4), Logging(tensorboard=True))
    whole = {step: {"loss/seed_1": step / 2, "loss/seed_5": step} for step in range(1, 7)}
    assert read_events(tmp_path, tensorboard) == {step: whole[step] for step in range(1, 5)}
    start(tmp_path, 2, (3, 4, 5), Logging())  # without
    start(tmp_path, 5, (6,), Logging(tensorboard=True))
    assert read_events(tmp_path, tensorboard) == whole


def test_event_files_in_a_bucket(bucket, tensorboard):
    start(bucket / "run", 0, (1, 2, 3), Logging(tensorboard=True))
    start(bucket / "run", 2, (3, 4), Logging(tensorboard=True))
    assert list(read_events(bucket / "run", tensorboard)) == [1, 2, 3, 4]


def test_tensorboard_itself_reads_them(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("tensorboardX")
    start(tmp_path, 0, (1, 2, 3, 4), Logging(tensorboard=True))
    start(tmp_path, 2, (3, 4, 5), Logging(tensorboard=True))
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert found.Tags()["scalars"] == ["loss/seed_1", "loss/seed_5"]
    assert [(event.step, event.value) for event in found.Scalars("loss/seed_5")] == [(n, n) for n in range(1, 6)]


class Stub(ModuleType):
    """wandb, or trackio, and what it was given."""

    def __init__(self, name: str, monkeypatch) -> None:
        super().__init__(name)
        self.begun, self.rows, self.finished = [], [], 0
        self.problem: Exception | None = None
        monkeypatch.setitem(sys.modules, name, self)

    def init(self, **options):
        if self.problem:
            raise self.problem
        self.begun.append(options)
        return self

    def log(self, numbers, step):
        if self.problem:
            raise self.problem
        self.rows.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("library", ["wandb", "trackio"])
def test_a_tracker_gets_every_row_once_and_a_second_start_goes_on(tmp_path, monkeypatch, library):
    stub = Stub(library, monkeypatch)
    logging = Logging(**{library: "project"})
    start(tmp_path / "run", 0, (1, 2, 3), logging)
    start(tmp_path / "run", 2, (3, 4), logging)
    with Workdir(tmp_path / "run") as files:
        files.send_metrics(logging, CONFIG)
        files.trim_metrics(4)
        for _ in range(2):  # no second time of the same step is the same start's
            files.append_metrics(LAST)
    assert [step for step, _ in stub.rows] == [1, 2, 3, 4, 4, 4]
    assert stub.rows[0] == (1, {"loss/seed_1": 0.5, "loss/seed_5": 1.0})
    assert stub.finished == len(stub.begun) == 3
    first, second, _ = stub.begun
    assert first == second
    assert (first["project"], first["resume"], first["config"]) == ("project", "allow", CONFIG)
    assert first["id" if library == "wandb" else "name"].startswith("run-")


def test_runs_of_one_name_in_other_folders_are_others(tmp_path, monkeypatch):
    stub = Stub("trackio", monkeypatch)
    for folder in ("a", "b"):
        start(tmp_path / folder / "run", 0, (), Logging(trackio="project"))
    first, second = stub.begun
    assert first["name"] != second["name"]


def test_a_tracker_that_fails_is_named_once_and_done_without(tmp_path, monkeypatch, capsys):
    stub = Stub("wandb", monkeypatch)
    with Workdir(tmp_path) as files:
        files.send_metrics(Logging(wandb="project"), CONFIG)
        files.trim_metrics(0)
        stub.problem = ConnectionError("no network")
        for step in (1, 2):
            files.append_metrics({"step": step})
    assert capsys.readouterr().out == "wandb takes no more metrics (no network); metrics.jsonl has them.\n"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    with Workdir(tmp_path) as files, pytest.raises(UserError, match=r"config\.log\.wandb: wandb cannot begin a run of"):
        files.send_metrics(Logging(wandb="project"), CONFIG)


def test_only_the_process_that_writes_sends(tmp_path, monkeypatch):
    stub = Stub("wandb", monkeypatch)
    with Workdir(tmp_path, writes=False) as files:
        files.send_metrics(Logging(tensorboard=True, wandb="project"), CONFIG)
        files.trim_metrics(0)
        files.append_metrics(ROW)
    assert not stub.begun
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "library"),
    [("tensorboard", True, "tensorboardX"), ("wandb", "project", "wandb"), ("trackio", "project", "trackio")],
)
def test_a_library_that_is_missing_is_named_before_the_start(tmp_path, monkeypatch, capsys, key, value, library):
    monkeypatch.setitem(sys.modules, library, None)
    config = values.set_all(config_files.load("base2new"), {f"log.{key}": value})
    with pytest.raises(UserError, match=rf"config\.log\.{key} needs {library} .*pip install -e '\.\[{key}\]'"):
        train.make_plan(config)
    flags = [f"--config={REPOSITORY / 'configs' / 'base2new.py'}", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*flags, f"--config.log.{key}={value}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()
