"""The pages: every link, command, path and config key that they name exists, and the first page stays short."""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ml_collections import ConfigDict

from configs import pretrain_tiny
from dear_jax.setup import recipes
from tests.repository import REPOSITORY

ROOMS = ("configs", "dear_jax", "experiments", "tests")
SPECIFICATION = "dear_jax/methods/dear/README.md"
SHORT = 160  # lines of the first page
ELSEWHERE = {"venv", "pip", "uv"}  # what `python -m` also runs in a page
FORMER_SPECIFICATION = "METHOD" + ".md"
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)|^\[[^\]]+\]:\s*(\S+)")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")
KEY = re.compile(r"(?<![\w./])config\.(\w+(?:\.\w+)*)(?:=([^`\s]+(?: [^`=]*\))?))?")
CONFIG = re.compile(r"--config=['\"]?([\w./]+)")
MODULE = re.compile(r"\bpython3? -m ([\w.]+)")
PATH = re.compile(rf"(?<![\w./$-])(?:(?:{'|'.join(ROOMS)})/|\.ci/)[\w./-]*")
PLACEHOLDER = re.compile(r"\b(?!README|BENCHMARKS)[A-Z][A-Z_]+\b")
FILE_NAMES = {"json", "py"}  # `config.json` is a file


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a page: as it stands, without its code, and its code alone."""

    page: str  # path in the repository
    number: int  # from 1
    text: str
    prose: str  # with code spans blanked; empty within a block of code
    code: tuple[str, ...]  # the code spans, or the whole line of a block

    def says(self, mistake: str) -> str:
        return f"{self.page}:{self.number}: {mistake}"


def pages() -> list[str]:
    """All pages, the first one first."""
    found = sorted(path for room in ROOMS for path in (REPOSITORY / room).rglob("*.md"))
    return ["README.md", *(path.relative_to(REPOSITORY).as_posix() for path in found)]


@cache
def read(page: str) -> tuple[Line, ...]:
    """The lines of a page, with what is code and what is not."""
    lines, fence = [], ""
    for number, text in enumerate((REPOSITORY / page).read_text("utf-8").splitlines(), 1):
        mark = re.match(r" *(```+|~~~+)", text)
        if fence or mark:
            lines.append(Line(page, number, text, "", () if mark else (text,)))
            fence = fence if not mark else "" if fence else mark[1]
        else:
            spans = tuple(span for _, span in re.findall(r"(`+)(.+?)\1", text))
            lines.append(Line(page, number, text, re.sub(r"(`+)(.+?)\1", "``", text), spans))
    return tuple(lines)


@cache
def anchors(page: str) -> frozenset[str]:
    """GitHub's: lower case, letters, digits, `_` and `-` alone, `-` for a blank, and a number where one is there."""
    counts: dict[str, int] = {}
    for line in read(page):
        heading = re.fullmatch(r"#{1,6} +(.*?)[ #]*", line.text) if line.prose else None
        if heading:
            title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            counts[anchor] = counts.get(anchor, -1) + 1
            if counts[anchor]:
                counts[f"{anchor}-{counts[anchor]}"] = 0
    return frozenset(counts)


@cache
def config() -> ConfigDict:
    """All keys: those of the base, and of pretraining; open ones are as DeAR's recipe has them."""
    return recipes.resolve(pretrain_tiny.get_config())


def find_key(key: str) -> Any:
    """The default of a key, or a group of keys.

    Raises:
        KeyError: there is none.
    """
    value: Any = config()
    for name in key.split("."):
        if not isinstance(value, ConfigDict):
            raise KeyError(key)
        value = value[name]
    return value


def broken_links(line: Line) -> Iterator[str]:
    for match in LINK.finditer(line.prose):
        target = match[1] or match[2]
        if EXTERNAL.match(target):
            continue
        path, _, anchor = unquote(target).partition("#")
        place = (REPOSITORY / line.page).parent / path if path else REPOSITORY / line.page
        place = place.resolve()
        if not place.exists() or not place.is_relative_to(REPOSITORY.resolve()):
            yield f"the link to {target} leads to no file of the repository"
            continue
        if anchor:
            place = place / "README.md" if place.is_dir() else place
            there = place.relative_to(REPOSITORY.resolve()).as_posix()
            if place.suffix == ".md" and anchor not in anchors(there):
                yield f"the link to {target}: {there} has no such heading among {sorted(anchors(there))}"


