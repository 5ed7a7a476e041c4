"""Keys of a context of learned tokens: how many, and the words that they start as."""

from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.clip.split import Split

A_PHOTO = "a photo of a"


def problems(group: str, options: Any) -> dict[str, str]:
    """What is out of its range of the keys `tokens` and `words` of a group: key -> what is expected."""
    count = len(plain(options.words).split())
    rules = {
        "tokens": (options.tokens >= 1, "1 or more"),
        "words": (
            count in (0, options.tokens) and not set("{}") & set(options.words),
            f"{options.tokens} words without braces, as many as config.{group}.tokens, or none (a random start)",
        ),
    }
    return values.out_of_range(rules)


def plain(words: str) -> str:
    """With a blank between two; `_` is one, as in the official code."""
    return " ".join(words.replace("_", " ").split())


def split(group: str, tokens: int, config: "CLIPConfig", dtype: Any, class_chunk: int) -> "Split":
    """The towers for tokens that enter the text tower as words do, while images are as plain CLIP sees them.

    Raises:
        UserError: more tokens than the text tower has room for.
    """
    from dear_jax.clip.split import Split

    layers.check_context(f"{group}.tokens", tokens, config)
    return Split(config, config.vision.layers, 1, dtype, class_chunk)
