import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dear_jax import jobs
from dear_jax import main as program
from dear_jax.errors import UserError
from tests.repository import REPOSITORY

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(dataset="flowers"):
    config = ConfigDict(dict(
        job="train", protocol="base2new", seeds=(1, 2, 3), rate=1.0, count=1, note="",
        data=dict(dataset=dataset, flip=True, crop_scale=(0.5, 1.0), classes=("cat", "dog")),
        mask=dict(set="", layer=config_dict.placeholder(int)),
        compute=dict(
            matmul_precision="float32", compilation_cache="", coordinator="", processes=0, process=-1,
            distributed="auto", coordinator_timeout=300,
        ),
    ))
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def with_job(monkeypatch):
    """Puts a function in the place of every job's `run`; its plan is the config under the label of a training."""

    def make_plan(config):
        return SimpleNamespace(config=config, label=f"{config.protocol}-{config.data.dataset}")

    def place(run):
        monkeypatch.setattr(jobs.Job, "load", lambda row: SimpleNamespace(make_plan=make_plan, run=run))

    return place


@pytest.fixture
def started(with_job):
    """What the job was started with."""
    calls = []
    with_job(lambda plan, workdir: calls.append((plan.config, workdir)))
    return calls


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--config.seeds=1,2"], "seeds", (1, 2)),
        (["--config.seeds=1"], "seeds", (1,)),
        (["--config.seeds", "(4, 5)"], "seeds", (4, 5)),
        (["--config.data.crop_scale=0.08,1"], "data.crop_scale", (0.08, 1.0)),
        (["--config.data.classes=('sea lion', bird)"], "data.classes", ("sea lion", "bird")),
        (["--config.mask.set=9.0=generalization,10.*=mixed"], "mask.set", "9.0=generalization,10.*=mixed"),
        (["--config.mask.layer=9"], "mask.layer", 9),
        (["--config.mask.layer=9", "--config.mask.layer=None"], "mask.layer", None),
        (["--config.rate=1e-4"], "rate", 1e-4),
        (["--config.rate=2"], "rate", 2.0),
        (["--config.count=2"], "count", 2),
        (["--config.note=None"], "note", "None"),
        (["--config.data.flip=false"], "data.flip", False),
        (["--noconfig.data.flip"], "data.flip", False),
        (["--config.data.flip=0", "--config.data.flip"], "data.flip", True),
    ],
)
def test_overrides(config_file, flags, key, value):
    config, *_ = program.parse([f"--config={config_file}", *flags])
    for part in key.split("."):
        config = config[part]
    assert config == value
    assert type(config) is type(value)


