"""From the classes of a data set to what the text tower makes of them: under a method's own templates, and plain."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Prompts, Split
from dear_jax.errors import UserError, count
from dear_jax.files import progress_bar
from dear_jax.methods.contract import Method, Targets

Tokenize = Callable[[str], Int[np.ndarray, "C T"]]  # the classes under a template


class Words(Protocol):
    """Classes as words: a `data.class_set.ClassSet`, or `Named` ones that are of no data set on disk."""

    @property
    def dataset(self) -> str:
        """Name of the data set that the template is of."""

    @property
    def template(self) -> str:
        """Of the data set, or of the run."""

    @property
    def ensemble(self) -> tuple[str, ...]:
        """The templates over which plain CLIP takes the mean."""

    @property
    def tokenize(self) -> Tokenize:
        """The classes under any template."""


@dataclasses.dataclass(frozen=True)
class Named:
    """Classes by their names alone."""

    dataset: str
    template: str
    ensemble: tuple[str, ...]
    tokenize: Tokenize


def prompt_ids(method: Method, classes: Words) -> Int[np.ndarray, "C T"]:
    """What the text tower of a method reads of the classes."""
    return _prompt_ids(method, method.prompt(classes.dataset, classes.template), classes.tokenize)


def encode(method: Method, params: Params, classes: Words) -> Prompts:
    """The frozen side of the classes for a method: its prompts, and plain CLIP's features of its targets."""
    prompt, targets = method.prompt(classes.dataset, classes.template), _targets(method, classes)
    ids = _prompt_ids(method, prompt, classes.tokenize)
    with progress_bar.waiting(f"Encoding {count(len(ids), 'prompt')}", jax.process_index() > 0):
        prompts = method.encode_prompts(params, ids)
        if targets.templates != (prompt,):
            prompts = prompts._replace(features=target_features(method.split, params, targets, classes.tokenize))
        return prompts


def _targets(method: Method, classes: Words) -> Targets:
    return method.targets(classes.dataset, classes.ensemble)


def _prompt_ids(method: Method, prompt: str, tokenize: Tokenize) -> Int[np.ndarray, "C T"]:
    """The classes under a prompt, of which each word that a learned token replaces must be one token.

    Raises:
        UserError: this tokenizer cuts such a word.
    """
    ids = tokenize(prompt)
    if method.context:
        words = [word for word in prompt.split() if "{}" not in word][: method.context]
        rest = prompt.split()
        for word in words:
            rest.remove(word)
        found = method.split.ends(ids) - method.split.ends(tokenize(" ".join(rest)))
        if (found != method.context).any():
            raise UserError(
                f"Learned tokens are to take the places of the {method.context} words {' '.join(words)!r} of the "
                f"prompt {prompt!r}, but these are {found.max()} tokens of this backbone. Give words of one token each."
            )
    return ids


def plain_features(
    split: Split, params: Params, classes: Words, encoded: Sequence[tuple[Method, Prompts]] = ()
) -> Float[Array, "C d"]:
    """What zero-shot CLIP knows of the classes: the features of their prompts, or the mean over an ensemble's.

    A method that compares with the very same has them among what is `encoded` already.
    """
    wanted = Targets(classes.ensemble)
    for method, prompts in encoded:
        if _targets(method, classes) == wanted:
            return prompts.features
    if classes.ensemble == (classes.template,):
        return split.encode_prompts(params, classes.tokenize(classes.template)).features
    return target_features(split, params, wanted, classes.tokenize)


def target_features(split: Split, params: Params, targets: Targets, tokenize: Tokenize) -> Float[Array, "C d"]:
    """Plain CLIP's features of the classes under all templates of a target, as it takes their mean."""
    return split.plain_features(params, _stack([tokenize(text) for text in targets.templates]), targets.unit_mean)


def _stack(token_ids: Sequence[np.ndarray]) -> Int[np.ndarray, "M C T"]:
    """Of M prompts `[C, any length]`, filled up behind the end of text, where the tower does not look."""
    length = max(ids.shape[1] for ids in token_ids)
    return np.stack([np.pad(ids, ((0, 0), (0, length - ids.shape[1]))) for ids in token_ids])


def shapes(method: Method, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
    """Shapes and dtypes of what `encode` gives, whatever the targets."""
    found: Prompts = jax.eval_shape(lambda params: method.encode_prompts(params, token_ids), params)
    return found
