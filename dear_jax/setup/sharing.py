"""What of a run's files may be shared: no path of the machine that made them, and nothing of how it was set up.

In: the values of a run's JSON files. Out: the same, in which `LOCAL` stands for every path of that machine.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from dear_jax.clip.checkpoints import openai, weights
from dear_jax.files import hub, storage
from dear_jax.setup import keys, ranges

LOCAL = "LOCAL"
# A path from a home folder, or an absolute one of two parts or more: of settings, where it can be no name of a class.
_ABSOLUTE = re.compile(
    r"(?<![\w.:/])(?:~[\w.-]*[/\\][^\s'\",;|=]*|(?:[A-Za-z]:)?[/\\][^\s/\\'\",;|=]+[/\\][^\s'\",;|=]*)"
)
_HOMES = re.compile(r"(?<![\w.:/])(?:/home|/Users|[A-Za-z]:\\Users)[/\\][^\s'\",;|]+")  # of anybody


def config(written: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json that can be shared, without the keys that change neither the adapter nor the results."""
    flat = flatten_dict(dict(written), sep=".", keep_empty_nodes=True)
    kept = {key: value for key, value in flat.items() if keys.current_name(key) not in keys.FREE}
    return unflatten_dict({key: _setting(key, value) for key, value in kept.items()}, sep=".")


def _setting(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_setting(key, one) for one in value]
    if not isinstance(value, str) or not value or is_public(value):
        return value
    if keys.current_name(key) in ranges.PATHS or os.path.exists(os.path.expanduser(value)):
        return LOCAL
    return _ABSOLUTE.sub(LOCAL, value)


def is_public(name: str) -> bool:
    """Whether it is called the same everywhere: an embedded CLIP, or a repository of the hub that is no folder here.

    A data set of the hub may be named with a subset and a revision.
    """
    if name in weights.EMBEDDED or hub.is_address(name):
        return True
    repository = openai.repository(name).partition("@")[0].partition(":")[0]
    return not os.path.exists(os.path.expanduser(name)) and hub.is_repository(repository)


def backbone(name: str) -> str:
    """The name of a backbone: of one in a folder, the last part of its path."""
    return name if is_public(name) else name.rstrip("/").rsplit("/", 1)[-1]


def places(written: Mapping[str, Any], run: str) -> list[str]:
    """The folders and files of this machine, or of a bucket, that a run's texts may name: the longest first."""
    given = [value for value in flatten_dict(dict(written), sep=".").values() if isinstance(value, str)]
    found = {str(Path.home()), str(Path.cwd()), *(place for text in (*given, run) for place in _place(text))}
    return sorted((place for place in found if place.strip("/")), key=len, reverse=True)


def _place(text: str) -> Iterator[str]:
    expanded = os.path.expanduser(text)
    if text and not is_public(text) and (storage.is_remote(text) or os.path.isabs(expanded) or os.path.exists(text)):
        yield text if storage.is_remote(text) else str(Path(expanded).absolute())


def texts(value: Any, named: Sequence[str]) -> Any:
    """A JSON value in whose texts `LOCAL` stands for the places that are `named`, and for whatever is in a home."""
    if isinstance(value, Mapping):
        return {texts(key, named): texts(item, named) for key, item in value.items()}
    if isinstance(value, list):
        return [texts(item, named) for item in value]
    if not isinstance(value, str):
        return value
    for place in named:
        value = re.sub(rf"(?<![\w/]){re.escape(place)}(?![\w-])", LOCAL, value)
    return _HOMES.sub(LOCAL, value)