def test_without_overrides_the_config_is_the_files_and_locked(config_file):
    config, workdir, _ = program.parse(["--config", f"{config_file}:pets", "--workdir=here"])
    assert (config.data.dataset, config.seeds, config.mask.layer) == ("pets", (1, 2, 3), None)
    assert config.is_locked
    assert config.mask.is_locked
    assert workdir == Path("here")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.seed=1"], "unknown config key 'config.seed'. Did you mean config.seeds?"),
        (["--config.layer=1"], "Did you mean config.mask.layer?"),
        (["--config.mask=1"], "It is a group of keys: config.mask.layer, config.mask.set."),
        (["--confg.rate=1"], "unknown flag 'confg.rate'. Did you mean config.rate?"),
        (["--wrkdir=a"], "unknown flag 'wrkdir'. Did you mean workdir?"),
        (["--config.seeds=1,two"], "--config.seeds=1,two: expected int, found 'two'"),
        (["--config.rate=fast"], "--config.rate=fast: expected float, found 'fast'"),
        (["--config.data.flip=maybe"], "expected bool, found 'maybe'"),
        (["--config.mask.layer=1.5"], "expected int, found '1.5'"),
        (["--config.seeds=None"], "expected int, found 'None'"),
        (["--config.rate"], "Missing value for flag --config.rate"),
        (["rate=1"], "unexpected argument 'rate=1'"),
    ],
)
def test_mistakes_name_the_key_what_was_expected_and_what_was_found(config_file, capsys, started, flags, message):
    assert program.main([f"--config={config_file}", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not started


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no file"),
        ("x = (", "SyntaxError"),
        ("import not_a_module", "No module named 'not_a_module'"),
        ("x = 1", "KeyError: 'get_config'"),
        ("def get_config(): return {}", "gives no ConfigDict"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_config_that_cannot_be_loaded(tmp_path, capsys, text, message):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert program.main([f"--config={path}"]) == 2
    assert message in capsys.readouterr().err


def test_config_missing(capsys):
    assert program.main(["--workdir=a"]) == 2
    assert "--config is missing" in capsys.readouterr().err
    assert program.main([]) == 2
    assert "usage: python -m dear_jax.main" in capsys.readouterr().out


def test_help_and_version(capsys):
    assert program.main(["--help"]) == 0
    assert "jobs (--config.job): train, " in capsys.readouterr().out
    assert program.main(["--help=mask"]) == 0
    assert "--config.dear.mask.pattern='roles'" in capsys.readouterr().out
    assert program.main(["--help=maks"]) == 2
    assert "no key or group of that name" in capsys.readouterr().err
    assert program.main(["--version"]) == 0
    assert re.match(r"dear_jax \d+\.\d+\.\d+, Python 3\.\d+\.\d+, jax \d", capsys.readouterr().out)


def test_unknown_job(config_file, capsys):
    config = Path(config_file)
    config.write_text(CONFIG.replace('job="train"', 'job="fly"'))
    assert program.main([f"--config={config_file}"]) == 2
    assert (
        "one of train, select, evaluate, predict, explain, retrieve, report, push, pretrain, find_roles, compile, "
        "found 'fly'" in capsys.readouterr().err
    )


def test_job_gets_the_config_and_the_workdir(config_file, started, tmp_path, capsys):
    assert program.main([f"--config={config_file}", f"--workdir={tmp_path}", "--config.seeds=7"]) == 0
    ((config, workdir),) = started
    assert config.seeds == (7,)
    assert workdir == tmp_path
    assert str(tmp_path) in capsys.readouterr().out


def test_default_workdir_is_fresh_and_named_after_the_run(config_file, started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert program.main([f"--config={config_file}:pets"]) == 0
        started[-1][1].mkdir(parents=True)
    first, second = (workdir for _, workdir in started)
    assert first != second
    assert str(first).startswith("runs/base2new-pets-2")


def test_bad_precision(config_file, started, capsys):
    assert program.main([f"--config={config_file}", "--config.compute.matmul_precision=double"]) == 2
    assert "expected float32, tensorfloat32 or bfloat16, found 'double'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(UserError("a bad file"), 2, "error: a bad file\n"), (KeyboardInterrupt(), 130, "--workdir=here")],
)
def test_what_a_job_raises(config_file, with_job, capsys, error, code, message):
    def run(plan, workdir):
        raise error

    with_job(run)
    assert program.main([f"--config={config_file}", "--workdir=here"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_that_no_file_of_the_run_tells_of(config_file, with_job, capsys, number):
    def run(plan, workdir):
        raise OSError(number, os.strerror(number), "some/cache")

    with_job(run)
    assert program.main([f"--config={config_file}", "--workdir=here"]) == 2
    assert capsys.readouterr().err == f"error: some/cache: {os.strerror(number)}. Free space there, and start again.\n"


def test_sigterm_is_answered_wherever_the_job_is(config_file, with_job, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with_job(lambda plan, workdir: os.kill(os.getpid(), signal.SIGTERM))
    assert program.main([f"--config={config_file}", "--workdir=here"]) == 128 + signal.SIGTERM
    assert "interrupted. Give --workdir=here to go on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def heard():
    """Ctrl-C is answered, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_not_lost_in_a_finalizer(config_file, with_job, capsys, number):
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), number)

    def run(plan, workdir):
        Finalized()
        time.sleep(20)

    with_job(run)
    before = sys.unraisablehook
    assert program.main([f"--config={config_file}", "--workdir=here"]) == 128 + number
    assert "interrupted" in capsys.readouterr().err
    assert sys.unraisablehook is before


def test_a_bug_keeps_its_traceback(config_file, with_job):
    with_job(lambda plan, workdir: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        program.main([f"--config={config_file}"])


def test_mistakes_are_answered_before_jax_is_imported():
    code = (
        "import sys; from dear_jax.main import main; "
        "code = main(['--config=configs/base2new.py', '--config.seed=1']); "
        "sys.exit(0 if code == 2 and not {'jax', 'transformers'} & set(sys.modules) else 1)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


def test_console_script_finds_the_configs_of_the_current_folder(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(REPOSITORY))])
    for module in ("configs", "configs.base"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", ["dear-jax", "--config=configs/base2new.py", "--config.job=none"])
    with pytest.raises(SystemExit, match="2"):
        program.cli()
    assert "config.job: expected one of" in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["cuda", "no_such_platform"])
def test_a_platform_that_is_not_there(config_file, platform):
    command = [sys.executable, "-m", "dear_jax.main", f"--config={config_file}"]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if platform == "cuda" and "cannot start its devices" not in done.stderr:
        pytest.skip("there is CUDA")
    assert done.returncode == 2, done.stderr
    assert f"error: JAX_PLATFORMS is '{platform}', and JAX cannot start its devices" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_made(config_file, tmp_path, capsys, started):
    (tmp_path / "file").write_text("")
    assert program.main([f"--config={config_file}", f"--config.compute.compilation_cache={tmp_path}/file/x"]) == 2
    assert "config.compute.compilation_cache: cannot make the folder" in capsys.readouterr().err