def unknown_configs(line: Line) -> Iterator[str]:
    for name in CONFIG.findall(line.text):
        by_name = REPOSITORY / "configs" / f"{name}.py"
        if not PLACEHOLDER.search(name) and not (REPOSITORY / name).is_file() and not by_name.is_file():
            yield f"--config={name}: there is no such file"


def unknown_modules(line: Line) -> Iterator[str]:
    for name in MODULE.findall(line.text):
        path = REPOSITORY / name.rstrip(".").replace(".", "/")
        known = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        if not known and name not in ELSEWHERE and not PLACEHOLDER.search(name):
            yield f"python -m {name}: there is no such module"


def unknown_paths(line: Line) -> Iterator[str]:
    for code in line.code:
        for name in PATH.findall(code):
            if not PLACEHOLDER.search(name) and not (REPOSITORY / name).exists():
                yield f"{name}: there is no such file or folder"


def unknown_keys(line: Line) -> Iterator[str]:
    for code in line.code:
        for key, _ in KEY.findall(code):
            if key in FILE_NAMES or PLACEHOLDER.search(key):
                continue
            try:
                find_key(key)
            except KeyError:
                yield f"config.{key}: configs/base.py has no such key"


def other_defaults(line: Line) -> Iterator[str]:
    """In the specification `config.KEY=VALUE` states the default."""
    for code in line.code:
        for key, text in KEY.findall(code):
            try:
                default = find_key(key)
            except KeyError:
                continue  # unknown_keys says so
            if text and not code.startswith("--"):
                stated = float(Fraction(text)) if "/" in text else ast.literal_eval(text)
                if stated != default:
                    yield f"config.{key} is {default!r} by default, and not {text}"


CHECKS = (broken_links, unknown_configs, unknown_modules, unknown_paths, unknown_keys)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pages_name_what_exists(check: Callable[[Line], Iterator[str]]) -> None:
    mistakes = [line.says(mistake) for page in pages() for line in read(page) for mistake in check(line)]
    assert not mistakes, "\n".join(mistakes)


def test_the_specification_states_the_defaults() -> None:
    mistakes = [line.says(mistake) for line in read(SPECIFICATION) for mistake in other_defaults(line)]
    assert not mistakes, "\n".join(mistakes)


def test_the_first_page_is_short() -> None:
    lines = len(read("README.md"))
    assert lines <= SHORT, f"README.md has {lines} lines, more than {SHORT}: move some to a folder's page"


def test_docstrings_cite_sections_that_the_specification_has() -> None:
    sections = {anchor.partition("-")[0] for anchor in anchors(SPECIFICATION)}
    mistakes = []
    for path in (path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))):
        for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
            for cited in re.findall(r"methods/dear sections? ([\d, and to]*\d)", text):
                mistakes += [
                    f"{path.relative_to(REPOSITORY)}:{number}: the specification has no section {section}"
                    for section in re.findall(r"\d+", cited)
                    if section not in sections
                ]
    assert not mistakes, "\n".join(mistakes)


def test_nothing_mentions_the_specification_by_its_former_name() -> None:
    files = [*pages(), *(path.relative_to(REPOSITORY) for room in ROOMS for path in (REPOSITORY / room).rglob("*.py"))]
    mistakes = [
        f"{file}:{number}: {FORMER_SPECIFICATION} is {SPECIFICATION} now"
        for file in files
        for number, text in enumerate((REPOSITORY / file).read_text("utf-8").splitlines(), 1)
        if FORMER_SPECIFICATION in text
    ]
    assert not mistakes, "\n".join(mistakes)


def test_anchors_are_those_of_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# One `two`: [three](x.md), four?\n## Same\n```\n# code\n```\n## Same\n### A ... b_c\n"
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr("tests.test_pages.REPOSITORY", tmp_path)
    assert anchors("page.md") == {"one-two-three-four", "same", "same-1", "a--b_c"}
