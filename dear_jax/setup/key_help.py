"""What `--help` says: jobs, configs, commands; and of a key or a group of keys its default, unit and meaning.

The meaning of a key is the comment beside it, in `configs/base.py` or in the file of its method in `setup/methods/`.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dear_jax.errors import UserError, show
from dear_jax.setup import config_files, keys, values
from dear_jax.setup.methods import METHODS

WIDTH = 100
_LINE = re.compile(r"\s*config\.([\w.]+) = ")
USAGE = (
    "usage: python -m dear_jax.main --config=configs/base2new.py[:DATASET] [--workdir=FOLDER] [--dry_run]"
    " [--config.KEY=VALUE ...]\n       (installed: dear-jax --config=base2new ...)"
)
COMMANDS = (
    ("train, then base, new and HM", "--config=configs/base2new.py"),
    ("what it would do, and all that is wrong", "--config=configs/base2new.py --dry_run"),
    ("your own images, a folder per class", "--config=configs/few_shot.py:folder --config.data.root=MY_IMAGES"),
    ("another data set, from CoOp's folders", "--config=configs/base2new.py:oxford_pets --config.data.root=DATA"),
    ("another protocol", "--config=configs/few_shot.py --config.data.shots=4"),
    ("another method by its recipe", "--config=configs/base2new.py --config.method=mmrl"),
    ("many settings side by side", "--config=configs/base2new.py --config.variants=mask_patterns"),
    ("settings chosen without the test", "--config=configs/base2new.py --config.job=select"),
    ("zero-shot CLIP, or a finished run", "--config=configs/base2new.py --config.job=evaluate"),
    ("which head does what", "--config=configs/find_roles.py"),
    ("what images show", "--config=configs/predict.py --config.run=WORKDIR --config.images='photos/*.jpg'"),
    ("where a text is in images", "--config=configs/explain.py --config.images='photos/*.jpg' --config.text='a wing'"),
    ("images like this one by color, ...", "--config=configs/retrieve.py --config.run=WORKDIR"),
    ("put a run on the Hugging Face Hub", "--config=configs/push.py --config.run=WORKDIR --config.repo=USER/NAME"),
    ("the cost on a TPU", "--config=configs/base2new.py:imagenet --config.job=compile --config.topology=v5e:8x8"),
)


def overview(jobs: Sequence[str]) -> str:
    """Jobs, configs, commands, groups of keys."""
    _, config = config_files.base()
    groups = sorted({key.partition(".")[0] for key in values.flatten(config) if "." in key})
    configs = [f"  {name:22} {_first_line(path)}" for name, path in config_files.names().items()]
    commands = [f"  {what:40} {command}" for what, command in COMMANDS]
    return "\n".join(
        [
            USAGE,
            *("", "jobs (--config.job): " + ", ".join(jobs)),
            *("methods (--config.method): " + ", ".join(METHODS), "", "configs (--config=NAME[:DATASET]):", *configs),
            *("", "commands (python -m dear_jax.main ...):", *commands),
            *("", "Keys, with default and meaning: --help=GROUP or --help=KEY, of the groups"),
            textwrap.fill(", ".join(groups), WIDTH, initial_indent="  ", subsequent_indent="  "),
            "or --help=all. --version says which versions are installed.",
        ]
    )


def of_keys(name: str) -> str:
    """Every key of a group, or one key, with default, range and meaning; `all`: all keys.

    Raises:
        UserError: there is no such key or group.
    """
    path, config = config_files.base()
    flat = values.flat_values(config)
    wanted = keys.current_name(name.removeprefix("config."))
    inside = [key for key in flat if wanted == "all" or key == wanted or key.startswith(f"{wanted}.")]
    if not inside:  # the last part of a key may do: pattern for dear.mask.pattern
        inside = [key for key in flat if f".{wanted}." in f".{key}."]
    if not inside:
        known = sorted({key.partition(".")[0] for key in flat})
        raise UserError(f"--help={show(name)}: no key or group of that name. Groups and keys: {', '.join(known)}.")
    said = dict(comments(path))
    lines: list[str] = []
    group = ""
    for key in inside:
        above = key.rpartition(".")[0]
        if above and above != group:
            group = above
            lines += ["", f"config.{above}: {said.get(above, '')}".rstrip(": ")]
        lines += _describe(key, flat[key], said.get(key, ""))
    return "\n".join(lines).strip("\n")


def _describe(key: str, default: Any, meaning: str) -> list[str]:
    from dear_jax.setup import ranges  # which imports JAX

    limits = ranges.RANGES.get(key) or " | ".join(ranges.CHOICES.get(key, ()))
    notes = [part for part in (meaning, f"Values: {limits}." if limits else "") if part]
    return [
        f"  --config.{key}={default!r}",
        *textwrap.wrap(" ".join(notes), WIDTH, initial_indent="      ", subsequent_indent="      "),
    ]


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def comments(base: Path) -> Iterator[tuple[str, str]]:
    """Every key and group, and what stands beside it in its file."""
    lines = base.read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        if match := _LINE.match(line):
            yield match[1], _beside(lines, index)
        if line.startswith("    return config"):  # what follows sets keys anew
            break
    for name, method in METHODS.items():
        yield from _of_options(name, method.Options())


def _of_options(prefix: str, options: Any) -> Iterator[tuple[str, str]]:
    """Of the fields of a dataclass, also of those that it inherits, and of those of its groups."""
    yield prefix, (inspect.getdoc(type(options)) or "").partition("\n")[0]
    for parent in type(options).__mro__:
        if not dataclasses.is_dataclass(parent):
            continue
        lines = textwrap.dedent(inspect.getsource(parent)).splitlines()
        (definition,) = ast.parse("\n".join(lines)).body
        for node in getattr(definition, "body", []):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, value = node.target.id, getattr(options, node.target.id)
                if dataclasses.is_dataclass(value):
                    yield from _of_options(f"{prefix}.{name}", value)
                else:
                    yield f"{prefix}.{name}", _beside(lines, node.lineno - 1)


def _beside(lines: Sequence[str], index: int) -> str:
    """The comment lines right above a line, and the comment behind it."""
    above = []
    for line in reversed(lines[:index]):
        if not line.strip().startswith("#"):
            break
        above.append(line.strip().lstrip("# "))
    _, mark, behind = lines[index].partition("  # ")
    return " ".join([*reversed(above), *([behind.strip()] if mark else [])])
