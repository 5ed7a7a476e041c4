"""The architecture of a CLIP checkpoint, read from the `config.json` of transformers' layout."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from dear_jax.errors import UserError

ACTIVATIONS = ("quick_gelu", "gelu")
Channels = tuple[float, float, float]  # red, green, blue
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

# Beyond any CLIP, so that a damaged config is answered before anything is made of it.
MOST, MOST_LAYERS = 1_000_000, 1000

# Before transformers 4.31 every CLIP config said `eos_token_id: 2`, whatever the vocabulary; it then means
# "the largest id of the sequence is the end of the text".
LEGACY_EOS = 2


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """One transformer tower: `layers` pre-LayerNorm blocks of `width`, `heads` heads each."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str  # one of ACTIVATIONS
    layer_norm_epsilon: float

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Both towers, their inputs and the joint space of `embed_dim` dimensions."""

    vision: TowerConfig
    text: TowerConfig
    image_size: int  # pixels, square
    patch_size: int  # pixels, square
    embed_dim: int
    vocab_size: int
    context_length: int
    bos_token_id: int
    eos_token_id: int
    pixel_mean: Channels = OPENAI_MEAN  # of RGB in [0, 1]
    pixel_std: Channels = OPENAI_STD

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise UserError(
                f"The backbone's config does not fit together: image_size {self.image_size} is not a multiple of "
                f"patch_size {self.patch_size}."
            )

    @property
    def patches(self) -> int:
        """P, the number of patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @classmethod
    def from_hf(
        cls,
        config: Mapping[str, Any],
        source: str = "config.json",
    ) -> "CLIPConfig":
        """Read the dictionary of `config.json`.

        Raises:
            UserError: not a CLIP config, or a key that the weights cannot confirm (activation, number of
                heads, LayerNorm epsilon) is absent although transformers did not write the file: a wrong guess would
                fail silently. Files of transformers may leave out what its CLIPConfig has by default.
        """
        towers = [config.get(name) for name in ("text_config", "vision_config")]
        if config.get("model_type") != "clip" or not all(isinstance(tower, Mapping) for tower in towers):
            raise UserError(
                f"{source}: expected a CLIP config (model_type 'clip' with text_config and vision_config), found "
                f"model_type {config.get('model_type')!r}. Give a checkpoint in the layout of "
                "transformers.CLIPModel, such as openai/clip-vit-base-patch16."
            )
        vision, text = (_merge(config, name) for name in ("vision_config", "text_config"))
        in_vision, in_text = f"{source}: vision_config", f"{source}: text_config"
        written = "transformers_version" in config
        return cls(
            vision=_read_tower(vision, in_vision, 768, 3072, heads=12, complete=not written),
            text=_read_tower(text, in_text, 512, 2048, heads=8, complete=not written),
            image_size=square(vision.get("image_size", 224), f"{in_vision}.image_size"),
            patch_size=square(vision.get("patch_size", 32), f"{in_vision}.patch_size"),
            embed_dim=count(config.get("projection_dim", 512), f"{source}: projection_dim"),
            vocab_size=count(text.get("vocab_size", 49408), f"{in_text}.vocab_size"),
            context_length=count(text.get("max_position_embeddings", 77), f"{in_text}.max_position_embeddings"),
            bos_token_id=count(text.get("bos_token_id", 49406), f"{in_text}.bos_token_id", least=0),
            eos_token_id=count(text.get("eos_token_id", 49407), f"{in_text}.eos_token_id", least=0),
        )

    def to_hf(self) -> dict[str, Any]:
        """The dictionary that `from_hf` and `transformers.CLIPConfig` read."""
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": self.embed_dim,
            "vision_config": _write_tower(self.vision)
            | {
                "model_type": "clip_vision_model",
                "num_channels": 3,
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "projection_dim": self.embed_dim,
            },
            "text_config": _write_tower(self.text)
            | {
                "model_type": "clip_text_model",
                "vocab_size": self.vocab_size,
                "max_position_embeddings": self.context_length,
                "bos_token_id": self.bos_token_id,
                "eos_token_id": self.eos_token_id,
                "pad_token_id": self.eos_token_id,
                "projection_dim": self.embed_dim,
            },
        }


