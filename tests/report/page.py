"""A page as tests read it: parsed, and as a browser leaves it once its script has run."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

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
    return Page(_chromium(folder, "--dump-dom", address).strip().removeprefix("<!DOCTYPE html>"))


def in_frame(page: Path, width: int, scheme: str) -> Image.Image:
    """What a browser shows of the top of a page in a frame of that width, in a light or dark color scheme.

    Chromium's windows are no narrower than 500 pixels; frames are.
    """
    style = f"width: {width}px; height: 1000px; border: 0; color-scheme: {scheme}"
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<!DOCTYPE html><html style="color-scheme: {scheme}"><body style="margin: 0">'
        f'<iframe src="{page.name}" style="{style}" scrolling="no"></iframe></body></html>'
    )
    picture = page.with_name("frame.png")
    blink = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    _chromium(page.parent, blink, "--window-size=1500,1000", f"--screenshot={picture}", frame.as_uri())
    with Image.open(picture) as found:
        return found.crop((0, 0, width, found.height)).copy()


def _chromium(folder: Path, *arguments: str) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars"]
    command = [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
