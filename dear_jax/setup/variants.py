"""From `config.variants` to one config per variant: settings that one run trains side by side.

    --config.variants=mask_patterns                                             a preset
    --config.variants="strong: loss.reg=5 | free: loss.reg=0; mask.pattern=open"  one's own: name, colon, overrides

A variant may set what training reads as an array (`ARRAYS`): such variants share one compiled program and each
image's frozen prefix. What changes the program's shape (`STRUCTURAL`) may differ too: the variants of one shape then
make one program. Everything else, data above all, is common to the run.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.setup import values as config_values

DEFAULT = "default"  # the name of the one variant of a plain run
ZERO_SHOT = "zero_shot"  # what results call plain CLIP
ARRAYS = (
    "mask.pattern",
    "mask.seed",
    "mask.role_map",
    "mask.file",
    "mask.own_token_alone",
    "mask.set",
    "tokens.beta",
    "tokens.init_std",
    "tokens.init_seed",
    "tokens.projection_init",
    "fusion.class_start",
    "loss.reg",
    "loss.fusion",
    "optimizer.learning_rate",
    "optimizer.warmup_learning_rate",
    "optimizer.warmup_epochs",
    "optimizer.weight_decay",
)
STRUCTURAL = (
    "tokens.attributes",
    "tokens.text_count",
    "tokens.vision_layer",
    "tokens.text_layer",
    "tokens.shared_projection",
    "loss.reg_form",
)
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mask_patterns": {
        "roles": {"mask.pattern": "roles"},
        "open": {"mask.pattern": "open"},
        "isolated": {"mask.pattern": "isolated"},
        **{f"random_{seed}": {"mask.pattern": "random", "mask.seed": seed} for seed in range(5)},
        "layer_wise": {"mask.pattern": "layer_wise"},
        "permuted": {"mask.pattern": "permuted"},
        "only_generalization": {"mask.pattern": "only_generalization"},
        "only_attribute": {"mask.pattern": "only_attribute"},
    },
    "losses": {
        "all_terms": {},
        "no_regularization": {"loss.reg": 0.0},
        "no_fusion": {"loss.fusion": 0.0},
        "cross_entropy_alone": {"loss.reg": 0.0, "loss.fusion": 0.0},
    },
    "beta": {f"beta_{beta}": {"tokens.beta": float(beta)} for beta in ("0", "0.5", "0.7", "0.9", "1")},
}


def variant_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """The config of every variant, by name; of a plain run the one called `default`.

    Raises:
        UserError: no such preset; a name twice; an override that cannot be read, or of a key that variants share.
    """
    text = config.variants.strip()
    if not text:
        return {DEFAULT: config}
    overrides = PRESETS.get(text) or _parse(text, config)
    return {name: _override(config, values) for name, values in overrides.items()}


def _override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(dict(values))
    return copy.lock()


def _parse(text: str, config: ConfigDict) -> dict[str, dict[str, Any]]:
    defaults = config_values.flatten(config)
    variants: dict[str, dict[str, Any]] = {}
    for part in text.split("|"):
        name, colon, settings = (piece.strip() for piece in part.partition(":"))
        if not colon or not name:
            near = difflib.get_close_matches(part.strip(), PRESETS, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(
                f"config.variants: {part.strip()!r} is no preset ({', '.join(PRESETS)}) and not of the form "
                f'"NAME: KEY=VALUE; KEY=VALUE | NAME: ...".{hint}'
            )
        if name == ZERO_SHOT:
            raise UserError(f"config.variants: the name {name!r} is taken, by plain CLIP. Give the variant another.")
        if name in variants:
            raise UserError(f"config.variants: the name {name!r} stands for two variants. Give each its own.")
        pairs = [_parse_setting(name, setting.strip(), defaults) for setting in settings.split(";") if setting.strip()]
        variants[name] = dict(pairs)
    return variants


def _parse_setting(variant: str, setting: str, defaults: Mapping[str, Any]) -> tuple[str, Any]:
    key, equals, value = (piece.strip() for piece in setting.partition("="))
    key = key.removeprefix("config.")
    allowed = (*ARRAYS, *STRUCTURAL)
    if not equals:
        raise UserError(f"config.variants: {variant}: {setting!r} is not of the form KEY=VALUE, such as loss.reg=0.")
    if key not in allowed:
        reason = "is common to all variants of a run" if key in defaults else "is no key of the config"
        near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.0)[0]
        raise UserError(
            f"config.variants: {variant}: {key} {reason}; variants may set {', '.join(allowed)}. The nearest is {near}."
        )
    try:
        return key, config_values.plain(config_values.Value(defaults[key]).parse(value))
    except ValueError as error:
        raise UserError(f"config.variants: {variant}: {key}: {error}.") from error
