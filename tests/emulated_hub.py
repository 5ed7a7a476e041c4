"""As much of the Hugging Face Hub as making a repository, a commit and a download need: a server in this process."""

import base64
import hashlib
import http.server
import json
import threading
import urllib.parse
from pathlib import PurePosixPath

import pytest
from huggingface_hub import constants

WRITER, READER = "Bearer hf_writer", "Bearer hf_reader"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens


def use_endpoint(monkeypatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class Hub(http.server.BaseHTTPRequestHandler):
    """Repositories of models, and of data sets (datasets/USER/NAME), each a list of commits: name -> content.

    Files of 1 MB are uploaded by Git LFS.
    """

    repositories: dict[str, list[tuple[str, dict[str, bytes]]]]
    blobs: dict[str, bytes]
    private: set[str]
    requests: list[str]

    def do_GET(self):
        self.get()

    def do_HEAD(self):
        self.get()

    def do_POST(self):
        self.requests.append(f"POST {self.path}")
        content = self.body()
        parts = urllib.parse.unquote(self.path).strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            return self.send({"warnings": [], "errors": []})
        if "paths-info" in parts:
            is_json = content.startswith(b"{")
            return self.get((json.loads(content) if is_json else urllib.parse.parse_qs(content.decode()))["paths"])
        if self.headers.get("Authorization") not in (WRITER, READER):
            return self.send({"error": "Invalid username or password."}, 401)
        if self.headers["Authorization"] == READER:
            return self.send({"error": "Forbidden"}, 403)
        if parts == ["api", "repos", "create"]:
            about = json.loads(content)
            name = f"{about['organization']}/{about['name']}"
            if name in self.repositories:
                return self.send({"error": "You already created this model repo", "url": self.address(name)}, 409)
            self.repositories[name] = []
            if about.get("private") or about.get("visibility") == "private":
                self.private.add(name)
            return self.send({"url": self.address(name)})
        if parts[-2:] == ["objects", "batch"]:
            objects = [
                {**one, "actions": {"upload": {"href": self.address(f"blobs/{one['oid']}")}}}
                for one in json.loads(content)["objects"]
            ]
            return self.send({"transfer": "basic", "objects": objects})
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["size"] > 1e6 else "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            return self.send({"files": modes})
        return self.commit(name, [json.loads(line) for line in content.splitlines()])

    def do_PUT(self):
        content = self.body()
        oid = self.path.rsplit("/", 1)[-1]
        assert hashlib.sha256(content).hexdigest() == oid
        self.blobs[oid] = content
        return self.send({})

    def body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        content = b""
        while size := int(self.rfile.readline(), 16):  # in chunks
            content += self.rfile.read(size)
            self.rfile.readline()
        return content

    def commit(self, name: str, operations: list[dict]) -> None:
        commits = self.repositories[name]
        files = dict(commits[-1][1]) if commits else {}
        for operation in operations:
            about = operation["value"]
            if operation["key"] == "file":
                files[about["path"]] = base64.b64decode(about["content"])
            if operation["key"] == "lfsFile":
                files[about["path"]] = self.blobs[about["oid"]]
        commit = hashlib.sha1(repr((name, len(commits))).encode()).hexdigest()
        commits.append((commit, files))
        return self.send({"commitOid": commit, "commitUrl": self.address(f"{name}/commit/{commit}")})

    def get(self, paths: list[str] | None = None) -> None:
        self.requests.append(f"{self.command} {self.path}")
        parts = urllib.parse.unquote(self.path.partition("?")[0]).strip("/").split("/")
        is_api = parts[0] == "api"
        prefix = "datasets/" if "datasets" in parts[:2] else ""
        parts = parts[1:] if prefix and not is_api else parts
        name = prefix + "/".join(parts[2:4] if is_api else parts[:2])
        hidden = name in self.private and self.headers.get("Authorization") not in (WRITER, READER)
        if not self.repositories.get(name) or hidden:
            return self.send({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        commits = self.repositories[name]
        revision = (parts[5] if len(parts) > 5 else "main") if is_api else parts[3]
        found = commits[-1:] if revision == "main" else [one for one in commits if one[0] == revision]
        if not found:
            return self.send({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found[0]
        if is_api and parts[4:5] in (["tree"], ["paths-info"]):
            below = "/".join(parts[6:])
            folders = {str(folder) for file in files for folder in PurePosixPath(file).parents if folder.name}
            entries = [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)]
            entries += [
                {"type": "file", "path": file, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
                for file, content in files.items()
            ]
            if paths is not None:
                return self.send([one for one in entries if one["path"] in paths])
            recursive = "recursive=true" in self.path.lower()
            inside = [one for one in entries if one["path"].startswith(f"{below}/" if below else "")]
            depth = below.count("/") + 1 if below else 0
            return self.send([one for one in inside if recursive or one["path"].count("/") == depth])
        if is_api:
            siblings = [{"rfilename": file} for file in files]
            return self.send({"id": name, "sha": commit, "siblings": siblings})
        file = "/".join(parts[4:])
        if file not in files:
            return self.send({}, 404, {"X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
        return self.send(files[file], headers={"ETag": etag, "X-Repo-Commit": commit})

    def address(self, path: str) -> str:
        return f"http://{self.headers['Host']}/{path}"

    def send(self, content: dict | list | bytes, status: int = 200, headers: dict | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache folder, nobody logged in, and no hub."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    use_endpoint(monkeypatch, NOWHERE)
    return folder


@pytest.fixture
def emulated_hub(hub_cache, monkeypatch):
    """The server, empty, with one who is logged in and may write."""
    handler = type("EmptyHub", (Hub,), {"repositories": {}, "blobs": {}, "private": set(), "requests": []})
    monkeypatch.setenv("HF_TOKEN", WRITER.removeprefix("Bearer "))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        use_endpoint(monkeypatch, f"http://127.0.0.1:{running.server_address[1]}")
        yield handler
        running.shutdown()
        thread.join()
