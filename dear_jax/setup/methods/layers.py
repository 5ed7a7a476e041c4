"""Keys that say at which layer of a tower something enters, and up to which depth."""

from typing import TYPE_CHECKING, Any

from dear_jax.errors import UserError

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.clip.split import Split


def check(key: str, asked: int | None, layers: int, default: int) -> int:
    """A layer counted from 1, or a number of layers.

    Args:
        key: of the config, after `config.`.
        asked: its value; None: `default`, or as near to it as the tower has layers.
        layers: of the tower.
        default: of the method.

    Raises:
        UserError: the tower does not have it.
    """
    layer = max(1, min(default, layers)) if asked is None else asked
    if not 1 <= layer <= layers:
        raise UserError(f"config.{key} is {layer}: expected 1 to {layers}, the layers of the backbone.")
    return layer


def check_context(key: str, tokens: int, config: "CLIPConfig") -> None:
    """Refuse more tokens in the places of words than leave room for a class name.

    Args:
        key: of the config, after `config.`.
        tokens: its value.
        config: whose text tower reads the prompts.

    Raises:
        UserError: there are more.
    """
    most = config.context_length - 4  # one token of a name, the full stop, and both marks
    if tokens > most:
        raise UserError(f"config.{key} is {tokens}: expected 1 to {most}, what the text tower's context has room for.")


def split(
    group: str, vision_layer: int | None, text_layer: int | None, config: "CLIPConfig", dtype: Any, class_chunk: int
) -> "Split":
    """The towers cut where tokens enter: at half their depth where nothing else is asked for.

    Raises:
        UserError: a tower does not have the layer.
    """
    from dear_jax.clip.split import Split

    vision = check(f"{group}.vision_layer", vision_layer, config.vision.layers, config.vision.layers // 2)
    text = check(f"{group}.text_layer", text_layer, config.text.layers, config.text.layers // 2)
    return Split(config, vision, text, dtype, class_chunk)
