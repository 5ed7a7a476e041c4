"""Where the files of a checkpoint are: in a directory, in a bucket, or in a repository of the Hugging Face Hub.

All answer `find(file)` with a path on this machine or None. A bucket's files are copied here as they are asked for:
weights are mapped into memory. A repository's files come from the hub's cache where they are there
already, without a request, and are downloaded one by one as they are asked for: a config that does not fit is refused
before its weights are fetched.
"""

import functools
import os
from pathlib import Path
from typing import Any, Protocol

from dear_jax.clip.checkpoints import openai
from dear_jax.errors import UserError, show
from dear_jax.files import hub, json_files, storage
from dear_jax.files.local_copy import LocalCopy

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
WEIGHT_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
SHOWN = 8  # files in a message


class Files(Protocol):
    """The files of one checkpoint."""

    weights: str  # the file of weights, where its own name was given; else empty

    def find(self, file: str) -> Path | None:
        """The file's path, or None where the checkpoint has no such file."""

    def missing(self, expected: str) -> UserError:
        """The error that says what was looked for, where, and what to do."""


def locate(name: str) -> Files:
    """A directory or a file of weights by its path, one in a bucket by gs://..., or a repository by `owner/name`.

    OpenAI's and open_clip's names of OpenAI's CLIPs are their repositories.

    Raises:
        UserError: none of them.
    """
    if storage.is_remote(name):
        folder, _, file = name.rpartition("/")
        return Bucket(folder, file) if Path(file).suffix in WEIGHT_SUFFIXES else Bucket(name)
    path = Path(os.path.expanduser(name))
    if name and os.path.isdir(path):
        return Directory(path)
    if name and os.path.isfile(path):
        return Directory(path.parent, path.name)
    name = openai.repository(name)
    if hub.is_repository(name):
        return Repository(name)
    raise UserError(
        f"config.backbone is {show(name)}: no embedded backbone and no directory has that name. Give 'embedded', the "
        "path of a checkpoint directory or of a file of weights, or a repository of the Hugging Face Hub such as "
        "openai/clip-vit-base-patch16."
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in one of a checkpoint's JSON files.

    Raises:
        UserError: it cannot be read, or is another thing.
    """
    try:
        value = json_files.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Copy the file again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}. Copy the file again.")
    return value


class Directory:
    """A checkpoint that lies in a directory."""

    def __init__(self, path: Path, weights: str = ""):
        self.path, self.weights = path, weights

    def find(self, file: str) -> Path | None:
        """The file's path, or None where there is none."""
        path = self.path / file
        return path if path.is_file() else None

    def missing(self, expected: str) -> UserError:
        """The error of a directory that lacks something; names files that could be meant."""
        others = sorted(path.name for path in self.path.glob("*") if path.suffix in TORCH_SUFFIXES and not self.weights)
        found = f"found {', '.join(others[:SHOWN])}" if others else "found no such file"
        advice = ", or set config.backbone to the path of one of these files" if others else ""
        return UserError(f"{self.path}: expected {expected}, {found}. Copy it there{advice}.")


class Bucket:
    """A checkpoint that lies in a folder of a bucket."""

    def __init__(self, name: str, weights: str = ""):
        self.weights = weights
        self._copy = LocalCopy(storage.to_path(name))

    def find(self, file: str) -> Path | None:
        """The path of the file's copy on this machine, or None where the bucket has none."""
        if file not in self._copy.names:
            return None
        self._copy.fetch([file])
        return Path(self._copy.folder / file)

    def missing(self, expected: str) -> UserError:
        """The error of a folder that lacks something."""
        return UserError(f"{self._copy.source}: expected {expected}, found no such file. Copy it there.")


class Repository:
    """A checkpoint of the hub, at the commit that the cache knows as `main`, or at the newest one.

    Huggingface_hub's own settings hold: HF_HOME and HF_HUB_CACHE (the cache folder), HF_TOKEN, HF_ENDPOINT,
    HF_HUB_OFFLINE.
    """

    weights = ""

    def __init__(self, name: str):
        self.name = name
        self._commit = self._cached_commit()
        self._trouble: UserError | None = None  # why the hub could not be asked

    def find(self, file: str) -> Path | None:
        """The file's path in the cache, downloaded if needed; None where the repository does not have it."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache  # slow to import, and only needed here

        cached = try_to_load_from_cache(self.name, file, revision=self._commit)
        if isinstance(cached, str):
            return Path(cached)
        if file not in self._listing:
            return None
        try:
            return Path(hf_hub_download(self.name, file, revision=self._commit))
        except Exception as error:  # of the hub's library, its HTTP library or the disk, changing with their versions
            raise self._explain(error, f"{file} could not be downloaded") from error

    def missing(self, expected: str) -> UserError:
        """The error of a repository that lacks something, or that could not be reached."""
        return self._trouble or UserError(
            f"config.backbone is {self.name!r}: expected {expected} in that repository of the Hugging Face Hub, found "
            "no such file. Give another repository, or the path of a directory that holds the converted checkpoint."
        )

    def _cached_commit(self) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        for file in ("config.json", "open_clip_config.json"):
            cached = try_to_load_from_cache(self.name, file)
            if isinstance(cached, str):
                return Path(cached).parent.name
        return None

    @functools.cached_property
    def _listing(self) -> frozenset[str]:
        """The repository's files; none when the hub cannot be asked but the cache has something to go on with."""
        from huggingface_hub import HfApi

        try:
            info = HfApi().model_info(self.name, revision=self._commit, timeout=hub.TIMEOUT)
        except Exception as error:
            self._trouble = self._explain(error, "the repository's list of files could not be read")
            if self._commit is None:
                raise self._trouble from error
            return frozenset()
        return frozenset(file.rfilename for file in info.siblings or ())

    def _explain(self, error: Exception, what: str) -> UserError:
        from huggingface_hub import constants

        endpoint, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
        reason = hub.reason(error, self.name)
        archive = openai.downloaded(self.name)
        there = f" Or set config.backbone to {archive}, OpenAI's archive of it, which is here." if archive else ""
        return UserError(
            f"config.backbone is {self.name!r}, and {what} from {endpoint} ({reason}); the cache folder {cache} lacks "
            f"files of it too. Without access, run `hf download {self.name} --local-dir DIR` on a machine that has it, "
            f"copy DIR here and set config.backbone to its path.{there}"
        )
