"""TEXTSPAN: the descriptions whose directions span what a head contributes (methods/dear section 1, step 2).

Algorithm 1 of Gandelsman et al. (arXiv 2310.05916), all heads at once. The descriptions' unit features are projected
on the leading right singular vectors of a head's contributions; then, pick by pick, the description along which the
contributions vary most is picked, and its direction removed from both. All of it depends on the contributions by their
moments alone, so the images are read once and never held.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dear_jax.errors import UserError
from dear_jax.files import progress_bar

CHUNK = 1000  # images whose moments are taken at a time
LEFTOVER = 1e-4  # share of a description's length below which nothing of it is left to pick


class Moments(NamedTuple):
    """Of the contributions of heads over images, float64."""

    mean: Float[np.ndarray, "heads d"]
    covariance: Float[np.ndarray, "heads d d"]
    images: int


class Spans(NamedTuple):
    """What TEXTSPAN picked for each head, in the order of picking."""

    picks: Int[np.ndarray, "heads picks"]  # rows of the bank
    variance: Float[np.ndarray, "heads picks"]  # share of the head's variance along each pick's remaining direction


def moments(contributions: Float[np.ndarray, "images heads d"]) -> Moments:
    """Mean and covariance over images; products of float32, sums of float64.

    Raises:
        UserError: a contribution is not finite, as in a damaged file.
    """
    count = len(contributions)
    chunks = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    mean = sum(np.asarray(contributions[chunk], np.float64).sum(0) for chunk in chunks) / count
    if not np.isfinite(mean).all():
        raise UserError("The contributions hold numbers that are not finite. Remove their file and run again.")
    covariance = np.zeros((*mean.shape, mean.shape[-1]))
    for chunk in progress_bar.bar(
        chunks, desc="Explaining, 1,000 images at a time", unit="chunk", delay=progress_bar.DELAY
    ):
        centred = np.asarray(contributions[chunk], np.float64) - mean[None]
        covariance += np.asarray(_products(centred.astype(np.float32)), np.float64)
    return Moments(mean, covariance / count, count)


@jax.jit
def _products(x: Float[Array, "images heads d"]) -> Float[Array, "heads d d"]:
    return jnp.einsum("ngd,nge->gde", x, x, precision="highest")


def textspan(statistics: Moments, bank: Float[np.ndarray, "bank d"], *, descriptions: int, rank: int) -> Spans:
    """Pick `descriptions` rows of the bank for every head.

    Args:
        statistics: moments of the heads' contributions.
        bank: unit text features.
        descriptions: how many to pick.
        rank: of the contributions, on whose span the bank is projected; at most d.

    Raises:
        UserError: fewer images than the rank needs, a bank of fewer descriptions, or features that are not finite.
    """
    rank = min(rank, bank.shape[1])
    check_sizes(statistics.images, len(bank), descriptions, rank)
    if not np.isfinite(bank).all():
        row = int(np.argmin(np.isfinite(bank).all(1)))
        raise UserError(
            f"The text feature of description {row + 1} of the bank is not finite. Look for damaged weights of the "
            "backbone's text tower."
        )
    second = statistics.covariance + statistics.mean[:, :, None] * statistics.mean[:, None, :]
    basis = np.linalg.eigh(second)[1][:, :, -rank:]  # of the uncentred contributions, as in the source
    covariance = np.einsum("gdr,gde,ges->grs", basis, statistics.covariance, basis, optimize=True)
    total = np.trace(statistics.covariance, axis1=1, axis2=2)
    scale = np.where(total > 0, total, 1)
    picks, variance = _pick_all(
        (covariance / scale[:, None, None]).astype(np.float32),
        basis.astype(np.float32),
        np.asarray(bank, np.float32),
        descriptions,
    )
    return Spans(np.asarray(picks), np.asarray(variance, np.float64))


def _pick(
    covariance: Float[Array, "rank rank"],
    basis: Float[Array, "d rank"],
    bank: Float[Array, "bank d"],
    descriptions: int,
) -> tuple[Int[Array, "picks"], Float[Array, "picks"]]:
    """One head, in the coordinates of its span."""
    highest = jax.lax.Precision.HIGHEST
    texts = jnp.matmul(bank, basis, precision=highest)
    least = LEFTOVER * jnp.linalg.norm(texts, axis=1)

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        texts, covariance, free = carry
        along = jnp.einsum("mr,rs,ms->m", texts, covariance, texts, precision=highest)
        usable = free & (jnp.linalg.norm(texts, axis=1) > least)
        best = jnp.argmax(jnp.where(usable, along, jnp.where(free, -1.0, -2.0)))
        length = jnp.linalg.norm(texts[best])
        direction = texts[best] / jnp.where(length > 0, length, 1.0)
        along_direction = covariance @ direction
        explained = direction @ along_direction
        covariance = covariance - jnp.outer(direction, along_direction) - jnp.outer(along_direction, direction)
        covariance = covariance + explained * jnp.outer(direction, direction)
        texts = texts - jnp.outer(jnp.matmul(texts, direction, precision=highest), direction)
        return (texts, covariance, free.at[best].set(False)), (best, jnp.maximum(explained, 0.0))

    start = (texts, covariance, jnp.ones(len(bank), bool))
    return jax.lax.scan(step, start, None, length=descriptions)[1]


_pick_all = jax.jit(jax.vmap(_pick, in_axes=(0, 0, None, None)), static_argnums=3)  # all heads; compiled once


def check_sizes(images: int, bank_size: int, descriptions: int, rank: int) -> None:
    """Refuse what `textspan` cannot work with; known before any image is read.

    Args:
        images: how many there are.
        bank_size: descriptions in the bank.
        descriptions: how many to pick.
        rank: of the contributions, at most d.
    """
    if images < rank:
        raise UserError(
            f"{images} images cannot span a rank of {rank}: give at least {rank} images "
            "(config.roles.images, or a data set with more), or lower config.roles.rank."
        )
    if bank_size < descriptions:
        raise UserError(
            f"The bank has {bank_size} descriptions, fewer than the {descriptions} to pick for each head. Give a "
            "larger bank (config.roles.bank), or lower config.roles.descriptions."
        )
    if descriptions > rank:
        raise UserError(
            f"config.roles.descriptions is {descriptions}, more than the {rank} directions of config.roles.rank: lower "
            "the one or raise the other."
        )
