"""The import rules of the package: data flows one way, and the parts know nothing of each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dear_jax"
JOBS = {"train", "evaluate", "predict", "retrieve", "pretrain", "roles.find", "compile"}
FREE = {"", "errors", "storage", "local_copy"}  # the user's error and where files are: for anyone

# What a part may import of this package, beside itself. Jobs, their set-up and `main` may import any part.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "storage": set(),
    "local_copy": set(),
    "lock": set(),
    "metrics_file": set(),
    "workdir": {"lock", "metrics_file"},
    "checkpoint": {"checksums"},
    "checksums": set(),
    "sharding": set(),
    "losses": set(),
    "optimizer": set(),
    "metrics": set(),
    "retrieval": set(),
    "features": {"adapt", "adapters", "clip", "data", "sharding", "step"},
    "classifier": {"adapt", "adapters", "clip", "data", "features", "report.predictions"},
    "report": set(),
    "data": set(),
    "clip": set(),
    "adapt": {"clip", "roles.role_map"},
    "roles": {"clip", "data"},
    "hlo": set(),
    "program_cost": {"hlo"},
    "flops": set(),
    "chips": set(),
    "step": {"adapt", "clip", "losses", "optimizer"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip(".")


def _imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / module.replace(".", "/")).with_suffix(".py").exists()
                is_package = (PACKAGE.parent / module.replace(".", "/")).is_dir()
                found.add(module if is_module or is_package else str(node.module))
    return {name.removeprefix("dear_jax").strip(".") for name in found if name.split(".")[0] == "dear_jax"}


def _inside(name: str, parts: set[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_follow_the_architecture(path):
    name = _name(path)
    part = next((part for part in ALLOWED if _inside(name, {part})), None)
    if part is None or name in JOBS:
        return
    wrong = {found for found in _imports(path) if found not in FREE and not _inside(found, ALLOWED[part] | {part})}
    assert not wrong, f"{name} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_but_main_imports_main(path):
    assert "main" not in _imports(path)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_torch_and_no_tensorflow(path):
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert not modules & {"torch", "tensorflow"}
    if _inside(_name(path), {"data"}):
        assert not modules & {"jax", "flax"}
