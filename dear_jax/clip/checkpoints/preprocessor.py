"""What a checkpoint in transformers' layout asks to be done to images: followed, or refused by key and value.

The short side is resized to the image size by the bicubic filter and the central square is cut out, as
`data/transforms.py` does: that is fixed. Scale, mean and standard deviation are followed. A file without scaling or
normalisation is refused: mostly somebody's images came scaled already, which ours do not.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dear_jax.clip.config import OPENAI_MEAN, OPENAI_STD, Channels, channels, is_number
from dear_jax.errors import UserError

FILES = ("preprocessor_config.json", "processor_config.json")  # the second is that of transformers 5
BICUBIC = (3, "bicubic")  # Pillow's number of it, and its name
CONVERT = "do_convert_rgb"  # is done anyway
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


class Normalization(NamedTuple):
    """Of RGB in [0, 1]."""

    mean: Channels
    std: Channels


def read(values: Mapping[str, Any], image_size: int, source: str) -> Normalization:
    """Read the dictionary of `preprocessor_config.json`, or of `processor_config.json` around it.

    What is absent or null has the default of transformers' CLIPImageProcessor.

    Args:
        values: the file's content.
        image_size: pixels, of the checkpoint.
        source: the file's name, for messages.

    Raises:
        UserError: images are to be prepared as this package does not, or values that are none.
    """
    nested = values.get("image_processor")
    asked = nested if isinstance(nested, Mapping) else values
    given = {key: value for key, value in asked.items() if value is not None}
    _refuse(given, image_size, source)
    factor = given.get("rescale_factor", 1 / 255)
    if not is_number(factor) or not 1e-6 <= factor <= 1:
        raise UserError(f"{source}: rescale_factor is {factor!r}, expected a number, 1/255. Copy the file again.")
    mean = channels(given.get("image_mean", OPENAI_MEAN), f"{source}: image_mean")
    std = channels(given.get("image_std", OPENAI_STD), f"{source}: image_std", positive=True)
    if abs(255 * factor - 1) < 1e-6:
        return Normalization(mean, std)
    return Normalization(_divide(mean, 255 * factor), _divide(std, 255 * factor))  # (v f - m) / s, of v / 255


def _refuse(given: Mapping[str, Any], image_size: int, source: str) -> None:
    expected: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(STEPS, (True,)),
        "resample": BICUBIC,
        "size": (image_size, {"shortest_edge": image_size}),
        "crop_size": (image_size, {"height": image_size, "width": image_size}),
    }
    others = {key: (False,) for key in given if key.startswith("do_") and key not in (*STEPS, CONVERT)}
    wrong = [
        f"{key} is {given[key]!r}, expected {choices[-1]!r}"
        for key, choices in (expected | others).items()
        if key in given and given[key] not in choices
    ]
    if wrong:
        raise UserError(
            f"{source} asks for another preprocessing of images than this package has (short side to {image_size} "
            f"pixels by the bicubic filter, then the central square): {'; '.join(wrong)}. Features of images that are "
            "prepared in another way differ; if the weights were not trained so, correct the file."
        )


def _divide(values: Channels, factor: float) -> Channels:
    red, green, blue = values
    return red / factor, green / factor, blue / factor
