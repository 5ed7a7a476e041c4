"""Tables of roles `[layer J..L][head]`, from which `mask.build` makes masks: patterns and single heads.

A pattern (config.dear.mask.pattern) is a function and a row: of `PLAIN`, given the number of heads, the attributes and
a seed; or of `MAPPED`, given the table of a role map and a seed.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from dear_jax.errors import UserError
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER, Roles

ATTRIBUTE = "attribute"  # in config.dear.mask.set: the heads of any attribute


def plain_roles(pattern: str, layers: int, heads: int, attributes: Sequence[str], seed: int = 0) -> Roles:
    """The roles of a pattern of `PLAIN`, which needs no role map, for so many layers of so many heads."""
    roles = PLAIN[pattern](layers * heads, attributes, seed)
    return tuple(tuple(roles[i : i + heads]) for i in range(0, layers * heads, heads))


def mapped_roles(pattern: str, roles: Roles, seed: int = 0) -> Roles:
    """The table of a role map under a pattern of `MAPPED`."""
    return MAPPED[pattern](roles, seed)


def _open(count: int, attributes: Sequence[str], seed: int) -> list[str]:
    return [MIXED] * count


def _isolated(count: int, attributes: Sequence[str], seed: int) -> list[str]:
    return [GENERALIZATION] * count


def _random(count: int, attributes: Sequence[str], seed: int) -> list[str]:
    """Thirds, as the default thresholds of Concept Entropy would deal them out (methods/dear section 1).

    A third of the heads generalization, a third mixed, the rest attribute heads of the K attributes in turn.
    """
    third = count // 3
    specialists = [role_maps.attribute_role(attributes[i % len(attributes)]) for i in range(count - 2 * third)]
    roles = [GENERALIZATION] * third + [MIXED] * third + specialists
    return [roles[i] for i in np.random.default_rng(seed).permutation(count)]


def _roles(roles: Roles, seed: int) -> Roles:
    """The table itself."""
    return roles


def _permuted(roles: Roles, seed: int) -> Roles:
    """As many heads of each role in each layer, at other places."""
    generator = np.random.default_rng(seed)
    return tuple(tuple(row[i] for i in generator.permutation(len(row))) for row in roles)


def _layer_wise(roles: Roles, seed: int) -> Roles:
    """All heads of a layer have its most frequent role (of equally frequent ones the first by name)."""
    return tuple((_most_frequent(row),) * len(row) for row in roles)


def _only_generalization(roles: Roles, seed: int) -> Roles:
    """Generalization heads and other specialists, which are isolated alike, stay; the rest is open."""
    return _keep(roles, lambda role: role in (GENERALIZATION, OTHER))


def _only_attribute(roles: Roles, seed: int) -> Roles:
    """Attribute heads stay; the rest is open."""
    return _keep(roles, _is_attribute)


def _most_frequent(row: Sequence[str]) -> str:
    counts = Counter(row)
    return min(counts, key=lambda role: (-counts[role], role))


def _keep(roles: Roles, kept: Callable[[str], bool]) -> Roles:
    return tuple(tuple(role if kept(role) else MIXED for role in row) for row in roles)


def _is_attribute(role: str) -> bool:
    return role.startswith(role_maps.attribute_role(""))


def set_heads(roles: Roles, assignments: str, first_layer: int, attributes: Sequence[str]) -> Roles:
    """Apply `config.dear.mask.set`, e.g. "9.0=generalization,10-11.*=mixed,12.attribute=mixed".

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
            raise UserError(
                f"config.dear.mask.set: {assignment!r} is not of the form LAYER.HEAD=ROLE, such as 9.0=mixed."
            )
        if role not in known:
            raise UserError(f"config.dear.mask.set: {assignment!r} names no role; expected one of {', '.join(known)}.")
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
        f"config.dear.mask.set: {assignment!r} names {what} {text!r}; the masked {what}s are {first} to {last}, "
        f"a range of them such as {first}-{last}, or * for all{more}."
    )


PLAIN: dict[str, Callable[[int, Sequence[str], int], list[str]]] = {
    "random": _random,
    "open": _open,
    "isolated": _isolated,
}
MAPPED: dict[str, Callable[[Roles, int], Roles]] = {
    "roles": _roles,
    "permuted": _permuted,
    "layer_wise": _layer_wise,
    "only_generalization": _only_generalization,
    "only_attribute": _only_attribute,
}
PATTERNS = (*MAPPED, *PLAIN)
