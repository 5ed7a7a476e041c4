"""The role-based attention mask (methods/dear section 3), built once on the host, an input of the compiled step.

With one original token o and the tokens of two attributes a, b, rows are queries and columns are keys::

    generalization, other     attribute a           mixed
         o a b                   o a b               o a b
      o  1 . .                o  1 1 .            o  1 1 1
      a  . 1 1                a  1 1 .            a  1 1 1
      b  . 1 1                b  . . 1            b  1 1 1
"""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool

from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER, Roles


def build(
    roles: Roles, attributes: Sequence[str], originals: int, own_token_alone: bool = True
) -> Bool[np.ndarray, "L H T T"]:
    """The mask of a table of roles, `[L-J+1, H, T, T]` with T = originals + K, True = may attend.

    Args:
        roles: role of each head, `[layers][heads]`.
        attributes: the K attribute names, in the order of their tokens.
        originals: 1 + P, the class token and the patches.
        own_token_alone: in an attribute head, its token sees no other attribute token (our decision); False:
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


def load(path: epath.PathLike, shape: tuple[int, int, int, int]) -> Bool[np.ndarray, "L H T T"]:
    """Read a mask of one's own from a NumPy file, boolean, of exactly `shape`."""
    try:
        with storage.to_path(path).open("rb") as file:
            mask = np.load(file, allow_pickle=False)
    except storage.failures(ValueError, EOFError, MemoryError) as error:  # the last of a header that claims too much
        raise UserError(f"config.dear.mask.file: {path} cannot be read as a NumPy array ({error}).") from error
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != shape:
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else "an archive of several arrays"
        raise UserError(f"config.dear.mask.file: {path} holds {found}, expected bool {shape} (layers, heads, T, T).")
    return validate(mask)
