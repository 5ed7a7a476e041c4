"""Several processes of one job, one on each host: do they see the same config, data, backbone and version?

Each of them reads these for itself. A host with an older checkout, another flag or half a copy of the images would
train on, and the average over hosts would hide it. So they compare at the start, before the first step.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dear_jax import __version__
from dear_jax.errors import UserError

SHOWN = 12  # differences in a message


def check_alike(
    config: Mapping[str, Any], data: Mapping[str, Any], fingerprint: str, version: str = __version__
) -> None:
    """Compare with all other processes; every process must call this, and all of them get the same answer.

    Args:
        config: the resolved config, nested.
        data: where images, class names and splits come from, as in results.json: with the numbers of images, the class
            names, `listing_sha256` of labels and names of the images, and which were left out.
        fingerprint: of the backbone, and of how it is read.
        version: of this package.

    Raises:
        UserError: what differs (config, data, backbone or version), with the values and the hosts that have them.
    """
    if jax.process_count() == 1:
        return
    facts = {"version": version, "backbone": fingerprint, "config": _shared(config), "data": dict(data)}
    found = differences(gather(facts))
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"The hosts of this job do not agree: {'; '.join(found[:SHOWN])}{more}. Give every host the same command, "
            "the same version of this package and the same files, then start all of them again."
        )


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the one key that tells the processes apart."""
    compute = {key: value for key, value in config.get("compute", {}).items() if key != "process"}
    return {**config, "compute": compute}


def gather(facts: Any) -> list[Any]:
    """The facts of every process, in JSON's types, by the number of the process."""
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(text)], np.int32)).ravel()
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def least(number: int) -> int:
    """The least of what the processes say, so that all of them decide alike."""
    return min(gather(number)) if jax.process_count() > 1 else number


def from_first(value: Any) -> Any:
    """The first process's value, of JSON's types, in all of them."""
    return gather(value)[0] if jax.process_count() > 1 else value


def differences(facts: Sequence[Any]) -> list[str]:
    """One text for each value that is not the same everywhere: its dotted key, the values and who has them."""
    flat = [dict(_flatten(fact)) for fact in facts]
    keys = dict.fromkeys(key for fact in flat for key in fact)
    return [_describe(key, values) for key in keys if len(set(values := [_show(fact, key) for fact in flat])) > 1]


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _show(fact: Mapping[str, Any], key: str) -> str:
    return json.dumps(fact[key]) if key in fact else "absent"


def _describe(key: str, values: Sequence[str]) -> str:
    hosts: dict[str, list[int]] = {}
    for host, value in enumerate(values):
        hosts.setdefault(value, []).append(host)
    return f"{key} is {', '.join(f'{_short(value)} on host {_list(which)}' for value, which in hosts.items())}"


def _short(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:60]}... ({len(value)} characters)"


def _list(hosts: Sequence[int]) -> str:
    """The numbers of hosts; of many, the first ones."""
    first = ", ".join(map(str, hosts[:8]))
    return first if len(hosts) <= 8 else f"{first} and {len(hosts) - 8} more"