def count(value: Any, source: str, least: int = 1, most: int = MOST) -> int:
    """A whole number of a config file; `source` names the file and the key."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{source} is {value!r}, expected a whole number of {least} or more. Copy the file again.")
    if value > most:
        raise UserError(f"{source} is {value}, expected a whole number of at most {most}. Copy the file again.")
    return value


def square(size: Any, source: str) -> int:
    """The side of a square image or patch, given as one number or as height and width."""
    sides = size if isinstance(size, list | tuple) and size else [size]
    if any(side != sides[0] for side in sides):
        raise UserError(f"{source} is {size}, expected a square: only square images are supported.")
    return count(sides[0], source)


def channels(values: Any, source: str, positive: bool = False) -> Channels:
    """A number for each of red, green and blue, of a size that float32 can calculate with."""
    numbers = isinstance(values, list | tuple) and len(values) == 3 and all(map(is_number, values))
    if not numbers or max(map(abs, values)) > 1e4 or (positive and min(values) < 1e-4):
        kind = "positive numbers" if positive else "numbers"
        raise UserError(f"{source} is {values!r}, expected three {kind}, such as 0.27. Copy the file again.")
    red, green, blue = values
    return red, green, blue


def epsilon(value: Any, source: str) -> float:
    """The small number that a LayerNorm adds to the variance."""
    if not is_number(value) or value < 0:
        raise UserError(f"{source} is {value!r}, expected a small number such as 1e-5. Copy the file again.")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether a value of a config file is a number that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _merge(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A tower's values. Files of before transformers 4.25 repeat some in `*_config_dict`, which then count."""
    return {**config[name], **(config.get(f"{name}_dict") or {})}


def _read_tower(
    values: Mapping[str, Any], source: str, width: int, mlp_width: int, *, heads: int, complete: bool
) -> TowerConfig:
    """A tower, whose defaults are those of transformers' CLIPConfig; `complete`: what weights cannot tell is said."""
    defaults = {"num_attention_heads": heads, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    missing = [key for key in defaults if key not in values] if complete else []
    values = {**defaults, **values}
    if missing:
        raise UserError(
            f"{source} does not say {', '.join(missing)}, which the weights cannot tell: a wrong guess would give "
            "wrong features without an error. Copy the checkpoint to a directory, set the key in its config.json from "
            "the model's documentation (transformers itself takes "
            f"{', '.join(f'{key} {default}' for key, default in defaults.items() if key in missing)}), and give "
            "config.backbone the directory."
        )
    if values["hidden_act"] not in ACTIVATIONS:
        raise UserError(f"{source}.hidden_act is {values['hidden_act']!r}, expected one of {', '.join(ACTIVATIONS)}.")
    tower = TowerConfig(
        width=count(values.get("hidden_size", width), f"{source}.hidden_size"),
        layers=count(values.get("num_hidden_layers", 12), f"{source}.num_hidden_layers", most=MOST_LAYERS),
        heads=count(values["num_attention_heads"], f"{source}.num_attention_heads"),
        mlp_width=count(values.get("intermediate_size", mlp_width), f"{source}.intermediate_size"),
        activation=values["hidden_act"],
        layer_norm_epsilon=epsilon(values["layer_norm_eps"], f"{source}.layer_norm_eps"),
    )
    if tower.width % tower.heads:
        raise UserError(f"{source}: hidden_size {tower.width} is not a multiple of num_attention_heads {tower.heads}.")
    return tower


def _write_tower(tower: TowerConfig) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp_width,
        "hidden_act": tower.activation,
        "layer_norm_eps": tower.layer_norm_epsilon,
    }
