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
