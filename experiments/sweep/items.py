"""The runs that make up the paper's tables: one item, one command of `dear_jax.main`.

In: a protocol and data sets. Out: items in a fixed order, and any shard of them.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dear_jax.data.datasets import find_row
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError
from experiments.compare import published

SHOTS = (1, 2, 4, 8, 16)
WORLD = ("world_objects", "world_compositions")  # the embedded counterparts of the eleven data sets
DRAWS = ("world_compositions", *(f"world_compositions_{draw}" for draw in range(1, 5)))  # of its base and new classes


@dataclasses.dataclass(frozen=True)
class Item:
    """One run of a sweep.

    Attributes:
        name: of its workdir, below the sweep's.
        config: file and argument, as --config takes them.
        flags: what it sets beside its config.
        needs: the item whose adapter it evaluates; empty for those that train their own.
    """

    name: str
    config: str
    flags: tuple[str, ...] = ()
    needs: str = ""

    def arguments(self, workdir: Path, extra: Sequence[str]) -> list[str]:
        """Those of `dear_jax.main`."""
        needed = ["--config.job=evaluate", f"--config.run={workdir / self.needs}"] if self.needs else []
        return [f"--config={self.config}", *self.flags, *needed, *extra, f"--workdir={workdir / self.name}"]


def make_items(protocol: str, data: str) -> list[Item]:
    """The runs of a protocol, or of all.

    Args:
        protocol: one of `PROTOCOLS`, or "all".
        data: "all", the data sets of the paper; "world", their embedded counterparts; or names with commas between.
    """
    if protocol != "all":
        return _of_protocol(protocol, data)
    # Those that transfer train the same adapter on the same images: it is trained for the first of them.
    first = next(name for name, row in PROTOCOLS.items() if row.transfers)
    needed = {name: first for name, row in PROTOCOLS.items() if row.transfers and name != first}
    return [item for name in PROTOCOLS for item in _of_protocol(name, data, needed.get(name, ""))]


def _of_protocol(protocol: str, data: str, needed: str = "") -> list[Item]:
    """`needed` is the protocol whose runs train what these evaluate."""
    if not PROTOCOLS[protocol].transfers:
        shots = SHOTS if PROTOCOLS[protocol].shots else (0,)
        return [_item(protocol, name, number) for name in _datasets(data) for number in shots]
    if data == "world":
        return [Item(protocol, f"configs/{protocol}.py", needs=needed)]
    sources = ("imagenet",) if data == "all" else _datasets(data)
    return [dataclasses.replace(_item(protocol, name), needs=f"{needed}-{name}" if needed else "") for name in sources]


def _item(protocol: str, dataset: str, shots: int = 0) -> Item:
    name, config = f"{protocol}-{dataset}", f"configs/{protocol}.py:{dataset}"
    return Item(f"{name}-{shots}_shots", config, (f"--config.data.shots={shots}",)) if shots else Item(name, config)


def _datasets(data: str) -> tuple[str, ...]:
    """The names that --data stands for, checked."""
    if data in ("all", "world"):
        return WORLD if data == "world" else tuple(published.DATASETS.values())
    names = tuple(dict.fromkeys(name.strip() for name in data.split(",") if name.strip()))
    if not names:
        raise UserError(f"--data: expected all, world, or names of data sets with commas between, found {data!r}.")
    for name in names:
        find_row(name)
    return names


def shard(items: Sequence[Item], text: str) -> list[Item]:
    """The part i of n of a list, by "i/n" with i from 1; an item stays with the one that it needs.

    Raises:
        UserError: `text` is not of that form.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"--shard: expected i/n with i from 1 to n, such as 2/8, found {text!r}.")
    leaders = [item.name for item in items if not item.needs]
    mine = set(leaders[int(index) - 1 :: int(count)])
    return [item for item in items if (item.needs or item.name) in mine]
