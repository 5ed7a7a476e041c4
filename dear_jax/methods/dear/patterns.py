"""Tables of roles `[layer J..L][head]`, from which `mask.build` makes masks: patterns and single heads.

Patterns (config.mask.pattern) of `PLAIN` need no role map; those of `MAPPED` change the table of one.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from dear_jax.errors import UserError
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER, Roles

PLAIN = ("random", "open", "isolated")
MAPPED = ("roles", "permuted", "layer_wise", "only_generalization", "only_attribute")
PATTERNS = (*MAPPED, *PLAIN)
ATTRIBUTE = "attribute"  # in config.mask.set: the heads of any attribute


def plain_roles(pattern: str, layers: int, heads: int, attributes: Sequence[str], seed: int = 0) -> Roles:
    """The roles of a pattern that needs no role map: `open`, `isolated` or `random`.

    `random` deals out thirds, as the default thresholds of Concept Entropy would (methods/dear section 1): a third of
    the heads generalization, a third mixed, the rest attribute heads of the K attributes in turn.
    """
    count = layers * heads
    if pattern == "open":
        roles = [MIXED] * count
    elif pattern == "isolated":
        roles = [GENERALIZATION] * count
    elif pattern == "random":
        third = count // 3
        specialists = [role_maps.attribute_role(attributes[i % len(attributes)]) for i in range(count - 2 * third)]
        roles = [GENERALIZATION] * third + [MIXED] * third + specialists
        roles = [roles[i] for i in np.random.default_rng(seed).permutation(count)]
    else:
        raise UserError(f"config.mask.pattern is {pattern!r}: expected one of {', '.join(PATTERNS)}.")
    return tuple(tuple(roles[i : i + heads]) for i in range(0, count, heads))


def mapped_roles(pattern: str, roles: Roles, seed: int = 0) -> Roles:
    """The table of a role map under a pattern of `MAPPED`.

    `roles` is the table itself. `permuted` shuffles it within each layer, by the seed: as many heads of each role in
    each layer, at other places. `layer_wise` gives all heads of a layer its most frequent role (of equally frequent
    ones the first by name), as if a layer were the unit. `only_generalization` keeps the generalization heads and
    other specialists, which are isolated alike, and opens the rest; `only_attribute` keeps the attribute heads and
    opens the rest.
    """
    if pattern == "roles":
        return roles
    if pattern == "permuted":
        generator = np.random.default_rng(seed)
        return tuple(tuple(row[i] for i in generator.permutation(len(row))) for row in roles)
    if pattern == "layer_wise":
        return tuple((_most_frequent(row),) * len(row) for row in roles)
    if pattern == "only_generalization":
        return _keep(roles, lambda role: role in (GENERALIZATION, OTHER))
    if pattern == "only_attribute":
        return _keep(roles, _is_attribute)
    raise ValueError(f"pattern: expected one of {MAPPED}, got {pattern!r}")


def _most_frequent(row: Sequence[str]) -> str:
    counts = Counter(row)
    return min(counts, key=lambda role: (-counts[role], role))


def _keep(roles: Roles, kept: Callable[[str], bool]) -> Roles:
    return tuple(tuple(role if kept(role) else MIXED for role in row) for row in roles)


def _is_attribute(role: str) -> bool:
    return role.startswith(role_maps.attribute_role(""))


def set_heads(roles: Roles, assignments: str, first_layer: int, attributes: Sequence[str]) -> Roles:
    """Apply `config.mask.set`, e.g. "9.0=generalization,10-11.*=mixed,12.attribute=mixed".

    Before the dot stands a layer (from 1), a range of layers or `*` for all; behind it a head (from 0), `*`, or a
    role: the heads that have it in `roles`, whatever earlier assignments made of them (`attribute`: of any attribute).
    Later assignments win.

    Raises:
        UserError: an assignment that cannot be read, or that names a layer, head or role that does not exist.
    """
    table = [list(row) for row in roles]
    known = role_maps.role_names(attributes)
    for assignment in filter(None, map(str.strip, assignments.split(","))):
        place, equals, role = assignment.partition("=")
        layer, dot, head = place.partition(".")
        if not equals or not dot:
            raise UserError(f"config.mask.set: {assignment!r} is not of the form LAYER.HEAD=ROLE, such as 9.0=mixed.")
        if role not in known:
            raise UserError(f"config.mask.set: {assignment!r} names no role; expected one of {', '.join(known)}.")
        for row in _indices(layer, "layer", first_layer, len(table), assignment):
            if head in (*known, ATTRIBUTE):
                columns: Sequence[int] = [i for i, was in enumerate(roles[row]) if _matches(head, was)]
            else:
                columns = _indices(head, "head", 0, len(table[row]), assignment)
            for column in columns:
                table[row][column] = role
    return tuple(map(tuple, table))


def _matches(name: str, role: str) -> bool:
    return name == role or (name == ATTRIBUTE and _is_attribute(role))


def _indices(text: str, what: str, first: int, count: int, assignment: str) -> Sequence[int]:
    """Positions that a number, a range of numbers or `*` stands for."""
    if text == "*":
        return range(count)
    start, dash, end = text.partition("-")
    if start.isdecimal() and (end.isdecimal() if dash else True):
        low, high = int(start), int(end or start)
        if first <= low <= high < first + count:
            return range(low - first, high - first + 1)
    last = first + count - 1
    more = "" if what == "layer" else ", or a role for the heads that have it"
    raise UserError(
        f"config.mask.set: {assignment!r} names {what} {text!r}; the masked {what}s are {first} to {last}, a range of "
        f"them such as {first}-{last}, or * for all{more}."
    )
