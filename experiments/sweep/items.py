"""The runs that make up the paper's tables, and the same of other methods: one item, one command of `dear_jax.main`.

In: a protocol, data sets and methods. Out: items in a fixed order, and any shard of them.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dear_jax.data.datasets import find_row
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError
from dear_jax.setup.methods import METHODS
from experiments.compare import published
from experiments.compare.settings import FIRST

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
        method: a row of `METHODS`.
    """

    name: str
    config: str
    flags: tuple[str, ...] = ()
    needs: str = ""
    method: str = FIRST

    def arguments(self, workdir: Path, extra: Sequence[str]) -> list[str]:
        """Those of `dear_jax.main`."""
        needed = ["--config.job=evaluate", f"--config.run={workdir / self.needs}"] if self.needs else []
        own = [f"--config={self.config}", f"--config.method={self.method}", *self.flags, *needed]
        return [*own, *extra, f"--workdir={workdir / self.name}"]


def read_methods(text: str) -> tuple[str, ...]:
    """The names that --methods stands for: "all", or names with commas between.

    Raises:
        UserError: there is no method of that name; the nearest is told.
    """
    names = tuple(METHODS) if text == "all" else tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not names:
        raise UserError(f"--methods: expected all, or names of methods with commas between, found {text!r}.")
    for name in names:
        if name not in METHODS:
            near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)
            raise UserError(
                f"--methods: no method is called {name!r}; there are {', '.join(METHODS)}. The nearest name is "
                f"{near[0]!r}."
            )
    return names


def read_shots(text: str) -> tuple[int, ...]:
    """The numbers of shots that --shots stands for, ascending.

    Raises:
        UserError: not whole numbers from 1 on with commas between.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise UserError(f"--shots: expected whole numbers from 1 on with commas between, found {text!r}.")
    return tuple(sorted(set(map(int, words))))


def make_items(
    protocol: str, data: str, methods: Sequence[str] = (FIRST,), shots: Sequence[int] = SHOTS
) -> list[Item]:
    """The runs of a protocol, or of all, method by method, without the protocols that a method has no rule for.

    Args:
        protocol: one of `PROTOCOLS`, or "all".
        data: "all", the data sets of the paper; "world", their embedded counterparts; or names with commas between.
        methods: of `METHODS`.
        shots: of few-shot classification, a run for each; the other protocols have one number of their own.
    """
    return [item for method in methods for item in _of_method(protocol, data, method, shots)]


def left_out(protocol: str, methods: Sequence[str]) -> Iterator[str]:
    """A sentence for each method that has no rule for a protocol that was asked for."""
    for method in methods:
        names = [name for name in _protocols(protocol) if not _has_rule(method, name)]
        if names:
            yield (
                f"{METHODS[method].TITLE} in {', '.join(names)}, where other classes are told apart than those trained "
                "on: it knows no others."
            )


def _protocols(protocol: str) -> tuple[str, ...]:
    return tuple(PROTOCOLS) if protocol == "all" else (protocol,)


def _has_rule(method: str, protocol: str) -> bool:
    """Whether a method can tell apart the classes of a protocol; some know those that they were trained on alone."""
    row = PROTOCOLS[protocol]
    # Not every method says so, and those that do not have a rule for any class.
    return getattr(METHODS[method], "OPEN_CLASSES", True) or (row.sets == 1 and not row.transfers)


def _of_method(protocol: str, data: str, method: str, shots: Sequence[int]) -> list[Item]:
    protocols = [name for name in _protocols(protocol) if _has_rule(method, name)]
    # Those that transfer train the same adapter on the same images: it is trained for the first of them.
    transfers = [name for name in protocols if PROTOCOLS[name].transfers]
    needed = dict.fromkeys(transfers[1:], transfers[0] if transfers else "")
    items = [item for name in protocols for item in _of_protocol(name, data, shots, needed.get(name, ""))]
    prefix = "" if method == FIRST else f"{method}-"  # the first had workdirs before there were others
    return [
        dataclasses.replace(
            item, name=prefix + item.name, needs=item.needs and prefix + item.needs, method=method
        )
        for item in items
    ]


def _of_protocol(protocol: str, data: str, shots: Sequence[int], needed: str = "") -> list[Item]:
    """`needed` is the protocol whose runs train what these evaluate."""
    if not PROTOCOLS[protocol].transfers:
        numbers = shots if PROTOCOLS[protocol].shots else (0,)
        return [_item(protocol, name, number) for name in _datasets(data) for number in numbers]
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
