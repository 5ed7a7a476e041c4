"""From `config.variants` to one config per variant: settings that one run trains side by side.

    --config.variants=mask_patterns                                             a preset
    --config.variants="strong: loss.reg=5 | free: loss.reg=0; mask.pattern=open"  one's own: name, colon, overrides

A variant may set what training reads as an array (the method's `ARRAYS`, and `RATES`): such variants share one compiled
program and each image's frozen prefix. What changes the program's shape (the method's `STRUCTURAL`) may differ too: the
variants of one shape then make one program. Everything else, data above all, is common to the run.

Keys of the method's own group may be called without it: `loss.reg` is `dear.loss.reg`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserError, show
from dear_jax.setup import methods, values
from dear_jax.setup.keys import ITEMS
from dear_jax.setup.selection import RATES

DEFAULT = "default"  # the name of the one variant of a plain run
ZERO_SHOT = "zero_shot"  # what results call plain CLIP
RATE_PRESET = "rates"
RATE_FACTORS = (1.0, 0.3, 3.0, 0.1, 10.0)  # of the learning rate, the nearest first


@dataclasses.dataclass(frozen=True)
class Variant:
    """What sets one variant apart: the keys of its method, and the optimizer's rates."""

    name: str
    method: str
    options: Any  # of the method's own type
    rates: tuple[float, ...]  # in the order of RATES


def read(config: ConfigDict) -> tuple[Variant, ...]:
    """The variants of a run; of a plain run the one called `default`.

    Raises:
        UserError: no such method or preset; a name twice; an override that cannot be read, or of a key that is common.
    """
    return of(variant_configs(config))


def of(configs: Mapping[str, ConfigDict]) -> tuple[Variant, ...]:
    """The variants of these configs, by name."""
    return tuple(_read_one(name, variant) for name, variant in configs.items())


def _read_one(name: str, config: ConfigDict) -> Variant:
    options: Any = values.read(methods.find(config.method).Options, config[config.method])
    return Variant(name, config.method, options, tuple(float(config.optimizer[rate]) for rate in RATES))


def variant_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """The config of every variant, by name."""
    text = config.variants.strip()
    if not text:
        return {DEFAULT: config}
    named = presets(config)
    overrides = named[text] if text in named else _parse(text, config)
    return {name: values.set_all(config, changes) for name, changes in overrides.items()}


def presets(config: ConfigDict) -> dict[str, dict[str, dict[str, Any]]]:
    """Preset -> variant -> dotted key -> value: the method's own, and `rates` around the config's learning rate."""
    method = config.method
    found = {
        preset: {name: {f"{method}.{key}": value for key, value in changes.items()} for name, changes in named.items()}
        for preset, named in methods.find(method).PRESETS.items()
    }
    rate = config.optimizer.learning_rate
    rates = {f"rate_{factor:g}": {"optimizer.learning_rate": factor * rate} for factor in RATE_FACTORS if rate}
    return found | {RATE_PRESET: rates}


def _parse(text: str, config: ConfigDict) -> dict[str, dict[str, Any]]:
    defaults = values.flatten(config)
    named = presets(config)
    variants: dict[str, dict[str, Any]] = {}
    for part in text.split("|"):
        name, colon, settings = (piece.strip() for piece in part.partition(":"))
        if not colon or not name:
            near = difflib.get_close_matches(part.strip(), named, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(
                f"config.variants: {show(part.strip())} is no preset ({', '.join(named)}) and not of the form "
                f'"NAME: KEY=VALUE; KEY=VALUE | NAME: ...".{hint}'
            )
        if name == ZERO_SHOT:
            raise UserError(f"config.variants: the name {show(name)} is taken, by plain CLIP. Give another.")
        if name in variants:
            raise UserError(f"config.variants: the name {show(name)} stands for two variants. Give each its own.")
        settings_of = [setting.strip() for setting in settings.split(";") if setting.strip()]
        variants[name] = dict(_parse_setting(name, setting, config.method, defaults) for setting in settings_of)
    return variants


def _parse_setting(variant: str, setting: str, method: str, defaults: Mapping[str, Any]) -> tuple[str, Any]:
    key, equals, value = (piece.strip() for piece in setting.partition("="))
    key = key.removeprefix("config.")
    if not equals:
        raise UserError(f"config.variants: {variant}: {show(setting)} is no KEY=VALUE, such as loss.reg=0.")
    entry = methods.find(method)
    own = {short: f"{method}.{short}" for short in (*entry.ARRAYS, *entry.STRUCTURAL)}
    allowed = {**own, **{f"optimizer.{rate}": f"optimizer.{rate}" for rate in RATES}}
    short = key.removeprefix(f"{method}.")
    if short not in allowed:
        known = {key, f"{method}.{key}"} & defaults.keys()
        reason = "is common to all variants of a run" if known else "is no key of the config"
        if key in defaults and key.partition(".")[0] in methods.METHODS.keys() - {method}:
            reason = f"is a key of another method, and config.method is {method}"
        near = difflib.get_close_matches(short, allowed, n=1, cutoff=0.0)[0]
        raise UserError(
            f"config.variants: {variant}: {key} {reason}; variants may set {', '.join(allowed)}. The nearest is {near}."
        )
    try:
        whole = allowed[short]
        parser = values.Value(default=defaults[whole], item=ITEMS.get(whole, str))  # by its name, as in `main`
        return whole, values.plain(parser.parse(value))
    except ValueError as error:
        raise UserError(f"config.variants: {variant}: {key}: {error}.") from error
