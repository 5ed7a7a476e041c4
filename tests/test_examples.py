"""The Python examples of the pages do what the pages say."""

import doctest
import re

import pytest

from tests.repository import REPOSITORY

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for page in sorted((REPOSITORY / "dear_jax").rglob("*.md"))
    if any(">>> " in block for block in BLOCK.findall(page.read_text()))
]


def examples(page) -> doctest.DocTest:
    """All examples of a page, in one namespace; a line is counted as in the page."""
    text = page.read_text()
    kept = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        lines = block[1].splitlines()
        kept[first : first + len(lines)] = lines
    return doctest.DocTestParser().get_doctest("\n".join(kept), {}, page.name, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_examples_of_a_page(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(examples(page), out=said.append)
    assert result.attempted
    assert not result.failed, "".join(said)


def test_all_rooms_of_mathematics_have_examples():
    rooms = {str(page.parent.relative_to(REPOSITORY)) for page in PAGES}
    assert {f"dear_jax/{room}" for room in ("clip", "data", "evaluation", "methods/dear", "roles")} <= rooms
