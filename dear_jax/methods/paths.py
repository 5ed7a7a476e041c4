"""How the logits of a method's paths become one prediction: a weight for each path.

The weights are the method's own (`learned`), or follow another rule where classes were not trained on.
"""

import contextlib
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from dear_jax.clip.layers import Params
from dear_jax.clip.split import logit_scale
from dear_jax.errors import UserError, show

RULES = ("learned", "class_only", "equal")
Rule = str | float  # a number is the weight of the class path; the others share the rest equally


def rows(weights: Float[Array, "N"], rules: Sequence[Rule]) -> Float[Array, "F N"]:
    """The weights under each of F rules, given the method's own; every row sums to 1."""
    count = len(weights) - 1
    fixed = {"class_only": 1.0, "equal": 1 / (1 + count)}

    def row(rule: Rule) -> Float[Array, "N"]:
        if rule == "learned" or not count:
            return weights
        share = fixed[rule] if isinstance(rule, str) else rule
        return jnp.full(1 + count, (1 - share) / count).at[0].set(share)

    return jnp.stack([row(rule) for rule in rules])


def cosine_logits(
    features: Float[Array, "B N d"], classes: Float[Array, "C d"], params: Params
) -> Float[Array, "B N C"]:
    """Logits of every path: scale * cos(f_i, w_c), of unit features and classes."""
    return logit_scale(params) * jnp.einsum("bid,cd->bic", features, classes)


def combine(logits: Float[Array, "B N C"], weights: Float[Array, "N"]) -> Float[Array, "B C"]:
    """The prediction: the sum over the paths of weight times logits."""
    return jnp.einsum("bic,i->bc", logits, weights)


def parse_rule(text: str) -> Rule:
    """A rule by its name or as a number of [0, 1].

    Raises:
        UserError: it is neither.
    """
    if text in RULES:
        return text
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise UserError(
        f"config.eval.new_classes, or another rule, is {show(text)}: expected {', '.join(RULES)} or a number in [0, "
        "1], the weight of the class path."
    )


def all_rules(chosen: Rule) -> tuple[Rule, ...]:
    """All named rules, the chosen one first."""
    return (chosen, *(rule for rule in RULES if rule != chosen))
