"""Runs that lie in repositories of the Hugging Face Hub: `hf://USER/NAME`, or `hf://USER/NAME@REVISION`.

In: such an address. Out: a folder of the hub's cache with the run's files, all of one commit. Safetensors and JSON are
fetched and nothing else, so that nothing of a stranger's can run. Huggingface_hub's own settings hold: HF_HOME and
HF_HUB_CACHE (the cache folder), HF_ENDPOINT, HF_HUB_OFFLINE, and how one logs in.
"""

import os
import re
from pathlib import Path

from etils import epath

from dear_jax.errors import UserError, first_line, show
from dear_jax.files import storage

PREFIX = "hf://"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
RUN_FILES = ("adapter.safetensors", "config.json", "results.json")  # the first must be there
TIMEOUT = 10.0  # seconds until a silent hub counts as unreachable


def is_address(name: epath.PathLike) -> bool:
    """Whether a name is that of a repository, and not of a folder."""
    return os.fspath(name).startswith(PREFIX)


def is_repository(name: str) -> bool:
    """Whether a repository of the hub can be called so."""
    if not _REPOSITORY.fullmatch(name):
        return False
    from huggingface_hub.utils import validate_repo_id  # slow to import, and only needed here

    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True


def address(name: epath.PathLike) -> epath.PathLike:
    """The address of a repository that is called by USER/NAME or USER/NAME@REVISION; paths that are there stay."""
    text = os.fspath(name)
    is_path = is_address(name) or os.path.exists(os.path.expanduser(text))
    return name if is_path or not is_repository(text.partition("@")[0]) else PREFIX + text


def run_folder(run: epath.PathLike) -> epath.Path:
    """The folder or file of a run by its path, or by the address of a repository, whose files are fetched.

    Raises:
        UserError: no such address or repository, or the hub cannot be reached and the cache has no such run.
    """
    return _fetch(os.fspath(run)) if is_address(run) else storage.to_path(run)


def cached_run(text: str) -> epath.Path | None:
    """The folder of a repository's run in the cache; None where it is not there. Asks no hub."""
    name, revision = _parse(text)
    return _cached(name, revision)


def pinned(run: str) -> str:
    """A run as results name it: one on the hub by the commit that was fetched, which an address may leave open."""
    if not is_address(run):
        return run
    folder = cached_run(run)
    return f"{PREFIX}{_parse(run)[0]}@{folder.name}" if folder is not None else run


def reason(error: Exception, name: str) -> str:
    """Why the hub did not answer a request about a repository, and what to do about it."""
    from huggingface_hub import constants, errors  # slow to import, and only needed here

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"the repository is gated: accept its conditions at {constants.ENDPOINT}/{name} and run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision: give a branch, a tag or a commit that it has"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such public repository: correct the name, or run `hf auth login` if it is private"
    if isinstance(error, errors.OfflineModeIsEnabled) or constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set: unset it"
    if status == 401:
        return "it does not know you: run `hf auth login` again"
    if status == 403:
        return "you have no right to: log in by `hf auth login` as one who has, and with the right to write"
    said = error.__cause__ if isinstance(error.__cause__, Exception) and isinstance(error, RuntimeError) else error
    return f"{type(said).__name__}: {first_line(said)}"


def _parse(text: str) -> tuple[str, str | None]:
    """Repository and revision."""
    name, mark, revision = text.removeprefix(PREFIX).partition("@")
    if not is_repository(name) or (mark and not revision):
        raise UserError(
            f"config.run: expected a repository of the Hugging Face Hub as hf://USER/NAME or hf://USER/NAME@REVISION, "
            f"found {show(text)}."
        )
    return name, revision or None


def _cached(name: str, revision: str | None) -> epath.Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, RUN_FILES[0], revision=revision)
    return epath.Path(found).parent if isinstance(found, str) else None


def _fetch(text: str) -> epath.Path:
    """The newest commit of the revision; where the hub cannot be asked, the one that the cache knows."""
    from huggingface_hub import HfApi, constants, hf_hub_download

    name, revision = _parse(text)
    cached = _cached(name, revision)
    if cached is not None and cached.name == revision and all((cached / file).exists() for file in RUN_FILES):
        return cached  # a commit never changes
    try:
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
        there = {file.rfilename for file in info.siblings or ()}
        if RUN_FILES[0] not in there:
            raise UserError(
                f"config.run: {text} holds no {RUN_FILES[0]}: it is no run of dear_jax that somebody has put on the "
                "Hugging Face Hub by --config=configs/push.py. Give another repository or revision."
            )
        # The first by its revision, which the cache then knows; the others of the same commit.
        folder = Path(hf_hub_download(name, RUN_FILES[0], revision=revision)).parent
        for file in RUN_FILES[1:]:
            if file in there:
                hf_hub_download(name, file, revision=folder.name)
    except UserError:
        raise
    except Exception as error:  # of the hub's library, its HTTP library or the disk, changing with their versions
        why = reason(error, name)
        if cached is None:
            raise UserError(
                f"config.run is {show(text)}, and it could not be fetched from {constants.ENDPOINT} ({why}); the cache "
                f"folder {constants.HF_HUB_CACHE} has no such run either. Without access, run `hf download {name} "
                "--local-dir DIR` on a machine that has it, copy DIR here and give its path."
            ) from error
        print(f"{text}: the copy in the cache counts, commit {cached.name}; not asked for a newer one ({why}).")
        return cached
    print(f"{text}: commit {folder.name}.", flush=True)
    return epath.Path(folder)
