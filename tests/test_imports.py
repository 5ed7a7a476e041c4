"""The rules of the house: every module lies in a room, imports go down only, and rooms know what they may know."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.repository import REPOSITORY

PACKAGE = REPOSITORY / "dear_jax"

# What the modules of a room may import, beside each other. A module in no room has no rule, which fails.
BELOW_METHODS = {"errors", "files", "clip", "data", "roles"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "clip": {"errors", "files"},
    "data": {"errors", "files"},
    "report": {"errors", "files", "data"},
    "roles": {"errors", "files", "clip", "data", "parallel"},
    "methods": BELOW_METHODS,
    "parallel": {"errors", "files"},
    "training": {"errors", "files", "clip", "data", "methods", "parallel"},
    "setup": BELOW_METHODS | {"methods", "parallel", "training"},
    "evaluation": BELOW_METHODS | {"methods", "parallel", "setup", "report"},
    "tpu": BELOW_METHODS | {"methods", "parallel", "training", "setup", "evaluation"},
    "jobs": BELOW_METHODS | {"methods", "parallel", "training", "setup", "evaluation", "tpu", "report"},
    "session": {"errors", "files", "parallel", "setup", "tpu", "jobs"},
    "main": {"errors", "files", "training", "setup", "jobs", "session"},
    "python": {"errors", "files", "setup", "evaluation", "session"},
    "": {"errors", "evaluation", "python", "session"},  # the package itself: its public names
}
METHODS = {path.stem for path in (PACKAGE / "setup" / "methods").glob("[a-z]*.py")}
GENERIC = ("training", "evaluation", "parallel", "files")  # rooms that know the contract of a method alone
METHOD_WORDS = re.compile(r"(?i)(^|[^a-z])(dear|masks?|masked|fusion|fused?|tokens?|attributes?)($|[^a-z_])")
MODULES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip(".")


def _room(name: str) -> str:
    return name.split(".")[0]


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


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down_only(path):
    name = _name(path)
    room = _room(name)
    assert room in ROOMS, f"{name} lies in no room; there are {', '.join(filter(None, ROOMS))}"
    wrong = {found for found in _imports(path) if found and _room(found) not in ROOMS[room] | {room}}
    assert not wrong, f"{name} must not import {sorted(wrong)}"


def test_rooms_have_a_purpose_and_an_order():
    """Every room is there and says what it is for, and none imports one that imports it."""
    for room in filter(None, ROOMS):
        place = PACKAGE / room
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        assert ast.get_docstring(ast.parse(source.read_text())), f"{source} says no purpose"
    for room, below in ROOMS.items():
        assert not {other for other in below if room in ROOMS[other]}, f"{room} stands in a circle"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_setup_imports_a_concrete_method(path):
    name = _name(path)
    own = {f"methods.{method}" for method in METHODS if name.startswith(f"methods.{method}")}
    found = {found for found in _imports(path) for method in METHODS if f"{found}.".startswith(f"methods.{method}.")}
    assert _room(name) == "setup" or {".".join(one.split(".")[:2]) for one in found} <= own, sorted(found)


@pytest.mark.parametrize("path", sorted((PACKAGE / "jobs").glob("[a-z]*.py")), ids=_name)
def test_jobs_do_not_import_each_other(path):
    assert {found for found in _imports(path) if _room(found) == "jobs"} <= {"jobs.description"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_config_ends_in_setup(path):
    """Below it plans are read: plain dataclasses."""
    if _room(_name(path)) not in ("setup", "session", "main", "python"):
        assert not re.search(r"ml_collections|ConfigDict", path.read_text())


@pytest.mark.parametrize("path", [path for path in MODULES if _room(_name(path)) in GENERIC], ids=_name)
def test_generic_rooms_do_not_speak_of_a_method(path):
    """No name and no text of the code; comments and docstrings may explain."""
    source = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.STRING) and token.start[0] not in docstrings:
            assert not METHOD_WORDS.search(token.string), f"{path}:{token.start[0]}: {token.string}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_torch_and_no_tensorflow(path):
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert not modules & {"torch", "tensorflow"}
    if _room(_name(path)) == "data":
        assert not modules & {"jax", "flax"}
