"""The role-based attention mask (METHOD.md section 3), built once on the host, an input of the compiled step.

With one original token o and the tokens of two attributes a, b, rows are queries and columns are keys::

    generalization, other     attribute a           mixed
         o a b                   o a b               o a b
      o  1 . .                o  1 1 .            o  1 1 1
      a  . 1 1                a  1 1 .            a  1 1 1
      b  . 1 1                b  . . 1            b  1 1 1
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from dear_jax.errors import UserError
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER, Roles

PATTERNS = ("roles", "random", "open", "isolated")


def build(
    roles: Roles, attributes: Sequence[str], originals: int, own_token_alone: bool = True
) -> Bool[np.ndarray, "L H T T"]:
    """The mask of a table of roles, `[L-J+1, H, T, T]` with T = originals + K, True = may attend.

    Args:
        roles: role of each head, `[layers][heads]`.
        attributes: the K attribute names, in the order of their tokens.
        originals: 1 + P, the class token and the patches.
        own_token_alone: in an attribute head, its token sees no other attribute token (METHOD.md's decision); False:
            attribute tokens see each other in every head.
    """
    kinds = {role: _head_mask(role, attributes, originals, own_token_alone) for row in roles for role in row}
    return validate(np.stack([np.stack([kinds[role] for role in row]) for row in roles]))


def _head_mask(role: str, attributes: Sequence[str], originals: int, own_token_alone: bool) -> np.ndarray:
    length = originals + len(attributes)
    if role == MIXED:
        return np.ones((length, length), bool)
    group = np.zeros(length, int)  # tokens of one group see each other
    group[originals:] = 1
    mask = group[:, None] == group[None, :]
    if role in (GENERALIZATION, OTHER):
        return mask
    token = originals + [role_maps.attribute_role(name) for name in attributes].index(role)
    if own_token_alone:
        mask[token, :] = mask[:, token] = False
    mask[token, :originals] = mask[:originals, token] = True
    mask[token, token] = True
    return mask


def validate(mask: np.ndarray) -> Bool[np.ndarray, "L H T T"]:
    """Return `mask`; refuse one in which a query row may attend to nothing: its softmax has no meaning."""
    empty = np.argwhere(~mask.any(axis=-1))
    if len(empty):
        layer, head, row = empty[0]
        raise UserError(
            f"The head mask leaves {len(empty)} query rows without an allowed key, the first at layer index {layer}, "
            f"head {head}, row {row}. Let every row see at least itself."
        )
    return mask


def load(path: str | Path, shape: tuple[int, int, int, int]) -> Bool[np.ndarray, "L H T T"]:
    """Read a mask of one's own from a NumPy file, boolean, of exactly `shape`."""
    try:
        mask = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"config.mask.file: {path} cannot be read as a NumPy array ({error}).") from error
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != shape:
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else "an archive of several arrays"
        raise UserError(f"config.mask.file: {path} holds {found}, expected bool {shape} (layers, heads, T, T).")
    return validate(mask)


def pattern_roles(pattern: str, layers: int, heads: int, attributes: Sequence[str], seed: int = 0) -> Roles:
    """The roles of a pattern that needs no role map: `open`, `isolated` or `random`.

    `random` deals out thirds, as the default thresholds of Concept Entropy would (METHOD.md section 1): a third of
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


def set_heads(roles: Roles, assignments: str, first_layer: int, attributes: Sequence[str]) -> Roles:
    """Apply `config.mask.set`, e.g. "9.0=generalization,10.*=mixed,11.3=attribute:color".

    Layers are counted from 1 and heads from 0; `*` means all; later assignments win.

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
            for column in _indices(head, "head", 0, len(table[row]), assignment):
                table[row][column] = role
    return tuple(map(tuple, table))


def _indices(text: str, what: str, first: int, count: int, assignment: str) -> Sequence[int]:
    if text == "*":
        return range(count)
    if text.isdecimal() and first <= int(text) < first + count:
        return [int(text) - first]
    raise UserError(
        f"config.mask.set: {assignment!r} names {what} {text!r}; the masked {what}s are "
        f"{first} to {first + count - 1}, or * for all."
    )
