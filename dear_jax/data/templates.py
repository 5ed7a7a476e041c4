"""Lists of templates, each with one {} for the class name, whose features plain CLIP takes the mean of."""

import os
from pathlib import Path

from dear_jax.errors import UserError, show

A_PHOTO_OF_A = "a photo of a {}."

# OpenAI's for ImageNet, in the order of its notebook (github.com/openai/CLIP, Prompt_Engineering_for_ImageNet).
IMAGENET = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

# Those of them that PromptSRC has, in its order: the last 20 are missing.
IMAGENET_60 = (A_PHOTO_OF_A, *(template for template in IMAGENET[:60] if template != A_PHOTO_OF_A))

# The seven that OpenAI's notebook picks of them, which Tip-Adapter and LP++ have.
IMAGENET_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

# Those of its other data sets (github.com/openai/CLIP, data/prompts.md).
OPENAI: dict[str, tuple[str, ...]] = {
    "imagenet": IMAGENET,
    "caltech101": (
        "a photo of a {}.",
        "a painting of a {}.",
        "a plastic {}.",
        "a sculpture of a {}.",
        "a sketch of a {}.",
        "a tattoo of a {}.",
        "a toy {}.",
        "a rendition of a {}.",
        "a embroidered {}.",
        "a cartoon {}.",
        "a {} in a video game.",
        "a plushie {}.",
        "a origami {}.",
        "art of a {}.",
        "graffiti of a {}.",
        "a drawing of a {}.",
        "a doodle of a {}.",
        "a photo of the {}.",
        "a painting of the {}.",
        "the plastic {}.",
        "a sculpture of the {}.",
        "a sketch of the {}.",
        "a tattoo of the {}.",
        "the toy {}.",
        "a rendition of the {}.",
        "the embroidered {}.",
        "the cartoon {}.",
        "the {} in a video game.",
        "the plushie {}.",
        "the origami {}.",
        "art of the {}.",
        "graffiti of the {}.",
        "a drawing of the {}.",
        "a doodle of the {}.",
    ),
    "oxford_pets": (
        "a photo of a {}, a type of pet.",
    ),
    "stanford_cars": (
        "a photo of a {}.",
        "a photo of the {}.",
        "a photo of my {}.",
        "i love my {}!",
        "a photo of my dirty {}.",
        "a photo of my clean {}.",
        "a photo of my new {}.",
        "a photo of my old {}.",
    ),
    "oxford_flowers": (
        "a photo of a {}, a type of flower.",
    ),
    "food101": (
        "a photo of {}, a type of food.",
    ),
    "fgvc_aircraft": (
        "a photo of a {}, a type of aircraft.",
        "a photo of the {}, a type of aircraft.",
    ),
    "sun397": (
        "a photo of a {}.",
        "a photo of the {}.",
    ),
    "dtd": (
        "a photo of a {} texture.",
        "a photo of a {} pattern.",
        "a photo of a {} thing.",
        "a photo of a {} object.",
        "a photo of the {} texture.",
        "a photo of the {} pattern.",
        "a photo of the {} thing.",
        "a photo of the {} object.",
    ),
    "eurosat": (
        "a centered satellite photo of {}.",
        "a centered satellite photo of a {}.",
        "a centered satellite photo of the {}.",
    ),
    "ucf101": (
        "a photo of a person {}.",
        "a video of a person {}.",
        "a example of a person {}.",
        "a demonstration of a person {}.",
        "a photo of the person {}.",
        "a video of the person {}.",
        "a example of the person {}.",
        "a demonstration of the person {}.",
        "a photo of a person using {}.",
        "a video of a person using {}.",
        "a example of a person using {}.",
        "a demonstration of a person using {}.",
        "a photo of the person using {}.",
        "a video of the person using {}.",
        "a example of the person using {}.",
        "a demonstration of the person using {}.",
        "a photo of a person doing {}.",
        "a video of a person doing {}.",
        "a example of a person doing {}.",
        "a demonstration of a person doing {}.",
        "a photo of the person doing {}.",
        "a video of the person doing {}.",
        "a example of the person doing {}.",
        "a demonstration of the person doing {}.",
        "a photo of a person during {}.",
        "a video of a person during {}.",
        "a example of a person during {}.",
        "a demonstration of a person during {}.",
        "a photo of the person during {}.",
        "a video of the person during {}.",
        "a example of the person during {}.",
        "a demonstration of the person during {}.",
        "a photo of a person performing {}.",
        "a video of a person performing {}.",
        "a example of a person performing {}.",
        "a demonstration of a person performing {}.",
        "a photo of the person performing {}.",
        "a video of the person performing {}.",
        "a example of the person performing {}.",
        "a demonstration of the person performing {}.",
        "a photo of a person practicing {}.",
        "a video of a person practicing {}.",
        "a example of a person practicing {}.",
        "a demonstration of a person practicing {}.",
        "a photo of the person practicing {}.",
        "a video of the person practicing {}.",
        "a example of the person practicing {}.",
        "a demonstration of the person practicing {}.",
    ),
}

ENSEMBLE = "ensemble"  # what `config.data.template` calls OpenAI's list for the data set


def find(asked: str, dataset: str, own: str) -> tuple[str, ...]:
    """The templates that a text stands for.

    Args:
        asked: `ensemble`: OpenAI's for the data set, or ImageNet's where it has none; the path of a text file with a
            template per line; a template; empty: the data set's own.
        dataset: a row of `datasets.DATASETS`; ImageNet's variants have ImageNet's.
        own: its template.

    Raises:
        UserError: no such file, or a line of it that is no template.
    """
    if asked == ENSEMBLE:
        return OPENAI.get(dataset, IMAGENET)
    if "{}" in asked or not asked:
        return (asked or own,)
    if not os.path.isfile(os.path.expanduser(asked)):
        raise UserError(
            f"config.data.template is {show(asked)}: expected a prompt with {{}} once, where the class name goes, such "
            f"as 'a photo of a {{}}.', the word {ENSEMBLE}, or a text file with a prompt per line."
        )
    return _read(Path(asked).expanduser())


def _read(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config.data.template: {path} cannot be read as text ({error}).") from error
    wrong = next((line for line in lines if line.count("{}") != 1), None)
    if wrong is not None or not lines:
        found = "no line" if wrong is None else show(wrong)
        raise UserError(
            f"config.data.template: {path}: expected prompts with {{}} once, where the class name goes, one per line; "
            f"found {found}."
        )
    return tuple(dict.fromkeys(lines))
