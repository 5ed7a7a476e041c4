"""Backbones by hub name: from the cache, from a hub (a small server here), and every way in which it can fail."""

import hashlib
import http.server
import json
import shutil
import threading
import time
import urllib.parse

import pytest
from huggingface_hub import constants

from dear_jax.clip.checkpoints import hub, weights
from dear_jax.errors import UserError
from tests.emulated_hub import NOWHERE, use_endpoint

EMBEDDED = weights.EMBEDDED["embedded"]
FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "vocab.json", "merges.txt")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(hub_cache):
    return hub_cache


def fill(cache, files=FILES) -> None:
    """The layout that any download through huggingface_hub leaves."""
    snapshot = cache / "models--tiny--clip" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in files:
        shutil.copy(EMBEDDED / file, snapshot / file)
    refs = cache / "models--tiny--clip" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs: one public, one gated and one private repository."""

    log: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def log_message(self, *_):
        pass

    def answer(self, body: bool) -> None:
        parts = urllib.parse.unquote(self.path).strip("/").split("/")
        is_listing = parts[0] == "api"
        name = "/".join(parts[2:4] if is_listing else parts[:2])
        if name not in ("tiny/clip", "tiny/gated"):
            return self.send(401, b"", body, {"X-Error-Code": "RepoNotFound"})
        if is_listing:
            files = [{"rfilename": file} for file in (*FILES, "README.md", "tf_model.h5")]
            return self.send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode(), body)
        if name == "tiny/gated":
            return self.send(403, b"", body, {"X-Error-Code": "GatedRepo"})
        if body:
            self.log.append(parts[-1])
        content = (EMBEDDED / parts[-1]).read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self.send(200, content, body, headers)

    def send(self, status: int, content: bytes, body: bool, headers: dict | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def server(cache, monkeypatch):
    Hub.log = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        use_endpoint(monkeypatch, f"http://127.0.0.1:{running.server_address[1]}")
        yield Hub
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def fingerprint():
    return weights.load_backbone("embedded").fingerprint


def test_only_the_needed_files_are_downloaded_and_only_once(server, cache, monkeypatch, fingerprint):
    backbone = weights.load_backbone("tiny/clip")
    assert (backbone.name, backbone.fingerprint) == ("tiny/clip", fingerprint)
    assert sorted(server.log) == sorted(FILES)
    assert weights.load_backbone("tiny/clip").fingerprint == fingerprint
    assert sorted(server.log) == sorted(FILES)
    use_endpoint(monkeypatch, NOWHERE)
    assert weights.load_backbone("tiny/clip").fingerprint == fingerprint


def test_what_the_cache_lacks_is_fetched_at_its_commit(server, cache, fingerprint):
    fill(cache, ("config.json", "vocab.json"))
    assert weights.load_backbone("tiny/clip").fingerprint == fingerprint
    assert sorted(server.log) == sorted(set(FILES) - {"config.json", "vocab.json"})


def test_the_cache_alone_is_enough(cache, monkeypatch, fingerprint):
    fill(cache)
    assert weights.load_backbone("tiny/clip").fingerprint == fingerprint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights.load_backbone("tiny/clip").fingerprint == fingerprint


@pytest.mark.parametrize("cached", [(), ("config.json", "vocab.json", "merges.txt")])
def test_without_the_hub_the_message_helps_and_is_quick(cached, cache):
    if cached:
        fill(cache, cached)
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        weights.load_backbone("tiny/clip")
    assert time.monotonic() - start < 10  # seconds; huggingface_hub's own retries take more than 20
    for hint in ("'tiny/clip'", "from http://127.0.0.1:9 (ConnectError", str(cache), "--local-dir DIR"):
        assert hint in str(caught.value)


def test_offline_by_choice(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set: unset it\); the cache folder .* lacks files of it"):
        weights.load_backbone("tiny/clip")


def test_misspelt_private_and_gated_names(server):
    with pytest.raises(UserError, match=r"'tiny/clipp', .* no such public repository: correct the name"):
        weights.load_backbone("tiny/clipp")
    with pytest.raises(UserError, match=r"config.json could not be downloaded .* gated: accept its conditions at http"):
        weights.load_backbone("tiny/gated")


def test_a_repository_without_weights(server, monkeypatch):
    monkeypatch.setattr(hub.Repository, "_listing", frozenset(FILES) - {"model.safetensors"})
    with pytest.raises(UserError, match=r"expected the weights in model.safetensors .* in that repository"):
        weights.load_backbone("tiny/clip")


NEITHER = ("", "clip", "./clip", "no/such/folder", "/no/clip", "a clip/of mine", "a/..", "me/clip.git")


@pytest.mark.parametrize("name", NEITHER)
def test_names_that_can_be_neither(name):
    with pytest.raises(UserError, match=r"no embedded backbone and no directory has that name. Give 'embedded'"):
        weights.load_backbone(name)


def test_directories_may_start_with_a_tilde(tmp_path, monkeypatch, fingerprint):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(EMBEDDED, tmp_path / "clip")
    assert weights.load_backbone("~/clip").fingerprint == fingerprint
