"""Random values on every key of the configs, under --dry_run, in this process.

    python -m tests.campaigns.config_fuzz --seed=0 --count=900

The right outcomes: the dry run ends well (exit code 0), or one paragraph on stderr and exit code 2, each in time and
without eating the machine's memory. The last line sums up; `--only=N` repeats setting number N.
"""

import collections
import contextlib
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dear_jax import main
from dear_jax.setup import config_files, values
from tests.campaigns import arguments
from tests.repository import REPOSITORY

# Before JAX and the hub's library are imported, which a job does: no setting may depend on a network.
os.environ |= {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
SECONDS = 300  # for one setting, on a busy machine
MEMORY = 8 << 30  # bytes of data
MESSAGE = 4000  # characters of an answer, at most

TEXTS = (
    *("", " ", ",", ",,,", "None", "none", "true", "default", "auto", "a", "a b", "a;b|c:d", "a: b=1", "x=1", "=", ":"),
    *("nan", "inf", "-inf", "-1", "0", "1", "2", "-0.0", "0.5", "1.5", "1e308", "1e-320", "-1e308", "2147483648"),
    *("9223372036854775807", "9223372036854775808", "1" * 400, "100000", "99999999", "0x10", "1_000", "1.", "٣"),
    *("1,1", "1,2,3", "(1, 2)", "((1,2),3)", "[[1]]", "{'a': 1}", "1,a", "nan,nan", "0,0", "-1,-1", "1,", "0.1,0.9"),
    *("/", ".", "..", "~", "~nobody/x", "/dev/null", "/dev/zero", "/proc/self/mem", "/root", "absent/absent", "x.json"),
    *("a" * 300, "a" * 5000, "/".join(["b" * 200] * 30), "é", "日本語", "\u202eabc", "😀", "\udcff", "a\nb", "\t"),
    *("\x1b[31m", "|", "{}", "{} {}", "a {} b", "{a}", "%s", "*", "[", "**/*", "\\", "'", '"', "photo of {}." * 100),
)  # fmt: skip


def random_value(draw: random.Random, default: Any, paths: Sequence[str]) -> str:
    """A text for a key: of any kind, or the default's own kind out of measure."""
    kind = draw.randrange(6)
    if kind == 0 and isinstance(default, int | float):
        return str(default * draw.choice((-1, 10, 1000, 10**6, 10**12, 10**20, 0.1, 1e-9)))
    if kind == 1:
        return str(draw.choice((1, -1)) * 10 ** draw.randrange(25))
    if kind == 2:
        return f"{draw.choice((1, -1)) * 10 ** draw.uniform(-12, 12):g}"
    if kind == 3:
        return draw.choice(paths)
    if kind == 4 and isinstance(default, str | tuple) and default:
        text = default if isinstance(default, str) else ",".join(map(str, default))
        place = draw.randrange(len(text) + 1)
        return text[:place] + draw.choice(("", ",", "9", "x", " ", "\n", "/")) + text[place + draw.randrange(2) :]
    return draw.choice(TEXTS)


def make_paths(folder: Path) -> list[str]:
    """A named pipe, a folder, and files that hold nothing, JSON of any type, or no text."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    contents = {"empty.json": b"", "null.json": b"null", "list.json": b"[]", "object.json": b"{}", "number.json": b"3"}
    contents |= {"deep.json": b"[" * 100_000, "a.png": b"\x89PNG\r\n\x1a\n", "b.npy": b"\xff\xfe\x00", "c.txt": b"a\nb"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(path) for path in folder.iterdir()]


def make_starts(folder: Path) -> list[list[str]]:
    """The commands whose keys are set, with what they need."""
    from PIL import Image

    def config(name: str) -> str:
        return f"--config={REPOSITORY / 'configs' / name}.py"

    run, images = folder / "run", folder / "images"
    small = ["--config.seeds=1", "--config.data.shots=1", "--config.train.steps=1"]
    flags = [f"{config('base2new')}:world_objects", *small, f"--workdir={run}"]
    code, output = answer(lambda: main.main(flags), limited=False)
    assert code == 0, output
    images.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 40), (60 * number, 90, 200)).save(images / f"{number}.png")
    trained, given = f"--config.run={run}", f"--config.images={images}"
    return [
        *[[config("base2new")]] * 3,
        [config("few_shot")],
        [config("base2new"), "--config.job=select"],
        [config("base2new"), "--config.job=evaluate"],
        [config("find_roles")],
        [config("predict"), trained, given],
        [config("retrieve"), trained, given],
    ]


class TooLong(BaseException):
    """No answer in time; no `Exception`, so that nothing answers it."""


def answer(start: Callable[[], int], limited: bool = True) -> tuple[int | str, str]:
    """The exit code of a start, or what went wrong, and what it wrote to stderr."""

    def stop(*_: object) -> None:
        raise TooLong

    errors, before = io.StringIO(), signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS if limited else 0)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            return start(), errors.getvalue()
    except TooLong:
        return f"no answer in {SECONDS} seconds", "".join(traceback.format_stack(limit=3))
    except (Exception, SystemExit) as error:
        return f"traceback: {type(error).__name__}", "".join(traceback.format_exception(error))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(code: int | str, errors: str) -> str:
    """What is wrong with an answer; empty: nothing."""
    if isinstance(code, str):
        return code
    if code == 0:
        return "words on stderr" if errors.strip() else ""
    if code != 2 or not errors.startswith("error: "):
        return f"exit code {code}, {errors[:60]!r}"
    return f"a message of {len(errors)} characters" if len(errors) > MESSAGE else ""


def campaign(seed: int, count: int, only: int | None = None) -> int:
    """Try `count` settings, print the faults and the summary, and return the number of faults."""
    warnings.simplefilter("ignore")
    begin, outcomes = time.perf_counter(), collections.Counter[str]()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if soft < 0 else soft, hard))
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        (given := Path(scratch, "given")).mkdir()
        paths, starts = make_paths(given), make_starts(Path(scratch))
        import jax

        jax.config.update("jax_compilation_cache_dir", f"{scratch}/programs")
        for flags in starts:  # what they compile, the settings find compiled
            answer(lambda: main.main([*flags, "--dry_run"]), limited=False)  # noqa: B023
        for number in range(count) if only is None else [only]:
            draw = random.Random(f"{seed} {number}")
            flags = draw.choice(starts)
            defaults = values.flat_values(config_files.load(flags[0].partition("=")[2]))
            key = draw.choice(list(defaults))
            setting = f"--config.{key}={random_value(draw, defaults[key], paths)}"
            given_flags = [flag for flag in flags if not flag.startswith(f"--config.{key}=")]
            jax.config.update("jax_compilation_cache_dir", f"{scratch}/programs")  # which a setting may have changed
            code, errors = answer(lambda: main.main([*given_flags, setting, "--dry_run"]))  # noqa: B023
            fault = judge(code, errors)
            outcomes["fault" if fault else "ended well" if code == 0 else "refused"] += 1
            if fault or only is not None:
                start = f"{number}: {' '.join(given_flags)} {setting[:150]!r}"
                print(f"{start}: {fault or code}\n{errors[-1500:]}", flush=True)
    print(
        f"config_fuzz: seed {seed}, {sum(outcomes.values())} settings: {outcomes['ended well']} dry runs ended well, "
        f"{outcomes['refused']} were refused in one paragraph, {outcomes['fault']} faults "
        f"({time.perf_counter() - begin:.0f} s)."
    )
    return outcomes["fault"]


if __name__ == "__main__":
    options = arguments.parse(__doc__, 900, "settings", single=True)
    sys.exit(1 if campaign(options.seed, options.count, options.only) else 0)
