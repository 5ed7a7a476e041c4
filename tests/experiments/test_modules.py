"""Every module of experiments can be imported, so that no command breaks unseen."""

import importlib

import pytest

from tests.repository import REPOSITORY

MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in (REPOSITORY / "experiments").rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_imported(name):
    importlib.import_module(name)
