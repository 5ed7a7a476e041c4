"""From the classes of a data set to what the text tower makes of them: under a method's own templates, and plain."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Prompts, Split
from dear_jax.data.class_set import ClassSet
from dear_jax.errors import UserError
from dear_jax.methods.contract import Method, Targets

Tokenize = Callable[[str], Int[np.ndarray, "C T"]]  # the classes under a template


def prompt_ids(method: Method, classes: ClassSet) -> Int[np.ndarray, "C T"]:
    """What the text tower of a method reads of the classes."""
    return _prompt_ids(method, method.prompt(classes.dataset, classes.template), classes.tokenize)


def encode(method: Method, params: Params, classes: ClassSet) -> Prompts:
    """The frozen side of the classes for a method: its prompts, and plain CLIP's features of its targets."""
    return encode_as(method, params, classes.dataset, classes.template, classes.ensemble, classes.tokenize)


def encode_as(
    method: Method, params: Params, dataset: str, template: str, ensemble: tuple[str, ...], tokenize: Tokenize
) -> Prompts:
    """The same of classes that are of no data set on disk.

    Args:
        method: whose templates are asked for.
        params: CLIP's, in the towers' dtype.
        dataset: name of the data set that the template is of.
        template: of the data set, or of the run.
        ensemble: the templates over which plain CLIP takes the mean.
        tokenize: the classes under any template.
    """
    prompt, targets = method.prompt(dataset, template), method.targets(dataset, ensemble)
    prompts = method.encode_prompts(params, _prompt_ids(method, prompt, tokenize))
    if targets.templates == (prompt,):
        return prompts
    return prompts._replace(features=target_features(method.split, params, targets, tokenize))


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


def plain_features(split: Split, params: Params, classes: ClassSet) -> Float[Array, "C d"]:
    """What zero-shot CLIP knows of the classes: the features of their prompts, or the mean over an ensemble's."""
    if classes.ensemble == (classes.template,):
        return split.encode_prompts(params, classes.token_ids).features
    return target_features(split, params, Targets(classes.ensemble), classes.tokenize)


def target_features(split: Split, params: Params, targets: Targets, tokenize: Tokenize) -> Float[Array, "C d"]:
    """Plain CLIP's features of the classes under all templates of a target, as it takes their mean."""
    return split.plain_features(params, _stack([tokenize(text) for text in targets.templates]), targets.unit_mean)


def _stack(token_ids: Sequence[Int[np.ndarray, "C length"]]) -> Int[np.ndarray, "M C T"]:
    """Prompts of any lengths, filled up behind the end of text, where the tower does not look."""
    length = max(ids.shape[1] for ids in token_ids)
    return np.stack([np.pad(ids, ((0, 0), (0, length - ids.shape[1]))) for ids in token_ids])


def shapes(method: Method, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
    """Shapes and dtypes of what `encode` gives, whatever the targets."""
    found: Prompts = jax.eval_shape(lambda params: method.encode_prompts(params, token_ids), params)
    return found
