"""A page as tests read it: parsed, and as a browser leaves it once its script has run."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)"> $style ' & </details>"""
VOID = {"meta", "input", "img", "br", "link"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Elements of a page; fails on a tag that is closed out of order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without its start"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def find(self, tag, **attributes):
        wanted = attributes.items()
        return [found for name, found in self.tags if name == tag and all(found.get(k) == v for k, v in wanted)]


def check_self_contained(html: str) -> None:
    """Nothing of a page is loaded from anywhere else."""
    page = Page(html)
    assert not re.search(r"https?:|//\w|@import", re.sub(r"url\(data:[^)]*\)", "", html))
    assert not [tag for tag, _ in page.tags if tag in {"link", "img", "iframe", "object", "embed", "base"}]
    assert not [found for _, found in page.tags if "src" in found or "srcset" in found]
    assert all(found["href"].startswith("#") for _, found in page.tags if "href" in found)
    assert set(re.findall(r"url\((.{11})", html)) == {"data:image/"}
    assert page.find("meta", name="viewport")


def in_browser(address: str, folder: Path) -> Page:
    """The page at an address after its script has run in Chromium."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-quic"]
    command = [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", address]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Page(run.stdout.strip().removeprefix("<!DOCTYPE html>"))
