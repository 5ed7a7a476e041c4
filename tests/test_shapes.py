"""Annotations of arrays: valid, in the package's letters, and checked at every call."""

import ast
import importlib
import inspect
import pkgutil
import re
import types
import typing

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Int

import dear_jax
from dear_jax.clip import layers
from dear_jax.roles.concepts import Clusters
from tests import shapes
from tests.repository import REPOSITORY

DIMENSION = re.compile(r"[#*]?[A-Za-z]\w*|\d+")  # a name, with * of any number of axes, with # broadcast; or a number
MODULES = [module.name for module in pkgutil.walk_packages(dear_jax.__path__, "dear_jax.")]


def dimensions(source: str):
    """Line and dimension, for all that a file annotates, inside of functions too."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(value=ast.Name(name), slice=ast.Tuple([_, ast.Constant(str(axes))])):
                if hasattr(jaxtyping, name):
                    yield from ((node.lineno, axis) for axis in axes.split())


def glossary() -> set[str]:
    """The letters that the package's docstring explains."""
    lines = [line.strip() for line in dear_jax.__doc__.splitlines() if line.startswith("    ")]
    entries = [entry for line in lines for entry in re.split(r"  +", line)]
    return {name for entry in entries for name in re.match(r"(\w\w?(?:, \w)*) ", entry)[1].split(", ")}


def faults(source: str) -> list[str]:
    letters, found = glossary(), []
    for line, axis in dimensions(source):
        name = axis.strip("#*")
        if not DIMENSION.fullmatch(axis):
            found.append(f"{line}: {axis!r} is no name")
        elif len(name) <= 2 and not name.isdigit() and name not in letters:
            found.append(f"{line}: {name!r} is not in the glossary")
    return found


def test_dimensions_are_names_and_letters_are_explained():
    assert {"B", "Dh", "h", "w", "N", "Q"} <= glossary()
    paths = [path for folder in ("dear_jax", "experiments") for path in (REPOSITORY / folder).rglob("*.py")]
    found = {str(path.relative_to(REPOSITORY)): faults(path.read_text()) for path in sorted(paths)}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("axes", ["B 1+P D", "B+ d", "M*W", "1+K", "q"])
def test_what_is_no_name_is_found(axes):
    assert len(faults(f'def function(x: Float[Array, "{axes}"]) -> None: ...')) == 1


def late_imports(module: types.ModuleType) -> dict[str, object]:
    """What a module imports for its annotations alone, because at run time it would be too early."""
    names: dict[str, object] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)
    return names


@pytest.mark.parametrize("name", MODULES)
def test_annotations_can_be_evaluated(name):
    module = importlib.import_module(name)
    names = vars(module) | late_imports(module)
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) != name:
            continue
        members = vars(thing).values() if inspect.isclass(thing) else ()
        for annotated in (thing, *(getattr(member, "fget", member) for member in members)):
            if inspect.isclass(annotated) or inspect.isfunction(annotated):
                typing.get_type_hints(annotated, names)


def qkv(*, key_rows=4, key_width=8, dtype=jnp.float32):
    return jnp.zeros((2, 3, 2, 8)), jnp.zeros((2, 4, 2, 8)), jnp.zeros((2, key_rows, 2, key_width), dtype)


@pytest.mark.parametrize("wrong", [{"key_rows": 5}, {"key_width": 4}, {"dtype": jnp.int32}])
@pytest.mark.parametrize("compiled", [False, True])
def test_arrays_that_do_not_go_together_are_refused(wrong, compiled):
    attention = jax.jit(layers.attention) if compiled else layers.attention
    outputs, probabilities = attention(*qkv())
    assert outputs.shape == (2, 3, 2, 8)
    assert probabilities.shape == (2, 2, 3, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'value'"):
        attention(*qkv(**wrong))


def test_results_and_dataclasses_are_checked():
    @jaxtyping.jaxtyped(typechecker=shapes.check)
    def every_second(values: Int[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
        return values[::2]

    assert every_second(np.arange(1)).shape == (1,)
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        every_second(np.arange(4))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'labels'"):
        Clusters(np.zeros(3), (), (), 0)


def test_what_is_no_array_is_left_to_mypy():
    @jaxtyping.jaxtyped(typechecker=shapes.check)
    def width(values: Int[np.ndarray, "rows"], name: str) -> str:
        return len(values)

    assert width(np.arange(3), None) == 3
